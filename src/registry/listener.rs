//! Accepts TLS connections for axum. Must not let one slow or broken client hold up others.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::ServingCertificate;
use crate::{Result, error::Context};

const HANDSHAKE: Duration = Duration::from_secs(10);
const MAX_HANDSHAKES: usize = 256;

/// Connections whose handshake is over.
pub(super) struct Tls {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Tls {
    /// Accepts in a task of its own until `shutdown`.
    pub(super) fn new(
        listener: TcpListener,
        certificate: &Arc<ServingCertificate>,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let address = listener
            .local_addr()
            .context(|| "cannot use the registry's socket".to_owned())?;
        let acceptor = TlsAcceptor::from(certificate.config()?);
        let (send, ready) = mpsc::channel(16);
        tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, acceptor, send) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Ok(Self { ready, address })
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    send: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors as a rule; some come back soon.
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (acceptor, send) = (acceptor.clone(), send.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(send.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
            drop(place);
        });
    }
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Only at shutdown; the server ends on its own.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
