//! Which clusters these are, whether the journal is about them, and that nobody else moves. Must not change objects.

use kube::{api::ApiResource, core::GroupVersionKind, discovery::Scope};

use super::{Move, Order};
use crate::{
    Error, Kind, Result,
    cluster_api::object::CORE,
    ports::kubernetes::{
        Cluster,
        hold::{Hold, Purpose, WORK},
    },
};

/// Namespace and name of the Lease that says who moves; in both clusters.
const LEASE: (&str, &str) = ("kube-system", "mctl-move");

/// What there is to do.
pub(super) enum Begun {
    /// Nothing: so many objects have moved.
    Complete(usize),
    /// Something; `fresh` if the journal does not tell of this move yet.
    Open { fresh: bool },
}

impl Move<'_> {
    /// Compares the clusters with those of the journal.
    pub(super) async fn begin(&mut self) -> Result<Begun> {
        let source = match self.source {
            Some(cluster) => Some(self.identity(cluster).await?),
            None => None,
        };
        let target = self.identity(self.target).await?;
        if source.as_ref() == Some(&target) {
            return Err(Error::new(
                Kind::Usage,
                "source and target of the move are the same cluster",
            )
            .because(format!(
                "namespace kube-system has the UID {target} in both"
            ))
            .fix("name two different clusters"));
        }
        self.target_uid.clone_from(&target);
        self.source_uid = source.clone().unwrap_or_default();
        let Some((from, to, namespace)) = self.state.started.clone() else {
            return Ok(Begun::Open { fresh: true });
        };
        let here = to == target && namespace == self.namespace;
        let same_source = source.as_ref().is_none_or(|s| *s == from);
        if let Some(objects) = self.state.done {
            // Complete; unless new clusters have come, there is nothing to do again.
            let over = here && same_source && !self.holds_clusters().await?;
            return Ok(match over {
                true => Begun::Complete(objects),
                false => Begun::Open { fresh: true },
            });
        }
        if here && !same_source && !self.holds_clusters().await? {
            self.progress.seen(&format!(
                "the cluster that the move began with (UID {from}) is gone: another one answers in its place"
            ));
            self.source = None;
        } else if !here || !same_source {
            return Err(Error::new(
                Kind::Usage,
                "the journal belongs to another move that is not complete",
            )
            .because(format!(
                "it tells of a move of namespace {namespace} from the cluster with UID {from} to that with UID {to}; asked for is one of namespace {} from {} to {target}",
                self.namespace,
                source.as_deref().unwrap_or("nowhere"),
            ))
            .fix("name another journal, or complete that move first"));
        }
        self.source_uid = from;
        Ok(Begun::Open { fresh: false })
    }

    /// True when the source has Clusters in the namespace.
    async fn holds_clusters(&mut self) -> Result<bool> {
        let Some(source) = self.source else {
            return Ok(false);
        };
        let gvk = GroupVersionKind::gvk(CORE, "v1beta2", "Cluster");
        source.know(
            ApiResource::from_gvk_with_plural(&gvk, "clusters"),
            Scope::Namespaced,
        );
        let clusters = source
            .list_map(&gvk, Some(self.namespace), None, self.progress, Some)
            .await?;
        self.listed += 1;
        Ok(!clusters.unwrap_or_default().is_empty())
    }

    async fn identity(&mut self, cluster: &Cluster) -> Result<String> {
        let gvk = GroupVersionKind::gvk("", "v1", "Namespace");
        cluster.know(ApiResource::from_gvk(&gvk), Scope::Cluster);
        self.listed += 1;
        let found = cluster
            .read(&gvk, None, "kube-system", self.progress)
            .await?;
        found.and_then(|n| n.metadata.uid).ok_or_else(|| {
            Error::failed(format!(
                "the {} has no namespace kube-system, so it cannot be told from others",
                cluster.name
            ))
            .fix("check that its address and credentials belong to a Kubernetes cluster")
        })
    }

    /// Takes the Lease in both clusters, the source's first.
    pub(super) async fn take_leases(&self, order: &Order<'_>) -> Result<Leases> {
        let purpose = Purpose {
            namespace: LEASE.0,
            name: LEASE.1,
            holder: order.holder,
            what: "moves Cluster API objects",
        };
        let take =
            |cluster| Hold::take(cluster, &purpose, WORK, order.clock.clone(), self.progress);
        let source = match self.source {
            Some(cluster) => Some(take(cluster).await?),
            None => None,
        };
        match take(self.target).await {
            Ok(target) => Ok(Leases { source, target }),
            Err(e) => {
                if let Some(source) = source {
                    source.release().await;
                }
                Err(e)
            }
        }
    }
}

/// The Leases of both clusters.
pub(super) struct Leases {
    source: Option<Hold>,
    target: Hold,
}

impl Leases {
    /// Does the work while both are held.
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let work = self.target.during(work);
        match &mut self.source {
            Some(source) => source.during(work).await,
            None => work.await,
        }
    }

    pub(super) async fn release(self) {
        self.target.release().await;
        if let Some(source) = self.source {
            source.release().await;
        }
    }
}
