//! Probes that change something and put it back: a provoked alert, a deleted Deployment, an edited policy, a scaled control
//! plane. Must leave the cluster as it was, also when they fail.

use std::{collections::BTreeSet, future::Future, time::Duration};

use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    checks::{is_control_plane, is_ready},
    facts,
    report::Check,
};
use crate::{
    GROUP, Result,
    catalog::Catalog,
    config::ManagementCluster,
    manager::{
        kinds::{
            CLUSTER_POLICY, CONTROL_PLANE, DEPLOYMENT, MACHINE, MANAGEMENT_CLUSTER, MONITORING,
            NAMESPACE, NODE, ORGANIZATION, PROMETHEUS_RULE, VALIDATING_POLICY,
        },
        status::belongs,
    },
    ports::kubernetes::{
        Cluster, Progress, Waiting,
        objects::{machines, name, text},
        replicas_ready,
    },
};

/// Field manager of what the probes change.
const PROBER: &str = "mctl-verify";
/// What the manager promises for a platform object that was deleted or edited.
const RESTORED: Duration = Duration::from_secs(120);
/// Without anything new for this long a probe has failed.
const STALL: Duration = Duration::from_secs(300);
/// Pause between looks.
const PAUSE: Duration = Duration::from_secs(2);
/// Name of everything that probes make.
const PROBE: &str = "mctl-verify";
/// Name of the provoked alert.
const ALERT: &str = "MctlVerify";
/// Control-plane machines while scaling is probed.
const SCALED: u32 = 3;
/// The Deployment that is deleted.
const VICTIM: &str = "kube-state-metrics";
/// The policy that is edited, if it is there.
const POLICY: &str = "disallow-privileged-containers";
/// Annotation that remembers the size of the control plane while it is scaled for a probe.
const FORMER: &str = "mctl.giantswarm.io/verify-former-replicas";

const NAMES: [&str; 4] = [
    "probe-alert",
    "probe-deletion",
    "probe-policy",
    "probe-scaling",
];

/// Runs all probes; `broken` skips them, because on a broken cluster they would only do harm.
pub async fn probe(
    cluster: &Cluster,
    document: &ManagementCluster,
    catalog: &Catalog,
    broken: bool,
    progress: &dyn Progress,
) -> Vec<Check> {
    // Whoever drifts must not look like mctl, whose changes the manager takes for its own.
    let cluster = &cluster.acting_as(PROBER);
    if broken {
        let why = "not probed, because a check failed";
        return NAMES.iter().map(|n| Check::skip(n, why)).collect();
    }
    let on = |component: &str| {
        catalog
            .components
            .get(component)
            .is_some_and(|c| catalog.is_enabled(document, c))
    };
    let alert = async {
        if !on("monitoring") {
            return Check::skip(NAMES[0], "monitoring is switched off");
        }
        let check = alert(cluster, progress).await;
        let check = told(
            NAMES[0],
            check,
            "kubectl -n monitoring logs alertmanager-main-0",
        );
        match remove_rule(cluster).await {
            Ok(()) => check,
            Err(e) => Check::fail(
                NAMES[0],
                format!(
                    "PrometheusRule {MONITORING}/{PROBE} is left behind: {}",
                    e.line()
                ),
                format!("kubectl -n {MONITORING} delete prometheusrule {PROBE}"),
            ),
        }
    };
    let objects = async {
        let deletion = if on(VICTIM) {
            let check = deletion(cluster, progress).await;
            told(
                NAMES[1],
                check,
                "kubectl -n flux-giantswarm get kustomizations",
            )
        } else {
            Check::skip(NAMES[1], format!("{VICTIM} is switched off"))
        };
        let policy = if on("pod-security-policies") {
            let check = policy(cluster, progress).await;
            told(
                NAMES[2],
                check,
                "kubectl -n flux-giantswarm get helmreleases",
            )
        } else {
            Check::skip(NAMES[2], "pod-security-policies is switched off")
        };
        [deletion, policy]
    };
    let (alert, [deletion, policy]) = tokio::join!(alert, objects);
    // Last and alone: it moves the API server's endpoints.
    let scaling = scaling(cluster, document, progress).await;
    let look = format!("kubectl -n {ORGANIZATION} get machines,kubeadmcontrolplanes");
    vec![alert, deletion, policy, told(NAMES[3], scaling, &look)]
}

