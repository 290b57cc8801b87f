//! Clearing the source after the commit: dependents first, each only if its copy is proven, each in exactly the state that was seen.
//! Must not delete anything before the commit but stale copies in the target.

use futures::{StreamExt, stream};
use serde_json::json;

use super::{Move, View, WRITES, by_key};
use crate::{
    Error, Kind, Result,
    cluster_api::{
        compare::{Identities, desired, difference},
        inventory::MoveKind,
        journal::{Planned, Record},
        object::{DELETE_FOR_MOVE, Key, Object},
    },
    ports::kubernetes::{Cluster, Exact},
};

/// How often one object is tried when its controllers change it meanwhile.
const TRIES: usize = 50;

/// What must hold for an object to be deleted.
#[derive(Clone, Copy)]
pub(super) enum Removal<'a> {
    /// Its copy in the target must be proven if it has changed since.
    Proven(&'a Identities),
    /// Nothing: it is a copy itself.
    Unconditional,
}

impl Move<'_> {
    /// Deletes what has moved. `proven` is the source as it was proven just now; without it everything left is proven again.
    pub(super) async fn clear_source(&mut self, proven: Option<View>) -> Result<()> {
        let Some(source) = self.source else {
            self.progress
                .seen("the source is gone, so there is nothing to clear");
            return Ok(());
        };
        let planned: Vec<Planned> = self
            .state
            .planned
            .iter()
            .filter(|p| !p.stays)
            .cloned()
            .collect();
        let identities = self.identities()?;
        let view = match proven {
            Some(view) => view,
            None => {
                let kinds = self.planned_kinds(&planned);
                let view = self.view_kinds(source, kinds.clone()).await?;
                self.prove_rest(&view, &planned, &identities, kinds).await?;
                view
            }
        };
        let found = by_key(&view);
        let layers = planned.iter().map(|p| p.layer).max().map_or(0, |l| l + 1);
        let mut count = 0;
        for layer in (0..layers).rev() {
            let mut work = Vec::new();
            for planned in planned.iter().filter(|p| p.layer == layer) {
                match found.get(&Key::of(&planned.object)) {
                    Some(object) if object.uid() == planned.object.uid => {
                        work.push(self.take_away(source, object, Removal::Proven(&identities)));
                    }
                    Some(object) => self.progress.seen(&format!(
                        "{object} was made anew in the source since it moved: left alone"
                    )),
                    None => {}
                }
            }
            if work.is_empty() {
                continue;
            }
            let mut results = stream::iter(work).buffer_unordered(WRITES);
            let mut uids = Vec::new();
            let mut first_error = None;
            while let Some(result) = results.next().await {
                match result {
                    Ok(uid) => {
                        uids.push(uid);
                        count += 1;
                        self.progress.seen(&format!(
                            "{count} of {} cleared from the source",
                            planned.len()
                        ));
                    }
                    Err(e) => {
                        first_error.get_or_insert(e);
                    }
                }
            }
            drop(results);
            self.record(Record::Deleted { uids })?;
            if let Some(e) = first_error {
                return Err(e);
            }
        }
        Ok(())
    }

    fn identities(&self) -> Result<Identities> {
        let mut identities = Identities::new(&self.source_uid);
        for planned in &self.state.planned {
            let object = &planned.object;
            let uid = self.state.created.get(&object.uid).ok_or_else(|| {
                Error::new(
                    Kind::Internal,
                    format!("the journal does not tell the copy of {object}"),
                )
            })?;
            identities.insert(object.uid.clone(), uid.clone(), object.api_version.clone());
        }
        Ok(identities)
    }

    pub(super) fn planned_kinds(&self, planned: &[Planned]) -> Vec<MoveKind> {
        let keys = planned.iter().map(|p| Key::of(&p.object));
        let kinds: std::collections::BTreeSet<(String, String)> =
            keys.map(|k| (k.group, k.kind)).collect();
        kinds
            .iter()
            .filter_map(|k| self.kinds.get(k).cloned())
            .collect()
    }

    /// Proves what is left in the source against the target.
    async fn prove_rest(
        &mut self,
        view: &View,
        planned: &[Planned],
        identities: &Identities,
        kinds: Vec<MoveKind>,
    ) -> Result<()> {
        let found = by_key(view);
        let left: Vec<&Object> = planned
            .iter()
            .filter_map(|p| {
                let object = found.get(&Key::of(&p.object))?;
                (object.uid() == p.object.uid).then_some(*object)
            })
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let copies = self.view_kinds(self.target, kinds).await?;
        let copies = by_key(&copies);
        for object in left {
            self.check(object, copies.get(&object.key()).copied(), identities)?;
        }
        Ok(())
    }

    /// True to its copy, or an error: nothing is deleted that the target does not hold.
    fn check(&self, object: &Object, copy: Option<&Object>, identities: &Identities) -> Result<()> {
        let problem = match (copy, desired(object, identities)) {
            (None, _) => "it is not in the target any more".to_owned(),
            (Some(_), Err(owner)) => format!("it has a new owner {owner}"),
            (Some(copy), Ok(_)) if identities.target(object.uid()) != Some(copy.uid()) => {
                "the target holds another object of that name".to_owned()
            }
            (Some(copy), Ok(wanted)) => match difference(&wanted, &copy.object, false) {
                None => return Ok(()),
                Some(place) => format!("the two differ at {place}"),
            },
        };
        Err(Error::new(
            Kind::Differs,
            format!("{object} has moved, but source and target do not agree on it any more"),
        )
        .because(problem)
        .fix("make the object in the target what it should be, give the one in the source the same content, then run the same command again"))
    }

    /// Deletes one object: marked first, so that webhooks and controllers know why; finalizers last, when no controller
    /// can add them again.
    pub(super) async fn take_away(
        &self,
        cluster: &Cluster,
        object: &Object,
        removal: Removal<'_>,
    ) -> Result<String> {
        let uid = object.uid().to_owned();
        let gvk = &object.gvk;
        let (namespace, name) = (object.namespace(), object.name());
        let mut now = object.clone();
        for _ in 0..TRIES {
            match self.take_away_once(cluster, &now).await? {
                Exact::Done(()) | Exact::Gone => return Ok(uid),
                Exact::Changed => {}
            }
            let Some(fresh) = cluster.read(gvk, namespace, name, self.progress).await? else {
                return Ok(uid);
            };
            now = Object::new(fresh, gvk);
            if now.uid() != uid {
                return Ok(uid);
            }
            if let Removal::Proven(identities) = removal {
                let copy = self
                    .target
                    .read(gvk, namespace, name, self.progress)
                    .await?
                    .map(|o| Object::new(o, gvk));
                self.check(&now, copy.as_ref(), identities)?;
            }
        }
        Err(Error::failed(format!(
            "{object} cannot be deleted in the {}",
            cluster.name
        ))
        .because("it changes faster than it can be deleted")
        .fix(
            "find out which controller does not respect the pause, then run the same command again",
        ))
    }

    async fn take_away_once(&self, cluster: &Cluster, object: &Object) -> Result<Exact<()>> {
        let gvk = &object.gvk;
        let (namespace, name) = (object.namespace(), object.name());
        let mut finalizers = object
            .object
            .metadata
            .finalizers
            .clone()
            .unwrap_or_default();
        if !object.is_deleted() {
            let mut seen = object.object.clone();
            // Secrets and ConfigMaps have no controllers or webhooks that would want to know.
            let wants_mark = !gvk.group.is_empty();
            if wants_mark && object.annotation(DELETE_FOR_MOVE).is_none() {
                let patch = json!({"metadata": {
                    "uid": object.uid(),
                    "resourceVersion": object.object.metadata.resource_version,
                    "annotations": {DELETE_FOR_MOVE: ""},
                }});
                match cluster
                    .merge_exact(gvk, namespace, name, &patch, self.progress)
                    .await?
                {
                    Exact::Done(marked) => seen = marked,
                    Exact::Changed => return Ok(Exact::Changed),
                    Exact::Gone => return Ok(Exact::Gone),
                }
            }
            seen.types = object.object.types.clone();
            match cluster.delete_exact(&seen, self.progress).await? {
                Exact::Done(Some(held)) => {
                    finalizers = held.metadata.finalizers.unwrap_or_default();
                }
                Exact::Done(None) | Exact::Gone => return Ok(Exact::Done(())),
                Exact::Changed => return Ok(Exact::Changed),
            }
        }
        if finalizers.is_empty() {
            return Ok(Exact::Done(()));
        }
        let patch = json!({"metadata": {"uid": object.uid(), "finalizers": null}});
        cluster
            .merge_exact(gvk, namespace, name, &patch, self.progress)
            .await
            .map(|answer| match answer {
                Exact::Done(_) => Exact::Done(()),
                Exact::Changed => Exact::Changed,
                Exact::Gone => Exact::Gone,
            })
    }
}
