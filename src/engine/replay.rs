//! The transition function of runs: which event may follow, and what all of them together say. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::event::{Body, Event};
use crate::{
    Error, Kind, Result,
    plan::{Plan, StepId},
};

/// Where a step is within the current run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Working,
    Done,
    Failed,
}

/// What a journal says about all runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Plan of the last run.
    pub plan: Option<Plan>,
    /// Steps that were done at least once.
    pub done: BTreeSet<StepId>,
    /// Steps that were started at least once.
    pub started: BTreeSet<StepId>,
    /// What done steps gave to know, oldest first.
    pub outputs: Vec<(StepId, Value)>,
    /// True when the last run ended in success.
    pub complete: bool,
    /// True while a run has not ended.
    active: bool,
    now: BTreeMap<StepId, Now>,
}

impl History {
    /// Folds events without asking whether they may follow each other.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut history = Self::default();
        for event in events {
            take(&mut history, &event.body);
        }
        history
    }

    fn is_done(&self, step: &StepId) -> bool {
        self.now.get(step) == Some(&Now::Done)
    }
}

/// Why an event cannot follow, if it cannot.
pub fn check(history: &History, body: &Body) -> Result<(), String> {
    let (word, step) = match body {
        // A run that was killed has no end.
        Body::RunStarted { .. } => return Ok(()),
        Body::RunEnded { outcome } => {
            if !history.active {
                return Err("a run ended that had not begun".into());
            }
            let open = history
                .plan
                .iter()
                .flat_map(|p| &p.steps)
                .find(|s| !history.is_done(&s.id));
            return match open {
                Some(step) if outcome == "success" => Err(format!(
                    "a run ended in success without its step `{}`",
                    step.id
                )),
                _ => Ok(()),
            };
        }
        Body::StepStarted { step, .. } => ("started", step),
        Body::StepProgress { step, .. } => ("told something", step),
        Body::StepDone { step, .. } => ("was done", step),
        Body::StepFailed { step, .. } => ("failed", step),
    };
    let refuse = |why: String| Err(format!("step `{step}` {word} {why}"));
    let Some(plan) = history.plan.as_ref().filter(|_| history.active) else {
        return refuse("outside of a run".into());
    };
    let Some(spec) = plan.steps.iter().find(|s| s.id == *step) else {
        return refuse("that is not in the plan".into());
    };
    let now = history.now.get(step);
    match (body, now) {
        (Body::StepProgress { .. }, _) => return Ok(()),
        (_, Some(Now::Done)) => return refuse("after it was done".into()),
        (_, Some(Now::Failed)) => return refuse("after it had failed".into()),
        (Body::StepStarted { .. }, Some(Now::Working)) => return refuse("twice".into()),
        (Body::StepDone { already: true, .. }, Some(Now::Working)) => {
            return refuse("with nothing to do after it had begun".into());
        }
        (Body::StepDone { already: false, .. }, None) => {
            return refuse("without having begun".into());
        }
        _ => {}
    }
    match spec.needs.iter().find(|n| !history.is_done(n)) {
        Some(need) => refuse(format!("before its need `{need}` was done")),
        None => Ok(()),
    }
}

/// Takes an event in.
pub fn take(history: &mut History, body: &Body) {
    match body {
        Body::RunStarted { plan, .. } => {
            history.plan = Some(plan.clone());
            history.complete = false;
            history.active = true;
            history.now.clear();
        }
        Body::StepStarted { step, .. } => {
            history.started.insert(step.clone());
            history.now.insert(step.clone(), Now::Working);
        }
        Body::StepDone { step, output, .. } => {
            history.done.insert(step.clone());
            history.now.insert(step.clone(), Now::Done);
            if let Some(output) = output {
                history.outputs.push((step.clone(), output.clone()));
            }
        }
        Body::StepFailed { step, .. } => {
            history.now.insert(step.clone(), Now::Failed);
        }
        Body::RunEnded { outcome } => {
            history.complete = outcome == "success";
            history.active = false;
        }
        Body::StepProgress { .. } => {}
    }
}

/// Steps that must not be looked at again: once a point of no return was begun, what led to it may be gone on purpose. `whole`
/// is the plan to its end, also when only a part of it is to run.
pub fn behind(whole: &Plan, history: &History) -> BTreeSet<StepId> {
    whole
        .steps
        .iter()
        .filter(|s| s.point_of_no_return && history.started.contains(&s.id))
        .flat_map(|s| {
            let mut behind = whole.ancestors(&s.id);
            if history.done.contains(&s.id) {
                behind.insert(s.id.clone());
            }
            behind
        })
        .filter(|id| history.done.contains(id))
        .collect()
}

/// Refuses to go on with another plan than the one that was begun.
pub fn same_plan(history: &History, now: &Plan) -> Result<()> {
    let Some(earlier) = &history.plan else {
        return Ok(());
    };
    let differences = difference(earlier, now);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!(
            "the plan is another one than the one that `{}` was begun with",
            earlier.cluster
        ),
    )
    .because(differences.join("; "))
    .fix(format!("go on with mctl {}, and with the document and the bundle of that time; what runs already is changed by its own document", earlier.mctl))
    .state("nothing was changed"))
}

