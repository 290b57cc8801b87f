//! The end: marks go and everything runs, in the target only. Must not run before the source is cleared.

use futures::{StreamExt, TryStreamExt, stream};
use kube::core::DynamicObject;
use serde_json::json;

use super::{Move, WRITES, pause::can_pause};
use crate::{
    Error, Result,
    cluster_api::{
        journal::{Record, Reference},
        marks::{self, SOURCE_CLUSTER, SOURCE_UID},
        object::{CORE, Object},
    },
    ports::kubernetes::Exact,
};

/// How often the marks of an object that others write to are taken off.
const TRIES: usize = 10;

impl Move<'_> {
    /// Marks of all but Clusters and classes go while everything is still paused, then classes run, then Clusters: one that
    /// carries no mark is complete. What stays in the source runs on there too.
    pub(super) async fn finish(&mut self) -> Result<()> {
        let view = {
            let kinds = self.planned_kinds(&self.state.planned);
            self.view_kinds(self.target, kinds).await?
        };
        let uids: std::collections::HashSet<&str> = self
            .state
            .planned
            .iter()
            .map(|p| p.object.uid.as_str())
            .collect();
        let marked = view.objects.iter().filter(|o| {
            marks::origin(&o.object).is_some_and(|origin| {
                origin.cluster == self.source_uid && uids.contains(origin.uid.as_str())
            })
        });
        let work: Vec<_> = marked
            .filter(|o| !can_pause(o))
            .map(|o| self.unmark(o))
            .collect();
        stream::iter(work)
            .buffer_unordered(WRITES)
            .try_collect::<Vec<()>>()
            .await?;
        let of = |kind: &str, only_staying: bool| -> Vec<Reference> {
            self.state
                .planned
                .iter()
                .filter(|p| p.object.kind == kind && p.object.api_version.starts_with(CORE))
                .filter(|p| p.stays || !only_staying)
                .map(|p| p.object.clone())
                .collect()
        };
        self.unpause(self.target, &of("ClusterClass", false))
            .await?;
        if let Some(source) = self.source {
            self.unpause(source, &of("ClusterClass", true)).await?;
        }
        self.unpause(self.target, &of("Cluster", false)).await?;
        self.record(Record::Unpaused)
    }

    async fn unmark(&self, object: &Object) -> Result<()> {
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "annotations": {SOURCE_UID: null, SOURCE_CLUSTER: null},
        }});
        for _ in 0..TRIES {
            let done = self
                .target
                .merge_exact(
                    &object.gvk,
                    object.namespace(),
                    object.name(),
                    &patch,
                    self.progress,
                )
                .await?;
            if !matches!(done, Exact::Changed) {
                return Ok(());
            }
            // Somebody else wrote at the same time, or made it anew: then it has no marks any more.
            let now = self
                .target
                .read(
                    &object.gvk,
                    object.namespace(),
                    object.name(),
                    self.progress,
                )
                .await?;
            let same = |o: &DynamicObject| {
                o.metadata.uid.as_deref() == Some(object.uid()) && marks::is_moving(o)
            };
            if !now.as_ref().is_some_and(same) {
                return Ok(());
            }
        }
        Err(Error::failed(format!(
            "{} is written to again and again",
            object.reference()
        ))
        .because("its marks of the move could not be removed")
        .fix("run the same command again: it goes on where it stopped")
        .state("everything has been moved; the Cluster stays paused until then"))
    }

    /// True for the copy of the object with this UID in the source.
    pub(super) fn is_copy_of(&self, object: &DynamicObject, uid: &str) -> bool {
        marks::origin(object).is_some_and(|o| o.cluster == self.source_uid && o.uid == uid)
    }
}
