//! Conditions and phase from scripted objects.

use serde_json::{Value, json};

use super::*;
use crate::config::{ControlPlane, NodePool};

fn object(value: Value) -> Arc<DynamicObject> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn kustomization(name: &str, status: &str, reason: &str, attempted: &str) -> Arc<DynamicObject> {
    object(json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": name, "namespace": "flux-giantswarm", "generation": 2},
        "status": {"observedGeneration": 2, "lastAppliedRevision": "latest@sha256:1",
            "lastAttemptedRevision": attempted,
            "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "said by Flux"}]},
    }))
}

fn ready(name: &str) -> Arc<DynamicObject> {
    kustomization(name, "True", "ReconciliationSucceeded", "latest@sha256:1")
}

fn deployment(namespace: &str, ready: i64) -> Arc<DynamicObject> {
    object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "source-controller", "namespace": namespace, "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": ready},
    }))
}

fn replicas(kind: &str, name: &str, asked: i64, ready: i64) -> Arc<DynamicObject> {
    object(json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind,
        "metadata": {"name": name, "namespace": "org-giantswarm", "generation": 1,
            "labels": {"cluster.x-k8s.io/cluster-name": "golem", "mctl.giantswarm.io/node-pool": "default"}},
        "spec": {"replicas": asked},
        "status": {"observedGeneration": 1, "replicas": ready, "readyReplicas": ready,
            "availableReplicas": ready, "upToDateReplicas": ready},
    }))
}

fn document() -> ManagementCluster {
    let mut d = ManagementCluster::default();
    d.metadata.name = Some("golem".into());
    d.metadata.generation = Some(1);
    d.spec.node_pools = vec![NodePool {
        name: "default".into(),
        replicas: 1,
        labels: Default::default(),
    }];
    d
}

fn time() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn good() -> Facts {
    Facts {
        components: vec!["cilium".into(), "flux-giantswarm".into()],
        monitoring: true,
        digest: Some("sha256:1".into()),
        acted: Some(1),
        work: vec![
            Finding::yes("DocumentAccepted", "Valid", ""),
            Finding::yes("ClusterApplied", "Applied", ""),
        ],
        kustomizations: Some(vec![
            ready("platform"),
            ready("cilium"),
            ready("flux-giantswarm"),
        ]),
        helm_releases: Some(vec![]),
        sources: Some(vec![ready("platform")]),
        flux_deployments: Some(vec![
            deployment("flux-giantswarm", 1),
            deployment("flux-system", 1),
        ]),
        control_planes: Some(vec![replicas("KubeadmControlPlane", "golem", 1, 1)]),
        pools: Some(vec![replicas("MachineDeployment", "golem-default", 1, 1)]),
        heartbeat: Some(time()),
        since: time(),
    }
}

fn get<'a>(s: &'a ManagementClusterStatus, type_: &str) -> &'a Condition {
    s.conditions.iter().find(|c| c.type_ == type_).unwrap()
}

#[test]
fn all_good_is_ready_and_the_second_time_nothing_changes() {
    let mut d = document();
    let (status, transitions) = compute(&d, &good(), time());
    assert_eq!(status.phase.as_deref(), Some("Ready"), "{status:#?}");
    assert_eq!(status.conditions[0].type_, "Ready");
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(get(&status, "ComponentFluxGiantswarm").status, "True");
    assert_eq!(transitions.len(), status.conditions.len());
    d.status = Some(status.clone());
    let later = time() + jiff::SignedDuration::from_secs(100);
    let (again, transitions) = compute(&d, &good(), later);
    assert_eq!(again, status);
    assert!(transitions.is_empty());
}

#[test]
fn phases_follow_what_happens() {
    let mut d = document();
    let mut facts = good();
    facts.kustomizations = None;
    let (status, _) = compute(&d, &facts, time());
    assert_eq!(status.phase.as_deref(), Some("Bootstrapping"));
    assert_eq!(get(&status, "ComponentCilium").status, "Unknown");
    d.status = Some(compute(&d, &good(), time()).0);
    // The document asks for three: updating until they are there.
    d.metadata.generation = Some(2);
    d.spec.control_plane = ControlPlane { replicas: 3 };
    let (status, _) = compute(&d, &good(), time());
    assert_eq!(status.phase.as_deref(), Some("Updating"));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(get(&status, "ClusterApplied").reason, "Progressing");
    d.status = Some(status);
    let mut facts = good();
    facts.acted = Some(2);
    facts.control_planes = Some(vec![replicas("KubeadmControlPlane", "golem", 3, 2)]);
    let (status, _) = compute(&d, &facts, time());
    assert_eq!(status.phase.as_deref(), Some("Updating"));
    assert!(
        get(&status, "ControlPlaneReady")
            .message
            .contains("2 of 3 ready")
    );
    d.status = Some(status);
    facts.control_planes = Some(vec![replicas("KubeadmControlPlane", "golem", 3, 3)]);
    let (status, transitions) = compute(&d, &facts, time());
    assert_eq!(status.phase.as_deref(), Some("Ready"));
    let changed: Vec<_> = transitions.iter().map(|t| t.to.type_.as_str()).collect();
    assert_eq!(changed, ["Ready", "ControlPlaneReady"]);
    d.status = Some(status);
    facts.flux_deployments = Some(vec![
        deployment("flux-giantswarm", 0),
        deployment("flux-system", 1),
    ]);
    let (status, _) = compute(&d, &facts, time());
    assert_eq!(status.phase.as_deref(), Some("Degraded"));
    assert_eq!(get(&status, "FluxReady").reason, "ControllerNotReady");
}

