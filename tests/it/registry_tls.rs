//! The registry over real connections: TLS with our own authority, renewal, many clients at once, a clean end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use mctl::{
    bundle::{Bundle, Digest},
    pki::{Authority, Leaf},
    registry::{ServingCertificate, Store, artifact::platform, serve},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::bundle_fixture::Fixture;

const LONG: Duration = Duration::from_secs(20);
const NAME: &str = "mctl-demo-registry";

struct Running {
    authority: Authority,
    address: SocketAddr,
    store: Arc<Store>,
    certificate: Arc<ServingCertificate>,
    shutdown: CancellationToken,
    server: JoinHandle<mctl::Result<()>>,
    _folder: TempDir,
}

fn names() -> Vec<String> {
    [NAME, "127.0.0.1"].map(str::to_owned).to_vec()
}

async fn start(fixture: &Fixture) -> Running {
    let (folder, path) = fixture.tar_file();
    let store = Arc::new(Store::new(Some(Bundle::open(&path).unwrap())));
    let authority = Authority::new("test").unwrap();
    let leaf = authority.serving(&names()).unwrap();
    let certificate = ServingCertificate::new(&leaf.certificate, &leaf.key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(
        listener,
        Arc::clone(&store),
        Arc::clone(&certificate),
        shutdown.clone(),
    ));
    Running {
        authority,
        address,
        store,
        certificate,
        shutdown,
        server,
        _folder: folder,
    }
}

impl Running {
    async fn connect(
        &self,
        authority: &Authority,
        name: &str,
    ) -> std::io::Result<http1::SendRequest<Empty<&'static [u8]>>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        let mut sender = self.connect(&self.authority, NAME).await.unwrap();
        sender.send_request(request(path)).await.unwrap()
    }
}

fn request(path: &str) -> Request<Empty<&'static [u8]>> {
    Request::get(path)
        .header("host", NAME)
        .body(Empty::new())
        .unwrap()
}

async fn content(response: Response<Incoming>) -> Vec<u8> {
    response
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
        .to_vec()
}

/// What hyper wants of a stream, from what tokio gives.
struct TokioIo<T>(T);

impl<T: tokio::io::AsyncRead + Unpin> hyper::rt::Read for TokioIo<T> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        mut cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let mut space = vec![0; cursor.remaining().min(64 * 1024)];
        let mut buffer = tokio::io::ReadBuf::new(&mut space);
        let result = std::pin::Pin::new(&mut self.0).poll_read(cx, &mut buffer);
        cursor.put_slice(buffer.filled());
        result
    }
}

impl<T: tokio::io::AsyncWrite + Unpin> hyper::rt::Write for TokioIo<T> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_our_authority_and_our_names_count() {
    let running = start(&Fixture::usual()).await;
    for name in names() {
        let mut sender = running.connect(&running.authority, &name).await.unwrap();
        let answer = sender
            .send_request(request("/v2/registry.k8s.io/pause/manifests/3.10"))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert!(running.connect(&running.authority, "other").await.is_err());
    let stranger = Authority::new("test").unwrap();
    assert!(running.connect(&stranger, NAME).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_serves_new_connections_and_keeps_old_ones() {
    let running = start(&Fixture::usual()).await;
    let mut old = running.connect(&running.authority, NAME).await.unwrap();
    let other = Authority::new("next").unwrap();
    let Leaf { certificate, key } = other.serving(&names()).unwrap();
    for (certificate, key) in [
        ("", ""),
        (certificate.as_str(), other.key()),
        ("rubbish", key.as_str()),
    ] {
        assert!(running.certificate.replace(certificate, key).is_err());
    }
    running.certificate.replace(&certificate, &key).unwrap();
    assert!(running.connect(&running.authority, NAME).await.is_err());
    let mut new = running.connect(&other, NAME).await.unwrap();
    for sender in [&mut old, &mut new] {
        assert_eq!(
            sender
                .send_request(request("/healthz"))
                .await
                .unwrap()
                .status(),
            200
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_broken_clients_hold_up_nobody() {
    let running = start(&Fixture::usual()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    for _ in 0..10 {
        let mut broken = TcpStream::connect(running.address).await.unwrap();
        broken
            .write_all(b"GET /v2/ HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
    }
    let answer = timeout(LONG, running.get("/healthz")).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_pull_while_artifacts_change() {
    let mut fixture = Fixture::usual();
    let layers: Vec<Vec<u8>> = (0..8_u32)
        .map(|i| (0..400_000).map(|j| (j * (i + 3)) as u8).collect())
        .collect();
    let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let image = fixture.image(&slices);
    fixture.root("a.b/c:d", image);
    let running = Arc::new(start(&fixture).await);
    let renew = |round: u32| {
        let files = [("a.yaml".to_owned(), format!("round: {round}").into_bytes())].into();
        running
            .store
            .put_artifact(
                "mctl.giantswarm.io/platform/demo",
                "latest",
                platform(&files).unwrap(),
            )
            .unwrap();
    };
    renew(0);
    let mut clients = JoinSet::new();
    for client in 0..12 {
        let running = Arc::clone(&running);
        let digests: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        clients.spawn(async move {
            let mut sender = running.connect(&running.authority, NAME).await.unwrap();
            for digest in digests.iter().cycle().skip(client).take(10) {
                let answer = sender
                    .send_request(request(&format!("/v2/a.b/c/blobs/{digest}")))
                    .await
                    .unwrap();
                assert!(digest.matches(&content(answer).await), "client {client}");
                let latest = "/v2/mctl.giantswarm.io/platform/demo/manifests/latest";
                let answer = sender.send_request(request(latest)).await.unwrap();
                let told = answer.headers()["docker-content-digest"]
                    .to_str()
                    .unwrap()
                    .to_owned();
                assert_eq!(Digest::of(&content(answer).await).as_str(), told);
            }
        });
    }
    for round in 1..20 {
        renew(round);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    timeout(LONG, clients.join_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_waits_for_a_download_and_takes_no_more() {
    let mut fixture = Fixture::usual();
    let layer = vec![3; 8_000_000];
    let image = fixture.image(&[&layer]);
    fixture.root("a.b/c:d", image);
    let running = start(&fixture).await;
    // A connection that does nothing must not hold up the end.
    let _idle = running.connect(&running.authority, NAME).await.unwrap();
    let answer = running
        .get(&format!("/v2/a.b/c/blobs/{}", Digest::of(&layer)))
        .await;
    running.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!running.server.is_finished(), "a download was cut");
    assert!(content(answer).await == layer);
    timeout(LONG, running.server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}
