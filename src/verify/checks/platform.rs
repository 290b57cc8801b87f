//! Checks of the platform on top: its workloads, its policies, its manager, its document. Pure.

use super::{Checked, Context, Found, bad, read, some};
use crate::{
    catalog::Target,
    manager::kinds::{NAMESPACE, PLATFORM_FLUX},
    ports::kubernetes::{
        objects::{condition, key, number, text},
        replicas_ready,
    },
    verify::facts::{Admission, CUSTOMER_NAMESPACE},
};

/// A lease whose last renewal is older than this is not held; some slack for clocks that differ.
const LEASE_LIMIT: i64 = 90;

pub(super) fn workloads(c: &Context<'_>) -> Checked {
    let mut count = 0;
    let mut not_ready = Vec::new();
    for component in c.catalog.enabled(c.document) {
        if !component.clusters.contains(&Target::Management) {
            continue;
        }
        for ready in component.workloads() {
            let all = match ready.kind.as_str() {
                "Deployment" => read(&c.facts.deployments, "Deployments")?,
                "DaemonSet" => read(&c.facts.daemon_sets, "DaemonSets")?,
                _ => read(&c.facts.stateful_sets, "StatefulSets")?,
            };
            count += 1;
            let namespace = ready.namespace.unwrap_or_default();
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

pub(super) fn policy(c: &Context<'_>) -> Checked {
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

pub(super) fn manager(c: &Context<'_>) -> Checked {
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

pub(super) fn document(c: &Context<'_>) -> Checked {
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
