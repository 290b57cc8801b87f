//! `mctl registry`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    bundle::Bundle,
    error::Context,
    registry::{self, ServingCertificate, Store, charts, own_image::OwnImage},
};

/// How often the certificate's files are looked at.
const RELOAD: Duration = Duration::from_secs(60);

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve mctl's own image, its charts and a bundle's images, read-only over TLS
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Serving certificate (PEM); read again when it changes
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Bundle whose images to serve: a folder or a tar file
    #[arg(long, value_name = "PATH")]
    bundle: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(args: Args) -> Result<()> {
    let Command::Serve(args) = args.command;
    let bundle = args.bundle.as_deref().map(Bundle::open).transpose()?;
    let images = bundle
        .as_ref()
        .map_or(0, |bundle| bundle.references().len());
    let store = Arc::new(Store::new(bundle));
    charts::put_all(&store)?;
    match OwnImage::of_this_executable() {
        Ok(own) => store.put_artifact(&OwnImage::repository(), &own.tag, own.artifact)?,
        // A development build still serves everything else.
        Err(error) => tracing::warn!(error = error.line(), "own image is not served"),
    }
    let pair = args.read()?;
    let certificate = ServingCertificate::new(&pair.0, &pair.1)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let shutdown = CancellationToken::new();
    stop_on_signals(&shutdown)?;
    tracing::info!(
        %address,
        images,
        repositories = store.repositories().len(),
        bundle = args.bundle.as_ref().map(|path| path.display().to_string()),
        "registry serves"
    );
    let serving = registry::serve(listener, store, Arc::clone(&certificate), shutdown);
    tokio::select! {
        result = serving => result,
        () = renew(&args, &certificate, pair) => Ok(()),
    }
}

impl Serve {
    fn read(&self) -> Result<(String, String)> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))
        };
        Ok((read(&self.certificate)?, read(&self.key)?))
    }
}

/// Takes over changed files. The two do not change in one step, so a pair that does not fit is tried again later.
async fn renew(args: &Serve, certificate: &ServingCertificate, mut served: (String, String)) {
    let mut ticks = interval(RELOAD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let replaced = args.read().and_then(|pair| {
            if pair != served {
                certificate.replace(&pair.0, &pair.1)?;
                served = pair;
                tracing::info!("certificate renewed");
            }
            Ok(())
        });
        if let Err(error) = replaced {
            tracing::warn!(error = error.line(), "the old certificate stays in use");
        }
    }
}

/// Cancels on SIGTERM or SIGINT.
pub(super) fn stop_on_signals(shutdown: &CancellationToken) -> Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signal = signal(kind).context(|| "cannot wait for signals".to_owned())?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            signal.recv().await;
            tracing::info!("asked to stop");
            shutdown.cancel();
        });
    }
    Ok(())
}
