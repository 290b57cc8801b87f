//! What several commands take: document and bundle. Must not read them itself.

use std::path::PathBuf;

use crate::{
    Result,
    prepare::{Inputs, Prepared, prepare},
};

/// Document and bundle on the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Input {
    /// The document, a ManagementCluster in YAML; `-` for standard input
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Bundle with all images: an OCI image layout, one file or a folder
    #[arg(long, value_name = "PATH")]
    pub bundle: Option<PathBuf>,
}

impl Input {
    /// Reads and checks everything; changes nothing.
    pub fn prepare(&self) -> Result<Prepared> {
        prepare(Inputs {
            config: &self.config,
            bundle: self.bundle.as_deref(),
        })
    }

    /// These options again, for a command to paste.
    pub fn again(&self, command: &str) -> String {
        let mut line = format!("mctl {command} --config {}", self.config.display());
        if let Some(bundle) = &self.bundle {
            line.push_str(&format!(" --bundle {}", bundle.display()));
        }
        line
    }
}
