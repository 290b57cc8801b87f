//! Wires the manager together: watches, servers, election, shutdown. Must not decide anything about the cluster.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kube::{Api, Client, Config};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    inputs::{self, Inputs},
    kinds::MANAGER,
    leader, publish, relay, server,
    shared::Shared,
    token,
};
use crate::{
    Error, Result,
    error::Context,
    ports::{
        clock::Wall,
        kubernetes::{
            Cluster,
            lease::{Candidate, Timing},
        },
    },
    registry::{self, Store, charts},
};

/// Between "not ready" and the end, so that no new connection is sent here any more.
const DRAIN: Duration = Duration::from_secs(2);
/// Longest wait for requests in flight.
const GRACE: Duration = Duration::from_secs(10);

/// How a manager is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of document, lease and the manager itself.
    pub namespace: String,
    /// Name of the cluster and its document.
    pub name: String,
    /// Where the registry listens (TLS).
    pub listen_registry: SocketAddr,
    /// Where health, metrics and alerts are served.
    pub listen: SocketAddr,
}

/// Runs in the cluster until SIGTERM, or until the lease is lost.
pub async fn run(options: Options) -> Result<()> {
    let mut config = Config::incluster().context(|| {
        "the manager must run in a pod: its service account cannot be read".to_owned()
    })?;
    config.connect_timeout = Some(Duration::from_secs(5));
    let address = own_address(&config.cluster_url);
    let client = Client::try_from(config)
        .context(|| "cannot set up the connection to the API server".to_owned())?;
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    let mut term = signal(SignalKind::terminate()).context(|| "cannot catch SIGTERM".to_owned())?;
    let mut int = signal(SignalKind::interrupt()).context(|| "cannot catch SIGINT".to_owned())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        on_signal.cancel();
    });
    run_with(options, client, address, stop).await
}

/// Like [`run`], with the surroundings given.
pub async fn run_with(
    options: Options,
    client: Client,
    address: IpAddr,
    stop: CancellationToken,
) -> Result<()> {
    let listen = |address: SocketAddr| async move {
        TcpListener::bind(address)
            .await
            .context(|| format!("cannot listen on {address}"))
    };
    let http = listen(options.listen).await?;
    let registry = listen(options.listen_registry).await?;
    let port = http
        .local_addr()
        .map_or(options.listen.port(), |a| a.port());

    let pod = hostname();
    let identity = relay::identity(&pod, address, port);
    let leases = Api::namespaced(client.clone(), &options.namespace);
    let candidate = Candidate::new(
        leases,
        MANAGER,
        &identity,
        Timing::default(),
        Arc::new(Wall),
    );
    let inputs = watch::Sender::new(Inputs::default());
    let shared = Arc::new(Shared::new(
        &options.namespace,
        &options.name,
        &identity,
        inputs.subscribe(),
        candidate.holder(),
        candidate.answered(),
    ));
    let store = Arc::new(Store::new(None));
    tracing::info!(%identity, cluster = %options.name, "manager started");

    let servers = CancellationToken::new();
    let ended = servers.clone();
    let app = server::router(shared.clone());
    let http = tokio::spawn(async move {
        axum::serve(http, app)
            .with_graceful_shutdown(ended.cancelled_owned())
            .await
    });
    let serving = serve_registry(registry, store.clone(), shared.clone(), servers.clone());
    let registry = tokio::spawn(serving);

    let background = async {
        tokio::join!(
            inputs::follow(
                client.clone(),
                options.namespace.clone(),
                options.name.clone(),
                inputs,
            ),
            publish::publish(&shared, &store),
            token::follow(client.clone(), &shared),
        );
    };
    let election = async {
        let mut leadership = tokio::select! {
            leadership = candidate.acquire() => leadership,
            () = stop.cancelled() => return Ok(()),
        };
        shared.metrics.leads(true);
        let cluster = Cluster::new(
            format!("management cluster {}", options.name),
            client.clone(),
        );
        let result = tokio::select! {
            lost = leadership.keep() => Err(lost),
            () = leader::lead(cluster, shared.clone()) => {
                Err(Error::failed("the leader's work ended by itself"))
            }
            () = stop.cancelled() => Ok(()),
        };
        shared.metrics.leads(false);
        if result.is_ok() {
            leadership.release().await;
        }
        result
    };
    let mut registry = registry;
    let result = tokio::select! {
        () = background => Err(Error::failed("the watches ended by themselves")),
        result = election => result,
        result = &mut registry => match result {
            Ok(result) => result.and(Err(Error::failed("the registry ended by itself"))),
            Err(e) => Err(Error::failed("the registry ended by itself").because(&e)),
        },
    };
    shared.ending.store(true, Ordering::SeqCst);
    if result.is_ok() {
        tokio::time::sleep(DRAIN).await;
    }
    servers.cancel();
    let _ = tokio::time::timeout(GRACE, async {
        let _ = http.await;
        if !registry.is_finished() {
            let _ = registry.await;
        }
    })
    .await;
    tracing::info!("manager ended");
    result
}

async fn serve_registry(
    listener: TcpListener,
    store: Arc<Store>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> Result<()> {
    charts::put_all(&store)?;
    let certificate = tokio::select! {
        certificate = publish::certificate(&shared) => certificate?,
        () = stop.cancelled() => return Ok(()),
    };
    shared.serving.store(true, Ordering::SeqCst);
    tokio::select! {
        result = registry::serve(listener, store, certificate.clone(), stop) => result,
        () = publish::renew(&shared, &certificate) => Ok(()),
    }
}

/// The pod's name, as the kernel has it.
fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_str()
        .unwrap_or("mctl")
        .to_owned()
}

/// The address other pods reach this one by: what the kernel would use towards the API server. Nothing is sent.
fn own_address(api_server: &http::Uri) -> IpAddr {
    let fallback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let host = api_server.host().unwrap_or_default();
    let port = api_server.port_u16().unwrap_or(443);
    let found = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect((host.trim_matches(['[', ']']), port))?;
        socket.local_addr()
    });
    found.map_or(fallback, |a| a.ip())
}
