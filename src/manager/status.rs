//! What the manager says about the cluster: conditions and phase from objects it has seen. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use kube::core::DynamicObject;

use super::{
    conditions::{Finding, Transition, camel, merge},
    document::POOL_LABEL,
    kinds::{CUSTOMER_FLUX, PLATFORM_FLUX},
};
use crate::{
    VERSION,
    config::{Condition, ManagementCluster, ManagementClusterStatus},
    ports::kubernetes::{
        objects::{self, Readiness, flux, machines, name, same_revision},
        replicas_ready,
    },
};

/// A heartbeat older than this means that monitoring does not work.
pub const HEARTBEAT_LIMIT: i64 = 300;

/// Objects as watched.
pub type Objects = Vec<Arc<DynamicObject>>;

/// Everything that the status is computed from. `None`: not known yet, for example because the kind is not there.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Names of the components that should be there.
    pub components: Vec<String>,
    /// Whether monitoring is one of them.
    pub monitoring: bool,
    /// Digest of the platform artifact being served.
    pub digest: Option<String>,
    /// Generation of the document that this process acted upon, if it did yet.
    pub acted: Option<i64>,
    /// What came of the manager's own work: document, Cluster API objects, Flux, certificates.
    pub work: Vec<Finding>,
    /// Kustomizations in the platform's namespace.
    pub kustomizations: Option<Objects>,
    /// HelmReleases in the platform's namespace.
    pub helm_releases: Option<Objects>,
    /// OCIRepositories in the platform's namespace.
    pub sources: Option<Objects>,
    /// Deployments of both Flux instances.
    pub flux_deployments: Option<Objects>,
    /// KubeadmControlPlanes in the organization's namespace.
    pub control_planes: Option<Objects>,
    /// MachineDeployments in the organization's namespace.
    pub pools: Option<Objects>,
    /// When the always-firing alert last came.
    pub heartbeat: Option<Timestamp>,
    /// Since when this process leads: alerts go to the leader alone.
    pub since: Timestamp,
}

/// The status to write, and what changed for events.
pub fn compute(
    document: &ManagementCluster,
    facts: &Facts,
    now: Timestamp,
) -> (ManagementClusterStatus, Vec<Transition>) {
    let before = document.status.clone().unwrap_or_default();
    let generation = document.metadata.generation;
    let mut findings = facts.work.clone();
    // A refused document changes nothing, so nothing is being updated either.
    let refused = findings
        .iter()
        .any(|f| f.type_ == "DocumentAccepted" && f.status == Some(false));
    let behind = facts.acted.is_some() && facts.acted != generation;
    if behind
        && !refused
        && let Some(f) = findings.iter_mut().find(|f| f.type_ == "ClusterApplied")
    {
        let told = "the newest document has not been acted upon yet";
        *f = Finding::no("ClusterApplied", PROGRESSING, told);
    }
    findings.push(control_plane(document, facts));
    findings.push(workers(document, facts));
    findings.push(flux_ready(facts));
    for component in &facts.components {
        findings.push(component_ready(component, facts, &before.conditions));
    }
    if facts.monitoring {
        findings.push(heartbeat(facts, &before.conditions, now));
    }
    let ready = ready(&findings);
    let is_ready = ready.status == Some(true);
    findings.insert(0, ready);
    let observed = facts.acted.or(before.observed_generation);
    let progressing = |f: &Finding| f.status != Some(true) && f.reason == PROGRESSING;
    let updating = !refused && (observed != generation || findings.iter().any(progressing));
    let (conditions, transitions) = merge(&before.conditions, &findings, generation, now);
    let status = ManagementClusterStatus {
        phase: Some(phase(before.phase.as_deref(), is_ready, updating).to_owned()),
        version: Some(VERSION.to_owned()),
        observed_generation: observed,
        platform_digest: facts.digest.clone(),
        conditions,
    };
    (status, transitions)
}

const PROGRESSING: &str = "Progressing";

fn phase(before: Option<&str>, ready: bool, updating: bool) -> &'static str {
    match before {
        _ if ready => "Ready",
        None | Some("Bootstrapping") => "Bootstrapping",
        _ if updating => "Updating",
        _ => "Degraded",
    }
}

