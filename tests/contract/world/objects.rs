//! Small makers and changers of objects for what works in the clusters. Must not decide anything.

use serde_json::{Value, json};

use crate::fake::{Fake, KindInfo, Store};

/// Kinds beyond those that every fake server knows.
pub fn define(server: &Fake) {
    for (group, version, kind, plural, namespaced) in [
        (
            "policy",
            "v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            true,
        ),
        (
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            "networkpolicies",
            true,
        ),
        ("batch", "v1", "Job", "jobs", true),
        (
            "scheduling.k8s.io",
            "v1",
            "PriorityClass",
            "priorityclasses",
            false,
        ),
        ("", "v1", "ResourceQuota", "resourcequotas", true),
        ("", "v1", "LimitRange", "limitranges", true),
        (
            "",
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            true,
        ),
        (
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            true,
        ),
        (
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            false,
        ),
        (
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            false,
        ),
        (
            "storage.k8s.io",
            "v1",
            "StorageClass",
            "storageclasses",
            false,
        ),
        (
            "apiregistration.k8s.io",
            "v1",
            "APIService",
            "apiservices",
            false,
        ),
    ] {
        let mut info = KindInfo::new(group, version, kind, plural);
        info.namespaced = namespaced;
        server.define(info);
    }
}

/// A Node.
pub fn node(name: &str, plane: bool, ready: bool) -> Value {
    let labels = if plane {
        json!({"node-role.kubernetes.io/control-plane": ""})
    } else {
        json!({})
    };
    let status = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "spec": {"providerID": format!("docker:////{name}")},
        "status": {"conditions": [{"type": "Ready", "status": status, "reason": "Kubelet", "message": "the network plugin"}]},
    })
}

/// Text at a pointer; empty if there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Number at a pointer, or another one.
pub fn number(value: &Value, pointer: &str, default: i64) -> i64 {
    value
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or(default)
}

/// Whether a condition is true.
pub fn holds(value: &Value, condition: &str) -> bool {
    value["status"]["conditions"].as_array().is_some_and(|all| {
        all.iter()
            .any(|c| c["type"] == condition && c["status"] == "True")
    })
}

/// Sets a condition.
pub fn set_condition(value: &mut Value, type_: &str, holds: bool, reason: &str, message: &str) {
    if !value["status"].is_object() {
        value["status"] = json!({});
    }
    if !value["status"]["conditions"].is_array() {
        value["status"]["conditions"] = json!([]);
    }
    let condition = json!({
        "type": type_, "status": if holds { "True" } else { "False" }, "reason": reason, "message": message,
        // One time for all: what an end state is compared with must not depend on when it was reached.
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let all = value["status"]["conditions"].as_array_mut().unwrap();
    match all.iter_mut().find(|c| c["type"] == type_) {
        Some(old) => *old = condition,
        None => all.push(condition),
    }
}

/// Marks the newest generation as looked at; it is known only after the change was stored.
pub fn observed(value: &mut Value) {
    value["status"]["observedGeneration"] = value["metadata"]["generation"].clone();
}

/// An owner reference.
pub fn owner(owner: &Value) -> Value {
    json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Changes an object if it is there and the change is one.
pub fn change(
    store: &mut Store,
    kind: &str,
    namespace: &str,
    name: &str,
    change: impl FnOnce(&mut Value),
) {
    let Some(old) = store.peek(kind, namespace, name) else {
        return;
    };
    let mut new = old.clone();
    change(&mut new);
    if new != *old {
        store.put(new);
    }
}

/// Makes an object unless there is one of that name.
pub fn make(store: &mut Store, kind: &str, object: Value) {
    let (namespace, name) = (
        text(&object, "/metadata/namespace"),
        text(&object, "/metadata/name"),
    );
    if store.peek(kind, namespace, name).is_none() && store.knows(kind) {
        store.put(object);
    }
}

/// Namespace and name of all objects of a kind.
pub fn names(store: &Store, kind: &str) -> Vec<(String, String)> {
    store
        .of_kind(kind)
        .map(|o| {
            (
                text(o, "/metadata/namespace").to_owned(),
                text(o, "/metadata/name").to_owned(),
            )
        })
        .collect()
}
