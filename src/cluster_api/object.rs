//! One Kubernetes object as the move sees it: what it consists of besides status, who owns it, what holds it up. Must not talk to a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};
use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
use serde_json::Value;

use super::{journal::Reference, marks, ready};

/// Group of the core types.
pub const CORE: &str = "cluster.x-k8s.io";
/// Label on objects: the Cluster they belong to.
pub const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// Annotation that pauses any object.
pub const PAUSED: &str = "cluster.x-k8s.io/paused";
/// Annotation that holds up a move until it is gone.
pub const BLOCK_MOVE: &str = "clusterctl.cluster.x-k8s.io/block-move";
/// Annotation that tells controllers and webhooks of the source that a deletion is none.
pub const DELETE_FOR_MOVE: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";
/// Label that moves an object, or all of a CRD, even if nothing owns it.
pub const MOVE: &str = "clusterctl.cluster.x-k8s.io/move";
/// Like [`MOVE`], with everything that it owns.
pub const MOVE_HIERARCHY: &str = "clusterctl.cluster.x-k8s.io/move-hierarchy";

/// Where an object is, whatever its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; none for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl Key {
    /// Key of a journalled reference.
    pub fn of(reference: &Reference) -> Self {
        let api = &reference.api_version;
        Self {
            group: api
                .split_once('/')
                .map_or("", |(group, _)| group)
                .to_owned(),
            kind: reference.kind.clone(),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
        }
    }
}

/// An object of the source or target cluster.
#[derive(Clone, Debug)]
pub struct Object {
    /// The object without status and managed fields.
    pub object: DynamicObject,
    /// Group, version and kind it was read in.
    pub gvk: GroupVersionKind,
    /// Moves even if nothing owns it.
    pub moves: bool,
    /// Moves with everything it owns.
    pub hierarchy: bool,
    /// Managed fields worth carrying over: all but the status's, if any of them was applied server-side.
    pub fields: Option<Vec<ManagedFieldsEntry>>,
    /// The condition `Paused`, if a controller keeps one.
    pub paused_condition: Option<bool>,
    /// Why it is not ready to move yet.
    pub pending: Option<String>,
}

impl Object {
    /// Reduces an object to what the move needs of it.
    pub fn new(mut object: DynamicObject, gvk: &GroupVersionKind) -> Self {
        object.types = Some(TypeMeta {
            api_version: gvk.api_version(),
            kind: gvk.kind.clone(),
        });
        let pending = ready::pending(&object, gvk);
        let paused_condition = object
            .data
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .and_then(|all| all.iter().find(|c| c["type"] == "Paused"))
            .map(|c| c["status"] == "True");
        if let Some(data) = object.data.as_object_mut() {
            data.shift_remove("status");
        }
        let mut fields = object.metadata.managed_fields.take().unwrap_or_default();
        fields.retain(|f| f.subresource.as_deref().unwrap_or_default().is_empty());
        let applied = fields
            .iter()
            .any(|f| f.operation.as_deref() == Some("Apply"));
        Self {
            gvk: gvk.clone(),
            moves: false,
            hierarchy: false,
            fields: applied.then_some(fields),
            paused_condition,
            pending,
            object,
        }
    }

    /// UID.
    pub fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Name.
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// Namespace.
    pub fn namespace(&self) -> Option<&str> {
        self.object.metadata.namespace.as_deref()
    }

    /// True for cluster-scoped objects.
    pub fn is_global(&self) -> bool {
        self.object.metadata.namespace.is_none()
    }

    /// True when it is of this kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.gvk.group == group && self.gvk.kind == kind
    }

    /// Its owners.
    pub fn owners(&self) -> &[OwnerReference] {
        self.object
            .metadata
            .owner_references
            .as_deref()
            .unwrap_or_default()
    }

    /// A label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let labels = self.object.metadata.labels.as_ref()?;
        labels.get(name).map(String::as_str)
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.object.metadata.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// A string of the object's content.
    pub fn text(&self, pointer: &str) -> &str {
        self.object
            .data
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// True while it is being deleted.
    pub fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Paused, by field or annotation, whoever did it.
    pub fn is_paused(&self) -> bool {
        marks::is_paused(&self.object)
    }

    /// Where it is.
    pub fn key(&self) -> Key {
        Key {
            group: self.gvk.group.clone(),
            kind: self.gvk.kind.clone(),
            namespace: self.object.metadata.namespace.clone(),
            name: self.name().to_owned(),
        }
    }

    /// How the journal names it.
    pub fn reference(&self) -> Reference {
        Reference {
            api_version: self.gvk.api_version(),
            kind: self.gvk.kind.clone(),
            namespace: self.object.metadata.namespace.clone(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.gvk.kind, self.name())
    }
}
