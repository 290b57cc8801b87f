//! What only the leader does, as loops that do not wait for each other: Cluster API objects, Flux's own objects, certificates,
//! drift, status. Must not serve anything.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::{
    api::{Patch, PatchParams},
    core::{DynamicObject, GroupVersionKind},
};
use serde_json::json;
use tokio::{sync::Notify, time::Instant};

use super::{
    certificates,
    conditions::Finding,
    document::{Decision, decide, hold},
    events::Events,
    keeper::Keeper,
    kinds::{
        CLUSTER, CONFIG_TEMPLATE, CONTROL_PLANE, HEALTH_CHECK as HEALTH_CHECK_KIND,
        MACHINE_DEPLOYMENT, MACHINE_SET, MANAGEMENT_CLUSTER, ORGANIZATION,
    },
    leftovers::leftovers,
    rendering::Rendering,
    shared::Shared,
    status::{Facts, compute},
    stores::Stores,
    told::Told,
};
use crate::{
    Error, FIELD_MANAGER, Result,
    config::{ManagementCluster, ManagementClusterStatus},
    ports::kubernetes::{Cluster, gvk, kind, objects, short},
};

/// How often everything is looked at without cause.
const PERIOD: Duration = Duration::from_secs(60);
/// First pause after a failed round; doubles up to [`PERIOD`].
const AGAIN: Duration = Duration::from_secs(3);
/// Longest time for one round.
const ROUND: Duration = Duration::from_secs(180);
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(500);
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(10);

/// Works until dropped.
pub async fn lead(cluster: Cluster, shared: Arc<Shared>) {
    let (stores, watches) = Stores::start(&cluster.client(), &shared);
    let events = Events::new(cluster.client(), &shared.identity);
    let flux = Keeper::new(cluster.clone());
    let machines = Keeper::new(cluster.clone());
    // Nothing but time, the document and the CA causes these rounds.
    let never = Notify::new();
    tokio::join!(
        watches,
        super::repair::repair(cluster.client(), &shared, &events),
        rounds(&shared, "seed", "SeedApplied", &shared.seed, async |r| {
            let done = flux.keep(&r.seed).await?;
            told("put right", &done);
            Ok(Finding::yes(
                "SeedApplied",
                "Applied",
                format!("{} objects of Flux are as they should be", r.seed.len()),
            ))
        }),
        rounds(
            &shared,
            "cluster",
            "ClusterApplied",
            &shared.cluster,
            async |r| { document(&cluster, &machines, &shared, &r).await }
        ),
        rounds(
            &shared,
            "certificates",
            "CertificatesCurrent",
            &never,
            async |r| {
                let authority = shared.inputs.borrow().authority.clone();
                let authority =
                    authority.ok_or_else(|| Error::failed("the cluster's CA is not there"))?;
                let (done, result) =
                    certificates::keep(&cluster, &r.certificates, &authority).await;
                shared.metrics.issued(done.len());
                result?;
                Ok(Finding::yes(
                    "CertificatesCurrent",
                    "Current",
                    format!("{} serving certificates are good", r.certificates.len()),
                ))
            }
        ),
        super::remember::remember(&cluster, &shared),
        super::token::keep(&cluster, &shared),
        status(&cluster, &stores, &shared, &events),
    );
}

fn told(what: &str, done: &[String]) {
    for id in done {
        tracing::info!(object = %id, "{what}");
    }
}

