//! Makes a journal anew: what the clusters themselves tell of a move. Must not change either of them.
//!
//! A copy carries the UID that its original has in the source. So whether an original is still there can be seen, and with it
//! how far the move had come: only after the commit anything is marked for deletion, or gone.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Move, MoveKind, View, by_key, refusal};
use crate::{
    Error, Kind, Result,
    cluster_api::{
        journal::{FORMAT, Planned, Record, Reference},
        marks,
        object::{CORE, DELETE_FOR_MOVE, Object},
        plan::{self, Plan},
    },
};

/// What was found.
pub(super) enum Found {
    /// The move is over.
    Complete,
    /// It has to be done, or to be gone on with; with the source as it was seen.
    Open(Option<View>),
}

impl Move<'_> {
    /// Looks for marks of this move and writes down what they tell.
    pub(super) async fn find(
        &mut self,
        known: &BTreeMap<(String, String), MoveKind>,
    ) -> Result<Found> {
        let both = self.kinds.iter().filter(|(key, kind)| {
            let served = known.get(*key).map(|k| &k.served);
            served.is_some_and(|s| s.contains(&kind.gvk.version))
        });
        let both: Vec<MoveKind> = both.map(|(_, kind)| kind.clone()).collect();
        let target = self.view_kinds(self.target, both).await?;
        let copies: Vec<(marks::Origin, &Object)> = target
            .objects
            .iter()
            .filter_map(|o| Some((marks::origin(&o.object)?, o)))
            .collect();
        if self.source.is_none() {
            let exported = || match self.exports {
                Some(exports) => exports.load().map(|e| e.map(|e| e.source)),
                None => Ok(None),
            };
            self.source_uid = match copies.first() {
                Some((origin, _)) => origin.cluster.clone(),
                None if is_settled(&target) => return Ok(Found::Complete),
                None => exported()?.ok_or_else(|| self.nothing_left())?,
            };
        }
        let foreign = |origin: &&(marks::Origin, &Object)| origin.0.cluster != self.source_uid;
        if let Some((origin, copy)) = copies.iter().find(foreign) {
            return Err(Error::new(
                Kind::Locked,
                "the target holds copies of another move that is not complete",
            )
            .because(format!(
                "{copy} comes from the cluster with UID {}, asked for is a move from {}",
                origin.cluster, self.source_uid
            ))
            .state("nothing was changed")
            .fix("complete that move first: run the command that began it again"));
        }
        let source = match self.source {
            Some(_) => Some(self.view_source().await?),
            None => None,
        };
        if let Some(source) = &source
            && copies.is_empty()
        {
            // Marks go last. So there was no move yet, or it is over.
            let empty = plan::plan(&source.objects, &source.shared_classes)
                .is_ok_and(|p| p.layers.is_empty());
            if empty && is_settled(&target) {
                return Ok(Found::Complete);
            }
        }
        self.record(Record::Started {
            format: FORMAT,
            source: self.source_uid.clone(),
            target: self.target_uid.clone(),
            namespace: self.namespace.to_owned(),
        })?;
        if !copies.is_empty() {
            self.progress.seen(&format!(
                "{} marked copies tell of a move whose journal is not there: going on with it",
                copies.len()
            ));
            self.write_down(source.as_ref(), &target, &copies)?;
        }
        Ok(Found::Open(source))
    }

    fn nothing_left(&self) -> Error {
        refusal(
            "the source of the move is gone before anything came to the target",
            vec![format!(
                "the {} holds no Cluster in namespace {}",
                self.target.name, self.namespace
            )],
        )
        .state("nothing was changed")
        .fix("bring the source back if that is possible; else begin anew")
    }

    /// The records that the lost journal would have held.
    fn write_down(
        &mut self,
        source: Option<&View>,
        target: &View,
        copies: &[(marks::Origin, &Object)],
    ) -> Result<()> {
        let nothing = View::default();
        let view = source.unwrap_or(&nothing);
        let plan = plan::plan(&view.objects, &view.shared_classes);
        let plan = plan.unwrap_or_default();
        let layers = layers(view, &plan);
        let uids: HashSet<&str> = view.objects.iter().map(Object::uid).collect();
        let of: HashMap<&str, &Object> = copies.iter().map(|(o, c)| (o.uid.as_str(), *c)).collect();
        let mut created = Vec::new();
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (origin, copy) in copies {
            let layer = layers.get(origin.uid.as_str()).copied();
            let planned = Planned {
                object: Reference {
                    uid: origin.uid.clone(),
                    ..copy.reference()
                },
                layer: layer.map_or(0, |(layer, _)| layer),
                stays: layer.is_some_and(|(_, stays)| stays),
            };
            created.push((origin.uid.clone(), copy.uid().to_owned()));
            match uids.contains(origin.uid.as_str()) {
                true => there.push(planned),
                false => gone.push(planned),
            }
        }
        let committed = match source {
            None => runs_already(target),
            Some(_) => {
                let deleting = view
                    .objects
                    .iter()
                    .any(|o| o.annotation(DELETE_FOR_MOVE).is_some() && of.contains_key(o.uid()));
                let whole = plan
                    .objects()
                    .all(|i| plan.stays(i) || of.contains_key(view.objects[i].uid()));
                there.is_empty() || (deleting && whole && !plan.layers.is_empty())
            }
        };
        if committed {
            // What stays in the source may have been in the target before, and then it carries no mark.
            let found = by_key(target);
            for i in plan.objects().filter(|&i| plan.stays(i)) {
                let object = &view.objects[i];
                if let Some(copy) = found.get(&object.key())
                    && !of.contains_key(object.uid())
                {
                    created.push((object.uid().to_owned(), copy.uid().to_owned()));
                    there.push(Planned {
                        object: object.reference(),
                        layer: layers.get(object.uid()).map_or(0, |(layer, _)| *layer),
                        stays: true,
                    });
                }
            }
            there.append(&mut gone);
        }
        if !gone.is_empty() && source.is_some() {
            self.record(Record::Kept { objects: gone })?;
        }
        self.record(Record::Planned { objects: there })?;
        self.record(Record::Created { uids: created })?;
        if committed {
            self.record(Record::Committed)?;
        }
        Ok(())
    }
}

/// Layer of every planned object by UID, and whether it stays.
fn layers<'v>(view: &'v View, plan: &Plan) -> HashMap<&'v str, (usize, bool)> {
    let mut layers = HashMap::new();
    for (layer, objects) in plan.layers.iter().enumerate() {
        for &i in objects {
            layers.insert(view.objects[i].uid(), (layer, plan.stays(i)));
        }
    }
    layers
}

fn clusters(view: &View) -> impl Iterator<Item = &Object> {
    view.objects.iter().filter(|o| o.is(CORE, "Cluster"))
}

/// True when there are Clusters and no move holds any.
fn is_settled(view: &View) -> bool {
    clusters(view).next().is_some() && clusters(view).all(|c| !marks::is_moving(&c.object))
}

/// True when a Cluster has lost its marks already while other objects still have theirs: that comes after the commit.
fn runs_already(view: &View) -> bool {
    clusters(view).any(|c| !marks::is_moving(&c.object))
}
