//! Pods that mctl installs keep to the restricted pod-security set, or an exception says why not. The policies are read
//! here a second time, in Rust: what they refuse must not first be found out in a cluster.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::platform::{label, list, objects, text};

/// Pod template of a workload, if it has one.
fn pod(object: &Value) -> Option<&Value> {
    match text(object, "/kind") {
        "Deployment" | "DaemonSet" | "StatefulSet" | "Job" => object.pointer("/spec/template/spec"),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template/spec"),
        "Pod" => object.pointer("/spec"),
        _ => None,
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/initContainers")
        .iter()
        .chain(list(pod, "/containers"))
}

/// Policies of the restricted set that a pod breaks.
fn broken(pod: &Value) -> BTreeSet<&'static str> {
    let mut broken = BTreeSet::new();
    let mut check = |policy: &'static str, fine: bool| {
        if !fine {
            broken.insert(policy);
        }
    };
    let of_pod = |field: &str| pod.pointer(&format!("/securityContext/{field}"));
    let host = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .any(|f| pod[*f] == true);
    check("disallow-host-namespaces", !host);
    for volume in list(pod, "/volumes") {
        check("disallow-host-path", volume.get("hostPath").is_none());
        let plain = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let known = volume
            .as_object()
            .is_some_and(|v| v.keys().all(|k| k == "name" || plain.contains(&k.as_str())));
        check("restrict-volume-types", known);
    }
    for container in containers(pod) {
        let of = |field: &str| container.pointer(&format!("/securityContext/{field}"));
        let either = |field: &str| of(field).or_else(|| of_pod(field));
        check(
            "disallow-privileged-containers",
            of("privileged").is_none_or(|v| v == false),
        );
        check(
            "disallow-privilege-escalation",
            of("allowPrivilegeEscalation").is_some_and(|v| v == false),
        );
        check(
            "require-run-as-nonroot",
            either("runAsNonRoot").is_some_and(|v| v == true),
        );
        check(
            "require-run-as-non-root-user",
            either("runAsUser").is_none_or(|v| v != 0),
        );
        let drop = list(container, "/securityContext/capabilities/drop");
        let add = list(container, "/securityContext/capabilities/add");
        let only_bind = add.iter().all(|c| c == "NET_BIND_SERVICE");
        check(
            "disallow-capabilities-strict",
            drop.iter().any(|c| c == "ALL") && only_bind,
        );
        check("disallow-capabilities", only_bind);
        let seccomp = either("seccompProfile/type").and_then(Value::as_str);
        check(
            "restrict-seccomp-strict",
            matches!(seccomp, Some("RuntimeDefault" | "Localhost")),
        );
        check("restrict-seccomp", !matches!(seccomp, Some("Unconfined")));
        let host_port = list(container, "/ports")
            .iter()
            .any(|p| p.get("hostPort").is_some_and(|v| v != 0));
        check("disallow-host-ports", !host_port);
    }
    broken
}

fn exceptions() -> Vec<Value> {
    let all = objects();
    all.iter()
        .map(|(_, o)| o)
        .filter(|o| text(o, "/kind") == "PolicyException")
        .cloned()
        .collect()
}

/// `*` stands for any text, `?` for one character.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches(&pattern[1..], name) || (!name.is_empty() && matches(pattern, &name[1..]))
        }
        (Some('?'), Some(_)) => matches(&pattern[1..], &name[1..]),
        (Some(p), Some(n)) => p == n && matches(&pattern[1..], &name[1..]),
        _ => false,
    }
}

fn excepted(exceptions: &[Value], object: &Value, policy: &str) -> bool {
    let contains = |rule: &Value, pointer: &str, what: &str| {
        list(rule, pointer)
            .iter()
            .filter_map(Value::as_str)
            .any(|p| matches(p, what))
    };
    exceptions.iter().any(|e| {
        list(e, "/spec/exceptions")
            .iter()
            .any(|x| text(x, "/policyName") == policy)
            && list(e, "/spec/match/any").iter().any(|rule| {
                contains(rule, "/resources/kinds", text(object, "/kind"))
                    && contains(
                        rule,
                        "/resources/namespaces",
                        text(object, "/metadata/namespace"),
                    )
                    && contains(rule, "/resources/names", text(object, "/metadata/name"))
            })
    })
}

#[test]
fn workloads_are_restricted_or_excepted() {
    let exceptions = exceptions();
    let mut workloads = 0;
    for (component, object) in objects() {
        let Some(pod) = pod(object) else { continue };
        workloads += 1;
        for policy in broken(pod) {
            assert!(
                excepted(&exceptions, object, policy),
                "{component}: {} breaks {policy} and no exception says why",
                label(object)
            );
        }
    }
    assert!(workloads >= 10, "{workloads} workloads");
}

#[test]
fn no_exception_is_wider_than_its_workload() {
    for (_, object) in objects() {
        let Some(pod) = pod(object) else { continue };
        let broken = broken(pod);
        for exception in exceptions() {
            for policy in list(&exception, "/spec/exceptions")
                .iter()
                .map(|x| text(x, "/policyName"))
            {
                let used = broken.contains(policy);
                let unused = !used && excepted(std::slice::from_ref(&exception), object, policy);
                assert!(
                    !unused,
                    "{} needs no exception from {policy}",
                    label(object)
                );
            }
        }
    }
}

#[test]
fn exceptions_are_explained_and_narrow() {
    let all = exceptions();
    assert!(all.len() >= 7);
    for exception in &all {
        let name = label(exception);
        assert_eq!(
            text(exception, "/metadata/namespace"),
            "policy-exceptions",
            "{name}"
        );
        let reason = text(
            exception,
            "/metadata/annotations/policy.giantswarm.io~1reason",
        );
        assert!(reason.len() > 60, "{name} has no reason");
        for rule in list(exception, "/spec/match/any") {
            for part in ["kinds", "namespaces", "names"] {
                let values = list(rule, &format!("/resources/{part}"));
                assert!(!values.is_empty(), "{name} matches any of {part}");
                let stem = |v: &&Value| {
                    v.as_str()
                        .unwrap_or_default()
                        .trim_matches(['*', '?', '-'])
                        .len()
                        > 2
                };
                assert!(values.iter().all(|v| stem(&v)), "{name}: {part} too wide");
            }
        }
        for x in list(exception, "/spec/exceptions") {
            assert!(!text(x, "/policyName").contains('*'), "{name}");
        }
    }
}

#[test]
fn platform_containers_have_requests_and_a_memory_limit() {
    let ours = ["prometheus-operator", "kube-state-metrics", "node-exporter"];
    for (component, object) in objects() {
        let Some(pod) = pod(object).filter(|_| ours.contains(&component.as_str())) else {
            continue;
        };
        for container in containers(pod) {
            for field in ["requests/cpu", "requests/memory", "limits/memory"] {
                let set = container.pointer(&format!("/resources/{field}")).is_some();
                assert!(set, "{}: no {field}", label(object));
            }
            // A limit on CPU makes starts slow and protects nobody.
            assert!(
                container.pointer("/resources/limits/cpu").is_none(),
                "{}",
                label(object)
            );
        }
    }
}

#[test]
fn prometheus_and_alertmanager_are_restricted() {
    let mut found = 0;
    for (_, object) in objects() {
        if !["Prometheus", "Alertmanager"].contains(&text(object, "/kind")) {
            continue;
        }
        found += 1;
        // The operator sets the containers' own fields.
        let context = &object["spec"]["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        assert!(object.pointer("/spec/resources/limits/memory").is_some());
    }
    assert_eq!(found, 2);
}
