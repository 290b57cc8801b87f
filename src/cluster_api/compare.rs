//! What an object has to look like in the target, and whether it does. Pure.

use std::collections::{BTreeMap, HashMap};

use kube::core::{DynamicObject, ObjectMeta};
use serde_json::Value;

use super::{
    marks::{SOURCE_CLUSTER, SOURCE_UID},
    object::{DELETE_FOR_MOVE, Object},
};

/// Who is who on both sides.
#[derive(Clone, Debug)]
pub struct Identities {
    /// UID of the source cluster.
    source: String,
    /// UID in the target and API version, by UID in the source.
    objects: HashMap<String, (String, String)>,
}

impl Identities {
    /// Nobody yet; `source` is the UID of the source cluster.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            objects: HashMap::new(),
        }
    }

    /// Adds one object.
    pub fn insert(&mut self, source: String, target: String, api_version: String) {
        self.objects.insert(source, (target, api_version));
    }

    /// UID in the target.
    pub fn target(&self, source: &str) -> Option<&str> {
        self.objects.get(source).map(|(uid, _)| uid.as_str())
    }
}

/// The object as it is to be created: owner references with the target's UIDs, marks that say where it comes from, nothing
/// that only the source's server knows.
/// `Err` is the name of an owner that is not in the target.
pub fn desired(object: &Object, identities: &Identities) -> Result<DynamicObject, String> {
    let meta = &object.object.metadata;
    let mut owners = Vec::new();
    for owner in object.owners() {
        let (uid, api_version) = identities
            .objects
            .get(&owner.uid)
            .ok_or_else(|| format!("{} {}", owner.kind, owner.name))?;
        let mut owner = owner.clone();
        owner.uid = uid.clone();
        // The owner's stored version: one that the reference remembers may not be served any more.
        owner.api_version = api_version.clone();
        owners.push(owner);
    }
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove(DELETE_FOR_MOVE);
    annotations.insert(SOURCE_UID.to_owned(), object.uid().to_owned());
    annotations.insert(SOURCE_CLUSTER.to_owned(), identities.source.clone());
    Ok(DynamicObject {
        types: object.object.types.clone(),
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone(),
            annotations: Some(annotations),
            finalizers: meta.finalizers.clone().filter(|f| !f.is_empty()),
            owner_references: (!owners.is_empty()).then_some(owners),
            // No generateName: the server would turn "already exists" into a time-out.
            ..ObjectMeta::default()
        },
        data: object.object.data.clone(),
    })
}

/// The first place where the object in the target lacks something wanted. The target may hold more: defaults of its
/// schema and webhooks, labels and annotations of its controllers. Finalizers count only when asked for.
pub fn difference(
    wanted: &DynamicObject,
    found: &DynamicObject,
    finalizers: bool,
) -> Option<String> {
    let (want, have) = (&wanted.metadata, &found.metadata);
    for (place, want, have) in [
        ("labels", &want.labels, &have.labels),
        ("annotations", &want.annotations, &have.annotations),
    ] {
        let empty = BTreeMap::new();
        let have = have.as_ref().unwrap_or(&empty);
        for (name, value) in want.iter().flatten() {
            if name != DELETE_FOR_MOVE && have.get(name) != Some(value) {
                return Some(format!("metadata.{place}[{name}]"));
            }
        }
    }
    let have_owners = have.owner_references.as_deref().unwrap_or_default();
    let want_owners = want.owner_references.as_deref().unwrap_or_default();
    if want_owners.len() != have_owners.len()
        || want_owners.iter().any(|o| !have_owners.contains(o))
    {
        return Some("metadata.ownerReferences".into());
    }
    if finalizers {
        let have = have.finalizers.as_deref().unwrap_or_default();
        if let Some(missing) = want.finalizers.iter().flatten().find(|f| !have.contains(f)) {
            return Some(format!("metadata.finalizers: {missing}"));
        }
    }
    let exact = matches!(
        wanted
            .types
            .as_ref()
            .map(|t| (t.api_version.as_str(), t.kind.as_str())),
        Some(("v1", "Secret" | "ConfigMap"))
    );
    if exact {
        let bare = |v: &Value| {
            v.as_object()
                .is_some_and(|m| !m.is_empty())
                .then(|| v.clone())
        };
        return (bare(&wanted.data) != bare(&found.data)).then(|| "its data".into());
    }
    lacking(&wanted.data, &found.data, String::new())
}

fn lacking(want: &Value, have: &Value, place: String) -> Option<String> {
    match (want, have) {
        (Value::Null, _) => None,
        (Value::Object(want), Value::Object(have)) => want.iter().find_map(|(name, value)| {
            let place = if place.is_empty() {
                name.clone()
            } else {
                format!("{place}.{name}")
            };
            lacking(value, have.get(name).unwrap_or(&Value::Null), place)
        }),
        (Value::Array(want), Value::Array(have)) if want.len() == have.len() => {
            let pairs = want.iter().zip(have).enumerate();
            pairs
                .into_iter()
                .find_map(|(i, (want, have))| lacking(want, have, format!("{place}[{i}]")))
        }
        (want, have) if want == have => None,
        _ => Some(place),
    }
}

/// True when two states of the source would be copied alike.
pub fn same_content(a: &Object, b: &Object) -> bool {
    let (x, y) = (&a.object.metadata, &b.object.metadata);
    a.uid() == b.uid()
        && a.object.data == b.object.data
        && x.labels == y.labels
        && x.annotations == y.annotations
        && x.owner_references == y.owner_references
        && x.finalizers == y.finalizers
}
