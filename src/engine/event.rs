//! What happens in a run, as data: the journal holds the lasting ones, views fold all of them. Must not contain secrets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::{Plan, StepId};

/// Version of the event format; written in the first event of a run.
pub const FORMAT: u32 = 2;

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Body {
    /// A process began to work on the plan.
    RunStarted {
        /// [`FORMAT`].
        format: u32,
        /// The plan, so that a later reader needs nothing else.
        plan: Plan,
    },
    /// A step is about to act.
    StepStarted {
        /// Step.
        step: StepId,
        /// What is missing.
        why: String,
    },
    /// A step saw something while working or waiting. Not kept.
    StepProgress {
        /// Step.
        step: StepId,
        /// The last real evidence.
        seen: String,
    },
    /// A step is done and proven.
    StepDone {
        /// Step.
        step: StepId,
        /// Proof.
        evidence: String,
        /// True when there was nothing to do.
        #[serde(default)]
        already: bool,
        /// What later steps need to know of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
    },
    /// A step failed.
    StepFailed {
        /// Step.
        step: StepId,
        /// In one line.
        error: String,
    },
    /// The process stops working on the plan.
    RunEnded {
        /// `success`, `failed` or `interrupted`.
        outcome: String,
    },
}

impl Body {
    /// True for events that the journal keeps.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::StepProgress { .. })
    }
}
