//! Objects of the fake server and the rules for changing them. Must not know about HTTP.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::channel::mpsc::UnboundedSender;
use serde_json::{Value, json};

use super::patch;

/// One kind.
#[derive(Clone, Debug)]
pub struct KindInfo {
    /// API group; empty for the core.
    pub group: String,
    /// Served versions, the stored one first.
    pub versions: Vec<String>,
    /// Kind.
    pub kind: String,
    /// Plural name.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether status is a subresource.
    pub status: bool,
}

impl KindInfo {
    /// A namespaced kind with a status subresource.
    pub fn new(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: group.into(),
            versions: vec![version.into()],
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
            status: true,
        }
    }

    fn cluster_scoped(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// `group/version` or `version`.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }
}

/// Where an object is stored: `plural.group`, namespace (empty for none), name.
pub type Key = (String, String, String);

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) details: Value,
}

pub(super) fn refuse<T>(
    code: u16,
    reason: &'static str,
    key: &Key,
    message: &str,
) -> Result<T, Refusal> {
    let (kind, _, name) = key;
    Err(Refusal {
        code,
        reason,
        message: format!("{kind} \"{name}\" {message}"),
        details: json!({"name": name, "kind": kind.split('.').next()}),
    })
}

/// A field that cannot be as the client wants it.
fn invalid<T>(key: &Key, field: &str, why: &str) -> Result<T, Refusal> {
    let message = format!("Invalid value: {why}");
    let mut refusal = refuse::<T>(
        422,
        "Invalid",
        key,
        &format!("is invalid: {field}: {message}"),
    );
    if let Err(refusal) = &mut refusal {
        let cause = json!({"reason": "FieldValueInvalid", "message": message, "field": field});
        refusal.details["causes"] = json!([cause]);
    }
    refusal
}

struct Watcher {
    kind: String,
    wants: Box<dyn Fn(&Value) -> bool + Send>,
    version: String,
    send: UnboundedSender<Value>,
}

struct Event {
    revision: u64,
    kind: String,
    type_: &'static str,
    object: Value,
}

/// Everything the server holds.
pub struct Store {
    /// The most objects that one page of a list holds, whatever the client asks for.
    pub page: usize,
    name: String,
    kinds: Vec<KindInfo>,
    objects: BTreeMap<Key, Value>,
    applied: HashMap<(Key, String), Value>,
    revision: u64,
    uids: u64,
    history: Vec<Event>,
    watchers: Vec<Watcher>,
    garbage: bool,
}

