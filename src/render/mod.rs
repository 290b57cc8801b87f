//! Renders Kubernetes objects and the platform artifact from document, catalog and environment. Pure: must not talk to anything; bootstrap and manager share it.

mod chart;
mod cluster;
mod component;
mod manifests;
mod object;
mod platform;
mod scope;
mod upstream;

use std::collections::BTreeMap;

use kube::core::DynamicObject;

use crate::{
    Result,
    catalog::{Catalog, Component, Target},
    config::ManagementCluster,
    environment::Environment,
    pki::CertificateRequest,
};

/// Namespace of mctl's manager and its state.
pub const NAMESPACE: &str = "giantswarm";
/// Namespace of the Cluster API objects that describe the management cluster itself.
pub const ORGANIZATION_NAMESPACE: &str = "org-giantswarm";
/// Namespace of the Flux instance that keeps the platform, and of its objects.
pub const FLUX_NAMESPACE: &str = "flux-giantswarm";
/// Secret in [`FLUX_NAMESPACE`] with the CA (key `ca.crt`) that Flux's sources trust.
pub const REGISTRY_CA_SECRET: &str = "mctl-registry-ca";
/// Registry of the manager, as Flux in the management cluster reaches it.
pub const MANAGER_REGISTRY: &str = "mctl.giantswarm.svc:5000";

/// Everything rendering looks at.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The document.
    pub document: &'a ManagementCluster,
    /// Catalog with the profile applied.
    pub catalog: &'a Catalog,
    /// Facts found out by the bootstrap.
    pub environment: &'a Environment,
}

/// Objects of one component and the certificates it needs.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// Objects in apply order: namespaces and CRDs first.
    pub objects: Vec<DynamicObject>,
    /// Serving certificates to issue before the objects become ready; never part of an artifact.
    pub certificates: Vec<CertificateRequest>,
}

/// Objects of a component for one cluster. A `cluster-addon` rendered for [`Target::Temporary`] carries `spec.kubeConfig`
/// and installs into the new cluster; rendered for [`Target::Management`] it does not.
pub fn component(context: Context<'_>, component: &Component, target: Target) -> Result<Rendered> {
    component::render(context, component, target)
}

/// Image of the document's machines.
pub fn node_image(context: Context<'_>) -> Result<String> {
    cluster::node_image(context)
}

/// Cluster API objects that describe the management cluster itself, in namespace [`ORGANIZATION_NAMESPACE`].
pub fn cluster(context: Context<'_>) -> Result<Vec<DynamicObject>> {
    cluster::render(context)
}

/// Files of the platform artifact by path: one Kustomization per component at the root, its objects below `components/<name>/`.
pub fn platform(context: Context<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    platform::files(context)
}

/// Objects that make `flux-giantswarm` follow the platform artifact: OCIRepository, root Kustomization and the CA's Secret.
pub fn root(context: Context<'_>) -> Result<Vec<DynamicObject>> {
    platform::root(context)
}
