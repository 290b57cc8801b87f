//! How far a bootstrap has come, from its journal alone. Pure; must not ask the engine or a cluster.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    engine::{
        event::Event,
        replay::History,
        view::{RunView, State},
    },
    plan::{StepId, id},
};

/// A bootstrap as its journal tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// True when a run reached the end of the whole plan.
    pub complete: bool,
    /// Steps that were done at least once.
    pub done: usize,
    /// Steps of the plan.
    pub steps: usize,
    /// The process at work, as it wrote itself into the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_work: Option<String>,
    /// How the last run ended; none while it is at work or when it was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// True when the cluster already manages itself: from there only forward.
    pub past_point_of_no_return: bool,
    /// Steps that were at work or failed when the journal ended.
    pub open: Vec<Open>,
}

/// A step that began and did not end well.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// Its name.
    pub step: StepId,
    /// Running or failed.
    pub state: State,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What was seen last.
    pub seen: String,
}

impl Bootstrap {
    /// Folds the events of all runs; `at_work` is the holder of the lock.
    pub fn of(events: &[Event], at_work: Option<String>) -> Self {
        let history = History::of(events);
        let view = RunView::of(events);
        let planned = view.plan.as_ref().map_or(&[][..], |p| &p.steps);
        let done = |step: &StepId| history.done.contains(step);
        let open = planned.iter().filter_map(|spec| {
            let step = view.steps.get(&spec.id)?;
            matches!(step.state, State::Running | State::Failed).then(|| Open {
                step: spec.id.clone(),
                state: step.state,
                since: step.began,
                seen: step.seen.clone(),
            })
        });
        Self {
            complete: history.complete && done(&id::VERIFY.into()),
            done: planned.iter().filter(|s| done(&s.id)).count(),
            steps: planned.len(),
            outcome: view.outcome.clone(),
            past_point_of_no_return: done(&id::PIVOT.into()),
            open: open.collect(),
            at_work,
        }
    }

    /// One line: how it stands.
    pub fn line(&self) -> String {
        let steps = format!("{} of {} steps done", self.done, self.steps);
        match (&self.at_work, &self.outcome) {
            (Some(who), _) => format!("at work ({who}), {steps}"),
            (None, _) if self.complete => format!("bootstrap complete, {steps}"),
            (None, Some(outcome)) => format!("bootstrap not complete ({outcome}), {steps}"),
            (None, None) => format!("bootstrap not complete (the process ended abruptly), {steps}"),
        }
    }

    /// For people; empty when there is nothing to do any more.
    pub fn text(&self, cluster: &str) -> String {
        let mut out = format!("{cluster}: {}\n", self.line());
        for open in &self.open {
            let word = if open.state == State::Failed {
                "failed"
            } else {
                "at work"
            };
            let _ = writeln!(out, "  {:<26} {word}: {}", open.step, open.seen);
        }
        if self.at_work.is_none() && !self.complete {
            out.push_str("  go on: run the same mctl bootstrap command again\n");
            let back = if self.past_point_of_no_return {
                "the cluster manages itself already; there is no way back but to remove it:"
            } else {
                "or remove everything:"
            };
            let _ = writeln!(out, "  {back} mctl destroy {cluster}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::event::{Body, FORMAT},
        plan::{Plan, StepSpec},
    };

    fn events(bodies: Vec<Body>) -> Vec<Event> {
        let steps = ["control-plane", id::PIVOT, id::VERIFY].map(|id| StepSpec {
            id: id.into(),
            title: String::new(),
            needs: vec![],
            components: vec![],
            point_of_no_return: false,
        });
        let plan = Plan {
            cluster: "golem".into(),
            mctl: "0".into(),
            hash: "h".into(),
            kubernetes_version: "v".into(),
            images: vec![],
            steps: steps.to_vec(),
        };
        let first = Body::RunStarted {
            format: FORMAT,
            plan,
        };
        std::iter::once(first)
            .chain(bodies)
            .map(|body| Event {
                at: Timestamp::UNIX_EPOCH,
                body,
            })
            .collect()
    }

    fn done(step: &str) -> Body {
        Body::StepDone {
            step: step.into(),
            evidence: String::new(),
            already: false,
            output: None,
        }
    }

    fn started(step: &str) -> Body {
        Body::StepStarted {
            step: step.into(),
            why: "no machine yet".into(),
        }
    }

    #[test]
    fn a_killed_run_tells_where_it_was_and_how_to_go_on() {
        let all = events(vec![started("control-plane")]);
        assert_eq!(
            Bootstrap::of(&all, None).text("golem"),
            "golem: bootstrap not complete (the process ended abruptly), 0 of 3 steps done\n  \
             control-plane              at work: no machine yet\n  \
             go on: run the same mctl bootstrap command again\n  \
             or remove everything: mctl destroy golem\n"
        );
        let at_work = Bootstrap::of(&all, Some("process 7 since noon".into())).text("golem");
        assert!(at_work.starts_with("golem: at work (process 7 since noon), 0 of 3"));
        assert!(!at_work.contains("go on"));
    }

    #[test]
    fn after_the_pivot_there_is_only_forward() {
        let failed = Body::StepFailed {
            step: id::VERIFY.into(),
            error: "no heartbeat".into(),
        };
        let ended = Body::RunEnded {
            outcome: "failed".into(),
        };
        let all = events(vec![done("control-plane"), done(id::PIVOT), failed, ended]);
        let text = Bootstrap::of(&all, None).text("golem");
        assert!(text.contains("(failed), 2 of 3 steps done"), "{text}");
        assert!(text.contains("verify") && text.contains("failed: no heartbeat"));
        assert!(text.contains("manages itself already"), "{text}");
    }

    #[test]
    fn complete_means_the_whole_plan() {
        let success = || Body::RunEnded {
            outcome: "success".into(),
        };
        let part = events(vec![done("control-plane"), success()]);
        assert!(!Bootstrap::of(&part, None).complete);
        let whole = events(vec![done("control-plane"), done(id::VERIFY), success()]);
        assert!(Bootstrap::of(&whole, None).complete);
    }
}
