//! Checks of the cluster itself: its nodes, Cluster API's view of it, its network. Pure.

use std::collections::BTreeSet;

use kube::core::DynamicObject;

use super::{Checked, Context, Found, bad, read, some};
use crate::{
    manager::kinds::ORGANIZATION,
    ports::kubernetes::{
        objects::{condition, key, name, number, text},
        replicas_ready,
    },
};

/// Label of control-plane nodes.
pub const CONTROL_PLANE_NODE: &str = "node-role.kubernetes.io/control-plane";

/// True when a node is Ready.
pub fn is_ready(node: &DynamicObject) -> bool {
    condition(node, "Ready").is_some_and(|c| c["status"] == "True")
}

/// True for nodes of the control plane.
pub fn is_control_plane(node: &DynamicObject) -> bool {
    node.metadata
        .labels
        .as_ref()
        .is_some_and(|l| l.contains_key(CONTROL_PLANE_NODE))
}

pub(super) fn nodes(c: &Context<'_>) -> Checked {
    let nodes = read(&c.facts.nodes, "nodes")?;
    let spec = &c.document.spec;
    let planes = spec.control_plane.replicas as usize;
    let workers: usize = spec.node_pools.iter().map(|p| p.replicas as usize).sum();
    let has = nodes.iter().filter(|n| is_control_plane(n)).count();
    let not_ready: Vec<String> = nodes
        .iter()
        .filter(|n| !is_ready(n))
        .map(|n| {
            let why = condition(n, "Ready").map_or("no condition Ready", |c| {
                c["message"].as_str().unwrap_or_default()
            });
            format!("{}: {why}", name(n))
        })
        .collect();
    if !not_ready.is_empty() {
        return Err(bad(
            format!(
                "{} of {} nodes not Ready: {}",
                not_ready.len(),
                nodes.len(),
                some(&not_ready)
            ),
            format!(
                "kubectl describe node {}",
                not_ready[0].split(':').next().unwrap_or_default()
            ),
        ));
    }
    if has != planes || nodes.len() - has != workers {
        return Err(bad(
            format!(
                "{has} control-plane nodes and {} workers, the document asks for {planes} and {workers}",
                nodes.len() - has
            ),
            format!("kubectl -n {ORGANIZATION} get machines"),
        ));
    }
    let names: Vec<String> = nodes.iter().map(|n| name(n).to_owned()).collect();
    Ok(Found::Good(format!(
        "{} of {} Ready: {}",
        nodes.len(),
        nodes.len(),
        some(&names)
    )))
}

pub(super) fn cluster_api(c: &Context<'_>) -> Checked {
    let clusters = read(&c.facts.clusters, "Clusters")?;
    let look = format!("kubectl -n {ORGANIZATION} describe cluster {}", c.cluster());
    let Some(cluster) = clusters.iter().find(|o| name(o) == c.cluster()) else {
        return Err(bad(
            format!(
                "the cluster does not list itself: no Cluster {ORGANIZATION}/{}",
                c.cluster()
            ),
            "run the bootstrap again: it goes on with the move",
        ));
    };
    match condition(cluster, "Available") {
        Some(a) if a["status"] == "True" => {}
        Some(a) => {
            let message = a["message"].as_str().unwrap_or_default().replace('\n', " ");
            return Err(bad(
                format!("Cluster {} is not Available: {message}", c.cluster()),
                look,
            ));
        }
        None => {
            return Err(bad(
                format!("Cluster {} says nothing about Available yet", c.cluster()),
                look,
            ));
        }
    }
    // It is this very cluster when its machines are these very nodes.
    let machines = read(&c.facts.machines, "Machines")?;
    let of_machines: BTreeSet<&str> = machines
        .iter()
        .filter(|m| text(m, "/spec/clusterName") == c.cluster())
        .map(|m| text(m, "/status/nodeRef/name"))
        .collect();
    let nodes = read(&c.facts.nodes, "nodes")?;
    let names: BTreeSet<&str> = nodes.iter().map(name).collect();
    if of_machines != names {
        return Err(bad(
            format!(
                "its Machines are nodes [{}], the nodes here are [{}]",
                of_machines.into_iter().collect::<Vec<_>>().join(" "),
                names.into_iter().collect::<Vec<_>>().join(" ")
            ),
            format!("kubectl -n {ORGANIZATION} get machines"),
        ));
    }
    Ok(Found::Good(format!(
        "Cluster {} is Available, {}, and its {} Machines are the nodes of this cluster",
        key(cluster),
        text(cluster, "/status/phase"),
        names.len()
    )))
}

pub(super) fn network(c: &Context<'_>) -> Checked {
    let sets = read(&c.facts.daemon_sets, "DaemonSets")?;
    if let Some(proxy) = sets.iter().find(|d| name(d) == "kube-proxy") {
        return Err(bad(
            format!("kube-proxy is there: DaemonSet {}", key(proxy)),
            "Cilium does its work: kubectl -n kube-system delete daemonset kube-proxy",
        ));
    }
    let look = "kubectl -n kube-system get pods -l app.kubernetes.io/part-of=cilium";
    let agent = sets.iter().find(|d| key(d) == "kube-system/cilium");
    let agent = agent.ok_or_else(|| bad("no DaemonSet kube-system/cilium", look))?;
    replicas_ready(agent).map_err(|p| bad(p, look))?;
    let deployments = read(&c.facts.deployments, "Deployments")?;
    let operator = deployments
        .iter()
        .find(|d| key(d) == "kube-system/cilium-operator");
    let operator =
        operator.ok_or_else(|| bad("no Deployment kube-system/cilium-operator", look))?;
    replicas_ready(operator).map_err(|p| bad(p, look))?;
    let nodes = read(&c.facts.nodes, "nodes")?.len();
    let known = read(&c.facts.cilium_nodes, "CiliumNodes")?.len();
    if known != nodes {
        return Err(bad(
            format!("Cilium knows {known} nodes, the cluster has {nodes}"),
            look,
        ));
    }
    Ok(Found::Good(format!(
        "no kube-proxy; Cilium runs on {} of {nodes} nodes and knows {known}",
        number(agent, "/status/numberReady")
    )))
}
