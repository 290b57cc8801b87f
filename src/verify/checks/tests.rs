//! Each check against a good cluster, then against one thing that is wrong.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{cluster::CONTROL_PLANE_NODE, *};
use crate::{
    manager::alerts::Received,
    ports::kubernetes::objects::key,
    verify::{
        facts::{Admission, Target as Measured},
        jobs,
        report::{Check, Outcome},
    },
};

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn node(name: &str, plane: bool, ready: &str) -> DynamicObject {
    let labels = if plane {
        json!({CONTROL_PLANE_NODE: ""})
    } else {
        json!({})
    };
    object(
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "status": {"conditions": [{"type": "Ready", "status": ready, "message": "kubelet says"}]}}),
    )
}

fn workload(kind: &str, namespace: &str, name: &str, ready: i64) -> DynamicObject {
    object(json!({"apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": 1,
            "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2 * ready}}))
}

fn flux_object(kind: &str, name: &str, status: &str) -> DynamicObject {
    object(json!({"apiVersion": "x/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "flux-giantswarm", "generation": 1},
        "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "m"}]}}))
}

fn document() -> ManagementCluster {
    serde_json::from_value(json!({"apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
        "metadata": {"name": "golem"},
        "spec": {"controlPlane": {"replicas": 1}, "nodePools": [{"name": "default", "replicas": 1}]}}))
    .unwrap()
}

const REFUSED: &str = "admission webhook \"validate.kyverno.svc-fail\" denied the request: resource Pod/default/mctl-verify was blocked: disallow-privileged-containers";

fn good(catalog: &Catalog) -> Facts {
    let mut deployments = vec![
        workload("Deployment", "kube-system", "cilium-operator", 1),
        workload("Deployment", "giantswarm", "mctl", 1),
    ];
    for namespace in ["flux-giantswarm", "flux-system"] {
        for name in [
            "source-controller",
            "kustomize-controller",
            "helm-controller",
        ] {
            deployments.push(workload("Deployment", namespace, name, 1));
        }
    }
    let mut daemon_sets = vec![workload("DaemonSet", "kube-system", "cilium", 1)];
    let mut stateful_sets = vec![];
    for c in catalog.enabled(&document()) {
        for r in &c.ready {
            let namespace = r.namespace.as_deref().unwrap_or(&c.namespace);
            let list = match r.kind.as_str() {
                "Deployment" => &mut deployments,
                "DaemonSet" => &mut daemon_sets,
                _ => &mut stateful_sets,
            };
            if !list
                .iter()
                .any(|o| key(o) == format!("{namespace}/{}", r.name))
            {
                list.push(workload(&r.kind, namespace, &r.name, 1));
            }
        }
    }
    let mut targets = Vec::new();
    for job in jobs::REQUIRED {
        for n in 0..job.count.resolve(1, 2, 6) {
            targets.push(Measured {
                job: job.name.into(),
                instance: format!("10.0.0.{n}:1"),
                up: true,
            });
        }
    }
    let now: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
    Facts {
        now,
        nodes: Ok(vec![node("a", true, "True"), node("b", false, "True")]),
        clusters: Ok(vec![object(json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "golem", "namespace": "org-giantswarm"},
            "status": {"phase": "Provisioned", "conditions": [{"type": "Available", "status": "True"}]}}))]),
        machines: Ok(["a", "b"]
            .iter()
            .map(|n| {
                object(json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
                    "metadata": {"name": n}, "spec": {"clusterName": "golem"}, "status": {"nodeRef": {"name": n}}}))
            })
            .collect()),
        flux: Ok(vec![
            flux_object("Kustomization", "platform", "True"),
            flux_object("HelmRelease", "cilium", "True"),
        ]),
        deployments: Ok(deployments),
        daemon_sets: Ok(daemon_sets),
        stateful_sets: Ok(stateful_sets),
        cilium_nodes: Ok(vec![node("a", true, "True"), node("b", false, "True")]),
        privileged: Ok(Admission::Refused(REFUSED.into())),
        restricted: Ok(Admission::Admitted),
        targets: Ok(targets),
        alerts: Ok(vec![Received {
            name: "Watchdog".into(),
            status: "firing".into(),
            last_received: now,
            age_seconds: 40,
            count: 3,
            severity: None,
            summary: None,
        }]),
        lease: Ok(Some(object(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "mctl"},
            "spec": {"holderIdentity": "mctl-1", "renewTime": "2026-01-01T00:00:55.000000Z"}})))),
        document: Ok(Some(object(json!({"apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem", "generation": 2},
            "status": {"phase": "Ready", "observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}})))),
    }
}

fn judge(catalog: &Catalog, facts: &Facts) -> Vec<Check> {
    all(&Context {
        document: &document(),
        catalog,
        facts,
    })
}

#[test]
fn a_good_cluster_passes_every_check() {
    let catalog = Catalog::embedded().unwrap();
    for check in judge(&catalog, &good(&catalog)) {
        assert_eq!(check.result, Outcome::Pass, "{check:#?}");
        assert!(!check.evidence.is_empty());
    }
}

/// Name of the check that must fail, words that its evidence must hold, what is wrong.
type Case = (&'static str, &'static str, fn(&mut Facts));

fn at<'a>(list: &'a mut Result<Vec<DynamicObject>, String>, id: &str) -> &'a mut DynamicObject {
    let all = list.as_mut().unwrap();
    all.iter_mut().find(|o| key(o) == id).unwrap()
}

const CASES: &[Case] = &[
    ("nodes", "b: kubelet says", |f| {
        f.nodes.as_mut().unwrap()[1] = node("b", false, "Unknown");
    }),
    ("nodes", "asks for 1 and 1", |f| {
        f.nodes.as_mut().unwrap().remove(1);
    }),
    ("nodes", "cannot be read", |f| {
        f.nodes = Err("refused".into())
    }),
    ("cluster-api", "does not list itself", |f| {
        f.clusters = Ok(vec![])
    }),
    ("cluster-api", "not Available: no machines", |f| {
        at(&mut f.clusters, "org-giantswarm/golem").data["status"]["conditions"] =
            json!([{"type": "Available", "status": "False", "message": "no machines"}]);
    }),
    ("cluster-api", "its Machines are nodes [a]", |f| {
        f.machines.as_mut().unwrap().remove(1);
    }),
    ("flux-controllers", "flux-system", |f| {
        *at(&mut f.deployments, "flux-system/helm-controller") =
            workload("Deployment", "flux-system", "helm-controller", 0);
    }),
    (
        "flux-controllers",
        "no Deployment flux-giantswarm/source-controller",
        |f| {
            f.deployments
                .as_mut()
                .unwrap()
                .retain(|d| key(d) != "flux-giantswarm/source-controller");
        },
    ),
    (
        "flux-objects",
        "HelmRelease flux-giantswarm/cilium: R: m",
        |f| {
            f.flux.as_mut().unwrap()[1] = flux_object("HelmRelease", "cilium", "False");
        },
    ),
    (
        "flux-objects",
        "no Kustomization flux-giantswarm/platform",
        |f| f.flux = Ok(vec![]),
    ),
    ("network", "kube-proxy is there", |f| {
        let proxy = workload("DaemonSet", "kube-system", "kube-proxy", 1);
        f.daemon_sets.as_mut().unwrap().push(proxy);
    }),
    ("network", "0 of 2 ready", |f| {
        *at(&mut f.daemon_sets, "kube-system/cilium") =
            workload("DaemonSet", "kube-system", "cilium", 0);
    }),
    ("network", "knows 1 nodes", |f| {
        f.cilium_nodes.as_mut().unwrap().pop();
    }),
    ("workloads", "kube-state-metrics", |f| {
        *at(&mut f.deployments, "monitoring/kube-state-metrics") =
            workload("Deployment", "monitoring", "kube-state-metrics", 0);
    }),
    ("policy", "would be admitted", |f| {
        f.privileged = Ok(Admission::Admitted)
    }),
    ("policy", "not by Kyverno", |f| {
        f.privileged = Ok(Admission::Refused("webhook x denied the request".into()));
    }),
    ("policy", "a harmless pod", |f| {
        f.restricted = Ok(Admission::Refused(REFUSED.into()));
    }),
    ("targets", "etcd is down at 10.0.0.0:1", |f| {
        let all = f.targets.as_mut().unwrap();
        all.iter_mut().find(|t| t.job == "etcd").unwrap().up = false;
    }),
    ("targets", "kubelet has 3 of 4 targets", |f| {
        let all = f.targets.as_mut().unwrap();
        let one = all.iter().position(|t| t.job == "kubelet").unwrap();
        all.remove(one);
    }),
    ("targets", "no endpoints", |f| {
        f.targets = Err("no endpoints".into())
    }),
    ("heartbeat", "301 s ago", |f| {
        f.alerts.as_mut().unwrap()[0].age_seconds = 301
    }),
    ("heartbeat", "has not come", |f| f.alerts = Ok(vec![])),
    ("manager", "nobody holds", |f| {
        f.lease.as_mut().unwrap().as_mut().unwrap().data["spec"]["holderIdentity"] = json!("");
    }),
    ("manager", "3605 s ago", |f| {
        f.now += jiff::SignedDuration::from_hours(1);
    }),
    ("manager", "no Lease", |f| f.lease = Ok(None)),
    ("document", "not Ready: not true: X", |f| {
        f.document.as_mut().unwrap().as_mut().unwrap().data["status"]["conditions"] =
            json!([{"type": "Ready", "status": "False", "message": "not true: X"}]);
    }),
    ("document", "generation 3 has not been acted upon", |f| {
        f.document
            .as_mut()
            .unwrap()
            .as_mut()
            .unwrap()
            .metadata
            .generation = Some(3);
    }),
];

#[test]
fn each_fault_is_found_with_its_evidence_and_a_fix() {
    let catalog = Catalog::embedded().unwrap();
    let base = good(&catalog);
    for (name, words, spoil) in CASES {
        let mut facts = base.clone();
        spoil(&mut facts);
        let checks = judge(&catalog, &facts);
        let found = checks.iter().find(|c| c.name == *name).unwrap();
        assert_eq!(found.result, Outcome::Fail, "{name}: {words}: {found:#?}");
        assert!(
            found.evidence.contains(words),
            "{name}: {words}: {found:#?}"
        );
        assert!(found.fix.as_ref().is_some_and(|f| !f.is_empty()));
    }
}

#[test]
fn what_is_switched_off_is_left_out() {
    let catalog = Catalog::embedded().unwrap();
    let mut facts = good(&catalog);
    facts.targets = Err("no Prometheus".into());
    facts.alerts = Err("no Alertmanager".into());
    let mut document = document();
    for component in ["monitoring", "pod-security-policies"] {
        let settings = crate::config::ComponentSettings {
            enabled: Some(false),
            ..Default::default()
        };
        document.spec.components.insert(component.into(), settings);
    }
    let checks = all(&Context {
        document: &document,
        catalog: &catalog,
        facts: &facts,
    });
    for name in ["targets", "heartbeat", "policy"] {
        let found = checks.iter().find(|c| c.name == name).unwrap();
        assert_eq!(found.result, Outcome::Skip, "{found:#?}");
    }
}
