//! The closing text of a run: durations per step, critical path. Pure.

use std::fmt::Write;

use crate::engine::view::{RunView, State};

/// Durations of all steps that worked, and the path that decided the total.
pub fn durations(view: &RunView) -> String {
    let mut text = String::new();
    let total = match (view.began, view.ended) {
        (Some(a), Some(b)) => b.duration_since(a).as_secs_f64(),
        _ => 0.0,
    };
    if let Some(plan) = &view.plan {
        let _ = writeln!(text, "step                          seconds");
        for step in &plan.steps {
            if let Some(s) = view.steps.get(&step.id)
                && s.state == State::Done
                && !s.already
            {
                let _ = writeln!(text, "{:<28} {:>8.1}", step.id.0, s.took().as_secs_f64());
            }
        }
    }
    let path: Vec<String> = view
        .critical_path()
        .into_iter()
        .filter(|(_, took)| took.as_secs_f64() >= 0.05)
        .map(|(id, took)| format!("{id} {:.1}", took.as_secs_f64()))
        .collect();
    let _ = writeln!(text, "{:<28} {total:>8.1}", "total");
    let _ = writeln!(text, "critical path: {}", path.join(" → "));
    text
}
