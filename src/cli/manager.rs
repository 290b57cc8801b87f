//! `mctl manager`.

use std::net::SocketAddr;

use crate::{
    Result,
    manager::{self, Options},
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Namespace of the document and of the manager
    #[arg(long, default_value = "giantswarm")]
    namespace: String,
    /// Management cluster
    #[arg(long)]
    name: String,
    /// Where the registry listens (TLS)
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:5000")]
    listen_registry: SocketAddr,
    /// Where health, metrics and alerts are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

/// Runs until it is told to stop or loses its lease.
pub async fn run(args: Args) -> Result<()> {
    let Args {
        namespace,
        name,
        listen_registry,
        listen,
    } = args;
    manager::run(Options {
        namespace,
        name,
        listen_registry,
        listen,
    })
    .await
}
