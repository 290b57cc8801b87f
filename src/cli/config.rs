//! `mctl config`: writes, checks and describes documents. Must not contain their rules.

use std::{io::Write, path::PathBuf};

use crate::{
    Error, Kind, Result,
    catalog::Catalog,
    config::{self, ClusterName},
    error::Context,
    prepare,
};

/// The document, a ManagementCluster in YAML
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Args {
    /// Print a first document, with comments
    Init {
        /// Name of the cluster
        #[arg(long, value_name = "NAME")]
        name: ClusterName,
        /// Infrastructure provider
        #[arg(long, value_name = "PROVIDER", default_value = "docker")]
        provider: String,
        /// Every field there is
        #[arg(long)]
        full: bool,
    },
    /// Check a document: everything that is wrong, with line, column and fix
    Validate {
        /// File; `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the JSON Schema of the document, for editors
    Schema {
        /// The CustomResourceDefinition instead
        #[arg(long)]
        crd: bool,
    },
}

/// Runs the command; data goes to `out`.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let text = match args {
        Args::Init {
            name,
            provider,
            full,
        } => init(name, provider, *full)?,
        Args::Validate { file } => {
            let document = prepare::document(file, &Catalog::embedded()?)?;
            let name = document.cluster_name()?;
            format!("the document of management cluster {name} is valid\n")
        }
        Args::Schema { crd: true } => config::to_yaml(&config::crd())?,
        Args::Schema { crd: false } => format!("{:#}\n", config::schema()),
    };
    out.write_all(text.as_bytes())
        .context(|| "cannot write the output".to_owned())
}

fn init(name: &ClusterName, provider: &str, full: bool) -> Result<String> {
    let text = config::template(name, provider, full)?;
    match config::load(&text, "the document") {
        Ok(_) => Ok(text),
        // Only the name is not ours: `no` is one, but some readers of YAML take it for something else.
        Err(problems) => Err(problems.list().iter().fold(
            Error::new(
                Kind::Usage,
                format!("`{name}` cannot be the name of a cluster"),
            )
            .at("--name")
            .state("nothing was changed"),
            |error, p| error.because(p.what.as_str()).fix(p.fix.as_str()),
        )),
    }
}