impl Store {
    pub(super) fn new(name: &str) -> Self {
        let mut store = Self {
            page: usize::MAX,
            name: name.to_owned(),
            kinds: Vec::new(),
            objects: BTreeMap::new(),
            applied: HashMap::new(),
            revision: 100,
            uids: 0,
            history: Vec::new(),
            watchers: Vec::new(),
            garbage: false,
        };
        for (group, version, kind, plural, namespaced) in [
            ("", "v1", "Namespace", "namespaces", false),
            ("", "v1", "Node", "nodes", false),
            ("", "v1", "Secret", "secrets", true),
            ("", "v1", "ConfigMap", "configmaps", true),
            ("", "v1", "ServiceAccount", "serviceaccounts", true),
            ("", "v1", "Service", "services", true),
            ("", "v1", "Pod", "pods", true),
            ("", "v1", "Event", "events", true),
            ("apps", "v1", "Deployment", "deployments", true),
            ("apps", "v1", "StatefulSet", "statefulsets", true),
            ("apps", "v1", "DaemonSet", "daemonsets", true),
            ("coordination.k8s.io", "v1", "Lease", "leases", true),
            (
                "rbac.authorization.k8s.io",
                "v1",
                "ClusterRole",
                "clusterroles",
                false,
            ),
            (
                "rbac.authorization.k8s.io",
                "v1",
                "ClusterRoleBinding",
                "clusterrolebindings",
                false,
            ),
            ("rbac.authorization.k8s.io", "v1", "Role", "roles", true),
            (
                "rbac.authorization.k8s.io",
                "v1",
                "RoleBinding",
                "rolebindings",
                true,
            ),
            (
                "admissionregistration.k8s.io",
                "v1",
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfigurations",
                false,
            ),
            (
                "admissionregistration.k8s.io",
                "v1",
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
                false,
            ),
            (
                "apiextensions.k8s.io",
                "v1",
                "CustomResourceDefinition",
                "customresourcedefinitions",
                false,
            ),
        ] {
            let mut info = KindInfo::new(group, version, kind, plural);
            info.status = !matches!(kind, "Secret" | "ConfigMap" | "ServiceAccount");
            store.define(if namespaced {
                info
            } else {
                info.cluster_scoped()
            });
        }
        store
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a kind or replaces it.
    pub fn define(&mut self, kind: KindInfo) {
        self.kinds
            .retain(|k| (&k.group, &k.kind) != (&kind.group, &kind.kind));
        self.kinds.push(kind);
    }

    pub(super) fn kinds(&self) -> &[KindInfo] {
        &self.kinds
    }

    fn info(&self, object: &Value) -> KindInfo {
        let api = object["apiVersion"].as_str().unwrap_or_default();
        let group = api.split_once('/').map_or("", |(group, _)| group);
        let kind = object["kind"].as_str().unwrap_or_default();
        self.kinds
            .iter()
            .find(|k| k.group == group && k.kind == kind)
            .unwrap_or_else(|| panic!("the fake server does not know {api} {kind}"))
            .clone()
    }

    /// Key of an object of a kind.
    pub(super) fn key(info: &KindInfo, namespace: &str, name: &str) -> Key {
        let namespace = if info.namespaced { namespace } else { "" };
        (
            format!("{}.{}", info.plural, info.group),
            namespace.to_owned(),
            name.to_owned(),
        )
    }

    /// Creates or replaces an object with its status, as no client could.
    pub fn put(&mut self, mut object: Value) -> Value {
        let info = self.info(&object);
        let name = text(&object, "/metadata/name").to_owned();
        let namespace = text(&object, "/metadata/namespace").to_owned();
        let key = Self::key(&info, &namespace, &name);
        let old = self.objects.get(&key).cloned();
        match &old {
            Some(old) => {
                for field in ["uid", "creationTimestamp", "generation"] {
                    object["metadata"][field] = old["metadata"][field].clone();
                }
            }
            None => self.stamp(&info, &mut object),
        }
        self.save(&info, &key, object, old.as_ref())
    }

    /// One object by kind.
    pub fn find(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        self.objects
            .iter()
            .find(|((_, ns, n), o)| {
                n == name && ns == namespace.unwrap_or_default() && o["kind"] == kind
            })
            .map(|(_, o)| o.clone())
    }

    /// All objects of a kind, or of every kind with `""`.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        self.objects
            .values()
            .filter(|o| kind.is_empty() || o["kind"] == kind)
            .cloned()
            .collect()
    }

    /// One object by where it is stored, `plural.group`, without a copy.
    pub fn peek(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.get(&key)
    }