fn ready(findings: &[Finding]) -> Finding {
    let missing: Vec<&str> = findings
        .iter()
        .filter(|f| f.status != Some(true))
        .map(|f| f.type_.as_str())
        .collect();
    if missing.is_empty() {
        Finding::yes(
            "Ready",
            "AllReady",
            format!("{} conditions are true", findings.len()),
        )
    } else {
        Finding::no(
            "Ready",
            "NotAllReady",
            format!("not true: {}", missing.join(", ")),
        )
    }
}

fn from_readiness(type_: &str, readiness: Readiness) -> Finding {
    match readiness {
        Readiness::Ready(m) => Finding::yes(type_, "Ready", m),
        Readiness::Progressing(m) => Finding::no(type_, PROGRESSING, m),
        Readiness::NotReady(reason, m) => Finding::no(type_, &reason, m),
    }
}

fn control_plane(document: &ManagementCluster, facts: &Facts) -> Finding {
    const TYPE: &str = "ControlPlaneReady";
    let cluster = document.metadata.name.as_deref().unwrap_or_default();
    let Some(all) = &facts.control_planes else {
        return Finding::unknown(TYPE, "NotSeen", "no KubeadmControlPlane has been read yet");
    };
    match all.iter().find(|o| belongs(o, cluster)) {
        None => Finding::no(
            TYPE,
            "Missing",
            format!("no KubeadmControlPlane of cluster {cluster}"),
        ),
        Some(o) => {
            let want = i64::from(document.spec.control_plane.replicas);
            from_readiness(TYPE, machines([o.as_ref()], want))
        }
    }
}

fn workers(document: &ManagementCluster, facts: &Facts) -> Finding {
    const TYPE: &str = "WorkersReady";
    let cluster = document.metadata.name.as_deref().unwrap_or_default();
    let Some(all) = &facts.pools else {
        return Finding::unknown(TYPE, "NotSeen", "no MachineDeployment has been read yet");
    };
    let mine: Vec<_> = all.iter().filter(|o| belongs(o, cluster)).collect();
    if document.spec.node_pools.is_empty() {
        return if mine.is_empty() {
            Finding::yes(TYPE, "NoPools", "the document has no node pools")
        } else {
            Finding::no(
                TYPE,
                PROGRESSING,
                format!("{} removed pools still exist", mine.len()),
            )
        };
    }
    let mut told = Vec::new();
    for pool in &document.spec.node_pools {
        let of_pool: Vec<&DynamicObject> = mine
            .iter()
            .filter(|o| is_pool(o, &pool.name))
            .map(|o| o.as_ref())
            .collect();
        if of_pool.is_empty() {
            let why = format!("{}: no MachineDeployment", pool.name);
            return Finding::no(TYPE, "Missing", why);
        }
        let readiness = machines(of_pool, i64::from(pool.replicas));
        match readiness {
            Readiness::Ready(m) => told.push(format!("{}: {m}", pool.name)),
            Readiness::Progressing(m) => {
                return Finding::no(TYPE, PROGRESSING, format!("{}: {m}", pool.name));
            }
            Readiness::NotReady(reason, m) => {
                return Finding::no(TYPE, &reason, format!("{}: {m}", pool.name));
            }
        }
    }
    Finding::yes(TYPE, "Ready", told.join("; "))
}

/// True when a Cluster API object belongs to this cluster.
pub fn belongs(object: &DynamicObject, cluster: &str) -> bool {
    let label = object
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get("cluster.x-k8s.io/cluster-name"));
    label.is_some_and(|l| l == cluster)
        || objects::text(object, "/spec/clusterName") == cluster
        || object
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|o| o.kind == "Cluster" && o.name == cluster)
}

/// True when a MachineDeployment is one of this pool; a pool has one per failure domain.
fn is_pool(object: &DynamicObject, pool: &str) -> bool {
    object
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(POOL_LABEL))
        .is_some_and(|label| label == pool)
}

