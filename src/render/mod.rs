//! Renders Kubernetes objects and the platform artifact from document, catalog and environment. Pure: must not talk to anything; bootstrap and manager share it.

use std::collections::BTreeMap;

use kube::core::DynamicObject;

use crate::{
    Error, Result,
    catalog::{Catalog, Component, Target},
    config::ManagementCluster,
    environment::Environment,
};

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

/// A serving certificate that a workload mounts as a Secret of type kubernetes.io/tls (with `ca.crt`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// DNS names of the certificate.
    pub dns_names: Vec<String>,
}

/// Objects of a component for one cluster. A `cluster-addon` rendered for [`Target::Temporary`] carries `spec.kubeConfig`
/// and installs into the new cluster; rendered for [`Target::Management`] it does not.
pub fn component(_: Context<'_>, component: &Component, _: Target) -> Result<Rendered> {
    Err(Error::failed(format!(
        "{}: rendering is not written",
        component.name
    )))
}

/// Cluster API objects that describe the management cluster itself, in namespace `org-giantswarm`.
pub fn cluster(_: Context<'_>) -> Result<Vec<DynamicObject>> {
    Err(Error::failed("rendering is not written"))
}

/// Files of the platform artifact by path: one Kustomization per component at the root, its objects below `components/<name>/`.
pub fn platform(_: Context<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    Err(Error::failed("rendering is not written"))
}

/// Objects that make `flux-giantswarm` follow the platform artifact: OCIRepository and root Kustomization.
pub fn root(_: Context<'_>) -> Result<Vec<DynamicObject>> {
    Err(Error::failed("rendering is not written"))
}
