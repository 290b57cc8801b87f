//! Progress as bars on a terminal: one line per running step with what it waits for.

use std::{collections::BTreeMap, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;

use super::printer::clean;
use crate::{
    engine::{
        event::{Body, Event},
        view::RunView,
    },
    plan::StepId,
};

pub(super) async fn show(mut events: UnboundedReceiver<Event>) -> RunView {
    let all = MultiProgress::new();
    let mut view = RunView::default();
    let mut running: BTreeMap<StepId, ProgressBar> = BTreeMap::new();
    let total = all.add(ProgressBar::new(0));
    total.set_style(style("{elapsed:>5} [{bar:30}] {pos}/{len} {msg}"));
    total.enable_steady_tick(Duration::from_millis(250));
    while let Some(event) = events.recv().await {
        view.apply(&event);
        match &event.body {
            Body::RunStarted { plan, .. } => {
                total.set_length(plan.steps.len() as u64);
                total.set_message(format!(
                    "{} · Kubernetes {}",
                    plan.cluster, plan.kubernetes_version
                ));
            }
            Body::StepStarted { step, why } => {
                let bar = all.insert_before(&total, ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {prefix:<26} {elapsed:>4}  {wide_msg}"));
                bar.set_prefix(step.to_string());
                bar.set_message(clean(why, 300));
                bar.enable_steady_tick(Duration::from_millis(120));
                running.insert(step.clone(), bar);
            }
            Body::StepProgress { step, seen } => {
                if let Some(bar) = running.get(step) {
                    bar.set_message(clean(seen, 300));
                }
            }
            Body::StepDone {
                step,
                evidence,
                already,
                ..
            } => {
                total.inc(1);
                let took = view.steps.get(step).map_or(0.0, |s| s.took().as_secs_f64());
                if let Some(bar) = running.remove(step) {
                    bar.finish_and_clear();
                }
                if !already {
                    let _ = all.println(format!(
                        "✓ {step:<26} {took:>4.0} s {}",
                        clean(evidence, 120)
                    ));
                }
            }
            Body::StepFailed { step, error } => {
                if let Some(bar) = running.remove(step) {
                    bar.finish_and_clear();
                }
                let _ = all.println(format!("✗ {step:<26} {}", clean(error, 300)));
            }
            Body::RunEnded { .. } => {
                for bar in running.values() {
                    bar.finish_and_clear();
                }
                total.finish_and_clear();
            }
        }
    }
    view
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
