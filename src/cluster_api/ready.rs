//! When clusters can be moved: everything provisioned, every machine a node. Must not change anything.

use std::time::{Duration, Instant};

use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::object::{CORE, Object};
use crate::{
    Error, Kind, Result,
    ports::kubernetes::{Cluster, Progress, condition},
};

/// Version of the core types that is read.
const VERSION: &str = "v1beta2";

/// What is missing before an object can move; `None` when nothing is.
pub fn pending(object: &DynamicObject, gvk: &GroupVersionKind) -> Option<String> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    if object.metadata.deletion_timestamp.is_some() {
        return Some(format!("{} {name} is being deleted", gvk.kind));
    }
    if gvk.group != CORE {
        return None;
    }
    let at = |pointer: &str| object.data.pointer(pointer);
    match gvk.kind.as_str() {
        "Cluster" => {
            if at("/status/initialization/infrastructureProvisioned") != Some(&Value::Bool(true)) {
                return Some(format!(
                    "Cluster {name}: its infrastructure is not provisioned"
                ));
            }
            if at("/spec/controlPlaneRef").is_some()
                && at("/status/initialization/controlPlaneInitialized") != Some(&Value::Bool(true))
            {
                return Some(format!(
                    "Cluster {name}: its control plane is not initialized"
                ));
            }
            condition(object, "ControlPlaneInitialized").err()
        }
        "Machine" => {
            let node = at("/status/nodeRef/name").and_then(Value::as_str);
            if node.is_some_and(|n| !n.is_empty()) {
                return None;
            }
            let phase = at("/status/phase").and_then(Value::as_str);
            Some(format!(
                "Machine {name}: no node yet ({})",
                phase.unwrap_or("no phase")
            ))
        }
        _ => None,
    }
}

/// Waits until every Cluster and Machine of the namespace is ready to move. When what is missing stays the same for
/// `stall`, the wait ends with an error that names it.
pub async fn wait_ready(
    cluster: &Cluster,
    namespace: &str,
    stall: Duration,
    progress: &dyn Progress,
) -> Result<()> {
    let mut last = Vec::new();
    let mut changed = tokio::time::Instant::now();
    let begin = Instant::now();
    loop {
        let missing = missing(cluster, namespace, progress).await?;
        let Some(first) = missing.first() else {
            return Ok(());
        };
        if missing != last {
            progress.seen(&match missing.len() {
                1 => first.clone(),
                n => format!("{first} (and {} more)", n - 1),
            });
            last = missing;
            changed = tokio::time::Instant::now();
        } else if changed.elapsed() >= stall {
            return Err(Error::new(
                Kind::Stalled,
                format!(
                    "the clusters of namespace {namespace} in the {} do not get ready to move",
                    cluster.name
                ),
            )
            .because(format!(
                "nothing changed for {} s (waited {} s in all); missing: {}",
                stall.as_secs(),
                begin.elapsed().as_secs(),
                last.join("; ")
            ))
            .fix("look at the objects and their events, mend the cause, then run the same command again"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn missing(
    cluster: &Cluster,
    namespace: &str,
    progress: &dyn Progress,
) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for kind in ["Cluster", "Machine"] {
        let gvk = GroupVersionKind::gvk(CORE, VERSION, kind);
        let pending = cluster
            .list_map(&gvk, Some(namespace), None, progress, |o| {
                Some(Object::new(o, &gvk).pending)
            })
            .await?;
        match pending {
            None => all.push(format!("{kind}: the kind is not installed")),
            Some(objects) if objects.is_empty() && kind == "Cluster" => {
                all.push(format!("no Cluster in namespace {namespace}"));
            }
            Some(objects) => all.extend(objects.into_iter().flatten()),
        }
    }
    Ok(all)
}