/// Runs a kind of work whenever what was published changes, on request, and once a minute; notes what came of it.
async fn rounds(
    shared: &Shared,
    name: &'static str,
    condition: &'static str,
    wake: &Notify,
    mut work: impl AsyncFnMut(Arc<Rendering>) -> Result<Finding>,
) {
    let mut published = shared.published.subscribe();
    let mut again = AGAIN;
    loop {
        let rendering = published.borrow_and_update().rendering.clone();
        let mut pause = PERIOD;
        if let Some(rendering) = rendering {
            let begin = Instant::now();
            let result = bounded(ROUND, name, work(rendering)).await;
            shared.metrics.round(name, result.is_ok(), begin.elapsed());
            match result {
                Ok(finding) => {
                    again = AGAIN;
                    shared.note(finding, name);
                }
                Err(e) => {
                    pause = again;
                    again = (again * 2).min(PERIOD);
                    shared.note(Finding::no(condition, "Failed", e.line()), name);
                }
            }
        }
        tokio::select! {
            _ = published.changed() => {}
            () = wake.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn bounded<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| Error::failed(format!("{what} did not end within {} s", limit.as_secs())))?
}

/// Brings the Cluster API objects to what the document says.
async fn document(
    cluster: &Cluster,
    keeper: &Keeper,
    shared: &Shared,
    rendering: &Rendering,
) -> Result<Finding> {
    const TYPE: &str = "ClusterApplied";
    let namespace = Some(ORGANIZATION);
    let look = async || {
        let kind = CLUSTER.gvk();
        let work = cluster.get(&kind, namespace, &shared.name);
        bounded(REQUEST, "reading the Cluster", work).await
    };
    let pools = list(cluster, &MACHINE_DEPLOYMENT.gvk()).await?;
    let live = look().await?;
    let (apply, delete) = match decide(&shared.name, &rendering.cluster, live.as_ref(), &pools) {
        Decision::Hold(reason, why) => return Ok(Finding::no(TYPE, reason, why)),
        Decision::Act { apply, delete } => (apply, delete),
    };
    // A move may begin while this goes on: it pauses the Cluster first.
    let held = Mutex::new(None);
    let may = async || match hold(&shared.name, look().await?.as_ref()) {
        None => Ok(()),
        Some((reason, why)) => {
            let told = Error::failed(why.clone());
            *held.lock().unwrap_or_else(PoisonError::into_inner) = Some((reason, why));
            Err(told)
        }
    };
    let work = async {
        let done = keeper.keep_while(&apply, &may).await?;
        told("applied", &done);
        for pool in &delete {
            may().await?;
            bounded(ROUND, "deleting a pool", cluster.delete(pool, &())).await?;
            tracing::info!(pool = %objects::key(pool), "deleted a pool that the document no longer has");
        }
        sweep(cluster, shared, &apply, &may).await
    };
    let result = work.await;
    if let Some((reason, why)) = held.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Ok(Finding::no(TYPE, reason, why));
    }
    result?;
    shared.acted(rendering.generation);
    Ok(Finding::yes(
        TYPE,
        "Applied",
        format!("{} Cluster API objects are as described", apply.len()),
    ))
}

async fn list(cluster: &Cluster, kind: &GroupVersionKind) -> Result<Vec<DynamicObject>> {
    let work = cluster.list(kind, Some(ORGANIZATION), None);
    let found = bounded(REQUEST, &format!("listing {}s", kind.kind), work).await?;
    Ok(found.unwrap_or_default())
}

/// Deletes what earlier documents left behind.
async fn sweep<F: Future<Output = Result<()>>>(
    cluster: &Cluster,
    shared: &Shared,
    rendered: &[DynamicObject],
    may: &impl Fn() -> F,
) -> Result<()> {
    let mut kinds: Vec<GroupVersionKind> = rendered
        .iter()
        .filter(|o| kind(o).ends_with("Template"))
        .map(gvk)
        .collect::<Result<_>>()?;
    // A document without pools renders none of these.
    kinds.extend([CONFIG_TEMPLATE.gvk(), HEALTH_CHECK_KIND.gvk()]);
    kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
    kinds.dedup();
    let mut found = Vec::new();
    for kind in &kinds {
        found.extend(list(cluster, kind).await?);
    }
    // Users last: one that came meanwhile names only what is rendered now.
    let mut users = Vec::new();
    for kind in [MACHINE_DEPLOYMENT, MACHINE_SET, CONTROL_PLANE] {
        users.extend(list(cluster, &kind.gvk()).await?);
    }
    for left in leftovers(&shared.name, rendered, &found, &users) {
        may().await?;
        bounded(ROUND, "deleting what is left", cluster.delete(&left, &())).await?;
        tracing::info!(kind = kind(&left), object = %objects::key(&left), "deleted what nothing names any more");
    }
    Ok(())
}

