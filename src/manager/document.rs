//! Decides what to do to the Cluster API objects of the management cluster when its document says so. Pure.

use std::collections::HashSet;

use kube::core::DynamicObject;

use super::status::belongs;
use crate::{
    GROUP,
    ports::kubernetes::{
        kind,
        objects::{key, name},
    },
};

/// Label of a MachineDeployment that is a node pool of the document; its value is the pool's name.
pub const POOL_LABEL: &str = "mctl.giantswarm.io/node-pool";

/// What to do.
#[derive(Debug)]
pub enum Decision {
    /// Nothing now: reason (CamelCase) and why.
    Hold(&'static str, String),
    /// Apply these, then delete those pools.
    Act {
        /// Objects to apply.
        apply: Vec<DynamicObject>,
        /// MachineDeployments of pools that the document no longer has.
        delete: Vec<DynamicObject>,
    },
}

/// Decides from what was rendered and what is there. The Cluster object must be there already: whoever makes it (bootstrap,
/// move, restore) also knows when it is safe to work on it.
pub fn decide(
    cluster: &str,
    rendered: &[DynamicObject],
    live: Option<&DynamicObject>,
    pools: &[DynamicObject],
) -> Decision {
    if let Some((reason, why)) = hold(cluster, live) {
        return Decision::Hold(reason, why);
    }
    let wanted: HashSet<String> = rendered
        .iter()
        .filter(|o| kind(o) == "MachineDeployment")
        .map(key)
        .collect();
    let delete = pools
        .iter()
        .filter(|p| is_ours(p) && belongs(p, cluster) && !wanted.contains(&key(p)))
        .filter(|p| p.metadata.deletion_timestamp.is_none())
        .cloned()
        .collect();
    Decision::Act {
        apply: rendered.to_vec(),
        delete,
    }
}

/// Why nothing may be written now: reason (CamelCase) and words; `None` when the Cluster is here and free. Asked again before
/// each write, because a move may begin at any time.
pub fn hold(cluster: &str, live: Option<&DynamicObject>) -> Option<(&'static str, String)> {
    let Some(live) = live else {
        return Some((
            "NotMoved",
            format!("there is no Cluster {cluster} here; its objects are not touched"),
        ));
    };
    if live.metadata.deletion_timestamp.is_some() {
        return Some(("Deleting", format!("Cluster {cluster} is being deleted")));
    }
    let annotated = live
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key("cluster.x-k8s.io/paused"));
    if annotated || live.data.pointer("/spec/paused") == Some(&serde_json::Value::Bool(true)) {
        return Some(("Paused", format!("Cluster {cluster} is paused")));
    }
    None
}

fn is_ours(pool: &DynamicObject) -> bool {
    debug_assert!(POOL_LABEL.starts_with(GROUP));
    pool.metadata
        .labels
        .as_ref()
        .is_some_and(|l| l.contains_key(POOL_LABEL))
        && !name(pool).is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn cluster(extra: Value) -> DynamicObject {
        let mut c = json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "golem", "namespace": "org-giantswarm"}, "spec": {}});
        crate::catalog::template::merge(&mut c, &extra);
        object(c)
    }

    fn pool(name: &str, label: bool, of: &str) -> DynamicObject {
        let labels = if label {
            json!({POOL_LABEL: name})
        } else {
            json!({})
        };
        object(
            json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineDeployment",
            "metadata": {"name": format!("{of}-{name}"), "namespace": "org-giantswarm", "labels": labels},
            "spec": {"clusterName": of}}),
        )
    }

    #[test]
    fn holds_until_the_cluster_is_here_and_free() {
        let cases = [
            (None, "NotMoved"),
            (Some(cluster(json!({"spec": {"paused": true}}))), "Paused"),
            (
                Some(cluster(
                    json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}}),
                )),
                "Paused",
            ),
            (
                Some(cluster(
                    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                )),
                "Deleting",
            ),
        ];
        for (live, reason) in cases {
            match decide("golem", &[], live.as_ref(), &[]) {
                Decision::Hold(r, _) => assert_eq!(r, reason),
                Decision::Act { .. } => panic!("{reason} expected"),
            }
        }
    }

    #[test]
    fn only_removed_pools_of_this_document_are_deleted() {
        let rendered = vec![cluster(json!({})), pool("kept", true, "golem")];
        let pools = vec![
            pool("kept", true, "golem"),
            pool("gone", true, "golem"),
            pool("theirs", false, "golem"),
            pool("other", true, "workload"),
        ];
        match decide("golem", &rendered, Some(&cluster(json!({}))), &pools) {
            Decision::Hold(r, _) => panic!("{r}"),
            Decision::Act { apply, delete } => {
                assert_eq!(apply.len(), 2);
                let names: Vec<_> = delete.iter().map(name).collect();
                assert_eq!(names, ["golem-gone"]);
            }
        }
    }
}
