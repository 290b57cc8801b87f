//! `mctl manager`: the in-cluster mode. Must not contain work.

use std::net::SocketAddr;

use crate::{
    Result,
    config::ClusterName,
    manager::{Options, run as run_manager},
};

/// Runs inside the management cluster and keeps it as its document says.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Namespace of the document and of the manager itself.
    #[arg(long, default_value = "giantswarm")]
    pub namespace: String,
    /// Name of the cluster and its document.
    #[arg(long)]
    pub name: ClusterName,
    /// Where the registry listens (TLS).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:5000")]
    pub listen_registry: SocketAddr,
    /// Where health, metrics and alerts are served (plain HTTP).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}

/// Runs until SIGTERM or until the lease is lost.
pub async fn run(args: Args) -> Result<()> {
    let Args {
        namespace,
        name,
        listen_registry,
        listen,
    } = args;
    run_manager(Options {
        namespace,
        name: name.into(),
        listen_registry,
        listen,
    })
    .await
}
