//! The read-only checks: each looks at facts that were read and says what it found. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::DynamicObject;

use super::{
    facts::{Admission, CUSTOMER_NAMESPACE, Facts},
    jobs,
    report::Check,
};
use crate::{
    catalog::{Catalog, Target},
    config::ManagementCluster,
    manager::{
        alerts::WATCHDOG,
        kinds::{CUSTOMER_FLUX, NAMESPACE, ORGANIZATION, PLATFORM_FLUX},
        status::HEARTBEAT_LIMIT,
    },
    ports::kubernetes::{
        kind,
        objects::{Readiness, condition, flux, key, name, number, same_revision, text},
        replicas_ready,
    },
};

/// A lease whose last renewal is older than this is not held; some slack for clocks that differ.
const LEASE_LIMIT: i64 = 90;
/// Label of control-plane nodes.
pub const CONTROL_PLANE_NODE: &str = "node-role.kubernetes.io/control-plane";

/// What the checks look at.
pub struct Context<'a> {
    /// What the cluster should be.
    pub document: &'a ManagementCluster,
    /// What can be installed.
    pub catalog: &'a Catalog,
    /// What was read.
    pub facts: &'a Facts,
}

type Look = fn(&Context<'_>) -> Checked;

/// All checks in their order.
pub fn all(c: &Context<'_>) -> Vec<Check> {
    let checks: [(&str, Look); 11] = [
        ("nodes", nodes),
        ("cluster-api", cluster_api),
        ("flux-controllers", flux_controllers),
        ("flux-objects", flux_objects),
        ("network", network),
        ("workloads", workloads),
        ("policy", policy),
        ("targets", targets),
        ("heartbeat", heartbeat),
        ("manager", manager),
        ("document", document),
    ];
    checks
        .into_iter()
        .map(|(name, check)| match check(c) {
            Ok(Found::Good(evidence)) => Check::pass(name, evidence),
            Ok(Found::LeftOut(why)) => Check::skip(name, why),
            Err(Bad { evidence, fix }) => Check::fail(name, evidence, fix),
        })
        .collect()
}

enum Found {
    Good(String),
    LeftOut(String),
}

struct Bad {
    evidence: String,
    fix: String,
}

type Checked = Result<Found, Bad>;

fn bad(evidence: impl Into<String>, fix: impl Into<String>) -> Bad {
    Bad {
        evidence: evidence.into(),
        fix: fix.into(),
    }
}

/// The facts, or that they could not be read.
fn read<'a, T>(fact: &'a Result<T, String>, what: &str) -> Result<&'a T, Bad> {
    fact.as_ref().map_err(|e| {
        bad(
            format!("{what} cannot be read: {e}"),
            "see whether the API server answers and what it says: kubectl get --raw /readyz",
        )
    })
}

impl Context<'_> {
    fn cluster(&self) -> &str {
        self.document.metadata.name.as_deref().unwrap_or_default()
    }

    fn enabled(&self, component: &str) -> bool {
        self.catalog
            .components
            .get(component)
            .is_some_and(|c| self.catalog.is_enabled(self.document, c))
    }
}

/// A few names, then how many more.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names[..names.len().min(SHOWN)].join("; ");
    if names.len() > SHOWN {
        text.push_str(&format!("; and {} more", names.len() - SHOWN));
    }
    text
}

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

