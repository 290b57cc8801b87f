//! Pausing the source, seeing its controllers stop, and starting again on either side. Must not touch what a user paused.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::{Move, STALL, View, WRITES};
use crate::{
    Error, Kind, Result,
    cluster_api::{
        inventory::MoveKind,
        journal::{Record, Reference},
        marks::{self, PAUSED_FOR_MOVE},
        object::{BLOCK_MOVE, CLUSTER_NAME, CORE, Object, PAUSED},
        plan::Plan,
    },
    ports::kubernetes::{Cluster, Exact, Waiting},
};

impl Move<'_> {
    /// Pauses every ClusterClass and Cluster of the plan that nobody has paused, and marks them.
    pub(super) async fn pause_source(&mut self, view: &View, plan: &Plan) -> Result<()> {
        for i in plan.objects().filter(|&i| can_pause(&view.objects[i])) {
            let mut object = view.objects[i].clone();
            while let Some(patch) = self.pause_patch(&object)? {
                let was = object.object.data.pointer("/spec/paused");
                self.record(Record::Pausing {
                    object: object.reference(),
                    was: was.and_then(Value::as_bool),
                })?;
                self.progress.seen(&format!("pausing {object}"));
                let (gvk, name) = (object.gvk.clone(), object.name().to_owned());
                let namespace = object.namespace().map(str::to_owned);
                let done = self
                    .source()?
                    .merge_exact(&gvk, namespace.as_deref(), &name, &patch, self.progress)
                    .await?;
                if done != Exact::Changed {
                    break;
                }
                // Decide again on what it is now: a user may have paused it meanwhile.
                let now = self
                    .source()?
                    .read(&gvk, namespace.as_deref(), &name, self.progress)
                    .await?;
                match now {
                    Some(now) => object = Object::new(now, &gvk),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// The patch that pauses; `None` when it is paused already.
    fn pause_patch(&self, object: &Object) -> Result<Option<Value>> {
        if let Some(origin) = marks::origin(&object.object) {
            return Err(Error::new(
                Kind::Locked,
                format!("{object} came here by a move that is not complete"),
            )
            .because(format!(
                "its mark names the cluster with UID {}",
                origin.cluster
            ))
            .fix("complete that move first: run the command that began it again"));
        }
        match object.annotation(PAUSED_FOR_MOVE) {
            Some(target) if target == self.target_uid => return Ok(None),
            Some(target) => {
                return Err(Error::new(
                    Kind::Locked,
                    format!("{object} is paused for a move to another cluster"),
                )
                .because(format!(
                    "its annotation {PAUSED_FOR_MOVE} names the cluster with UID {target}"
                ))
                .fix("complete that move first; if it will never be completed, remove the annotation"));
            }
            None if object.is_paused() => return Ok(None),
            None => {}
        }
        let mut patch = json!({"metadata": {
            "uid": object.uid(),
            "resourceVersion": object.object.metadata.resource_version,
            "annotations": {PAUSED_FOR_MOVE: self.target_uid},
        }});
        if object.gvk.kind == "Cluster" {
            patch["spec"]["paused"] = json!(true);
        } else {
            patch["metadata"]["annotations"][PAUSED] = json!("");
        }
        Ok(Some(patch))
    }

    /// Waits until nothing blocks the move and every controller has said that it stopped. Returns the source as it is then.
    pub(super) async fn fence(&mut self) -> Result<View> {
        let mut waiting = Waiting::new(STALL, self.progress);
        let mut view = self.view_source().await?;
        let mut complete = true;
        let mut nap = std::time::Duration::from_millis(100);
        loop {
            let waits = waits(&view);
            if waits.is_empty() {
                if complete {
                    return Ok(view);
                }
                // Only what was waited for has been looked at: look at all once more.
                view = self.view_source().await?;
                complete = true;
                continue;
            }
            let texts: Vec<String> = waits.iter().map(|(_, text)| text.clone()).collect();
            waiting.note(match texts.as_slice() {
                [one] => one.clone(),
                all => format!("{} (and {} more)", all[0], all.len() - 1),
            });
            waiting
                .check(|| "the source's rest before the move".into())
                .map_err(|e| {
                    e.because(texts.join("; ")).fix("check that the source's Cluster API controllers run; a block-move annotation must be removed by its owner")
                })?;
            tokio::time::sleep(nap).await;
            nap = (nap * 2).min(std::time::Duration::from_secs(2));
            let kinds: BTreeSet<(String, String)> = waits.into_iter().map(|(k, _)| k).collect();
            let kinds: Vec<MoveKind> = kinds
                .iter()
                .chain([&(CORE.to_owned(), "Cluster".to_owned())])
                .filter_map(|k| self.kinds.get(k).cloned())
                .collect();
            let source = self.source()?.clone();
            view = self.view_kinds(&source, kinds).await?;
            complete = false;
        }
    }

    /// Lets the source run again where this move has stopped it.
    pub(super) async fn release_source(&mut self, view: &View, plan: &Plan) -> Result<()> {
        let ours: Vec<Reference> = plan
            .objects()
            .map(|i| &view.objects[i])
            .filter(|o| self.is_ours(o))
            .map(Object::reference)
            .collect();
        self.unpause(self.source()?, &ours).await?;
        self.record(Record::Released)
    }

    /// Unpauses what this move has paused, and takes its marks off with the same request: from then on nobody counts it as moving.
    pub(super) async fn unpause(&self, cluster: &Cluster, objects: &[Reference]) -> Result<()> {
        let work: Vec<_> = objects
            .iter()
            .map(|reference| self.unpause_one(cluster, reference))
            .collect();
        stream::iter(work)
            .buffer_unordered(WRITES)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    async fn unpause_one(&self, cluster: &Cluster, reference: &Reference) -> Result<()> {
        let (group, version) = reference
            .api_version
            .split_once('/')
            .unwrap_or(("", &reference.api_version));
        let gvk = GroupVersionKind::gvk(group, version, &reference.kind);
        let namespace = reference.namespace.as_deref();
        let name = reference.name.as_str();
        loop {
            let found = cluster.read(&gvk, namespace, name, self.progress).await?;
            let Some(object) = found.map(|o| Object::new(o, &gvk)) else {
                return Ok(());
            };
            let ours = self.is_ours(&object);
            let copy = self.is_copy_of(&object.object, &reference.uid);
            if !ours && !copy {
                return Ok(());
            }
            let mut patch = json!({"metadata": {
                "resourceVersion": object.object.metadata.resource_version,
                "annotations": {},
            }});
            for mark in marks::ALL {
                patch["metadata"]["annotations"][mark] = Value::Null;
            }
            // What a person has paused carries no mark of a pause and stays paused.
            if ours && reference.kind == "Cluster" {
                let was = self.state.was_paused.get(&reference.uid).copied().flatten();
                patch["spec"]["paused"] = json!(was);
            } else if ours {
                patch["metadata"]["annotations"][PAUSED] = Value::Null;
            }
            self.progress.seen(&format!("unpausing {reference}"));
            let done = cluster
                .merge_exact(&gvk, namespace, name, &patch, self.progress)
                .await?;
            if done != Exact::Changed {
                return Ok(());
            }
        }
    }
}

pub(super) fn can_pause(object: &Object) -> bool {
    object.is(CORE, "Cluster") || object.is(CORE, "ClusterClass")
}

/// What the move has to wait for, with the kind to look at.
fn waits(view: &View) -> Vec<((String, String), String)> {
    let clusters: BTreeSet<&str> = view
        .objects
        .iter()
        .filter(|o| o.is(CORE, "Cluster") && o.is_paused())
        .map(Object::name)
        .collect();
    let mut waits = Vec::new();
    for object in &view.objects {
        let kind = (object.gvk.group.clone(), object.gvk.kind.clone());
        if object.annotation(BLOCK_MOVE).is_some() {
            waits.push((kind, format!("{object} blocks the move by its annotation")));
        } else if object.paused_condition == Some(false) {
            // A controller that keeps the condition sets it when it has seen the pause and works on this object no more.
            let cluster = match can_pause(object) {
                true => object.is_paused(),
                false => object
                    .label(CLUSTER_NAME)
                    .is_some_and(|c| clusters.contains(c)),
            };
            if cluster {
                waits.push((
                    kind,
                    format!("{object}: its controller has not stopped yet"),
                ));
            }
        }
    }
    waits
}
