//! What only the leader does, as loops that do not wait for each other: Cluster API objects, Flux's own objects, certificates,
//! drift, status. Must not serve anything.

use std::{future::Future, sync::Arc, time::Duration};

use kube::{
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::json;
use tokio::{sync::Notify, time::Instant};

use super::{
    certificates,
    conditions::Finding,
    document::{Decision, decide},
    events::Events,
    keeper::Keeper,
    kinds::{CLUSTER, MACHINE_DEPLOYMENT, MANAGEMENT_CLUSTER, ORGANIZATION},
    rendering::Rendering,
    shared::Shared,
    status::{Facts, compute},
    stores::Stores,
};
use crate::{
    Error, FIELD_MANAGER, Result,
    config::ManagementClusterStatus,
    ports::kubernetes::{Cluster, objects, short},
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
                let done = certificates::keep(&cluster, &r.certificates, &authority).await?;
                shared.metrics.issued(done.len());
                Ok(Finding::yes(
                    "CertificatesCurrent",
                    "Current",
                    format!("{} serving certificates are good", r.certificates.len()),
                ))
            }
        ),
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
    let live = bounded(
        REQUEST,
        "reading the Cluster",
        cluster.get(&CLUSTER.gvk(), namespace, &shared.name),
    )
    .await?;
    let pools = bounded(
        REQUEST,
        "listing MachineDeployments",
        cluster.list(&MACHINE_DEPLOYMENT.gvk(), namespace, None),
    )
    .await?
    .unwrap_or_default();
    match decide(&shared.name, &rendering.cluster, live.as_ref(), &pools) {
        Decision::Hold(reason, why) => Ok(Finding::no(TYPE, reason, why)),
        Decision::Act { apply, delete } => {
            let done = keeper.keep(&apply).await?;
            told("applied", &done);
            for pool in &delete {
                bounded(ROUND, "deleting a pool", cluster.delete(pool, &())).await?;
                tracing::info!(pool = %objects::key(pool), "deleted a pool that the document no longer has");
            }
            shared.acted(rendering.generation);
            Ok(Finding::yes(
                TYPE,
                "Applied",
                format!("{} Cluster API objects are as described", apply.len()),
            ))
        }
    }
}

/// Computes the status on every change and writes it when it differs.
async fn status(cluster: &Cluster, stores: &Stores, shared: &Shared, events: &Events) {
    let mut written: Option<ManagementClusterStatus> = None;
    loop {
        let inputs = shared.inputs.borrow().clone();
        if let Some(document) = inputs.document {
            let mut document = document.as_ref().clone();
            if written.is_some() {
                document.status.clone_from(&written);
            }
            let facts = facts(stores, shared);
            let (status, transitions) = compute(&document, &facts, jiff::Timestamp::now());
            if document.status.as_ref() != Some(&status) {
                match write(cluster, shared, &status).await {
                    Ok(()) => {
                        for t in transitions.iter().filter(|t| t.is_worth_an_event()) {
                            events.transition(&document, t).await;
                        }
                        written = Some(status);
                    }
                    Err(e) => tracing::warn!(error = %e.line(), "cannot write the status"),
                }
            }
            if let Some(status) = &written {
                let all = &status.conditions;
                shared
                    .metrics
                    .conditions(&shared.namespace, &shared.name, all);
            }
        }
        let mut inputs = shared.inputs.clone();
        inputs.mark_unchanged();
        tokio::select! {
            () = shared.look.notified() => {}
            _ = inputs.changed() => {}
            () = tokio::time::sleep(PERIOD / 2) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

fn facts(stores: &Stores, shared: &Shared) -> Facts {
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
        started: shared.started,
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
