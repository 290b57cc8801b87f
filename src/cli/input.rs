//! Reads what several commands take: document, bundle, catalog. All problems at once, nothing changed.

use std::path::{Path, PathBuf};

use crate::{
    Error, Kind, Result,
    bundle::Bundle,
    catalog::Catalog,
    config::ManagementCluster,
    plan::{self, Plan},
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

/// What was read, checked against each other.
#[derive(Debug)]
pub struct Read {
    /// The document.
    pub document: ManagementCluster,
    /// Bundle, if one was given, with its absolute path.
    pub bundle: Option<(PathBuf, Bundle)>,
    /// Catalog with the bundle's profile applied.
    pub catalog: Catalog,
    /// Plan.
    pub plan: Plan,
}

/// Reads and checks everything; changes nothing.
pub fn read(input: &Input) -> Result<Read> {
    let catalog = Catalog::embedded()?;
    let document = super::config::read(&input.config, &catalog)?;
    let bundle = input.bundle.as_deref().map(open).transpose()?;
    let profile = bundle
        .as_ref()
        .map(|(_, b)| b.profile())
        .transpose()?
        .flatten();
    let catalog = match &profile {
        Some(profile) => catalog.with_profile(profile)?,
        None => catalog,
    };
    let plan = plan::bootstrap(&document, &catalog)?;
    if let Some((path, bundle)) = &bundle {
        complete(path, bundle, &plan)?;
    }
    Ok(Read {
        document,
        bundle,
        catalog,
        plan,
    })
}

fn open(path: &Path) -> Result<(PathBuf, Bundle)> {
    let absolute = path.canonicalize().map_err(|e| {
        Error::new(
            Kind::Usage,
            format!("cannot open the bundle {}", path.display()),
        )
        .because(&e)
        .state("nothing was changed")
    })?;
    let bundle = Bundle::open(&absolute).map_err(|e| e.state("nothing was changed"))?;
    Ok((absolute, bundle))
}

/// Every image of the plan must be in the bundle, or nodes would wait for it for ever.
fn complete(path: &Path, bundle: &Bundle, plan: &Plan) -> Result<()> {
    let missing: Vec<&str> = plan
        .images
        .iter()
        .map(String::as_str)
        .filter(|i| bundle.image_id(i).is_err())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Preflight,
        format!(
            "the bundle lacks {} images that the plan needs",
            missing.len()
        ),
    )
    .at(path.display().to_string())
    .because(missing.join(", "))
    .fix(
        "take a bundle made for this version of mctl, or switch the components off in the document",
    )
    .state("nothing was changed"))
}
