//! The place a cluster starts from: an engine on this host with a network, a registry and containers. Must be the only part of mctl that knows how an engine gives out addresses.
//!
//! Addresses of machines and of the load balancer stand in certificates, kubeconfigs, etcd and Cilium. An engine gives out
//! others at every start, unless each container asks for one of its own: [`addresses`] says which, [`network`] makes room
//! for them, and [`proxy`] asks in the name of Cluster API's Docker provider, which cannot.

pub mod access;
pub mod addresses;
pub mod bundle;
pub mod diagnosis;
pub mod mount;
pub mod network;
pub mod power;
pub mod proxy;
pub mod registry;

/// The network of kind and of Cluster API's Docker provider.
pub const NETWORK: &str = "kind";
/// Label with the address that a container asked for.
pub const ADDRESS_LABEL: &str = "io.giantswarm.mctl/address";
