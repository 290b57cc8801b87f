//! Namespaces and names of objects that several parts of mctl know. Must not do anything.

/// Namespace of the manager and of the document.
pub const NAMESPACE: &str = "giantswarm";
/// Namespace of the platform's Flux and of everything it follows.
pub const PLATFORM_FLUX: &str = "flux-giantswarm";
/// Namespace of the customer's Flux.
pub const CUSTOMER_FLUX: &str = "flux-system";
/// Namespace of the Cluster API objects of the management cluster.
pub const ORGANIZATION: &str = "org-giantswarm";
/// Namespace of monitoring.
pub const MONITORING: &str = "monitoring";
/// Name of Deployment, Service, ServiceAccount and Lease of the manager.
pub const MANAGER: &str = "mctl";
/// ConfigMap with the environment.
pub const ENVIRONMENT: &str = "mctl-environment";
/// Secret with the cluster's CA.
pub const AUTHORITY: &str = "mctl-ca";
