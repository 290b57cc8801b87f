//! Documents and environments that tests render.

use mctl::{
    catalog::{Catalog, Component, Profile, Target},
    config::ManagementCluster,
    environment::{Endpoint, Environment, ImageTag},
    render::{self, Context, Rendered},
};
use serde_json::{Value, json};

/// A document from its spec.
pub fn document(spec: Value) -> ManagementCluster {
    let value = json!({"apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
        "metadata": {"name": "golem"}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

/// An environment as after a bootstrap with a bundle.
pub fn environment() -> Environment {
    Environment {
        ca_certificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
        mirror: "mctl-golem-registry:5000".into(),
        mirror_has_all: true,
        profile: None,
        node_repository: "mctl.giantswarm.io/node".into(),
        load_balancer_image: Some(ImageTag {
            repository: "mctl.giantswarm.io".into(),
            tag: "v1".into(),
        }),
        mctl_image: "mctl.giantswarm.io/mctl:0.1.0".into(),
        control_plane_endpoint: Some(Endpoint {
            host: "172.18.0.3".into(),
            port: 6443,
        }),
        fixed_addresses: Some("172.18.128.0/17".into()),
        engine_socket: "/run/other/docker.sock".into(),
    }
}

/// A profile like that of a small bundle.
pub fn profile() -> Profile {
    serde_json::from_value(json!({
        "name": "lab", "kubernetesVersion": "v1.36.3", "nodeImage": "docker.io/kindest/node:v1.36.3",
        "without": ["notification-controller"],
        "values": {"cilium": {"securityContext": {"privileged": true}, "envoy": {"enabled": false}}},
    }))
    .unwrap()
}

/// Document, catalog and environment together.
pub struct Sample {
    /// The document.
    pub document: ManagementCluster,
    /// The catalog.
    pub catalog: Catalog,
    /// The environment.
    pub environment: Environment,
}

impl Sample {
    /// With the catalog as it is.
    pub fn new(spec: Value) -> Self {
        Self {
            document: document(spec),
            catalog: Catalog::embedded().unwrap(),
            environment: environment(),
        }
    }

    /// With the small bundle's profile.
    pub fn with_profile(mut self) -> Self {
        self.catalog = self.catalog.with_profile(&profile()).unwrap();
        self.environment.profile = Some(profile());
        self
    }

    /// What rendering wants.
    pub fn context(&self) -> Context<'_> {
        Context {
            document: &self.document,
            catalog: &self.catalog,
            environment: &self.environment,
        }
    }

    /// One component, rendered.
    pub fn component(&self, name: &str, target: Target) -> Rendered {
        let component: &Component = &self.catalog.components[name];
        render::component(self.context(), component, target).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// Objects as data.
pub fn data(objects: &[kube::core::DynamicObject]) -> Vec<Value> {
    objects
        .iter()
        .map(|o| serde_json::to_value(o).unwrap())
        .collect()
}
