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
    pki::CertificateRequest,
    ports::kubernetes::kind,
    render::{self, Context},
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
    // Against the whole catalog: a document may name what this bundle lacks.
    let problems = config::validate(document, &catalog.known());
    if !problems.is_empty() {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Refusal::Invalid(all.join("; ")));
    }
    if let Some(profile) = &environment.profile {
        catalog = catalog.with_profile(profile)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    fn environment() -> Environment {
        Environment {
            ca_certificate: Authority::new("mctl golem").unwrap().certificate,
            mirror: "mctl-golem-registry:5000".into(),
            mctl_image: "mctl.giantswarm.io/mctl:0.1.0".into(),
            control_plane_endpoint: Some(crate::environment::Endpoint {
                host: "172.18.0.3".into(),
                port: 6443,
            }),
            ..Environment::default()
        }
    }

    fn document(spec: serde_json::Value) -> ManagementCluster {
        let mut d: ManagementCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem", "namespace": "giantswarm", "generation": 3}, "spec": spec,
        }))
        .unwrap();
        d.metadata.uid = Some("u".into());
        d
    }

    #[test]
    fn one_document_yields_all_that_the_manager_keeps() {
        let r = render(&document(serde_json::json!({})), &environment()).unwrap();
        assert_eq!(r.generation, Some(3));
        assert!(r.monitoring);
        assert!(r.platform.contains_key("kustomization.yaml"));
        let has = |objects: &[DynamicObject], k: &str, n: &str| {
            objects
                .iter()
                .any(|o| kind(o) == k && o.metadata.name.as_deref() == Some(n))
        };
        assert!(has(&r.cluster, "Cluster", "golem"));
        for (k, n) in [
            ("Namespace", PLATFORM_FLUX),
            (
                "CustomResourceDefinition",
                "kustomizations.kustomize.toolkit.fluxcd.io",
            ),
            ("Deployment", "source-controller"),
            ("Deployment", "kustomize-controller"),
            ("OCIRepository", "platform"),
            ("Kustomization", "platform"),
        ] {
            assert!(has(&r.seed, k, n), "{k} {n}");
        }
        assert!(
            r.certificates.iter().any(|c| c.namespace == "capi-system"),
            "{:?}",
            r.certificates
        );
    }

    #[test]
    fn a_wrong_document_is_refused_with_its_problems() {
        let two = document(serde_json::json!({"controlPlane": {"replicas": 2}}));
        match render(&two, &environment()) {
            Err(Refusal::Invalid(why)) => assert!(why.contains("controlPlane.replicas"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
