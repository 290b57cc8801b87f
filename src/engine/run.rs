//! The scheduler: starts every step whose needs are done, stops all on the first failure or on request. Must not know what steps do.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::mpsc::UnboundedSender, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Observation, Owner, Proof, Step, Steps,
    event::{Body, Event, FORMAT},
    journal::Journal,
};
use crate::{
    Error, Kind, Result,
    plan::{Plan, StepId, StepSpec},
    ports::{clock::Clock, kubernetes::Progress},
};

/// How long a step may be blind: whatever it asks does not answer.
const BLIND: Duration = Duration::from_secs(300);
/// Between attempts of a step that is blind.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a step is begun anew because something did not answer.
const ATTEMPTS: u32 = 10;

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

/// Takes what a step gives to know.
pub type Learn = Arc<dyn Fn(&Value) -> Result<()> + Send + Sync>;

/// What a run needs.
pub struct Run<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// How.
    pub steps: &'a Steps,
    /// Steps not to be looked at again; see [`super::behind`].
    pub behind: BTreeSet<StepId>,
    /// Says whether things may still be changed.
    pub owner: Arc<dyn Owner>,
    /// Time of events.
    pub clock: Arc<dyn Clock>,
    /// Takes what a step gives to know, as soon as it is on disk and before any step that needs it begins.
    pub learn: Learn,
}

/// Writes lasting events to the journal first, then hands every event to the views.
struct Recorder {
    journal: Mutex<Journal>,
    views: UnboundedSender<Event>,
    clock: Arc<dyn Clock>,
}

impl Recorder {
    fn record(&self, body: Body) -> Result<()> {
        let event = Event {
            at: self.clock.now(),
            body,
        };
        let kept = if event.body.is_lasting() {
            self.journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&event)
        } else {
            Ok(())
        };
        // Whoever watches is told what happened, also when it could not be kept. No view left is no reason to stop working.
        let _ = self.views.send(event);
        kept
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

/// One step at work.
struct Work {
    id: StepId,
    step: Arc<dyn Step>,
    recorder: Arc<Recorder>,
    owner: Arc<dyn Owner>,
    learn: Learn,
}

impl Run<'_> {
    /// Runs the plan to its end, the first failure or cancellation.
    pub async fn go(
        &self,
        journal: Journal,
        views: UnboundedSender<Event>,
        cancel: CancellationToken,
    ) -> Outcome {
        if let Err(error) = super::same_plan(journal.history(), self.plan) {
            return Outcome::Failed("journal".into(), error);
        }
        let recorder = Arc::new(Recorder {
            journal: Mutex::new(journal),
            views,
            clock: self.clock.clone(),
        });
        let begun = recorder.record(Body::RunStarted {
            format: FORMAT,
            plan: self.plan.clone(),
        });
        let mut running = JoinSet::new();
        let outcome = match begun {
            Ok(()) => self.schedule(&recorder, &mut running, &cancel).await,
            Err(error) => Outcome::Failed("journal".into(), error),
        };
        // Steps may be stopped anywhere; they observe first when they are started again.
        running.shutdown().await;
        let word = match &outcome {
            Outcome::Success => "success",
            Outcome::Failed(..) => "failed",
            Outcome::Interrupted => "interrupted",
        };
        let ended = recorder.record(Body::RunEnded {
            outcome: word.into(),
        });
        match (outcome, ended) {
            (Outcome::Success, Err(error)) => Outcome::Failed("journal".into(), error),
            (outcome, _) => outcome,
        }
    }

