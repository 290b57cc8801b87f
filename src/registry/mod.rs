//! A read-only OCI registry over TLS: mctl's own artifacts and, with a bundle, every image. Must not know about clusters.
//!
//! ```text
//! artifact, own_image, charts ─▶ store ◀─ bundle
//!                                  ▲
//! client ─ TLS (certificate) ─ router ─ request
//! ```

pub mod artifact;
mod body;
mod certificate;
pub mod charts;
mod elf;
mod listener;
pub mod own_image;
mod request;
mod router;
mod store;

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Result, error::Context};

pub use artifact::Artifact;
pub use certificate::ServingCertificate;
pub use router::router;
pub use store::Store;

/// Longest wait for running downloads once the end was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// Serves the store over TLS until `shutdown`; the certificate may be replaced meanwhile. Ends after running downloads, at most ten seconds later.
pub async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    certificate: Arc<ServingCertificate>,
    shutdown: CancellationToken,
) -> Result<()> {
    let tls = listener::Tls::new(listener, &certificate, shutdown.clone())?;
    let server =
        axum::serve(tls, router(store)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = server => result.context(|| "the registry stopped".to_owned()),
        () = late => Ok(()),
    }
}