/// Computes the status on every change and writes it when it differs.
async fn status(cluster: &Cluster, stores: &Stores, shared: &Shared, events: &Events) {
    // Whoever led before knows when conditions changed, and heard the last heartbeat: silence counts from here.
    let since = jiff::Timestamp::now();
    let mut told = Told::default();
    let mut inputs = shared.inputs.clone();
    loop {
        // Seen from here on: what changes while the status is written is looked at next.
        let document = inputs.borrow_and_update().document.clone();
        if let Some(document) = document
            && let Err(e) = tell(cluster, stores, shared, events, &document, &mut told, since).await
        {
            tracing::warn!(error = %e.line(), "cannot write the status");
        }
        tokio::select! {
            () = shared.look.notified() => {}
            _ = inputs.changed() => {}
            () = tokio::time::sleep(PERIOD / 2) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn tell(
    cluster: &Cluster,
    stores: &Stores,
    shared: &Shared,
    events: &Events,
    document: &ManagementCluster,
    told: &mut Told,
    since: jiff::Timestamp,
) -> Result<()> {
    if !told.is_of(document.metadata.uid.as_deref()) {
        match read(cluster, shared).await? {
            Some(live) if live.metadata.uid == document.metadata.uid => {
                told.begin(live.metadata.uid, live.status);
            }
            // It is another one by now; the watch is about to say so.
            _ => return Ok(()),
        }
    }
    let mut document = document.clone();
    document.status = told.before().cloned();
    let facts = facts(stores, shared, since);
    let (status, transitions) = compute(&document, &facts, jiff::Timestamp::now());
    if told.differs(&status) {
        write(cluster, shared, &status).await?;
        for t in transitions.iter().filter(|t| t.is_worth_an_event()) {
            events.transition(&document, t);
        }
        told.wrote(status);
    }
    if let Some(status) = told.before() {
        let all = &status.conditions;
        shared
            .metrics
            .conditions(&shared.namespace, &shared.name, all);
    }
    Ok(())
}

/// The document as it is right now; the watch leaves out changes of its status.
async fn read(cluster: &Cluster, shared: &Shared) -> Result<Option<ManagementCluster>> {
    let kind = MANAGEMENT_CLUSTER.gvk();
    let namespace = Some(shared.namespace.as_str());
    let work = cluster.get(&kind, namespace, &shared.name);
    let live = bounded(REQUEST, "reading the document", work).await?;
    live.map(|o| serde_json::to_value(o).and_then(serde_json::from_value))
        .transpose()
        .map_err(|e| Error::failed("the document cannot be read").because(&e))
}

fn facts(stores: &Stores, shared: &Shared, since: jiff::Timestamp) -> Facts {
    let published = shared.published.borrow().clone();
    let mut work: Vec<Finding> = published.verdict.into_iter().collect();
    work.extend(shared.findings());
    let rendering = published.rendering;
    Facts {
        components: rendering
            .as_ref()
            .map(|r| r.components.clone())
            .unwrap_or_default(),
        monitoring: rendering.is_some_and(|r| r.monitoring),
        digest: published.digest,
        acted: shared.last_acted(),
        work,
        kustomizations: stores.kustomizations(),
        helm_releases: stores.helm_releases(),
        sources: stores.sources(),
        flux_deployments: stores.flux_deployments(),
        control_planes: stores.control_planes(),
        pools: stores.pools(),
        heartbeat: shared.inbox.heartbeat(),
        since,
    }
}

async fn write(cluster: &Cluster, shared: &Shared, status: &ManagementClusterStatus) -> Result<()> {
    let api = kube::Api::<DynamicObject>::namespaced_with(
        cluster.client(),
        &shared.namespace,
        &MANAGEMENT_CLUSTER.resource(),
    );
    let patch = json!({
        "apiVersion": MANAGEMENT_CLUSTER.gvk().api_version(),
        "kind": MANAGEMENT_CLUSTER.kind,
        "metadata": {"name": shared.name, "namespace": shared.namespace},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(REQUEST, "writing the status", async {
        api.patch_status(&shared.name, &params, &Patch::Apply(&patch))
            .await
            .map(|_| ())
            .map_err(|e| Error::failed("the API server refuses the status").because(short(&e)))
    })
    .await
}
