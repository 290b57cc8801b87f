//! Creating the objects in the target layer by layer and proving that they are what they were. Must not change the source.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt, stream};
use kube::core::{DynamicObject, GroupVersionKind, ObjectMeta};
use serde_json::json;

use super::{Move, View, WRITES, by_key, remove::Removal};
use crate::{
    Error, Kind, Result,
    cluster_api::{
        compare::{Identities, desired, difference},
        journal::Record,
        object::{Key, Object},
        plan::Plan,
    },
    ports::kubernetes::Exact,
};

/// Created objects per journal record.
const BATCH: usize = 64;
/// How often one object is tried when others change it meanwhile.
const TRIES: usize = 20;

/// Objects of the target that a copy would overwrite although this move did not make them.
pub(super) fn conflicts(
    view: &View,
    plan: &Plan,
    copies: &View,
    may_be_ours: &BTreeSet<Key>,
) -> Vec<String> {
    let found = by_key(copies);
    let mut conflicts = Vec::new();
    for i in plan.objects().filter(|&i| !plan.stays(i)) {
        let object = &view.objects[i];
        let Some(copy) = found.get(&object.key()) else {
            continue;
        };
        if may_be_ours.contains(&object.key()) {
            continue;
        }
        // Owners cannot agree yet. Otherwise equal: left by a move whose journal is lost, so it may be used.
        let mut bare = object.object.clone();
        bare.metadata.owner_references = copy.object.metadata.owner_references.clone();
        if let Some(place) = difference(&bare, &copy.object, false) {
            conflicts.push(format!("{object} is there already and differs at {place}"));
        }
    }
    conflicts
}

/// Namespaces that the objects are in.
fn namespaces<'v>(view: &'v View, plan: &Plan) -> BTreeSet<&'v str> {
    plan.objects()
        .filter_map(|i| view.objects[i].namespace())
        .collect()
}