    /// All objects of a kind, `plural.group`, without copies.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let first = (kind.to_owned(), String::new(), String::new());
        self.objects
            .range(first..)
            .take_while(move |((k, _, _), _)| k == kind)
            .map(|(_, o)| o)
    }

    /// Every object with its key, without copies.
    pub fn every(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    /// True when the server knows a kind, `plural.group`.
    pub fn knows(&self, kind: &str) -> bool {
        self.kinds
            .iter()
            .any(|k| format!("{}.{}", k.plural, k.group) == kind)
    }

    /// What the server holds, without its watchers and its past: as after a restart.
    pub(super) fn copy(&self) -> Self {
        Self {
            page: self.page,
            name: self.name.clone(),
            kinds: self.kinds.clone(),
            objects: self.objects.clone(),
            applied: self.applied.clone(),
            revision: self.revision,
            uids: self.uids,
            history: Vec::new(),
            watchers: Vec::new(),
            garbage: self.garbage,
        }
    }

    /// Removes an object whatever holds it.
    pub fn remove(&mut self, kind: &str, namespace: Option<&str>, name: &str) {
        if let Some(object) = self.find(kind, namespace, name) {
            let info = self.info(&object);
            self.drop_object(
                &info,
                &Self::key(&info, namespace.unwrap_or_default(), name),
            );
        }
    }

    pub(super) fn load(&self, key: &Key) -> Result<Value, Refusal> {
        match self.objects.get(key) {
            Some(object) => Ok(object.clone()),
            None => refuse(404, "NotFound", key, "not found"),
        }
    }

    pub(super) fn list(&self, kind: &str, namespace: Option<&str>) -> Vec<Value> {
        self.objects
            .iter()
            .filter(|((k, ns, _), _)| k == kind && namespace.is_none_or(|n| n == ns))
            .map(|(_, o)| o.clone())
            .collect()
    }

    /// Number of the newest change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn create(
        &mut self,
        info: &KindInfo,
        namespace: &str,
        mut object: Value,
        manager: &str,
    ) -> Result<Value, Refusal> {
        if text(&object, "/metadata/name").is_empty()
            && !text(&object, "/metadata/generateName").is_empty()
        {
            let name = format!(
                "{}{:05}",
                text(&object, "/metadata/generateName"),
                self.uids
            );
            object["metadata"]["name"] = json!(name);
        }
        let name = text(&object, "/metadata/name").to_owned();
        let key = Self::key(info, namespace, &name);
        if name.is_empty() {
            return refuse(
                422,
                "Invalid",
                &key,
                "is invalid: metadata.name: Required value",
            );
        }
        if !text(&object, "/metadata/resourceVersion").is_empty() {
            return refuse(
                400,
                "BadRequest",
                &key,
                "resourceVersion should not be set on objects to be created",
            );
        }
        if info.namespaced {
            object["metadata"]["namespace"] = json!(namespace);
            let home = (
                "namespaces.".to_owned(),
                String::new(),
                namespace.to_owned(),
            );
            if !self.objects.contains_key(&home) {
                return refuse(404, "NotFound", &home, "not found");
            }
        }
        if self.objects.contains_key(&key) {
            return refuse(409, "AlreadyExists", &key, "already exists");
        }
        check_owners(&key, &object)?;
        if info.status && info.kind != "CustomResourceDefinition" {
            object.as_object_mut().unwrap().shift_remove("status");
        }
        self.stamp(info, &mut object);
        object["metadata"]["managedFields"] = json!([entry(info, manager, "Update", &object)]);
        Ok(self.save(info, &key, object, None))
    }

    /// Replaces check a UID as a precondition, before anything else; patches do not.
    pub(super) fn must_be(&self, key: &Key, uid: &str) -> Result<(), Refusal> {
        if !uid.is_empty() && self.load(key)?["metadata"]["uid"] != uid {
            return refuse(409, "Conflict", key, "precondition failed: UID");
        }
        Ok(())
    }

    /// Replaces an object after the rules for updates.
    pub(super) fn update(
        &mut self,
        info: &KindInfo,
        key: &Key,
        mut new: Value,
        manager: &str,
        status_only: bool,
    ) -> Result<Value, Refusal> {
        let old = self.load(key)?;
        let differs = |field: &str| {
            let wanted = new["metadata"][field].as_str().unwrap_or_default();
            !wanted.is_empty() && old["metadata"][field] != wanted
        };
        if differs("resourceVersion") {
            return refuse(409, "Conflict", key, "has another resourceVersion");
        }
        if differs("uid") {
            let wanted = &new["metadata"]["uid"];
            return invalid(
                key,
                "metadata.uid",
                &format!("{wanted}: field is immutable"),
            );
        }
        if status_only {
            let status = new["status"].take();
            new = old.clone();
            new["status"] = status;
        } else if info.status {
            match old.get("status") {
                Some(status) => new["status"] = status.clone(),
                None => drop(new.as_object_mut().unwrap().shift_remove("status")),
            }
        }
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "name",
            "namespace",
        ] {
            match old["metadata"].get(field) {
                Some(value) => new["metadata"][field] = value.clone(),
                None => drop(new["metadata"].as_object_mut().unwrap().shift_remove(field)),
            }
        }
        check_owners(key, &new)?;
        if old["metadata"].get("deletionTimestamp").is_some() {
            let before = finalizers(&old);
            if finalizers(&new).iter().any(|f| !before.contains(f)) {
                return refuse(
                    422,
                    "Invalid",
                    key,
                    "is invalid: no new finalizers can be added while it is being deleted",
                );
            }
        }
        let with_fields = new["metadata"]
            .get("managedFields")
            .is_some_and(|m| *m != old["metadata"]["managedFields"]);
        if new["metadata"].get("managedFields").is_none() {
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
        }
        if same(&new, &old) {
            return Ok(old);
        }
        if !with_fields && manager_changes(&mut new, &old) {
            let fields = entry(info, manager, "Update", &changed(&new, &old));
            let entries = new["metadata"]["managedFields"].as_array_mut();
            if let Some(entries) = entries
                && !entries
                    .iter()
                    .any(|e| e["manager"] == manager && e["operation"] == "Update")
            {
                entries.push(fields);
            }
        }
        Ok(self.save(info, key, new, Some(&old)))
    }

    pub(super) fn apply(
        &mut self,
        info: &KindInfo,
        key: &Key,
        mut now: Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, Refusal> {
        if now["metadata"].get("managedFields").is_some() {
            return refuse(400, "BadRequest", key, "metadata.managedFields must be nil");
        }
        let ours = (key.clone(), manager.to_owned());
        now.as_object_mut().unwrap().shift_remove("status");
        let others: Vec<Value> = self
            .applied
            .iter()
            .filter(|((k, m), _)| k == key && m != manager)
            .map(|(_, v)| v.clone())
            .collect();
        if !force && others.iter().any(|o| conflicts(o, &now)) {
            return refuse(409, "Conflict", key, "Apply failed with conflicts");
        }
        let others: Vec<&Value> = others.iter().collect();
        let result = match self.objects.get(key).cloned() {
            None => {
                let mut object = now.clone();
                object["metadata"]["name"] = json!(key.2);
                let created = self.create(info, &key.1, object, manager)?;
                let mut marked = created.clone();
                marked["metadata"]["managedFields"] = json!([entry(info, manager, "Apply", &now)]);
                self.objects.insert(key.clone(), marked.clone());
                Ok(marked)
            }
            Some(old) => {
                let mut new = old.clone();
                patch::apply(&mut new, self.applied.get(&ours), &now, &others);
                if same(&new, &old) && self.applied.contains_key(&ours) {
                    return Ok(old);
                }
                let mut fields: Vec<Value> = old["metadata"]["managedFields"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                fields.retain(|e| !(e["manager"] == manager && e["operation"] == "Apply"));
                fields.push(entry(info, manager, "Apply", &now));
                new["metadata"]["managedFields"] = json!(fields);
                self.update(info, key, new, manager, false)
            }
        };
        self.applied.insert(ours, now);
        result
    }

    pub(super) fn delete(
        &mut self,
        info: &KindInfo,
        key: &Key,
        options: &Value,
    ) -> Result<(bool, Value), Refusal> {
        let mut object = self.load(key)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = text(options, &format!("/preconditions/{field}"));
            if !wanted.is_empty() && object["metadata"][field] != wanted {
                return refuse(
                    409,
                    "Conflict",
                    key,
                    &format!("precondition failed: {field}"),
                );
            }
        }
        if finalizers(&object).is_empty() {
            self.drop_object(info, key);
            return Ok((true, object));
        }
        if object["metadata"].get("deletionTimestamp").is_none() {
            let old = object.clone();
            object["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
            object = self.save(info, key, object, Some(&old));
        }
        Ok((false, object))
    }

    /// Removes dependents whose owners are all gone; with `on` after every change from now on.
    pub fn collect_garbage(&mut self, on: bool) {
        self.garbage = on;
        loop {
            let uids: HashSet<&str> = self
                .objects
                .values()
                .map(|o| text(o, "/metadata/uid"))
                .collect();
            let orphan = self.objects.iter().find(|(_, o)| {
                let owners = o["metadata"]["ownerReferences"].as_array();
                o["metadata"].get("deletionTimestamp").is_none()
                    && owners.is_some_and(|all| {
                        !all.is_empty() && !all.iter().any(|r| uids.contains(text(r, "/uid")))
                    })
            });
            let Some((key, object)) = orphan else { return };
            let (key, info) = (key.clone(), self.info(object));
            self.garbage = false;
            let _ = self.delete(&info, &key, &Value::Null);
            self.garbage = on;
        }
    }

    pub(super) fn watch(
        &mut self,
        info: &KindInfo,
        version: &str,
        since: u64,
        wants: Box<dyn Fn(&Value) -> bool + Send>,
        send: UnboundedSender<Value>,
    ) {
        let kind = format!("{}.{}", info.plural, info.group);
        for event in &self.history {
            if event.kind == kind && event.revision > since && wants(&event.object) {
                let object = at_version(&event.object, version);
                let _ = send.unbounded_send(json!({"type": event.type_, "object": object}));
            }
        }
        self.watchers.push(Watcher {
            kind,
            wants,
            version: version.to_owned(),
            send,
        });
    }

    fn stamp(&mut self, info: &KindInfo, object: &mut Value) {
        self.uids += 1;
        object["apiVersion"] = json!(info.api_version(&info.versions[0]));
        let meta = &mut object["metadata"];
        meta["uid"] = json!(format!("{}-{:04}", self.name, self.uids));
        meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        meta["generation"] = json!(1);
        if info.kind == "Namespace" {
            let name = meta["name"].clone();
            meta["labels"]["kubernetes.io/metadata.name"] = name;
            object["status"] = json!({"phase": "Active"});
        }
        if let Some(plain) = object.as_object_mut().unwrap().shift_remove("stringData") {
            use base64::Engine as _;
            for (name, value) in plain.as_object().unwrap() {
                let value =
                    base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap());
                object["data"][name] = json!(value);
            }
        }
    }

    fn save(
        &mut self,
        info: &KindInfo,
        key: &Key,
        mut object: Value,
        old: Option<&Value>,
    ) -> Value {
        self.revision += 1;
        object["apiVersion"] = json!(info.api_version(&info.versions[0]));
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        if let Some(old) = old
            && body(&object) != body(old)
        {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        if object["metadata"].get("deletionTimestamp").is_some() && finalizers(&object).is_empty() {
            self.objects.insert(key.clone(), object.clone());
            self.drop_object(info, key);
            return object;
        }
        if info.kind == "CustomResourceDefinition" {
            self.establish(&mut object);
        }
        self.objects.insert(key.clone(), object.clone());
        let type_ = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.publish(key, type_, &object);
        if self.garbage && old.is_none() {
            self.collect_garbage(true);
        }
        object
    }

    fn drop_object(&mut self, _: &KindInfo, key: &Key) {
        if let Some(mut object) = self.objects.remove(key) {
            self.revision += 1;
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            self.applied.retain(|(k, _), _| k != key);
            self.publish(key, "DELETED", &object);
        }
        if self.garbage {
            self.collect_garbage(true);
        }
    }

    fn publish(&mut self, key: &Key, type_: &'static str, object: &Value) {
        self.watchers.retain(|w| {
            if w.kind != key.0 || !(w.wants)(object) {
                return !w.send.is_closed();
            }
            let object = at_version(object, &w.version);
            w.send
                .unbounded_send(json!({"type": type_, "object": object}))
                .is_ok()
        });
        self.history.push(Event {
            revision: self.revision,
            kind: key.0.clone(),
            type_,
            object: object.clone(),
        });
    }

    fn establish(&mut self, crd: &mut Value) {
        let versions = crd["spec"]["versions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut served: Vec<&Value> = versions.iter().filter(|v| v["served"] == true).collect();
        served.sort_by_key(|v| v["storage"] != true);
        self.define(KindInfo {
            group: text(crd, "/spec/group").to_owned(),
            versions: served.iter().map(|v| text(v, "/name").to_owned()).collect(),
            kind: text(crd, "/spec/names/kind").to_owned(),
            plural: text(crd, "/spec/names/plural").to_owned(),
            namespaced: crd["spec"]["scope"] != "Cluster",
            status: served
                .first()
                .is_some_and(|v| v.pointer("/subresources/status").is_some()),
        });
        crd["status"] = json!({"conditions": [
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": ""},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": ""},
        ]});
    }
}

pub(super) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The same object in another version: only the name of the version changes here.
pub(super) fn at_version(object: &Value, version: &str) -> Value {
    let mut object = object.clone();
    let api = match text(&object, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{group}/{version}"),
        None => version.to_owned(),
    };
    object["apiVersion"] = json!(api);
    object
}

fn finalizers(object: &Value) -> Vec<Value> {
    object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// What counts for the generation.
fn body(object: &Value) -> Value {
    let mut object = object.clone();
    let map = object.as_object_mut().unwrap();
    for field in ["metadata", "status", "apiVersion"] {
        map.shift_remove(field);
    }
    object
}

fn same(a: &Value, b: &Value) -> bool {
    let bare = |o: &Value| {
        let mut o = o.clone();
        let meta = o["metadata"].as_object_mut().unwrap();
        meta.shift_remove("resourceVersion");
        meta.shift_remove("generation");
        for empty in ["labels", "annotations", "finalizers", "ownerReferences"] {
            if meta.get(empty).is_some_and(|v| {
                v.as_object().is_some_and(|m| m.is_empty())
                    || v.as_array().is_some_and(|a| a.is_empty())
            }) {
                meta.shift_remove(empty);
            }
        }
        o
    };
    bare(a) == bare(b)
}

fn manager_changes(new: &mut Value, old: &Value) -> bool {
    new["metadata"]["managedFields"] == old["metadata"]["managedFields"]
}

/// Top-level fields that differ; enough for a field entry.
fn changed(new: &Value, old: &Value) -> Value {
    let fields = new.as_object().unwrap().iter();
    fields
        .filter(|(name, value)| *name != "metadata" && old.get(*name) != Some(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn entry(info: &KindInfo, manager: &str, operation: &str, object: &Value) -> Value {
    let mut fields = object.clone();
    let map = fields.as_object_mut().unwrap();
    for field in ["apiVersion", "kind", "status"] {
        map.shift_remove(field);
    }
    if let Some(meta) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|name, _| {
            matches!(
                name.as_str(),
                "labels" | "annotations" | "finalizers" | "ownerReferences"
            )
        });
    }
    json!({
        "manager": manager,
        "operation": operation,
        "apiVersion": info.api_version(&info.versions[0]),
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": patch::fields(&fields),
    })
}

fn conflicts(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => ours
            .iter()
            .any(|(name, value)| theirs.get(name).is_some_and(|t| conflicts(t, value))),
        (theirs, ours) => theirs != ours,
    }
}

fn check_owners(key: &Key, object: &Value) -> Result<(), Refusal> {
    let owners = object["metadata"]["ownerReferences"].as_array();
    for owner in owners.into_iter().flatten() {
        if ["apiVersion", "kind", "name", "uid"]
            .iter()
            .any(|f| text(owner, &format!("/{f}")).is_empty())
        {
            return refuse(
                422,
                "Invalid",
                key,
                "is invalid: metadata.ownerReferences: Required value",
            );
        }
    }
    Ok(())
}
