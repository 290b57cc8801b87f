//! When clusters can be moved: everything provisioned, every machine a node. Must not change anything.

use std::time::Duration;

use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::object::{CORE, Object};
use crate::{
    Result,
    ports::kubernetes::{Cluster, Progress, Wait, met, poll},
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
            met(object, "ControlPlaneInitialized").err()
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
    let what = format!(
        "what is to move of namespace {namespace} in the {}",
        cluster.name
    );
    let wait = Wait {
        what: &what,
        stall,
        pause: Duration::from_millis(500),
        progress,
    };
    poll(wait, || async {
        let missing = missing(cluster, namespace, progress).await?;
        Ok(match missing.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            [first, rest @ ..] => Err(format!("{first} (and {} more)", rest.len())),
        })
    })
    .await
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