fn nodes(c: &Context<'_>) -> Checked {
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

fn cluster_api(c: &Context<'_>) -> Checked {
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

fn flux_controllers(c: &Context<'_>) -> Checked {
    let all = read(&c.facts.deployments, "Deployments")?;
    let mut told = Vec::new();
    for namespace in [PLATFORM_FLUX, CUSTOMER_FLUX] {
        let mine: Vec<_> = all
            .iter()
            .filter(|d| d.metadata.namespace.as_deref() == Some(namespace))
            .collect();
        let fix = format!("kubectl -n {namespace} get pods");
        for needed in [
            "source-controller",
            "kustomize-controller",
            "helm-controller",
        ] {
            if !mine.iter().any(|d| name(d) == needed) {
                return Err(bad(format!("no Deployment {namespace}/{needed}"), fix));
            }
        }
        for d in &mine {
            if let Err(pending) = replicas_ready(d) {
                return Err(bad(format!("{namespace}: {pending}"), fix));
            }
        }
        told.push(format!("{} in {namespace}", mine.len()));
    }
    Ok(Found::Good(format!(
        "controllers ready: {}",
        told.join(", ")
    )))
}

fn flux_objects(c: &Context<'_>) -> Checked {
    let all = read(&c.facts.flux, "Flux objects")?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut not_ready = Vec::new();
    for o in all {
        let namespace = o.metadata.namespace.clone().unwrap_or_default();
        *counts.entry(namespace).or_default() += 1;
        match flux(o) {
            Readiness::Ready(_) => {}
            // Flux looks again every minute; what it applied last is still what it wants.
            Readiness::Progressing(_) if same_revision(o) => {}
            other => not_ready.push(format!("{} {}: {}", kind(o), key(o), other.text())),
        }
    }
    let has_root = all
        .iter()
        .any(|o| kind(o) == "Kustomization" && key(o) == format!("{PLATFORM_FLUX}/platform"));
    if !has_root {
        return Err(bad(
            format!("no Kustomization {PLATFORM_FLUX}/platform"),
            format!("the manager makes it: kubectl -n {NAMESPACE} logs deploy/mctl"),
        ));
    }
    if !not_ready.is_empty() {
        return Err(bad(
            format!(
                "{} of {} objects not Ready: {}",
                not_ready.len(),
                all.len(),
                some(&not_ready)
            ),
            "kubectl describe the first one; what it depends on comes first",
        ));
    }
    let customer = counts.get(CUSTOMER_FLUX).copied().unwrap_or(0);
    Ok(Found::Good(format!(
        "{} objects Ready in {PLATFORM_FLUX}, {customer} in {CUSTOMER_FLUX}{}",
        counts.get(PLATFORM_FLUX).copied().unwrap_or(0),
        if customer == 0 {
            " (the document names no source)"
        } else {
            ""
        }
    )))
}

fn network(c: &Context<'_>) -> Checked {
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

fn workloads(c: &Context<'_>) -> Checked {
    let mut count = 0;
    let mut not_ready = Vec::new();
    for component in c.catalog.enabled(c.document) {
        if !component.clusters.contains(&Target::Management) {
            continue;
        }
        for ready in &component.ready {
            let all = match ready.kind.as_str() {
                "Deployment" => read(&c.facts.deployments, "Deployments")?,
                "DaemonSet" => read(&c.facts.daemon_sets, "DaemonSets")?,
                _ => read(&c.facts.stateful_sets, "StatefulSets")?,
            };
            count += 1;
            let namespace = ready.namespace.as_deref().unwrap_or(&component.namespace);
            let id = format!("{namespace}/{}", ready.name);
            match all.iter().find(|o| key(o) == id) {
                None => not_ready.push(format!("{}: no {} {id}", component.name, ready.kind)),
                Some(o) => {
                    if let Err(pending) = replicas_ready(o) {
                        not_ready.push(format!("{}: {pending}", component.name));
                    }
                }
            }
        }
    }
    if not_ready.is_empty() {
        Ok(Found::Good(format!(
            "{count} workloads of the catalog are ready"
        )))
    } else {
        Err(bad(
            format!(
                "{} of {count} not ready: {}",
                not_ready.len(),
                some(&not_ready)
            ),
            format!("kubectl -n {PLATFORM_FLUX} get kustomizations"),
        ))
    }
}

fn policy(c: &Context<'_>) -> Checked {
    if !c.enabled("pod-security-policies") {
        return Ok(Found::LeftOut(
            "pod-security-policies is switched off".into(),
        ));
    }
    let look = "kubectl get clusterpolicies; kubectl -n kyverno get pods";
    match read(&c.facts.restricted, "the answer about a harmless pod")? {
        Admission::Admitted => {}
        Admission::Refused(why) => {
            return Err(bad(
                format!("a harmless pod in {CUSTOMER_NAMESPACE} is refused: {why}"),
                look,
            ));
        }
    }
    match read(&c.facts.privileged, "the answer about a privileged pod")? {
        Admission::Admitted => Err(bad(
            format!("a privileged pod in {CUSTOMER_NAMESPACE} would be admitted"),
            look,
        )),
        Admission::Refused(why) if why.contains("kyverno") => {
            let by = ["disallow-privileged-containers", "privileged"]
                .into_iter()
                .find(|p| why.contains(p))
                .unwrap_or("a policy");
            Ok(Found::Good(format!(
                "Kyverno refuses a privileged pod in {CUSTOMER_NAMESPACE} ({by}) and admits a harmless one"
            )))
        }
        Admission::Refused(why) => Err(bad(
            format!(
                "a privileged pod in {CUSTOMER_NAMESPACE} is refused, but not by Kyverno: {why}"
            ),
            look,
        )),
    }
}

fn targets(c: &Context<'_>) -> Checked {
    if !c.enabled("monitoring") {
        return Ok(Found::LeftOut("monitoring is switched off".into()));
    }
    let look = "kubectl -n monitoring port-forward svc/prometheus-k8s 9090, then http://localhost:9090/targets";
    let found = c
        .facts
        .targets
        .as_ref()
        .map_err(|e| bad(format!("Prometheus does not answer: {e}"), look))?;
    let nodes = read(&c.facts.nodes, "nodes")?;
    let planes = nodes.iter().filter(|n| is_control_plane(n)).count();
    let controllers = read(&c.facts.deployments, "Deployments")?
        .iter()
        .filter(|d| {
            matches!(
                d.metadata.namespace.as_deref(),
                Some(PLATFORM_FLUX | CUSTOMER_FLUX)
            )
        })
        .count();
    let needed: Vec<_> = jobs::REQUIRED
        .iter()
        .filter(|j| c.enabled(j.component))
        .collect();
    let mut wrong = Vec::new();
    let mut up = 0;
    for job in &needed {
        let mine: Vec<_> = found.iter().filter(|t| t.job == job.name).collect();
        let want = job.count.resolve(planes, nodes.len(), controllers);
        let good = mine.iter().filter(|t| t.up).count();
        up += good;
        if let Some(down) = mine.iter().find(|t| !t.up) {
            wrong.push(format!("{} is down at {}", job.name, down.instance));
        } else if good < want {
            wrong.push(format!("{} has {good} of {want} targets", job.name));
        }
    }
    if wrong.is_empty() {
        Ok(Found::Good(format!(
            "{up} targets of {} jobs are up",
            needed.len()
        )))
    } else {
        Err(bad(some(&wrong), look))
    }
}

fn heartbeat(c: &Context<'_>) -> Checked {
    if !c.enabled("monitoring") {
        return Ok(Found::LeftOut("monitoring is switched off".into()));
    }
    let look = "kubectl -n monitoring logs alertmanager-main-0";
    let alerts = c
        .facts
        .alerts
        .as_ref()
        .map_err(|e| bad(format!("the manager does not tell its alerts: {e}"), look))?;
    match alerts.iter().find(|a| a.name == WATCHDOG) {
        Some(w) if w.status == "firing" && w.age_seconds <= HEARTBEAT_LIMIT => {
            Ok(Found::Good(format!(
                "the always-firing alert came {} s ago through Alertmanager",
                w.age_seconds
            )))
        }
        Some(w) => Err(bad(
            format!(
                "the always-firing alert last came {} s ago ({})",
                w.age_seconds, w.status
            ),
            look,
        )),
        None => Err(bad("the always-firing alert has not come", look)),
    }
}

fn manager(c: &Context<'_>) -> Checked {
    let look = format!("kubectl -n {NAMESPACE} logs deploy/mctl");
    let Some(lease) = read(&c.facts.lease, "the manager's Lease")? else {
        return Err(bad(format!("no Lease {NAMESPACE}/mctl"), look));
    };
    let holder = text(lease, "/spec/holderIdentity");
    if holder.is_empty() {
        return Err(bad("nobody holds the manager's lease", look));
    }
    let renewed: Option<jiff::Timestamp> = text(lease, "/spec/renewTime").parse().ok();
    let age = renewed.map(|t| c.facts.now.duration_since(t).as_secs());
    match age {
        Some(age) if age <= LEASE_LIMIT => Ok(Found::Good(format!(
            "{holder} holds the lease, renewed {} s ago",
            age.max(0)
        ))),
        _ => Err(bad(
            format!(
                "{holder} holds the lease but renewed it {} s ago by this clock",
                age.unwrap_or(-1)
            ),
            look,
        )),
    }
}

fn document(c: &Context<'_>) -> Checked {
    let id = format!("ManagementCluster {NAMESPACE}/{}", c.cluster());
    let look = format!(
        "kubectl -n {NAMESPACE} describe managementcluster {}",
        c.cluster()
    );
    let Some(object) = read(&c.facts.document, "the ManagementCluster")? else {
        return Err(bad(
            format!("no {id}"),
            "run the bootstrap again: it goes on with the handover",
        ));
    };
    let generation = object.metadata.generation.unwrap_or(0);
    if number(object, "/status/observedGeneration") < generation {
        return Err(bad(
            format!("{id}: generation {generation} has not been acted upon"),
            look,
        ));
    }
    match condition(object, "Ready") {
        Some(r) if r["status"] == "True" => Ok(Found::Good(format!(
            "{id} is Ready, phase {}",
            text(object, "/status/phase")
        ))),
        Some(r) => Err(bad(
            format!(
                "{id} is not Ready: {}",
                r["message"].as_str().unwrap_or_default()
            ),
            look,
        )),
        None => Err(bad(format!("{id} has no status yet"), look)),
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