fn flux_ready(facts: &Facts) -> Finding {
    const TYPE: &str = "FluxReady";
    let (Some(deployments), Some(sources), Some(kustomizations)) = (
        &facts.flux_deployments,
        &facts.sources,
        &facts.kustomizations,
    ) else {
        return Finding::unknown(TYPE, "NotSeen", "Flux's kinds have not been read yet");
    };
    for namespace in [PLATFORM_FLUX, CUSTOMER_FLUX] {
        let mine: Vec<_> = deployments
            .iter()
            .filter(|d| d.metadata.namespace.as_deref() == Some(namespace))
            .collect();
        if mine.is_empty() {
            return Finding::no(TYPE, "Missing", format!("no Deployment in {namespace}"));
        }
        for d in mine {
            if let Err(pending) = replicas_ready(d) {
                return Finding::no(
                    TYPE,
                    "ControllerNotReady",
                    format!("{namespace}: {pending}"),
                );
            }
        }
    }
    for (kind, all) in [
        ("OCIRepository", sources),
        ("Kustomization", kustomizations),
    ] {
        let Some(o) = all.iter().find(|o| name(o) == "platform") else {
            return Finding::no(TYPE, "Missing", format!("no {kind} platform"));
        };
        match flux(o) {
            Readiness::NotReady(reason, m) => {
                return Finding::no(TYPE, &reason, format!("{kind} platform: {m}"));
            }
            Readiness::Progressing(m) if !same_revision(o) => {
                return Finding::no(TYPE, PROGRESSING, format!("{kind} platform: {m}"));
            }
            _ => {}
        }
    }
    Finding::yes(TYPE, "Ready", "both instances run and follow their sources")
}

fn component_ready(component: &str, facts: &Facts, before: &[Condition]) -> Finding {
    let type_ = format!("Component{}", camel(component));
    let (Some(kustomizations), Some(releases)) = (&facts.kustomizations, &facts.helm_releases)
    else {
        return Finding::unknown(&type_, "NotSeen", "Flux's kinds have not been read yet");
    };
    let Some(k) = kustomizations.iter().find(|k| name(k) == component) else {
        return Finding::no(
            &type_,
            "Missing",
            format!("no Kustomization {PLATFORM_FLUX}/{component}"),
        );
    };
    let readiness = match flux(k) {
        Readiness::Ready(m) => Readiness::Ready(m),
        // Flux says "Unknown" whenever it looks again; nothing is known to have changed.
        Readiness::Progressing(_) if same_revision(k) && was_true(before, &type_) => {
            let c = before.iter().find(|c| c.type_ == type_);
            Readiness::Ready(c.map(|c| c.message.clone()).unwrap_or_default())
        }
        other => other,
    };
    // A chart that fails later says so in its release first.
    let release = releases
        .iter()
        .find(|r| name(r) == component)
        .map(|r| flux(r));
    match (readiness, release) {
        (Readiness::Ready(_), Some(Readiness::NotReady(reason, m))) => {
            Finding::no(&type_, &reason, format!("HelmRelease: {m}"))
        }
        (readiness, _) => from_readiness(&type_, readiness),
    }
}

fn was_true(before: &[Condition], type_: &str) -> bool {
    before
        .iter()
        .any(|c| c.type_ == type_ && c.status == "True")
}

fn heartbeat(facts: &Facts, before: &[Condition], now: Timestamp) -> Finding {
    const TYPE: &str = "MonitoringHeartbeat";
    let age = |t: Timestamp| now.duration_since(t).as_secs();
    // What came long before this process led says nothing about today.
    let heard = |t: &Timestamp| *t >= facts.since || age(*t) <= HEARTBEAT_LIMIT;
    match facts.heartbeat.filter(heard) {
        Some(t) if age(t) <= HEARTBEAT_LIMIT => Finding::yes(
            TYPE,
            "Received",
            format!("the always-firing alert came within {HEARTBEAT_LIMIT} s"),
        ),
        Some(t) => Finding::no(
            TYPE,
            "Silent",
            format!("the always-firing alert last came at {t}"),
        ),
        // One that has just begun to lead has not had the time to hear anything.
        None if age(facts.since) <= HEARTBEAT_LIMIT && was_true(before, TYPE) => Finding::yes(
            TYPE,
            "Received",
            format!("the always-firing alert came within {HEARTBEAT_LIMIT} s"),
        ),
        None if age(facts.since) <= HEARTBEAT_LIMIT => Finding::unknown(
            TYPE,
            PROGRESSING,
            "the always-firing alert has not come yet",
        ),
        None => Finding::no(
            TYPE,
            "Silent",
            format!("the always-firing alert has not come since {}", facts.since),
        ),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
