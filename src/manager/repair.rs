//! Watches platform objects and asks Flux to look at once when one drifted. Must not repair anything itself: Flux knows how.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{DynamicObject, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    backoff::Steady,
    drift::{Detector, Limiter, Owner},
    events::Events,
    kinds::{DRIFTING, HELM_RELEASE, KUSTOMIZATION, Known, PLATFORM_FLUX},
    shared::Shared,
};
use crate::{FIELD_MANAGER, ports::kubernetes::short};

/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(5);
/// Timer while nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

type Meta = PartialObjectMeta<DynamicObject>;

/// Works until dropped.
pub async fn repair(client: Client, shared: &Arc<Shared>, events: &Events) {
    let mut detectors = Vec::new();
    let mut streams = Vec::new();
    for kind in DRIFTING {
        for owner in [KUSTOMIZATION, HELM_RELEASE] {
            let selector = format!("{}/namespace={PLATFORM_FLUX}", owner.group);
            streams.push(watch(&client, *kind, &selector, detectors.len()));
            detectors.push(Detector::new(*kind));
        }
    }
    let mut changes = stream::select_all(streams);
    let mut limiter = Limiter::default();
    loop {
        let due = limiter.next().unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            Some((index, event)) = changes.next() => {
                let drifts = detectors[index].observe(metadata(&event));
                for drift in drifts {
                    tracing::info!(owner = %drift.owner.name, "{}", drift.what);
                    shared.metrics.drifted();
                    limiter.request(drift.owner.clone(), Instant::now());
                    let document = shared.inputs.borrow().document.clone();
                    if let Some(document) = document {
                        let note = format!(
                            "{}; {} {} is asked to restore it",
                            drift.what, drift.owner.kind.kind, drift.owner.name
                        );
                        let action = format!("Restore{}", drift.owner.name);
                        events.publish(&document, false, &action, "DriftFound", note);
                    }
                }
            }
            () = tokio::time::sleep_until(due) => {
                for owner in limiter.due(Instant::now()) {
                    if let Err(why) = ask(&client, &owner).await {
                        tracing::warn!(owner = %owner.name, error = %why, "cannot ask Flux to look");
                        limiter.request(owner, Instant::now());
                    }
                }
            }
        }
    }
}

fn metadata(
    event: &watcher::Event<Meta>,
) -> watcher::Event<&k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta> {
    match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::InitApply(o) => watcher::Event::InitApply(&o.metadata),
        watcher::Event::Apply(o) => watcher::Event::Apply(&o.metadata),
        watcher::Event::Delete(o) => watcher::Event::Delete(&o.metadata),
    }
}

fn watch(
    client: &Client,
    kind: Known,
    selector: &str,
    index: usize,
) -> BoxStream<'static, (usize, watcher::Event<Meta>)> {
    // Flux's own objects are read in the platform's namespace only.
    let resource = kind.resource();
    let api: Api<Meta> = if [KUSTOMIZATION, HELM_RELEASE].contains(&kind) {
        Api::namespaced_with(client.clone(), PLATFORM_FLUX, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    watcher(api, watcher::Config::default().labels(selector))
        // The kind may come later: Kyverno is itself part of the platform.
        .backoff(Steady::new(Duration::from_secs(1), Duration::from_secs(15)))
        .filter_map(move |event| {
            let event = event
                .inspect_err(|e| tracing::debug!(kind = kind.kind, error = %e, "watch"))
                .ok();
            std::future::ready(event.map(|e| (index, e)))
        })
        .boxed()
}

/// Asks by the annotation that Flux's own command line uses.
async fn ask(client: &Client, owner: &Owner) -> Result<(), String> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), PLATFORM_FLUX, &owner.kind.resource());
    let patch = json!({"metadata": {"annotations": {
        "reconcile.fluxcd.io/requestedAt": Timestamp::now().to_string(),
    }}});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&patch);
    let call = api.patch_metadata(&owner.name, &params, &patch);
    match tokio::time::timeout(REQUEST, call).await {
        Ok(Ok(_)) => Ok(()),
        // Its owner is gone as well; whoever owns that one brings it back.
        Ok(Err(kube::Error::Api(s))) if s.code == 404 => Ok(()),
        Ok(Err(e)) => Err(short(&e)),
        Err(_) => Err(format!("no answer within {} s", REQUEST.as_secs())),
    }
}
