//! Small readers of Kubernetes, Flux and Cluster API objects, shared by steps, status and checks. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::core::DynamicObject;
use serde_json::Value;

/// `status.conditions` entry of one type.
pub fn condition<'a>(object: &'a DynamicObject, type_: &str) -> Option<&'a Value> {
    object
        .data
        .pointer("/status/conditions")?
        .as_array()?
        .iter()
        .find(|c| c["type"] == type_)
}

/// A text at a JSON pointer; empty if there is none.
pub fn text<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object
        .data
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A number at a JSON pointer; 0 if there is none.
pub fn number(object: &DynamicObject, pointer: &str) -> i64 {
    object
        .data
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

/// Text under a key of a Secret's `data`, if it is there and is text.
pub fn secret_text(secret: &DynamicObject, key: &str) -> Option<String> {
    let encoded = secret.data.get("data")?.get(key)?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

/// Name of an object; empty if it has none.
pub fn name(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

/// `namespace/name`, or the name alone.
pub fn key(object: &DynamicObject) -> String {
    match object.metadata.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{}", name(object)),
        None => name(object).to_owned(),
    }
}

/// How far a Flux or Cluster API object has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Its newest generation is ready; what it says about it.
    Ready(String),
    /// Being worked on; what it says about it.
    Progressing(String),
    /// Failed or held; reason and message.
    NotReady(String, String),
}

impl Readiness {
    /// For a line of evidence.
    pub fn text(&self) -> String {
        match self {
            Self::Ready(m) | Self::Progressing(m) => m.clone(),
            Self::NotReady(reason, message) if message.is_empty() => reason.clone(),
            Self::NotReady(reason, message) => format!("{reason}: {message}"),
        }
    }

    /// True when ready.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }
}

/// Readiness of a Flux object. Its regular look at an unchanged revision (`Unknown`, `Progressing`) does not count as a change.
pub fn flux(object: &DynamicObject) -> Readiness {
    if object.data.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return Readiness::NotReady("Suspended".into(), "it is suspended".into());
    }
    let generation = object.metadata.generation.unwrap_or(0);
    let observed = number(object, "/status/observedGeneration");
    let Some(c) = condition(object, "Ready") else {
        return Readiness::Progressing("not looked at by Flux yet".into());
    };
    let message = c["message"].as_str().unwrap_or_default().replace('\n', " ");
    let reason = c["reason"].as_str().unwrap_or_default();
    if observed < generation && c["status"] == "True" {
        return Readiness::Progressing(format!("generation {generation} is not observed yet"));
    }
    match c["status"].as_str() {
        Some("True") => Readiness::Ready(message),
        Some("False")
            if matches!(
                reason,
                "DependencyNotReady" | "Progressing" | "ArtifactOutdated"
            ) =>
        {
            Readiness::Progressing(format!("{reason}: {message}"))
        }
        Some("False") => Readiness::NotReady(reason.to_owned(), message),
        _ => Readiness::Progressing(message),
    }
}

/// True when a Kustomization that is being looked at again has nothing new to do.
pub fn same_revision(object: &DynamicObject) -> bool {
    let applied = text(object, "/status/lastAppliedRevision");
    !applied.is_empty()
        && applied == text(object, "/status/lastAttemptedRevision")
        && number(object, "/status/observedGeneration") >= object.metadata.generation.unwrap_or(0)
}

/// Readiness of the KubeadmControlPlane or the MachineDeployments that together should have `want` machines.
pub fn machines<'a>(
    objects: impl IntoIterator<Item = &'a DynamicObject> + Clone,
    want: i64,
) -> Readiness {
    for o in objects.clone() {
        let generation = o.metadata.generation.unwrap_or(0);
        if number(o, "/status/observedGeneration") < generation {
            return Readiness::Progressing(format!(
                "{}: generation {generation} is not observed yet",
                name(o)
            ));
        }
    }
    let sum = |pointer: &str| {
        objects
            .clone()
            .into_iter()
            .map(|o| number(o, pointer))
            .sum()
    };
    let spec: i64 = sum("/spec/replicas");
    let has: i64 = sum("/status/replicas");
    let ready: i64 = sum("/status/readyReplicas");
    let available: i64 = sum("/status/availableReplicas");
    let current: i64 = sum("/status/upToDateReplicas");
    let told = format!("{ready} of {want} ready, {available} available, {current} up to date");
    if spec != want {
        return Readiness::Progressing(format!("{told}, {spec} asked for"));
    }
    if [has, ready, available, current] == [want; 4] {
        return Readiness::Ready(told);
    }
    if has != want || current != want {
        return Readiness::Progressing(format!("{told}, {has} exist"));
    }
    let why = objects
        .into_iter()
        .flat_map(|o| ["Available", "MachinesReady", "MachinesUpToDate"].map(|t| condition(o, t)))
        .flatten()
        .find(|c| c["status"] != "True")
        .map(|c| {
            format!(
                " ({}: {})",
                c["type"].as_str().unwrap_or_default(),
                c["message"].as_str().unwrap_or_default().replace('\n', " ")
            )
        })
        .unwrap_or_default();
    Readiness::NotReady("MachinesNotReady".into(), told + &why)
}
