//! The pivot: the Cluster API objects move. The point of no return; must not touch anything else.

use std::sync::Arc;

use async_trait::async_trait;

use super::{shared::Shared, temporary::TemporaryCluster};
use crate::{
    Error, Result,
    cluster_api::{
        export::FileExports,
        journal::FileJournal,
        marks,
        move_objects::{self, Order},
    },
    engine::{Observation, Proof, Step},
    error::Context,
    ports::kubernetes::{Cluster, Progress, kinds::CLUSTER, met, names::ORGANIZATION},
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
        let target = self
            .0
            .management()
            .await?
            .get(&CLUSTER.gvk(), Some(ORGANIZATION), name)
            .await?;
        let Some(target) = target else {
            return Ok(Observation::Missing(format!(
                "Cluster {name} is not in the new cluster"
            )));
        };
        // A pause alone may be a person's; that one stays.
        if marks::is_moving(&target) {
            return Ok(Observation::Missing(format!(
                "Cluster {name} is still marked as moving in the new cluster"
            )));
        }
        let left = match self.source().await? {
            Some(source) => {
                let kind = CLUSTER.gvk();
                let left = source.list(&kind, Some(ORGANIZATION), None).await?;
                left.unwrap_or_default().len()
            }
            None => 0,
        };
        Ok(match left {
            0 => Observation::done(format!("Cluster {name} is managed by itself")),
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
        let files = shared.ports.files.clone();
        let journal = shared.state.file("move.jsonl");
        let journal = FileJournal::open_or_anew(files.clone(), &journal, progress)?;
        let exports = FileExports::new(files, &shared.state.folder);
        let environment = serde_json::to_value(shared.environment())
            .context(|| "cannot export the environment".to_owned())?;
        let order = Order {
            source,
            target: shared.management().await?,
            namespace: ORGANIZATION,
            journal: &journal,
            exports: Some(&exports),
            environment,
            holder: &shared.request.run,
            clock: shared.ports.clock.clone(),
            progress,
        };
        let report = move_objects::run(&order).await.map_err(|e| match source {
            Some(_) if exports.is_there() => e.fix(
                "if the temporary cluster does not answer: start its containers again, or, if it is lost, remove them: what moves is kept in the state folder",
            ),
            _ => e,
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

    async fn verify(&self, progress: &dyn Progress) -> Result<Proof> {
        let proof = self.observe(progress).await?.pending().map_err(|why| {
            Error::failed("the move ran without error, but its result is not there").because(why)
        })?;
        // The new cluster's controllers must be at work before anything of the old side goes.
        let name = self.0.name();
        self.0
            .management()
            .await?
            .wait(
                &CLUSTER.gvk(),
                Some(ORGANIZATION),
                name,
                super::shared::STALL,
                progress,
                |c| match c {
                    None => Err(format!("Cluster {name} is not there")),
                    Some(c) => met(c, "ControlPlaneInitialized")
                        .and_then(|()| met(c, "InfrastructureReady")),
                },
            )
            .await?;
        Ok(proof)
    }
}
