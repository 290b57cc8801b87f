//! Runs a plan: observe, apply, verify, each step as soon as what it needs is done. Must not know what the steps do, and prints nothing.

pub mod event;
pub mod journal;
mod run;
pub mod view;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;

use crate::{Error, Kind, Result, plan::StepId, ports::kubernetes::Progress};

pub use run::{Outcome, run};

/// What a step found when it looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Already as it should be; the evidence is shown.
    Done(String),
    /// Not yet; the reason is shown.
    Missing(String),
}

/// One step of a plan. Every method may be called again after a crash at any point.
#[async_trait]
pub trait Step: Send + Sync {
    /// Looks, changes nothing.
    async fn observe(&self, progress: &dyn Progress) -> Result<Observation>;

    /// Makes it so.
    async fn apply(&self, progress: &dyn Progress) -> Result<()>;

    /// Proves it; returns the evidence. Looks once more unless a step knows better.
    async fn verify(&self, progress: &dyn Progress) -> Result<String> {
        match self.observe(progress).await? {
            Observation::Done(evidence) => Ok(evidence),
            Observation::Missing(why) => Err(Error::new(
                Kind::Failed,
                "the step ran without error, but its result is not there",
            )
            .because(why)),
        }
    }
}

/// Steps by name.
pub type Steps = HashMap<StepId, Arc<dyn Step>>;
