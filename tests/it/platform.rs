//! What the platform components render to: the rules that all of them keep.

use std::sync::OnceLock;

use mctl::catalog::Target;
use serde_json::{Value, json};

use crate::samples::{Sample, data};

/// Objects of every enabled component in the management cluster, with the component's name.
fn rendered(spec: Value, wanted: impl Fn(&str) -> bool) -> Vec<(String, Value)> {
    let sample = Sample::new(spec).with_profile();
    let enabled = sample.catalog.enabled(&sample.document);
    let mut all = Vec::new();
    for component in enabled {
        if wanted(&component.name) && component.clusters.contains(&Target::Management) {
            let objects = sample
                .component(&component.name, Target::Management)
                .objects;
            all.extend(
                data(&objects)
                    .into_iter()
                    .map(|o| (component.name.clone(), o)),
            );
        }
    }
    all
}

/// Objects of the platform from a document that says nothing. CRDs are left out; they are most of the text.
pub fn objects() -> &'static [(String, Value)] {
    static ALL: OnceLock<Vec<(String, Value)>> = OnceLock::new();
    ALL.get_or_init(|| rendered(json!({}), |name| !name.ends_with("-crds")))
}

/// Objects of one component.
fn component(spec: Value, name: &str) -> Vec<(String, Value)> {
    rendered(spec, |n| n == name)
}

/// Text at a JSON pointer, or nothing.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `Kind/name`, for messages.
pub fn label(object: &Value) -> String {
    format!(
        "{}/{}",
        text(object, "/kind"),
        text(object, "/metadata/name")
    )
}

/// List at a JSON pointer, or an empty one.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Helm values of a chart component.
fn chart_values(all: &[(String, Value)], component: &str) -> Value {
    all.iter()
        .find(|(c, o)| c == component && text(o, "/kind") == "HelmRelease")
        .map(|(_, o)| o["spec"]["values"].clone())
        .unwrap_or_else(|| panic!("no HelmRelease of {component}"))
}

#[test]
fn kyverno_is_small_on_one_control_plane_and_safe_on_three() {
    for (control_planes, admission) in [(1, 1), (3, 3)] {
        let all = component(
            json!({"controlPlane": {"replicas": control_planes}}),
            "kyverno",
        );
        let values = chart_values(&all, "kyverno");
        assert_eq!(values["admissionController"]["replicas"], admission);
        for other in [
            "backgroundController",
            "cleanupController",
            "reportsController",
        ] {
            assert_eq!(values[other]["replicas"], 1);
        }
        let exceptions = &values["features"]["policyExceptions"];
        assert_eq!(
            *exceptions,
            json!({"enabled": true, "namespace": "policy-exceptions"})
        );
    }
}

#[test]
fn kyverno_starts_without_its_init_container() {
    let all = component(json!({}), "kyverno");
    let (_, release) = &all[1];
    let patch = text(release, "/spec/postRenderers/0/kustomize/patches/0/patch");
    assert_eq!(
        serde_json::from_str::<Value>(patch).expect("JSON"),
        json!({
            "kind": "Deployment",
            "metadata": {"name": "kyverno-admission-controller"},
            "spec": {"template": {"spec": {"initContainers": null}}},
        })
    );
}