#[test]
fn flux_looking_again_is_no_transition_but_a_new_revision_is() {
    let mut d = document();
    d.status = Some(compute(&d, &good(), time()).0);
    let mut facts = good();
    let looking = |attempted| kustomization("cilium", "Unknown", "Progressing", attempted);
    facts.kustomizations = Some(vec![
        ready("platform"),
        looking("latest@sha256:1"),
        ready("flux-giantswarm"),
    ]);
    let (status, transitions) = compute(&d, &facts, time());
    assert!(transitions.is_empty(), "{transitions:#?}");
    assert_eq!(Some(&status), d.status.as_ref());
    facts.kustomizations = Some(vec![
        ready("platform"),
        looking("latest@sha256:2"),
        ready("flux-giantswarm"),
    ]);
    let (status, _) = compute(&d, &facts, time());
    assert_eq!(get(&status, "ComponentCilium").status, "False");
    assert_eq!(status.phase.as_deref(), Some("Updating"));
}

#[test]
fn a_failed_component_says_why() {
    let mut facts = good();
    facts.kustomizations = Some(vec![
        ready("platform"),
        kustomization("cilium", "False", "HealthCheckFailed", "latest@sha256:1"),
    ]);
    let (status, _) = compute(&document(), &facts, time());
    assert_eq!(get(&status, "ComponentCilium").reason, "HealthCheckFailed");
    assert_eq!(get(&status, "ComponentFluxGiantswarm").reason, "Missing");
    let all = &get(&status, "Ready").message;
    assert!(
        all.contains("ComponentCilium, ComponentFluxGiantswarm"),
        "{all}"
    );
}

#[test]
fn a_silent_heartbeat_is_told_but_a_new_manager_gets_time() {
    let mut d = document();
    let mut facts = good();
    let minute = |n: i64| time() + jiff::SignedDuration::from_mins(n);
    let (status, _) = compute(&d, &facts, minute(6));
    assert_eq!(get(&status, "MonitoringHeartbeat").reason, "Silent");
    facts.heartbeat = None;
    let (status, _) = compute(&d, &facts, minute(4));
    assert_eq!(get(&status, "MonitoringHeartbeat").status, "Unknown");
    let (status, _) = compute(&d, &facts, minute(6));
    assert_eq!(get(&status, "MonitoringHeartbeat").status, "False");
    d.status = Some(compute(&d, &good(), time()).0);
    let (status, transitions) = compute(&d, &facts, minute(4));
    assert_eq!(get(&status, "MonitoringHeartbeat").status, "True");
    assert!(transitions.is_empty());
    facts.monitoring = false;
    let (status, _) = compute(&d, &facts, minute(6));
    assert!(
        status
            .conditions
            .iter()
            .all(|c| c.type_ != "MonitoringHeartbeat")
    );
}

#[test]
fn silence_counts_from_the_beginning_of_leadership() {
    let mut d = document();
    d.status = Some(compute(&d, &good(), time()).0);
    let mut facts = good();
    let minute = |n: i64| time() + jiff::SignedDuration::from_mins(n);
    // A replica that has followed for an hour; the leader before it heard the heartbeat.
    facts.since = minute(60);
    for heartbeat in [None, Some(time())] {
        facts.heartbeat = heartbeat;
        let (status, transitions) = compute(&d, &facts, minute(61));
        assert_eq!(get(&status, "MonitoringHeartbeat").status, "True");
        assert!(transitions.is_empty(), "{transitions:?}");
        let (status, _) = compute(&d, &facts, minute(66));
        assert_eq!(get(&status, "MonitoringHeartbeat").reason, "Silent");
    }
}

#[test]
fn a_refused_document_changes_nothing_and_is_no_update() {
    let mut d = document();
    d.status = Some(compute(&d, &good(), time()).0);
    d.metadata.generation = Some(2);
    let mut facts = good();
    facts.work[0] = Finding::no(
        "DocumentAccepted",
        "Invalid",
        "spec.controlPlane.replicas: 2",
    );
    let (status, _) = compute(&d, &facts, time());
    assert_eq!(status.phase.as_deref(), Some("Degraded"));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(get(&status, "DocumentAccepted").reason, "Invalid");
}