/// Takes back what an interrupted probe may have left: rule and scaling. Flux takes back the rest.
pub async fn clean_up(cluster: &Cluster, document_name: &str) -> Result<()> {
    remove_rule(cluster).await?;
    let found = cluster
        .get(&MANAGEMENT_CLUSTER.gvk(), Some(NAMESPACE), document_name)
        .await?;
    match found.as_ref().and_then(former) {
        Some(replicas) => set_replicas(cluster, document_name, replicas, None).await,
        None => Ok(()),
    }
}

fn told(name: &str, result: Result<String, String>, look: &str) -> Check {
    match result {
        Ok(evidence) => Check::pass(name, evidence),
        Err(evidence) => Check::fail(name, evidence, look),
    }
}

/// Looks until `look` says `Ok`; `Err` is what is missing. Ends when that has not changed for `stall`, or after `limit`.
async fn until<T, F: Future<Output = Result<T, String>>>(
    limit: Option<Duration>,
    stall: Duration,
    progress: &dyn Progress,
    mut look: impl FnMut() -> F,
) -> Result<(T, Duration), String> {
    let mut waiting = Waiting::new(stall, progress);
    if let Some(limit) = limit {
        waiting = waiting.within(limit);
    }
    loop {
        match look().await {
            Ok(value) => return Ok((value, waiting.elapsed())),
            Err(pending) => waiting.note(pending),
        }
        if waiting.check(String::new).is_err() {
            return Err(format!(
                "not within {} s: {}",
                waiting.elapsed().as_secs(),
                waiting.last()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn remove_rule(cluster: &Cluster) -> Result<()> {
    let rule = rule();
    match cluster
        .get(&PROMETHEUS_RULE.gvk(), Some(MONITORING), PROBE)
        .await
    {
        Ok(None) => Ok(()),
        _ => cluster.delete(&rule, &()).await,
    }
}

fn rule() -> DynamicObject {
    let mut rule = DynamicObject::new(PROBE, &PROMETHEUS_RULE.resource()).within(MONITORING);
    rule.data = json!({"spec": {"groups": [{"name": PROBE, "rules": [{
        "alert": ALERT,
        "expr": "vector(1)",
        "labels": {"severity": "none"},
        "annotations": {"summary": "Provoked by `mctl verify --active`; it goes away by itself."},
    }]}]}});
    rule
}

/// Provokes an alert and waits until it has come through Prometheus and Alertmanager to the manager.
async fn alert(cluster: &Cluster, progress: &dyn Progress) -> Result<String, String> {
    let begin = Instant::now();
    cluster
        .apply(&rule(), progress)
        .await
        .map_err(|e| e.line())?;
    let ((), took) = until(None, STALL, progress, || async {
        let all = facts::alerts(cluster).await?;
        let since = i64::try_from(begin.elapsed().as_secs()).unwrap_or(i64::MAX);
        let came = all
            .iter()
            .any(|a| a.name == ALERT && a.status == "firing" && a.age_seconds <= since);
        came.then_some(())
            .ok_or_else(|| format!("the provoked alert {ALERT} has not come yet"))
    })
    .await?;
    Ok(format!(
        "a provoked alert reached the manager in {} s",
        took.as_secs()
    ))
}

/// Deletes a Deployment of the platform and waits until it is back and ready.
async fn deletion(cluster: &Cluster, progress: &dyn Progress) -> Result<String, String> {
    let get = async || {
        cluster
            .get(&DEPLOYMENT.gvk(), Some(MONITORING), VICTIM)
            .await
            .map_err(|e| e.line())
    };
    let before = get()
        .await?
        .ok_or_else(|| format!("no Deployment {MONITORING}/{VICTIM}"))?;
    let uid = before.metadata.uid.clone();
    cluster
        .delete(&before, progress)
        .await
        .map_err(|e| e.line())?;
    let ((), took) = until(Some(RESTORED), RESTORED, progress, || async {
        match get().await? {
            Some(d) if d.metadata.uid != uid => replicas_ready(&d),
            _ => Err(format!("Deployment {MONITORING}/{VICTIM} is not back yet")),
        }
    })
    .await?;
    Ok(format!(
        "deleted Deployment {MONITORING}/{VICTIM} was back and ready in {} s",
        took.as_secs()
    ))
}

/// Switches a policy to audit and waits until it is as before; puts it back itself if Flux does not.
async fn policy(cluster: &Cluster, progress: &dyn Progress) -> Result<String, String> {
    let mut found = None;
    for kind in [CLUSTER_POLICY, VALIDATING_POLICY] {
        let all = cluster
            .list(&kind.gvk(), None, Some("helm.toolkit.fluxcd.io/name"))
            .await
            .map_err(|e| e.line())?
            .unwrap_or_default();
        let mut all: Vec<_> = all
            .into_iter()
            .filter(|p| weakened(&p.data["spec"]).is_some())
            .collect();
        all.sort_by_key(|p| name(p) != POLICY);
        if let Some(first) = all.into_iter().next() {
            found = Some((kind, first));
            break;
        }
    }
    let (kind, before) = found.ok_or("no policy that Flux keeps and that is enforced")?;
    let id = format!("{} {}", kind.kind, name(&before));
    let spec = before.data["spec"].clone();
    let weak = weakened(&spec).ok_or("cannot be weakened")?;
    let set = async |spec: &Value| {
        let patch = json!({"spec": spec});
        cluster
            .merge(&kind.gvk(), None, name(&before), &patch, progress)
            .await
            .map_err(|e| e.line())
    };
    set(&weak).await?;
    let restored = until(Some(RESTORED), RESTORED, progress, || async {
        let now = cluster
            .get(&kind.gvk(), None, name(&before))
            .await
            .map_err(|e| e.line())?;
        match now {
            Some(p) if p.data["spec"] == spec => Ok(()),
            Some(_) => Err(format!("{id} is still only auditing")),
            None => Err(format!("{id} is gone")),
        }
    })
    .await;
    match restored {
        Ok(((), took)) => Ok(format!("edited {id} was restored in {} s", took.as_secs())),
        Err(why) => {
            let back = match set(&spec).await {
                Ok(_) => "verify has put it back".to_owned(),
                Err(e) => format!("it could not be put back: {e}"),
            };
            Err(format!("{why}; {back}"))
        }
    }
}

/// The spec with enforcement off; `None` if it is not enforced.
fn weakened(spec: &Value) -> Option<Value> {
    let mut weak = spec.clone();
    if let Some(actions) = weak.get_mut("validationActions") {
        let enforced = actions.as_array()?.iter().any(|a| a == "Deny");
        *actions = json!(["Audit"]);
        return enforced.then_some(weak);
    }
    let mut changed = false;
    let mut audit = |action: Option<&mut Value>| {
        if let Some(action) = action.filter(|a| **a == "Enforce") {
            *action = json!("Audit");
            changed = true;
        }
    };
    audit(weak.get_mut("validationFailureAction"));
    for rule in weak.get_mut("rules").and_then(Value::as_array_mut)? {
        audit(rule.pointer_mut("/validate/failureAction"));
    }
    changed.then_some(weak)
}

/// Number of control-plane machines before an interrupted probe.
fn former(document: &DynamicObject) -> Option<u32> {
    document
        .metadata
        .annotations
        .as_ref()?
        .get(FORMER)?
        .parse()
        .ok()
}

async fn set_replicas(
    cluster: &Cluster,
    document: &str,
    replicas: u32,
    former: Option<u32>,
) -> Result<()> {
    debug_assert!(FORMER.starts_with(GROUP));
    let patch = json!({
        "metadata": {"annotations": {FORMER: former.map(|n| n.to_string())}},
        "spec": {"controlPlane": {"replicas": replicas}},
    });
    cluster
        .merge(
            &MANAGEMENT_CLUSTER.gvk(),
            Some(NAMESPACE),
            document,
            &patch,
            &(),
        )
        .await
        .map(|_| ())
}

/// Scales the control plane to three through the document and back.
async fn scaling(
    cluster: &Cluster,
    document: &ManagementCluster,
    progress: &dyn Progress,
) -> Result<String, String> {
    let name = document.metadata.name.as_deref().unwrap_or_default();
    let live = cluster
        .get(&MANAGEMENT_CLUSTER.gvk(), Some(NAMESPACE), name)
        .await
        .map_err(|e| e.line())?
        .ok_or_else(|| format!("no ManagementCluster {NAMESPACE}/{name}"))?;
    let before = former(&live).unwrap_or(document.spec.control_plane.replicas);
    let look = |replicas: u32| async move { spread(cluster, name, replicas).await };
    if before == SCALED {
        let (domains, _) = until(None, STALL, progress, || look(SCALED)).await?;
        return Ok(format!(
            "the control plane has three Ready nodes in {domains}; nothing to scale"
        ));
    }
    set_replicas(cluster, name, SCALED, Some(before))
        .await
        .map_err(|e| e.line())?;
    let up = until(None, STALL, progress, || look(SCALED)).await;
    // Back in any case: a cluster that does not get to three must not stay half-way.
    let back = set_replicas(cluster, name, before, None)
        .await
        .map_err(|e| e.line());
    let down = match back {
        Ok(()) => until(None, STALL, progress, || look(before)).await,
        Err(e) => Err(e),
    };
    match (up, down) {
        (Ok((domains, up)), Ok((_, down))) => Ok(format!(
            "scaled {before} → {SCALED} in {} s: three Ready nodes in {domains}; back to {before} in {} s",
            up.as_secs(),
            down.as_secs()
        )),
        (Err(e), _) => Err(format!("scaling to {SCALED}: {e}")),
        (Ok((_, up)), Err(e)) => Err(format!(
            "scaled to {SCALED} in {} s, but not back to {before}: {e}",
            up.as_secs()
        )),
    }
}

/// Failure domains of the control plane when it has exactly `replicas` Ready nodes and machines, each in a domain of its own.
async fn spread(cluster: &Cluster, name: &str, replicas: u32) -> Result<String, String> {
    let list = async |kind: crate::manager::kinds::Known, namespace| {
        let all = cluster.list(&kind.gvk(), namespace, None).await;
        all.map(Option::unwrap_or_default).map_err(|e| e.line())
    };
    let (nodes, machines, planes) = tokio::join!(
        list(NODE, None),
        list(MACHINE, Some(ORGANIZATION)),
        list(CONTROL_PLANE, Some(ORGANIZATION)),
    );
    judge(name, replicas, &nodes?, &machines?, &planes?)
}

/// The pure part of [`spread`].
fn judge(
    cluster: &str,
    replicas: u32,
    nodes: &[DynamicObject],
    all_machines: &[DynamicObject],
    planes: &[DynamicObject],
) -> Result<String, String> {
    let want = replicas as usize;
    let plane = planes
        .iter()
        .find(|p| belongs(p, cluster))
        .ok_or("no KubeadmControlPlane")?;
    let mine: Vec<_> = all_machines
        .iter()
        .filter(|m| belongs(m, cluster) && in_control_plane(m))
        .collect();
    let ready = nodes
        .iter()
        .filter(|n| is_control_plane(n) && is_ready(n))
        .count();
    let exist = nodes.iter().filter(|n| is_control_plane(n)).count();
    let phases: Vec<String> = mine
        .iter()
        .map(|m| format!("{} {}", name(m), text(m, "/status/phase")))
        .collect();
    if ready != want || exist != want || mine.len() != want {
        return Err(format!(
            "{ready} of {want} control-plane nodes Ready, {exist} exist; {}",
            phases.join(", ")
        ));
    }
    let state = machines([plane], i64::from(replicas));
    if !state.is_ready() {
        return Err(format!("KubeadmControlPlane: {}", state.text()));
    }
    let domains: BTreeSet<&str> = mine
        .iter()
        .map(|m| text(m, "/spec/failureDomain"))
        .filter(|d| !d.is_empty())
        .collect();
    if domains.len() != want {
        return Err(format!(
            "{want} control-plane machines in {} failure domains",
            domains.len()
        ));
    }
    Ok(domains.into_iter().collect::<Vec<_>>().join(", "))
}

fn in_control_plane(machine: &DynamicObject) -> bool {
    machine
        .metadata
        .labels
        .as_ref()
        .is_some_and(|l| l.contains_key("cluster.x-k8s.io/control-plane"))
}

#[cfg(test)]
#[path = "active_tests.rs"]
mod tests;
