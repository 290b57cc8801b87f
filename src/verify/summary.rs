//! How a cluster is, in one screen: what `mctl status` shows. Reads a few objects, changes nothing.

use kube::core::{DynamicObject, GroupVersionKind};
use serde::Serialize;

use super::checks::{is_control_plane, is_ready};
use crate::{
    Result,
    config::{Condition, ManagementCluster},
    manager::kinds::{NAMESPACE, NODE},
    ports::kubernetes::{
        Cluster,
        objects::{name, text},
    },
};

/// Drift events shown.
const DRIFTS: usize = 5;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Part of the control plane.
    pub control_plane: bool,
    /// Kubelet's version.
    pub version: String,
    /// Its condition Ready.
    pub ready: bool,
}

/// A change that Flux did not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// When it was seen last.
    pub time: String,
    /// What it was.
    pub what: String,
}

/// Everything shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Version of this form.
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Phase; empty before the manager wrote one.
    pub phase: String,
    /// Version of the manager.
    pub manager: String,
    /// Generation of the document, and the one acted upon.
    pub generation: (i64, i64),
    /// Digest of the platform artifact.
    pub platform_digest: String,
    /// Conditions that are no components.
    pub conditions: Vec<Condition>,
    /// Conditions of components.
    pub components: Vec<Condition>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Newest drift.
    pub drift: Vec<Drift>,
}

/// Reads it.
pub async fn summary(cluster: &Cluster, name: &str) -> Result<Summary> {
    let document = super::document(cluster, name).await?;
    let events = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
    let node_kind = NODE.gvk();
    let (nodes, events) = tokio::join!(
        cluster.list(&node_kind, None, None),
        cluster.list(&events, Some(NAMESPACE), None),
    );
    let nodes = nodes?.unwrap_or_default();
    // Who may see the nodes need not see events.
    let events = events.ok().flatten().unwrap_or_default();
    Ok(form(&document, &nodes, &events))
}

fn form(
    document: &ManagementCluster,
    nodes: &[DynamicObject],
    events: &[DynamicObject],
) -> Summary {
    let status = document.status.clone().unwrap_or_default();
    let (components, conditions) = status
        .conditions
        .into_iter()
        .partition(|c| c.type_.starts_with("Component"));
    let mut drift: Vec<Drift> = events
        .iter()
        .filter(|e| text(e, "/reason") == "DriftFound")
        .map(|e| {
            let last = text(e, "/series/lastObservedTime");
            let first = text(e, "/eventTime");
            Drift {
                time: if last.is_empty() { first } else { last }.to_owned(),
                what: text(e, "/note").to_owned(),
            }
        })
        .collect();
    drift.sort_by(|a, b| b.time.cmp(&a.time));
    drift.truncate(DRIFTS);
    let mut nodes: Vec<Node> = nodes
        .iter()
        .map(|n| Node {
            name: name(n).to_owned(),
            control_plane: is_control_plane(n),
            version: text(n, "/status/nodeInfo/kubeletVersion").to_owned(),
            ready: is_ready(n),
        })
        .collect();
    nodes.sort_by(|a, b| (!a.control_plane, &a.name).cmp(&(!b.control_plane, &b.name)));
    Summary {
        version: 1,
        cluster: document.metadata.name.clone().unwrap_or_default(),
        phase: status.phase.unwrap_or_default(),
        manager: status.version.unwrap_or_default(),
        generation: (
            document.metadata.generation.unwrap_or(0),
            status.observed_generation.unwrap_or(0),
        ),
        platform_digest: status.platform_digest.unwrap_or_default(),
        conditions,
        components,
        nodes,
        drift,
    }
}

impl Summary {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let phase = if self.phase.is_empty() {
            "the manager has written no status yet"
        } else {
            &self.phase
        };
        out.push_str(&format!("{}: {phase}", self.cluster));
        if !self.manager.is_empty() {
            out.push_str(&format!(" (mctl {})", self.manager));
        }
        let (asked, acted) = self.generation;
        if asked != acted {
            out.push_str(&format!(
                "; generation {asked} of the document is not in force yet, {acted} is"
            ));
        }
        out.push('\n');
        if !self.platform_digest.is_empty() {
            out.push_str(&format!("platform: {}\n", self.platform_digest));
        }
        table(
            &mut out,
            "nodes",
            self.nodes.iter().map(|n| {
                let role = if n.control_plane {
                    "control plane"
                } else {
                    "worker"
                };
                (n.ready, n.name.as_str(), format!("{role}, {}", n.version))
            }),
        );
        let line = |c: &Condition| {
            let told = if c.status == "True" || c.message.is_empty() {
                c.message.clone()
            } else {
                format!(
                    "{} since {}: {}",
                    c.reason, c.last_transition_time, c.message
                )
            };
            (c.status == "True", told)
        };
        table(
            &mut out,
            "conditions",
            self.conditions.iter().map(|c| {
                let (good, told) = line(c);
                (good, c.type_.as_str(), told)
            }),
        );
        table(
            &mut out,
            "components",
            self.components.iter().map(|c| {
                let (good, told) = line(c);
                (good, c.type_.trim_start_matches("Component"), told)
            }),
        );
        if !self.drift.is_empty() {
            out.push_str("\nlast drift\n");
            for d in &self.drift {
                out.push_str(&format!("  {}  {}\n", d.time, d.what));
            }
        }
        out
    }
}

fn table<'a>(
    out: &mut String,
    title: &str,
    rows: impl Iterator<Item = (bool, &'a str, String)> + Clone,
) {
    let width = rows.clone().map(|(_, name, _)| name.len()).max();
    let Some(width) = width else { return };
    out.push_str(&format!("\n{title}\n"));
    for (good, name, told) in rows {
        let mark = if good { '✓' } else { '✗' };
        let row = format!("  {mark} {name:<width$}  {told}");
        out.push_str(row.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_what_matters_and_the_newest_drift_first() {
        let document: ManagementCluster = serde_json::from_value(json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem", "generation": 3}, "spec": {},
            "status": {"phase": "Updating", "version": "0.1.0", "observedGeneration": 2, "platformDigest": "sha256:1",
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "NotAllReady", "message": "not true: X",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "ComponentCilium", "status": "True", "reason": "Ready", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        let object = |v| serde_json::from_value::<DynamicObject>(v).unwrap();
        let node = object(json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "status": {"nodeInfo": {"kubeletVersion": "v1.36.3"}, "conditions": [{"type": "Ready", "status": "True"}]}}));
        let event = |time: &str, note: &str| {
            object(
                json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": note},
                "reason": "DriftFound", "eventTime": time, "note": note}),
            )
        };
        let events = [
            event("2026-01-01T00:00:00Z", "old"),
            event("2026-01-02T00:00:00Z", "new"),
        ];
        let text = form(&document, &[node], &events).text();
        assert_eq!(
            text,
            "golem: Updating (mctl 0.1.0); generation 3 of the document is not in force yet, 2 is\n\
             platform: sha256:1\n\
             \nnodes\n  ✓ n1  control plane, v1.36.3\n\
             \nconditions\n  ✗ Ready  NotAllReady since 2026-01-01T00:00:00Z: not true: X\n\
             \ncomponents\n  ✓ Cilium\n\
             \nlast drift\n  2026-01-02T00:00:00Z  new\n  2026-01-01T00:00:00Z  old\n"
        );
    }
}
