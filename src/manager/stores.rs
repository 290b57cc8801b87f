//! Objects that the status is computed from, kept up to date by watches. Must not interpret them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kube::{
    Api, Client,
    core::{DynamicObject, PartialObjectMeta},
    runtime::{WatchStreamExt, reflector, watcher},
};

use super::{
    backoff::Steady,
    kinds::{
        CLUSTER, CONTROL_PLANE, CUSTOMER_FLUX, DEPLOYMENT, HELM_RELEASE, KUSTOMIZATION, Known,
        MACHINE_DEPLOYMENT, OCI_REPOSITORY, ORGANIZATION, PLATFORM_FLUX,
    },
    shared::Shared,
    status::Objects,
};

/// One watched set.
struct Watched {
    store: reflector::Store<DynamicObject>,
    listed: Arc<AtomicBool>,
}

impl Watched {
    /// The objects, or `None` before the first list.
    fn objects(&self) -> Option<Objects> {
        self.listed
            .load(Ordering::SeqCst)
            .then(|| self.store.state())
    }
}

/// All of them.
pub struct Stores {
    kustomizations: Watched,
    helm_releases: Watched,
    sources: Watched,
    platform_flux: Watched,
    customer_flux: Watched,
    control_planes: Watched,
    pools: Watched,
}

impl Stores {
    /// Starts the watches; the future runs them for ever and asks for a new status on every change.
    pub fn start(client: &Client, shared: &Arc<Shared>) -> (Self, BoxFuture<'static, ()>) {
        let mut tasks = FuturesUnordered::new();
        let watch = |kind: Known, namespace: &str| {
            let (watched, task) = start(client.clone(), kind, namespace, shared.clone());
            tasks.push(task);
            watched
        };
        let stores = Self {
            kustomizations: watch(KUSTOMIZATION, PLATFORM_FLUX),
            helm_releases: watch(HELM_RELEASE, PLATFORM_FLUX),
            sources: watch(OCI_REPOSITORY, PLATFORM_FLUX),
            platform_flux: watch(DEPLOYMENT, PLATFORM_FLUX),
            customer_flux: watch(DEPLOYMENT, CUSTOMER_FLUX),
            control_planes: watch(CONTROL_PLANE, ORGANIZATION),
            pools: watch(MACHINE_DEPLOYMENT, ORGANIZATION),
        };
        tasks.push(Box::pin(wake_for_cluster(client.clone(), shared.clone())));
        let run = async move { while tasks.next().await.is_some() {} };
        (stores, Box::pin(run))
    }

    /// Kustomizations of the platform.
    pub fn kustomizations(&self) -> Option<Objects> {
        self.kustomizations.objects()
    }

    /// HelmReleases of the platform.
    pub fn helm_releases(&self) -> Option<Objects> {
        self.helm_releases.objects()
    }

    /// OCIRepositories of the platform.
    pub fn sources(&self) -> Option<Objects> {
        self.sources.objects()
    }

    /// Deployments of both Flux instances.
    pub fn flux_deployments(&self) -> Option<Objects> {
        let mut all = self.platform_flux.objects()?;
        all.extend(self.customer_flux.objects()?);
        Some(all)
    }

    /// KubeadmControlPlanes of the organization.
    pub fn control_planes(&self) -> Option<Objects> {
        self.control_planes.objects()
    }

    /// MachineDeployments of the organization.
    pub fn pools(&self) -> Option<Objects> {
        self.pools.objects()
    }
}

fn start(
    client: Client,
    kind: Known,
    namespace: &str,
    shared: Arc<Shared>,
) -> (Watched, BoxFuture<'static, ()>) {
    let resource = kind.resource();
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
    let writer = reflector::store::Writer::new(resource);
    let watched = Watched {
        store: writer.as_reader(),
        listed: Arc::default(),
    };
    let listed = watched.listed.clone();
    let task = async move {
        let events = watcher(api, watcher::Config::default())
            .modify(|o: &mut DynamicObject| o.metadata.managed_fields = None)
            .backoff(Steady::new(Duration::from_secs(1), Duration::from_secs(10)))
            .reflect(writer);
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::InitDone) => {
                    listed.store(true, Ordering::SeqCst);
                    shared.look.notify_one();
                }
                Ok(watcher::Event::Apply(_)) => shared.look.notify_one(),
                Ok(watcher::Event::Delete(_)) => {
                    shared.look.notify_one();
                    // It may be one that Flux hangs on.
                    shared.seed.notify_one();
                }
                Ok(_) => {}
                Err(e) => tracing::debug!(kind = kind.kind, error = %e, "watch"),
            }
        }
    };
    (watched, Box::pin(task))
}

/// Asks for a look whenever the management cluster's own Cluster comes, goes, or is paused or freed: by the pivot, for one.
async fn wake_for_cluster(client: Client, shared: Arc<Shared>) {
    let api: Api<PartialObjectMeta<DynamicObject>> =
        Api::namespaced_with(client, ORGANIZATION, &CLUSTER.resource());
    let config = watcher::Config::default().fields(&format!("metadata.name={}", shared.name));
    let events =
        watcher(api, config).backoff(Steady::new(Duration::from_secs(1), Duration::from_secs(5)));
    let mut events = std::pin::pin!(events);
    let mut before = None;
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(watcher::Event::InitApply(o) | watcher::Event::Apply(o)) => {
                Some((o.metadata.generation, o.metadata.annotations))
            }
            Ok(watcher::Event::Delete(_)) => None,
            Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
        };
        if now != before {
            before = now;
            shared.cluster.notify_one();
        }
    }
}