#[test]
fn policies_wait_for_the_release_of_kyverno_not_for_its_kustomization() {
    let all = component(json!({}), "pod-security-policies");
    let find = |kind: &str| all.iter().find(|(_, o)| text(o, "/kind") == kind);
    let (_, release) = find("HelmRelease").expect("HelmRelease");
    assert_eq!(release["spec"]["dependsOn"], json!([{"name": "kyverno"}]));
    let sample = Sample::new(json!({}));
    let files = mctl::render::platform(sample.context()).unwrap();
    let needs = String::from_utf8_lossy(&files["pod-security-policies.yaml"]).into_owned();
    assert!(
        needs.contains(r#""dependsOn":[{"name":"policy-exceptions"}]"#),
        "{needs}"
    );
}

#[test]
fn the_restricted_set_is_enforced() {
    let values = chart_values(objects(), "pod-security-policies");
    assert_eq!(values["podSecurityStandard"], "restricted");
    assert_eq!(values["validationFailureAction"], "Enforce");
    assert_eq!(values["failurePolicy"], "Fail");
}

#[test]
fn values_of_the_document_reach_prometheus_and_alertmanager() {
    let claim = json!({"resources": {"requests": {"storage": "20Gi"}}});
    let all = component(
        json!({"components": {"monitoring": {"values": {
            "prometheus": {"retention": "7d", "storage": claim},
            "alertmanager": {
                "receivers": [{"name": "on-call", "webhookConfigs": [{"url": "http://pager.example.io/"}]}],
                "routes": [{"receiver": "on-call"}],
            },
        }}}}),
        "monitoring",
    );
    let find = |kind: &str| {
        &all.iter()
            .find(|(_, o)| text(o, "/kind") == kind)
            .expect(kind)
            .1
    };
    let prometheus = find("Prometheus");
    assert_eq!(prometheus["spec"]["retention"], "7d");
    assert_eq!(
        prometheus["spec"]["storage"],
        json!({"volumeClaimTemplate": {"spec": claim}})
    );
    let config = find("AlertmanagerConfig");
    assert_eq!(config["spec"]["receivers"][0]["name"], "mctl");
    assert_eq!(config["spec"]["receivers"][1]["name"], "on-call");
    let routes = list(config, "/spec/route/routes");
    assert_eq!(routes.last(), Some(&json!({"receiver": "on-call"})));
    // All but the last let an alert through to the routes after them.
    assert!(
        routes[..routes.len() - 1]
            .iter()
            .all(|r| r["continue"] == true)
    );
}

#[test]
fn without_a_storage_class_metrics_live_in_the_pod() {
    let all = objects();
    let (_, prometheus) = all
        .iter()
        .find(|(_, o)| text(o, "/kind") == "Prometheus")
        .expect("Prometheus");
    assert_eq!(
        prometheus["spec"]["storage"],
        json!({"emptyDir": {"sizeLimit": "4Gi"}})
    );
    assert_eq!(prometheus["spec"]["externalLabels"]["cluster_id"], "golem");
}

#[test]
fn kube_state_metrics_reads_what_it_collects_and_nothing_else() {
    let all = objects();
    let of = |kind: &str| {
        let found = all
            .iter()
            .find(|(c, o)| c == "kube-state-metrics" && text(o, "/kind") == kind);
        &found.unwrap_or_else(|| panic!("no {kind}")).1
    };
    let mut allowed: Vec<&str> = list(of("ClusterRole"), "/rules")
        .iter()
        .inspect(|r| assert_eq!(r["verbs"], json!(["list", "watch"])))
        .filter(|r| !text(r, "/apiGroups/0").contains('.'))
        .flat_map(|r| list(r, "/resources"))
        .filter_map(Value::as_str)
        .collect();
    allowed.sort_unstable();
    let deployment = of("Deployment");
    let collected = list(deployment, "/spec/template/spec/containers/0/args")
        .iter()
        .filter_map(Value::as_str)
        .find_map(|a| a.strip_prefix("--resources="))
        .expect("--resources");
    assert_eq!(allowed, collected.split(',').collect::<Vec<_>>());
}

#[test]
fn every_job_has_a_fixed_name_that_the_documentation_lists() {
    let documented = include_str!("../../docs/monitoring.md");
    let mut jobs = 0;
    for (_, object) in objects() {
        let endpoints = match text(object, "/kind") {
            "ServiceMonitor" => list(object, "/spec/endpoints"),
            "PodMonitor" => list(object, "/spec/podMetricsEndpoints"),
            _ => continue,
        };
        for endpoint in endpoints {
            let job = list(endpoint, "/relabelings")
                .iter()
                .find(|r| r["targetLabel"] == "job")
                .map(|r| text(r, "/replacement"))
                .unwrap_or_else(|| panic!("{} sets no job", label(object)));
            assert!(
                documented.contains(&format!("`{job}`")),
                "{job} is not in docs/monitoring.md"
            );
            jobs += 1;
        }
        // Whoever sends a token along names the namespaces it may go to.
        if endpoints.iter().any(|e| e.get("bearerTokenFile").is_some()) {
            assert!(
                !list(object, "/spec/namespaceSelector/matchNames").is_empty(),
                "{}",
                label(object)
            );
        }
    }
    assert!(jobs >= 19, "{jobs} endpoints");
}
