//! The end: marks go and everything runs, in the target only. Must not run before the source is cleared.

use futures::{StreamExt, TryStreamExt, stream};
use kube::core::DynamicObject;
use serde_json::json;

use super::{Move, WRITES, pause::can_pause};
use crate::{
    Result,
    cluster_api::{
        journal::{Record, Reference},
        marks::{self, SOURCE_CLUSTER, SOURCE_UID},
        object::{CORE, Object},
    },
};

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
        // Gone, or made anew by somebody since: then it has no marks either.
        self.target
            .merge_exact(
                &object.gvk,
                object.namespace(),
                object.name(),
                &patch,
                self.progress,
            )
            .await
            .map(drop)
    }

    /// True for the copy of the object with this UID in the source.
    pub(super) fn is_copy_of(&self, object: &DynamicObject, uid: &str) -> bool {
        marks::origin(object).is_some_and(|o| o.cluster == self.source_uid && o.uid == uid)
    }
}
