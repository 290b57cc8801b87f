//! Answers the engine's question whether this run may change something, by looking again. Must not take an earlier answer for
//! the truth.

use std::time::Duration;

use async_trait::async_trait;

use super::ownership;
use crate::{
    Error, Kind, Result,
    engine::Owner,
    ownership::{Stage, look::Asked},
    plan::{Plan, StepId},
    ports::{Ports, docker::Docker},
    steps::state::{MANAGEMENT, State, TEMPORARY},
};

/// How long a step waits for whoever must know.
const PATIENCE: Duration = Duration::from_secs(180);

/// The run at work.
pub(super) struct Guard {
    pub(super) ports: Ports,
    pub(super) docker: Docker,
    pub(super) engine: String,
    pub(super) state: State,
    pub(super) run: String,
    /// True when an earlier process of this run began the pivot.
    pub(super) pivot_remembered: bool,
    /// The plan with its pivot, even if only a part of it is run.
    pub(super) whole: Plan,
}

impl Guard {
    /// Whom to ask; kubeconfigs are read each time, for they come and go.
    pub(super) fn asked(&self) -> Result<Asked<'_>> {
        Ok(Asked {
            ports: &self.ports,
            docker: &self.docker,
            cluster: &self.state.cluster,
            run: &self.run,
            temporary: self.state.kubeconfig(TEMPORARY)?,
            management: self.state.kubeconfig(MANAGEMENT)?,
            pivot_remembered: self.pivot_remembered,
        })
    }
}

#[async_trait]
impl Owner for Guard {
    async fn may_change(&self, step: &StepId) -> Result<()> {
        let (owner, _) = ownership(&self.ports, &self.asked()?, PATIENCE).await;
        if owner.permits(Stage::of(&self.whole, step)) {
            return Ok(());
        }
        let name = &self.state.cluster;
        owner.check(name, &self.engine).map_err(|e| {
            e.state("nothing was changed by this step; what was done before is kept")
        })?;
        Err(Error::new(
            Kind::Preflight,
            format!("step `{step}` has no place here: {owner}"),
        )
        .at(format!("management cluster `{name}`"))
        .fix("run the same command again: it goes on from what is there")
        .state("nothing was changed by this step; what was done before is kept"))
    }
}
