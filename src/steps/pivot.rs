//! The pivot: the Cluster API objects move. The point of no return; must not touch anything else.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::shared::Shared;
use crate::{
    Error, Result,
    cluster_api::{journal::FileJournal, move_objects},
    engine::{Observation, Proof, Step},
    ports::kubernetes::{Progress, kinds::CLUSTER, met, names::ORGANIZATION},
};

/// See the module.
pub struct Pivot(pub Arc<Shared>);

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
        if target.data.pointer("/spec/paused").and_then(Value::as_bool) == Some(true) {
            return Ok(Observation::Missing(format!(
                "Cluster {name} is still paused in the new cluster"
            )));
        }
        let source = self
            .0
            .temporary()
            .await?
            .list(&CLUSTER.gvk(), Some(ORGANIZATION), None)
            .await?;
        Ok(match source.unwrap_or_default().len() {
            0 => Observation::done(format!("Cluster {name} is managed by itself")),
            n => Observation::Missing(format!(
                "{n} Cluster objects are still in the temporary cluster"
            )),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let temporary = self.0.temporary().await?;
        let management = self.0.management().await?;
        let journal = FileJournal::open_in(self.0.ports.files.clone(), &self.0.state.file("move.jsonl"))?;
        let report =
            move_objects::run(temporary, management, ORGANIZATION, &journal, progress).await?;
        progress.seen(&format!(
            "{} objects moved with {} requests in {:.1} s",
            report.objects, report.requests, report.seconds
        ));
        Ok(())
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
