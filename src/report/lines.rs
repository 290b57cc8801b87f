//! Progress as lines, for logs: each start and end, and what a long step waits for.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, interval},
};

use super::printer::{clean, err};
use crate::{
    engine::{
        event::{Body, Event},
        view::{RunView, State},
    },
    plan::StepId,
};

/// A running step says something at least this often.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) async fn show(mut events: UnboundedReceiver<Event>) -> RunView {
    let mut view = RunView::default();
    let mut spoke: BTreeMap<StepId, Instant> = BTreeMap::new();
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return view };
                view.apply(&event);
                if let Some(line) = line(&view, &event) {
                    err(&line);
                }
                if let Body::StepStarted { step, .. } = &event.body {
                    spoke.insert(step.clone(), Instant::now());
                }
            }
            _ = tick.tick() => {
                for (id, step) in view.steps.iter().filter(|(_, s)| s.state == State::Running) {
                    let last = spoke.entry(id.clone()).or_insert_with(Instant::now);
                    if last.elapsed() >= HEARTBEAT {
                        let since = step.began.map_or(0, |b| Timestamp::now().duration_since(b).as_secs());
                        err(&format!("{}   {id}: since {since} s, waits for: {}", clock(&view, Timestamp::now()), clean(&step.seen, 300)));
                        *last = Instant::now();
                    }
                }
            }
        }
    }
}

fn clock(view: &RunView, at: Timestamp) -> String {
    let seconds = view
        .began
        .map_or(0.0, |b| at.duration_since(b).as_secs_f64());
    format!("{seconds:7.1} s")
}

fn line(view: &RunView, event: &Event) -> Option<String> {
    let at = clock(view, event.at);
    Some(match &event.body {
        Body::RunStarted { plan, .. } => format!(
            "{at} ▶ {}: {} steps, plan {}",
            plan.cluster,
            plan.steps.len(),
            plan.hash
        ),
        Body::StepStarted { step, .. } => {
            let title = view
                .plan
                .as_ref()?
                .steps
                .iter()
                .find(|s| s.id == *step)
                .map_or("", |s| &s.title);
            format!("{at} ▸ {step}: {title}")
        }
        Body::StepDone {
            step,
            evidence,
            already,
            ..
        } => {
            let took = view.steps.get(step).map_or(0.0, |s| s.took().as_secs_f64());
            let how = if *already {
                "already so".to_owned()
            } else {
                format!("{took:.1} s")
            };
            format!("{at} ✓ {step} ({how}): {}", clean(evidence, 300))
        }
        Body::StepFailed { step, error } => format!("{at} ✗ {step}: {}", clean(error, 1000)),
        Body::RunEnded { outcome } => format!("{at} ■ {outcome}"),
        Body::StepProgress { .. } => return None,
    })
}
