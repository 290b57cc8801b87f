//! Runs a plan: observe, apply, verify, each step as soon as what it needs is done. Must not know what the steps do, and prints nothing.

pub mod event;
pub mod journal;
pub mod replay;
mod run;
pub mod view;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;

use crate::{Error, Kind, Result, plan::StepId, ports::kubernetes::Progress};

pub use replay::{History, behind, same_plan};
pub use run::{Outcome, Run};

/// That a step is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// What shows it; for people.
    pub evidence: String,
    /// What later steps need to know: fields of [`Environment`](crate::environment::Environment). No secrets.
    pub output: Option<Value>,
}

impl Proof {
    /// A proof with something to know.
    pub fn with(evidence: impl Into<String>, output: Value) -> Self {
        Self {
            evidence: evidence.into(),
            output: Some(output),
        }
    }
}

impl<S: Into<String>> From<S> for Proof {
    fn from(evidence: S) -> Self {
        Self {
            evidence: evidence.into(),
            output: None,
        }
    }
}

/// What a step found when it looked. What it could not see is neither: that is an error, a passing one where it may be seen
/// later.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Already as it should be.
    Done(Proof),
    /// Not yet; the reason is shown.
    Missing(String),
}

impl Observation {
    /// Done, with nothing to know.
    pub fn done(evidence: impl Into<String>) -> Self {
        Self::Done(evidence.into().into())
    }

    /// As a check of [`poll`](crate::ports::kubernetes::poll).
    pub fn pending(self) -> Result<Proof, String> {
        match self {
            Self::Done(proof) => Ok(proof),
            Self::Missing(why) => Err(why),
        }
    }
}

/// One step of a plan. It does not know who runs it. Every method may be called again after a crash at any point.
#[async_trait]
pub trait Step: Send + Sync {
    /// Looks, changes nothing.
    async fn observe(&self, progress: &dyn Progress) -> Result<Observation>;

    /// Makes it so.
    async fn apply(&self, progress: &dyn Progress) -> Result<()>;

    /// Proves it. Looks once more unless a step knows better.
    async fn verify(&self, progress: &dyn Progress) -> Result<Proof> {
        self.observe(progress).await?.pending().map_err(|why| {
            Error::new(
                Kind::Failed,
                "the step ran without error, but its result is not there",
            )
            .because(why)
            .fix("run the same command again: it looks once more")
        })
    }
}

/// Says whether this process may change things: another one may have become the owner of the cluster meanwhile.
#[async_trait]
pub trait Owner: Send + Sync {
    /// Asked before each step that makes something; an error ends the run.
    async fn may_change(&self, step: &StepId) -> Result<()>;
}

/// An owner that nobody competes with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

#[async_trait]
impl Owner for Alone {
    async fn may_change(&self, _: &StepId) -> Result<()> {
        Ok(())
    }
}

/// Steps by name.
pub type Steps = HashMap<StepId, Arc<dyn Step>>;
