//! Folds events into what a person wants to know of a run. Pure; every report and `status` read this one picture.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::event::{Body, Event};
use crate::plan::{Plan, StepId};

/// State of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Waits for others.
    #[default]
    Pending,
    /// At work.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
}

/// One step as seen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// State.
    pub state: State,
    /// When it began to act.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Last evidence, reason or error.
    pub seen: String,
    /// True when there was nothing to do.
    pub already: bool,
}

impl StepView {
    /// How long it worked; zero when there was nothing to do.
    pub fn took(&self) -> SignedDuration {
        match (self.began, self.ended) {
            (Some(a), Some(b)) => b.duration_since(a),
            _ => SignedDuration::ZERO,
        }
    }
}

/// A run as seen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Its plan.
    pub plan: Option<Plan>,
    /// When the last process began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Steps.
    pub steps: BTreeMap<StepId, StepView>,
}

impl RunView {
    /// Folds all events of a journal.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut view = Self::default();
        for e in events {
            view.apply(e);
        }
        view
    }

    /// Takes in one event.
    pub fn apply(&mut self, event: &Event) {
        let at = event.at;
        match &event.body {
            Body::RunStarted { plan, .. } => {
                self.began = Some(at);
                self.ended = None;
                self.outcome = None;
                self.steps = plan
                    .steps
                    .iter()
                    .map(|s| (s.id.clone(), StepView::default()))
                    .collect();
                self.plan = Some(plan.clone());
            }
            Body::StepStarted { step, why } => {
                let s = self.steps.entry(step.clone()).or_default();
                *s = StepView {
                    state: State::Running,
                    began: Some(at),
                    seen: why.clone(),
                    ..StepView::default()
                };
            }
            Body::StepProgress { step, seen } => self
                .steps
                .entry(step.clone())
                .or_default()
                .seen
                .clone_from(seen),
            Body::StepDone {
                step,
                evidence,
                already,
                ..
            } => {
                let s = self.steps.entry(step.clone()).or_default();
                s.state = State::Done;
                s.ended = Some(at);
                s.seen.clone_from(evidence);
                s.already = *already;
            }
            Body::StepFailed { step, error } => {
                let s = self.steps.entry(step.clone()).or_default();
                s.state = State::Failed;
                s.ended = Some(at);
                s.seen.clone_from(error);
            }
            Body::RunEnded { outcome } => {
                self.ended = Some(at);
                self.outcome = Some(outcome.clone());
            }
        }
    }

    /// Steps whose end the run waited for, first to last: each began when the one before it ended.
    pub fn critical_path(&self) -> Vec<(StepId, SignedDuration)> {
        let Some(plan) = &self.plan else {
            return Vec::new();
        };
        let end = |id: &StepId| self.steps.get(id).and_then(|s| s.ended);
        let mut path = Vec::new();
        let mut next = plan.steps.iter().map(|s| &s.id).max_by_key(|id| end(id));
        while let Some(id) = next {
            if let Some(s) = self.steps.get(id) {
                path.push((id.clone(), s.took()));
            }
            next = plan
                .steps
                .iter()
                .find(|s| s.id == *id)
                .and_then(|s| s.needs.iter().max_by_key(|n| end(n)));
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::StepSpec;

    #[test]
    fn the_critical_path_goes_through_the_last_need() {
        let spec = |id: &str, needs: &[&str]| StepSpec {
            id: id.into(),
            title: id.into(),
            needs: needs.iter().map(|n| StepId::from(*n)).collect(),
            components: vec![],
            point_of_no_return: false,
        };
        let plan = Plan {
            cluster: "x".into(),
            mctl: "0".into(),
            hash: "h".into(),
            kubernetes_version: "v".into(),
            images: vec![],
            steps: vec![
                spec("a", &[]),
                spec("b", &["a"]),
                spec("c", &["a"]),
                spec("d", &["b", "c"]),
            ],
        };
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let mut events = vec![Event {
            at: at(0),
            body: Body::RunStarted { format: 2, plan },
        }];
        for (id, from, to) in [("a", 0, 2), ("b", 2, 3), ("c", 2, 9), ("d", 9, 10)] {
            events.push(Event {
                at: at(from),
                body: Body::StepStarted {
                    step: id.into(),
                    why: String::new(),
                },
            });
            events.push(Event {
                at: at(to),
                body: Body::StepDone {
                    step: id.into(),
                    evidence: String::new(),
                    already: false,
                    output: None,
                },
            });
        }
        let path: Vec<String> = RunView::of(&events)
            .critical_path()
            .into_iter()
            .map(|(id, t)| format!("{id}:{}", t.as_secs()))
            .collect();
        assert_eq!(path, ["a:2", "c:7", "d:1"]);
    }
}