/// What two plans do differently; either may be a part of its whole. Who goes on with another plan would make half of each.
pub fn difference(earlier: &Plan, now: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    if earlier.kubernetes_version != now.kubernetes_version {
        found.push(format!(
            "Kubernetes was {}, would be {}",
            earlier.kubernetes_version, now.kubernetes_version
        ));
    }
    let without = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter()
            .filter(|i| !others.contains(i))
            .cloned()
            .collect()
    };
    let gone = without(&earlier.images, &now.images);
    let new = without(&now.images, &earlier.images);
    for (word, images) in [("no longer", gone), ("new", new)] {
        if let [first, rest @ ..] = images.as_slice() {
            found.push(match rest.len() {
                0 => format!("{word}: image {first}"),
                n => format!("{word}: image {first} and {n} more"),
            });
        }
    }
    for step in &earlier.steps {
        match now.steps.iter().find(|s| s.id == step.id) {
            Some(other) if other.needs != step.needs => {
                found.push(format!("step `{}` needs other steps", step.id));
            }
            Some(other) if other.components != step.components => {
                found.push(format!("step `{}` brings other components", step.id));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::event::FORMAT;
    use super::*;
    use crate::plan::StepSpec;

    fn begin() -> Body {
        let spec = |id: &str, needs: &[&str]| StepSpec {
            id: id.into(),
            title: id.into(),
            needs: needs.iter().map(|n| StepId::from(*n)).collect(),
            components: vec![],
            point_of_no_return: false,
        };
        Body::RunStarted {
            format: FORMAT,
            plan: Plan {
                cluster: "x".into(),
                mctl: "0".into(),
                hash: "h".into(),
                kubernetes_version: "v".into(),
                images: vec![],
                steps: vec![spec("a", &[]), spec("b", &["a"])],
            },
        }
    }

    fn start(step: &str) -> Body {
        Body::StepStarted {
            step: step.into(),
            why: String::new(),
        }
    }

    fn done(step: &str, already: bool) -> Body {
        Body::StepDone {
            step: step.into(),
            evidence: String::new(),
            already,
            output: None,
        }
    }

    fn fail(step: &str) -> Body {
        Body::StepFailed {
            step: step.into(),
            error: String::new(),
        }
    }

    fn end(outcome: &str) -> Body {
        Body::RunEnded {
            outcome: outcome.into(),
        }
    }

    fn all(bodies: &[Body]) -> Result<History, String> {
        let mut history = History::default();
        for body in bodies {
            check(&history, body)?;
            take(&mut history, body);
        }
        Ok(history)
    }

    #[test]
    fn what_runs_do_is_legal() {
        let killed = [begin(), start("a"), begin(), done("a", true), start("b")];
        assert!(!all(&killed).unwrap().complete);
        let whole = [
            begin(),
            start("a"),
            fail("a"),
            end("failed"),
            begin(),
            start("a"),
            done("a", false),
            start("b"),
            done("b", false),
            end("success"),
        ];
        assert!(all(&whole).unwrap().complete);
    }

    #[test]
    fn plans_differ_by_what_they_do() {
        let Body::RunStarted { plan, .. } = begin() else {
            unreachable!()
        };
        // Who made it and from which text does not matter.
        let mut same = plan.clone();
        same.mctl = "9".into();
        same.hash = "i".into();
        assert!(difference(&plan, &same).is_empty());
        assert!(difference(&plan, &plan.until("a").unwrap()).is_empty());
        let mut other = plan.clone();
        other.kubernetes_version = "w".into();
        other.images = vec!["x:2".into()];
        other.steps[1].components = vec!["new".into()];
        let told = difference(&plan, &other).join("; ");
        assert_eq!(
            told,
            "Kubernetes was v, would be w; new: image x:2; step `b` brings other components"
        );
    }

    #[test]
    fn what_no_run_does_is_refused() {
        for (bodies, why) in [
            (vec![start("a")], "outside of a run"),
            (vec![end("failed")], "had not begun"),
            (vec![begin(), start("b")], "before its need `a`"),
            (vec![begin(), done("a", false)], "without having begun"),
            (vec![begin(), start("a"), done("a", true)], "nothing to do"),
            (vec![begin(), start("a"), start("a")], "twice"),
            (vec![begin(), start("x")], "not in the plan"),
            (
                vec![begin(), done("a", true), fail("a")],
                "after it was done",
            ),
            (vec![begin(), fail("a"), start("a")], "after it had failed"),
            (
                vec![begin(), done("a", true), end("success")],
                "success without its step `b`",
            ),
            (vec![begin(), end("failed"), start("a")], "outside of a run"),
        ] {
            let e = all(&bodies).unwrap_err();
            assert!(e.contains(why), "{bodies:?}: {e}");
        }
    }
}
