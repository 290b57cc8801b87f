//! A source that is gone, replaced by what was exported of it. Must not read or write the source.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::{Move, MoveKind, Plan, View, copy, pause::can_pause, refusal, unknown_kinds};
use crate::{
    Error, Result,
    cluster_api::{
        export::{Export, Exported},
        journal::{Planned, Record, Reference},
        marks::{self, PAUSED_FOR_MOVE},
        object::{Key, Object, PAUSED},
    },
    ports::kubernetes::gvk,
};

/// A source as its export tells it: at rest, as if the move had just paused it.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The objects.
    pub view: View,
    /// What the move paused, with `spec.paused` as it was.
    pub paused: Vec<(Reference, Option<bool>)>,
    /// The namespaces of the objects.
    pub namespaces: BTreeMap<String, ObjectMeta>,
    /// What was known of the cluster besides its objects.
    pub environment: Value,
}

/// Gives back what was exported, ready to be moved.
pub fn restore(export: Export) -> Result<Restored> {
    let mut restored = Restored {
        environment: export.environment,
        ..Restored::default()
    };
    restored.view.shared_classes = export.shared_classes.into_iter().collect();
    for one in export.objects {
        let gvk = gvk(&one.object)?;
        let mut object = Object::new(one.object, &gvk);
        object.fields = one.fields;
        object.moves = one.moves;
        object.hierarchy = one.hierarchy;
        // It was ready when it was exported; status is not kept.
        object.pending = None;
        if object.annotation(PAUSED_FOR_MOVE).is_some() {
            let paused = (object.reference(), one.was_paused);
            restored.paused.push(paused);
        } else if can_pause(&object) && !object.is_paused() {
            let was = object.object.data.pointer("/spec/paused");
            let paused = (object.reference(), was.and_then(Value::as_bool));
            restored.paused.push(paused);
            pause(&mut object, &export.target);
        }
        restored.view.objects.push(object);
    }
    for namespace in export.namespaces {
        if let Some(name) = namespace.name.clone() {
            restored.namespaces.insert(name, namespace);
        }
    }
    Ok(restored)
}

fn pause(object: &mut Object, target: &str) {
    let annotations = object.object.metadata.annotations.get_or_insert_default();
    annotations.insert(PAUSED_FOR_MOVE.to_owned(), target.to_owned());
    if object.gvk.kind == "Cluster" {
        object.object.data["spec"]["paused"] = json!(true);
    } else {
        annotations.insert(PAUSED.to_owned(), String::new());
    }
}

impl Move<'_> {
    /// Keeps everything that is to be moved, if there is a place for it.
    pub(super) fn export(&self, view: &View, plan: &Plan) -> Result<()> {
        let Some(exports) = self.exports else {
            return Ok(());
        };
        // What is left of a source is less than what was exported of the whole one.
        if !self.state.kept.is_empty() {
            return Ok(());
        }
        let objects = plan.objects().map(|i| {
            let object = &view.objects[i];
            Exported {
                object: object.object.clone(),
                fields: object.fields.clone(),
                moves: object.moves,
                hierarchy: object.hierarchy,
                was_paused: self.state.was_paused.get(object.uid()).copied().flatten(),
            }
        });
        exports.keep(&Export {
            source: self.source_uid.clone(),
            target: self.target_uid.clone(),
            namespace: self.namespace.to_owned(),
            objects: objects.collect(),
            shared_classes: view.shared_classes.iter().cloned().collect(),
            namespaces: self.namespaces.values().cloned().collect(),
            environment: self.environment.clone(),
        })
    }

    /// Everything up to the commit record, from the export.
    pub(super) async fn restore_over(
        &mut self,
        known: &BTreeMap<(String, String), MoveKind>,
    ) -> Result<()> {
        let restored = self.load_export()?;
        self.progress.seen(&format!(
            "the source is gone: {} objects come from the export",
            restored.view.objects.len()
        ));
        for (object, was) in restored.paused {
            if !self.state.was_paused.contains_key(&object.uid) {
                self.record(Record::Pausing { object, was })?;
            }
        }
        self.namespaces = restored.namespaces;
        let view = restored.view;
        for object in &view.objects {
            self.read_as(&object.gvk);
        }
        let plan = self.plan(&view)?;
        let unknown = unknown_kinds(&view, &plan, known);
        if !unknown.is_empty() {
            return Err(
                refusal("the target cannot hold what is to be moved", unknown)
                    .fix("install the same providers, at least as new, in the target"),
            );
        }
        let kinds = self.kinds.values().cloned().collect();
        let copies = self.view_kinds(self.target, kinds).await?;
        let exported: BTreeSet<&str> = view.objects.iter().map(Object::uid).collect();
        let mut ours: BTreeSet<Key> = self.state.ever_planned.iter().map(Key::of).collect();
        let (mut kept, mut uids) = (Vec::new(), Vec::new());
        for copy in &copies.objects {
            let Some(origin) = marks::origin(&copy.object) else {
                continue;
            };
            if origin.cluster != self.source_uid {
                continue;
            }
            ours.insert(copy.key());
            if !exported.contains(origin.uid.as_str()) {
                // The source had it after the export: it is all that is left of it.
                uids.push((origin.uid.clone(), copy.uid().to_owned()));
                kept.push(Planned {
                    object: Reference {
                        uid: origin.uid,
                        ..copy.reference()
                    },
                    layer: 0,
                    stays: false,
                });
            }
        }
        let conflicts = copy::conflicts(&view, &plan, &copies, &ours);
        if !conflicts.is_empty() {
            return Err(refusal("objects in the target are in the way", conflicts)
                .fix("delete them there, then run the same command again"));
        }
        if !kept.is_empty() {
            self.record(Record::Kept { objects: kept })?;
            self.record(Record::Created { uids })?;
        }
        self.record_plan(&view, &plan)?;
        let identities = self.copy(&view, &plan, &copies).await?;
        self.prove(&view, &plan, &identities).await?;
        self.record(Record::Committed)
    }

    /// The export of this very move.
    fn load_export(&self) -> Result<Restored> {
        let lost = |why: &str| {
            Error::failed("the source of the move is gone before everything was proven in the target")
                .because(why)
                .state("the target may hold paused copies, but not everything")
                .fix("bring the source back if that is possible; else remove what there is and begin anew")
        };
        let export = match self.exports {
            Some(exports) => exports.load()?,
            None => None,
        };
        let export = export.ok_or_else(|| lost("nothing was exported"))?;
        let is_this = export.target == self.target_uid
            && export.namespace == self.namespace
            && export.source == self.source_uid;
        if !is_this {
            return Err(lost(&format!(
                "the export is one of namespace {} from the cluster with UID {} to that with UID {}",
                export.namespace, export.source, export.target
            )));
        }
        restore(export)
    }

    /// Reads a kind in the version that the export has it in.
    fn read_as(&mut self, gvk: &GroupVersionKind) {
        let key = (gvk.group.clone(), gvk.kind.clone());
        if let Some(kind) = self.kinds.get_mut(&key)
            && kind.gvk.version != gvk.version
            && kind.served.contains(&gvk.version)
        {
            kind.gvk.version.clone_from(&gvk.version);
        }
    }
}
