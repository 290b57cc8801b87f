//! The pivot: the Cluster API objects move. The point of no return; must not touch anything else.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    shared::{ORGANIZATION, Shared, cluster_kind},
    temporary::TemporaryCluster,
};
use crate::{
    Error, Result,
    cluster_api::{
        export::FileExports,
        journal::FileJournal,
        marks,
        move_objects::{self, Order},
    },
    engine::{Observation, Step},
    error::Context,
    ports::{
        clock::Wall,
        kubernetes::{Cluster, Progress, condition},
    },
};

/// See the module.
pub struct Pivot(pub Arc<Shared>);

impl Pivot {
    /// The temporary cluster; `None` only when the engine itself says that none of its containers is left. An engine that does
    /// not answer says nothing, and a container that is stopped may be started again.
    async fn source(&self) -> Result<Option<&Cluster>> {
        let containers = TemporaryCluster(self.0.clone()).containers().await?;
        if containers.is_empty() {
            return Ok(None);
        }
        self.0.temporary().await.map(Some)
    }
}

#[async_trait]
impl Step for Pivot {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let name = self.0.name();
        let target = match self
            .0
            .management()
            .await?
            .get(&cluster_kind(), Some(ORGANIZATION), name)
            .await
        {
            Ok(Some(c)) => c,
            Ok(None) | Err(_) => {
                return Ok(Observation::Missing(format!(
                    "Cluster {name} is not in the new cluster"
                )));
            }
        };
        // A pause alone may be a person's; that one stays.
        if marks::is_moving(&target) {
            return Ok(Observation::Missing(format!(
                "Cluster {name} is still marked as moving in the new cluster"
            )));
        }
        let left = match self.source().await? {
            Some(source) => {
                let kind = cluster_kind();
                let left = source.list(&kind, Some(ORGANIZATION), None).await?;
                left.unwrap_or_default().len()
            }
            None => 0,
        };
        Ok(match left {
            0 => Observation::Done(format!("Cluster {name} is managed by itself")),
            n => Observation::Missing(format!(
                "{n} Cluster objects are still in the temporary cluster"
            )),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let shared = &self.0;
        let source = self.source().await?;
        if source.is_none() {
            progress.seen("the engine has no container of the temporary cluster any more: going on without it");
        }
        let target = shared.management().await?;
        let journal = FileJournal::open_or_anew(&shared.state.file("move.jsonl"), progress)?;
        let exports = FileExports::new(&shared.state.folder);
        let environment = serde_json::to_value(shared.environment()?)
            .context(|| "cannot export the environment".to_owned())?;
        let report = move_objects::run(&Order {
            source,
            target,
            namespace: ORGANIZATION,
            journal: &journal,
            exports: Some(&exports),
            environment,
            holder: &shared.request.run,
            clock: Arc::new(Wall),
            progress,
        })
        .await
        .map_err(|e| match source {
            Some(_) => e.fix(format!(
                "if the temporary cluster does not answer: start its containers again, or, if it is lost, remove them; {} holds everything that moves",
                shared.state.file("move.export").display()
            )),
            None => e,
        })?;
        progress.seen(&format!(
            "{} objects moved with {} requests in {:.1} s",
            report.objects, report.requests, report.seconds
        ));
        // With the source gone the target holds everything; else the export stays as long as the source does.
        match source {
            Some(_) => Ok(()),
            None => exports.discard(),
        }
    }

    async fn verify(&self, progress: &dyn Progress) -> Result<String> {
        let evidence = match self.observe(progress).await? {
            Observation::Done(evidence) => evidence,
            Observation::Missing(why) => {
                return Err(Error::failed(
                    "the move ran without error, but its result is not there",
                )
                .because(why));
            }
        };
        // The new cluster's controllers must be at work before anything of the old side goes.
        let name = self.0.name();
        self.0
            .management()
            .await?
            .wait(
                &cluster_kind(),
                Some(ORGANIZATION),
                name,
                super::shared::STALL,
                progress,
                |c| match c {
                    None => Err(format!("Cluster {name} is not there")),
                    Some(c) => condition(c, "ControlPlaneInitialized")
                        .and_then(|()| condition(c, "InfrastructureReady")),
                },
            )
            .await?;
        Ok(evidence)
    }
}
