//! Everything that follows from document and environment, made in one go: platform artifact, Cluster API objects, Flux's own
//! objects, certificates. Pure; the same code that the bootstrap uses.

use std::collections::BTreeMap;

use kube::core::DynamicObject;

use super::kinds::PLATFORM_FLUX;
use crate::{
    Error,
    catalog::{Catalog, Target},
    config::{self, ManagementCluster},
    environment::Environment,
    ports::kubernetes::kind,
    render::{self, CertificateRequest, Context},
};

/// Components that Flux itself hangs on: Flux cannot bring them back when they are gone.
const SEED: &[&str] = &["flux-crds", "flux-giantswarm"];
/// The component whose alerts the manager listens to.
const MONITORING: &str = "monitoring";

/// What was made of one document.
#[derive(Debug)]
pub struct Rendering {
    /// Generation of the document.
    pub generation: Option<i64>,
    /// Files of the platform artifact.
    pub platform: BTreeMap<String, Vec<u8>>,
    /// Names of the components in it.
    pub components: Vec<String>,
    /// Whether monitoring is one of them.
    pub monitoring: bool,
    /// Cluster API objects of the management cluster.
    pub cluster: Vec<DynamicObject>,
    /// Flux, its CRDs, and what makes it follow the platform artifact.
    pub seed: Vec<DynamicObject>,
    /// Serving certificates to keep.
    pub certificates: Vec<CertificateRequest>,
}

/// Why a document is not acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The document is wrong; the problems.
    Invalid(String),
    /// It could not be rendered; a fault of catalog or environment.
    Failed(String),
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Self::Failed(e.line())
    }
}

/// Checks and renders.
pub fn render(
    document: &ManagementCluster,
    environment: &Environment,
) -> Result<Rendering, Refusal> {
    let mut catalog = Catalog::embedded()?;
    if let Some(profile) = &environment.profile {
        catalog = catalog.with_profile(profile)?;
    }
    let names: Vec<&str> = catalog.components.keys().map(String::as_str).collect();
    let problems = config::validate(document, &names);
    if !problems.is_empty() {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Refusal::Invalid(all.join("; ")));
    }
    let context = Context {
        document,
        catalog: &catalog,
        environment,
    };
    let enabled: Vec<_> = catalog
        .enabled(document)
        .into_iter()
        .filter(|c| c.clusters.contains(&Target::Management))
        .collect();
    let mut seed = Vec::new();
    let mut certificates = Vec::new();
    for component in &enabled {
        let is_seed = SEED.contains(&component.name.as_str());
        let is_namespaces = component.name == "namespaces";
        // CRDs alone need no certificates and take long to render.
        if !is_seed && component.name.ends_with("-crds") {
            continue;
        }
        let rendered = render::component(context, component, Target::Management)?;
        certificates.extend(rendered.certificates);
        if is_seed {
            seed.extend(rendered.objects);
        } else if is_namespaces {
            seed.extend(rendered.objects.into_iter().filter(|o| {
                kind(o) == "Namespace" && o.metadata.name.as_deref() == Some(PLATFORM_FLUX)
            }));
        }
    }
    seed.extend(render::root(context)?);
    Ok(Rendering {
        generation: document.metadata.generation,
        platform: render::platform(context)?,
        components: enabled.iter().map(|c| c.name.clone()).collect(),
        monitoring: enabled.iter().any(|c| c.name == MONITORING),
        cluster: render::cluster(context)?,
        seed,
        certificates,
    })
}
