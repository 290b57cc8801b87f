//! `mctl engine-proxy`: runs beside Cluster API's Docker provider. Must not contain work.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::registry::stop_on_signals;
use crate::{
    Result,
    error::Context,
    launchpad::{NETWORK, addresses::Fixed, proxy},
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket to listen on; one that is there is replaced
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,
    /// Socket of the engine
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    engine: PathBuf,
    /// Network whose containers get addresses of their own
    #[arg(long, value_name = "NAME", default_value = NETWORK)]
    network: String,
    /// Range of the addresses; without it they stay the engine's
    #[arg(long, value_name = "RANGE")]
    addresses: Option<Fixed>,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(args: Args) -> Result<()> {
    let what = || format!("cannot listen on {}", args.listen.display());
    match std::fs::remove_file(&args.listen) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(what),
        _ => {}
    }
    let listener = UnixListener::bind(&args.listen).context(what)?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&args.listen, owner_only).context(what)?;
    let shutdown = CancellationToken::new();
    stop_on_signals(&shutdown)?;
    tracing::info!(
        listen = %args.listen.display(),
        engine = %args.engine.display(),
        network = args.network,
        addresses = args.addresses.map(|a| a.to_string()),
        "engine proxy serves"
    );
    let settings = proxy::Settings {
        engine: args.engine,
        network: args.network,
        fixed: args.addresses,
    };
    proxy::serve(listener, settings, shutdown).await;
    Ok(())
}
