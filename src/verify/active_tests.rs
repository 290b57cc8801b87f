//! The pure parts of the probes.

use super::*;

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_policy_is_weakened_in_every_place_and_only_if_enforced() {
    let old = json!({"validationFailureAction": "Enforce", "background": true,
        "rules": [{"name": "a", "validate": {"failureAction": "Enforce", "message": "m"}}]});
    let weak = weakened(&old).unwrap();
    assert_eq!(weak["validationFailureAction"], "Audit");
    assert_eq!(weak["rules"][0]["validate"]["failureAction"], "Audit");
    assert_eq!(weak["rules"][0]["validate"]["message"], "m");
    assert_eq!(weakened(&weak), None);
    assert_eq!(
        weakened(&json!({"validationActions": ["Deny"]})),
        Some(json!({"validationActions": ["Audit"]}))
    );
    assert_eq!(weakened(&json!({"validationActions": ["Audit"]})), None);
}

fn machine(n: usize, domain: &str) -> DynamicObject {
    object(
        json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
        "metadata": {"name": format!("m{n}"), "labels": {"cluster.x-k8s.io/control-plane": "",
            "cluster.x-k8s.io/cluster-name": "golem"}},
        "spec": {"clusterName": "golem", "failureDomain": domain}, "status": {"phase": "Running"}}),
    )
}

fn node(n: usize, ready: &str) -> DynamicObject {
    object(json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("n{n}"), "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
}

fn plane(replicas: i64) -> DynamicObject {
    object(
        json!({"apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "KubeadmControlPlane",
        "metadata": {"name": "golem", "labels": {"cluster.x-k8s.io/cluster-name": "golem"}},
        "spec": {"replicas": replicas},
        "status": {"replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas, "upToDateReplicas": replicas}}),
    )
}

#[test]
fn three_nodes_in_three_domains() {
    let domains = ["a", "b", "c"];
    let machines: Vec<_> = (0..3).map(|n| machine(n, domains[n])).collect();
    let nodes: Vec<_> = (0..3).map(|n| node(n, "True")).collect();
    let judged = judge("golem", 3, &nodes, &machines, &[plane(3)]);
    assert_eq!(judged.as_deref(), Ok("a, b, c"));
    let two = judge("golem", 3, &nodes[..2], &machines, &[plane(3)]).unwrap_err();
    assert!(
        two.contains("2 of 3") && two.contains("m2 Running"),
        "{two}"
    );
    let mut waiting = nodes.clone();
    waiting[1] = node(1, "False");
    assert!(judge("golem", 3, &waiting, &machines, &[plane(3)]).is_err());
    let mut same = machines.clone();
    same[2] = machine(2, "a");
    let same = judge("golem", 3, &nodes, &same, &[plane(3)]).unwrap_err();
    assert!(same.contains("2 failure domains"), "{same}");
    // Scaling down is over when nodes, machines and the control plane agree.
    assert!(judge("golem", 1, &nodes[..1], &machines, &[plane(1)]).is_err());
    assert!(judge("golem", 1, &nodes[..1], &machines[..1], &[plane(1)]).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_by_stall_or_limit_and_tells_what_it_last_saw() {
    let stall = Duration::from_secs(30);
    let mut n = 0;
    let limit = Some(Duration::from_secs(120));
    let result = until(limit, stall, &(), || {
        n += 1;
        let text = format!("seen {n}");
        async move { Err::<(), _>(text) }
    })
    .await;
    let text = result.unwrap_err();
    assert!(text.starts_with("not within 120 s: seen"), "{text}");
    let result = until(None, stall, &(), || async {
        Err::<(), _>("same".to_owned())
    })
    .await;
    assert_eq!(result.unwrap_err(), "not within 30 s: same");
    let (value, took) = until(None, stall, &(), || async { Ok(7) }).await.unwrap();
    assert_eq!((value, took), (7, Duration::ZERO));
}