    async fn schedule(
        &self,
        recorder: &Arc<Recorder>,
        running: &mut JoinSet<(StepId, Result<()>)>,
        cancel: &CancellationToken,
    ) -> Outcome {
        let mut open: Vec<StepSpec> = self.plan.steps.clone();
        let mut done: BTreeSet<StepId> = BTreeSet::new();
        loop {
            let (ready, rest): (Vec<_>, Vec<_>) = open
                .into_iter()
                .partition(|s| s.needs.iter().all(|n| done.contains(n)));
            open = rest;
            for spec in ready {
                if let Err(error) = self.start(&spec.id, recorder, running) {
                    return Outcome::Failed(spec.id, error);
                }
            }
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Outcome::Interrupted,
                next = running.join_next() => next,
            };
            match next {
                None if open.is_empty() => return Outcome::Success,
                None => return Outcome::Failed("engine".into(), unfinished(&open, &done)),
                Some(Ok((id, Ok(())))) => {
                    done.insert(id);
                }
                Some(Ok((id, Err(error)))) => {
                    // If it cannot be kept that it failed, that it was not done is kept all the same.
                    let _ = recorder.record(Body::StepFailed {
                        step: id.clone(),
                        error: error.line(),
                    });
                    return Outcome::Failed(id, error);
                }
                Some(Err(e)) => {
                    return Outcome::Failed(
                        "engine".into(),
                        Error::new(Kind::Internal, "a step ended abnormally").because(&e),
                    );
                }
            }
        }
    }

    fn start(
        &self,
        id: &StepId,
        recorder: &Arc<Recorder>,
        running: &mut JoinSet<(StepId, Result<()>)>,
    ) -> Result<()> {
        let id = id.clone();
        if self.behind.contains(&id) {
            recorder.record(Body::StepDone {
                step: id.clone(),
                evidence: "done before the point of no return".into(),
                already: true,
                output: None,
            })?;
            running.spawn(async move { (id, Ok(())) });
            return Ok(());
        }
        let step = self.steps.get(&id).cloned().ok_or_else(|| {
            let what = format!("step `{id}` is planned but not registered");
            Error::new(Kind::Internal, what).state("nothing of it was begun")
        })?;
        let work = Work {
            id: id.clone(),
            step,
            recorder: recorder.clone(),
            owner: self.owner.clone(),
            learn: self.learn.clone(),
        };
        running.spawn(async move { (id, work.run().await) });
        Ok(())
    }
}

/// The error for a plan whose steps wait for what will never come.
fn unfinished(open: &[StepSpec], done: &BTreeSet<StepId>) -> Error {
    let waits: Vec<String> = open
        .iter()
        .map(|s| {
            let needs: Vec<&str> = s
                .needs
                .iter()
                .filter(|n| !done.contains(*n))
                .map(|n| n.0.as_str())
                .collect();
            format!("`{}` waits for `{}`", s.id, needs.join("`, `"))
        })
        .collect();
    Error::new(
        Kind::Internal,
        "the plan cannot be finished: steps need what no step brings",
    )
    .because(waits.join("; "))
    .state("what could be done is done and kept")
}

impl Work {
    /// Works until the step is done. Where something does not answer for a while, it looks again from the beginning: what the
    /// answer would have been is not known.
    async fn run(&self) -> Result<()> {
        let progress = StepProgress {
            recorder: self.recorder.clone(),
            step: self.id.clone(),
        };
        let mut begun = false;
        let mut blind = None;
        let mut attempts = 0;
        loop {
            let error = match self.attempt(&progress, &mut begun, &mut blind).await {
                Ok(proof) => return self.done(proof, !begun),
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            attempts += u32::from(begun);
            let since = *blind.get_or_insert_with(|| self.recorder.clock.instant());
            let now = self.recorder.clock.instant();
            if now.duration_since(since) >= BLIND || attempts >= ATTEMPTS {
                return Err(error);
            }
            progress.seen(&error.line());
            self.recorder.clock.sleep(PAUSE).await;
        }
    }

    async fn attempt(
        &self,
        progress: &StepProgress,
        begun: &mut bool,
        blind: &mut Option<tokio::time::Instant>,
    ) -> Result<Proof> {
        let why = match self.step.observe(progress).await? {
            Observation::Done(proof) => return Ok(proof),
            Observation::Missing(why) => why,
        };
        *blind = None;
        self.owner.may_change(&self.id).await?;
        if !*begun {
            self.recorder.record(Body::StepStarted {
                step: self.id.clone(),
                why,
            })?;
            *begun = true;
        }
        self.step.apply(progress).await?;
        self.step.verify(progress).await
    }

    fn done(&self, proof: Proof, already: bool) -> Result<()> {
        self.recorder.record(Body::StepDone {
            step: self.id.clone(),
            evidence: proof.evidence,
            already,
            output: proof.output.clone(),
        })?;
        match &proof.output {
            Some(output) => (self.learn)(output),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
