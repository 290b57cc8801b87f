//! The scheduler: starts every step whose needs are done, stops all on the first failure or on request. Must not know what steps do.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::{sync::mpsc::UnboundedSender, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Observation, Step, Steps,
    event::{Body, Event, FORMAT},
    journal::{History, Journal},
};
use crate::{
    Error, Kind, Result,
    plan::{Plan, StepId, StepSpec},
    ports::kubernetes::Progress,
};

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All steps are done.
    Success,
    /// A step failed.
    Failed(StepId, Error),
    /// Stopped on request.
    Interrupted,
}

/// Writes lasting events to the journal first, then hands every event to the views.
struct Recorder {
    journal: Mutex<Journal>,
    views: UnboundedSender<Event>,
}

impl Recorder {
    fn record(&self, body: Body) -> Result<()> {
        let event = Event {
            at: Timestamp::now(),
            body,
        };
        if event.body.is_lasting() {
            self.journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&event)?;
        }
        // No view left is no reason to stop working.
        let _ = self.views.send(event);
        Ok(())
    }
}

struct StepProgress {
    recorder: Arc<Recorder>,
    step: StepId,
}

impl Progress for StepProgress {
    fn seen(&self, evidence: &str) {
        let _ = self.recorder.record(Body::StepProgress {
            step: self.step.clone(),
            seen: evidence.to_owned(),
        });
    }
}

/// Runs the plan to its end, the first failure or cancellation. Only errors of the journal itself are `Err`.
pub async fn run(
    plan: &Plan,
    steps: &Steps,
    journal: Journal,
    views: UnboundedSender<Event>,
    cancel: CancellationToken,
) -> Result<Outcome> {
    let history = journal.history();
    let recorder = Arc::new(Recorder {
        journal: Mutex::new(journal),
        views,
    });
    recorder.record(Body::RunStarted {
        format: FORMAT,
        plan: plan.clone(),
    })?;
    let behind = behind_point_of_no_return(plan, &history);

    let mut open: Vec<StepSpec> = plan.steps.clone();
    let mut done: BTreeSet<StepId> = BTreeSet::new();
    let mut running: JoinSet<(StepId, Result<()>)> = JoinSet::new();
    let outcome = loop {
        let (ready, rest): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|s| s.needs.iter().all(|n| done.contains(n)));
        open = rest;
        for spec in ready {
            if behind.contains(&spec.id) {
                recorder.record(Body::StepDone {
                    step: spec.id.clone(),
                    evidence: "done before the point of no return".into(),
                    already: true,
                })?;
                running.spawn(async move { (spec.id, Ok(())) });
                continue;
            }
            let Some(step) = steps.get(&spec.id).cloned() else {
                return Err(Error::new(
                    Kind::Internal,
                    format!("step `{}` is planned but not registered", spec.id),
                ));
            };
            let recorder = recorder.clone();
            running.spawn(async move {
                let result = work(&spec.id, step.as_ref(), &recorder).await;
                (spec.id, result)
            });
        }
        let next = tokio::select! {
            biased;
            () = cancel.cancelled() => break Outcome::Interrupted,
            next = running.join_next() => next,
        };
        match next {
            None => break Outcome::Success,
            Some(Ok((id, Ok(())))) => {
                done.insert(id);
            }
            Some(Ok((id, Err(error)))) => {
                recorder.record(Body::StepFailed {
                    step: id.clone(),
                    error: error.line(),
                })?;
                break Outcome::Failed(id, error);
            }
            Some(Err(e)) => {
                break Outcome::Failed(
                    "engine".into(),
                    Error::new(Kind::Internal, "a step ended abnormally").because(&e),
                );
            }
        }
    };
    // Steps may be stopped anywhere; they observe first when they are started again.
    running.shutdown().await;
    let word = match &outcome {
        Outcome::Success => "success",
        Outcome::Failed(..) => "failed",
        Outcome::Interrupted => "interrupted",
    };
    recorder.record(Body::RunEnded {
        outcome: word.into(),
    })?;
    Ok(outcome)
}

/// Steps that must not be looked at again: once a point of no return was begun, what led to it may be gone on purpose.
fn behind_point_of_no_return(plan: &Plan, history: &History) -> BTreeSet<StepId> {
    plan.steps
        .iter()
        .filter(|s| s.point_of_no_return && history.started.contains(&s.id))
        .flat_map(|s| {
            let mut behind = plan.ancestors(&s.id);
            if history.done.contains(&s.id) {
                behind.insert(s.id.clone());
            }
            behind
        })
        .filter(|id| history.done.contains(id))
        .collect()
}

async fn work(id: &StepId, step: &dyn Step, recorder: &Arc<Recorder>) -> Result<()> {
    let progress = StepProgress {
        recorder: recorder.clone(),
        step: id.clone(),
    };
    let (evidence, already) = match step.observe(&progress).await? {
        Observation::Done(evidence) => (evidence, true),
        Observation::Missing(why) => {
            recorder.record(Body::StepStarted {
                step: id.clone(),
                why,
            })?;
            step.apply(&progress).await?;
            (step.verify(&progress).await?, false)
        }
    };
    recorder.record(Body::StepDone {
        step: id.clone(),
        evidence,
        already,
    })
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