impl Move<'_> {
    /// Creates or mends every object of the plan, owners first.
    pub(super) async fn copy(
        &mut self,
        view: &View,
        plan: &Plan,
        copies: &View,
    ) -> Result<Identities> {
        self.make_namespaces(view, plan).await?;
        let found = by_key(copies);
        let mut identities = Identities::new(&self.source_uid);
        let total = plan.objects().count();
        let mut count = 0;
        for layer in &plan.layers {
            let mut work = Vec::new();
            for &i in layer {
                let object = &view.objects[i];
                let wanted = desired(object, &identities).map_err(|owner| {
                    Error::new(
                        Kind::Internal,
                        format!("{object} comes before its owner {owner}"),
                    )
                })?;
                let copy = found.get(&object.key()).map(|o| (*o).clone());
                work.push(self.copy_one(object, wanted, copy, plan.stays(i)));
            }
            let mut results = stream::iter(work).buffer_unordered(WRITES);
            let mut created = Vec::new();
            let mut written = 0;
            let mut first_error = None;
            while let Some(result) = results.next().await {
                match result {
                    Ok((object, uid)) => {
                        let source = object.uid().to_owned();
                        identities.insert(source.clone(), uid.clone(), object.gvk.api_version());
                        if self.state.created.get(&source) != Some(&uid) {
                            created.push((source, uid));
                        }
                        count += 1;
                        self.progress
                            .seen(&format!("{count} of {total} copied: {object}"));
                    }
                    Err(e) => {
                        first_error.get_or_insert(e);
                    }
                }
                if created.len() - written >= BATCH {
                    self.journal.append(&Record::Created {
                        uids: created[written..].to_vec(),
                    })?;
                    written = created.len();
                }
            }
            drop(results);
            if written < created.len() {
                self.journal.append(&Record::Created {
                    uids: created[written..].to_vec(),
                })?;
            }
            self.state.created.extend(created);
            if let Some(e) = first_error {
                return Err(e);
            }
        }
        Ok(identities)
    }

    /// Looks how the source's namespaces are, as far as that is not known yet.
    pub(super) async fn read_namespaces(&mut self, view: &View, plan: &Plan) -> Result<()> {
        let gvk = GroupVersionKind::gvk("", "v1", "Namespace");
        let names: BTreeSet<&str> = namespaces(view, plan);
        let sent = self.sent();
        for name in names {
            if !self.namespaces.contains_key(name) {
                let found = self.source()?.read(&gvk, None, name, self.progress).await?;
                let meta = found.map(|o| o.metadata).unwrap_or_default();
                let meta = ObjectMeta {
                    name: Some(name.to_owned()),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    ..ObjectMeta::default()
                };
                self.namespaces.insert(name.to_owned(), meta);
            }
        }
        self.listed += self.sent() - sent;
        Ok(())
    }

    /// Namespaces with the labels and annotations they have in the source; Pod Security hangs on them.
    async fn make_namespaces(&self, view: &View, plan: &Plan) -> Result<()> {
        let gvk = GroupVersionKind::gvk("", "v1", "Namespace");
        for name in namespaces(view, plan) {
            let there = self.target.read(&gvk, None, name, self.progress).await?;
            if there.is_none() {
                let mut namespace =
                    DynamicObject::new(name, &kube::api::ApiResource::from_gvk(&gvk));
                if let Some(meta) = self.namespaces.get(name) {
                    namespace.metadata = meta.clone();
                }
                self.target.create(&namespace, self.progress).await?;
            }
        }
        Ok(())
    }

    /// One object: created, or what is there made equal. Returns its UID in the target.
    async fn copy_one<'o>(
        &self,
        object: &'o Object,
        wanted: DynamicObject,
        copy: Option<Object>,
        stays: bool,
    ) -> Result<(&'o Object, String)> {
        let (gvk, namespace) = (&object.gvk, object.namespace());
        let mut copy = copy;
        let mut last = String::new();
        for _ in 0..TRIES {
            let again = match copy {
                None => match self.target.create(&wanted, self.progress).await? {
                    Some(new) => {
                        let new = Object::new(new, gvk);
                        self.carry_fields(object, &new).await?;
                        return Ok((object, new.uid().to_owned()));
                    }
                    None => "it appeared while it was created".to_owned(),
                },
                // Cluster-scoped and shared objects are others' as well.
                Some(found) if stays => return Ok((object, found.uid().to_owned())),
                Some(found) if found.is_deleted() => {
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                    "it is being deleted there".to_owned()
                }
                Some(found) => match difference(&wanted, &found.object, true) {
                    None => {
                        if found.fields.is_none() {
                            self.carry_fields(object, &found).await?;
                        }
                        return Ok((object, found.uid().to_owned()));
                    }
                    Some(place) => {
                        let mut wanted = wanted.clone();
                        wanted.metadata.uid = found.object.metadata.uid.clone();
                        wanted.metadata.resource_version =
                            found.object.metadata.resource_version.clone();
                        if let Exact::Done(new) =
                            self.target.replace(&wanted, self.progress).await?
                        {
                            let new = Object::new(new, gvk);
                            self.carry_fields(object, &new).await?;
                            return Ok((object, new.uid().to_owned()));
                        }
                        format!("it differs at {place} and others change it")
                    }
                },
            };
            last = again;
            let found = self
                .target
                .read(gvk, namespace, object.name(), self.progress)
                .await?;
            copy = found.map(|o| Object::new(o, gvk));
        }
        Err(Error::failed(format!(
            "{object} cannot be copied to the {}",
            self.target.name
        ))
        .because(last))
    }

    /// Gives the copy the managed fields of the original; else mctl would own every field, and controllers that apply
    /// server-side could remove none.
    async fn carry_fields(&self, object: &Object, copy: &Object) -> Result<()> {
        let Some(fields) = object.fields.as_deref() else {
            return Ok(());
        };
        let patch = json!({"metadata": {"uid": copy.uid(), "managedFields": fields}});
        let (gvk, namespace, name) = (&object.gvk, object.namespace(), object.name());
        for _ in 0..TRIES {
            let done = self
                .target
                .merge_exact(gvk, namespace, name, &patch, self.progress)
                .await?;
            if let Exact::Done(_) = done {
                return Ok(());
            }
            let now = self
                .target
                .read(gvk, namespace, name, self.progress)
                .await?;
            if now.is_none_or(|n| n.metadata.uid.as_deref() != Some(copy.uid())) {
                break;
            }
        }
        Err(Error::failed(format!(
            "{object} was replaced in the {} while it was copied",
            self.target.name
        ))
        .fix("find out who writes to the target, then run the same command again"))
    }

    /// Deletes copies of objects that the source has lost since they were copied.
    pub(super) async fn drop_stale_copies(
        &self,
        view: &View,
        plan: &Plan,
        copies: &View,
    ) -> Result<()> {
        let wanted: BTreeSet<Key> = plan.objects().map(|i| view.objects[i].key()).collect();
        let found: HashMap<Key, &Object> = by_key(copies);
        for reference in &self.state.ever_planned {
            let key = Key::of(reference);
            let kept = self.state.kept.iter().any(|k| k.object == *reference);
            if wanted.contains(&key) || key.namespace.is_none() || kept {
                continue;
            }
            let copy = self.state.created.get(&reference.uid);
            if let Some(stale) = found.get(&key)
                && copy.is_none_or(|uid| uid == stale.uid())
            {
                self.progress.seen(&format!(
                    "{stale} is gone from the source: deleting its copy"
                ));
                self.take_away(self.target, stale, Removal::Unconditional)
                    .await?;
            }
        }
        Ok(())
    }

    /// Reads the target back and compares every object.
    pub(super) async fn prove(
        &mut self,
        view: &View,
        plan: &Plan,
        identities: &Identities,
    ) -> Result<()> {
        let copies = self.view_target(view, plan).await?;
        let found = by_key(&copies);
        for i in plan.objects() {
            let object = &view.objects[i];
            let copy = found.get(&object.key());
            let problem = match copy {
                None => Some("it is not there".to_owned()),
                Some(copy) if Some(copy.uid()) != identities.target(object.uid()) => {
                    Some("it is another object by now".to_owned())
                }
                Some(copy) if copy.is_deleted() => Some("it is being deleted there".to_owned()),
                Some(_) if plan.stays(i) => None,
                Some(copy) => match desired(object, identities) {
                    Ok(wanted) => difference(&wanted, &copy.object, true)
                        .map(|place| format!("it differs at {place}")),
                    Err(owner) => Some(format!("its owner {owner} is not there")),
                },
            };
            if let Some(problem) = problem {
                return Err(Error::new(
                    Kind::Differs,
                    format!(
                        "{object} in the {} is not like its original",
                        self.target.name
                    ),
                )
                .because(problem)
                .fix("compare the two; schemas and webhooks of the target must accept what the source holds"));
            }
        }
        self.progress.seen("every object is proven in the target");
        Ok(())
    }
}
