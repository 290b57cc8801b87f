//! API servers that fail: each request of a run meets one of many faults; and a server that is away for a minute after every
//! step. The run must come to its end by itself, or say what to do, and the same command must then do the rest.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Figures, Final, expected, paused, spread, told_well, violations};
use crate::{
    outside::{Life, Place, Verdict, Watch},
    run::{Ask, End},
    scene::Scene,
};

/// What happens to requests.
const REQUESTS: &[Verdict] = &[
    Verdict::Status {
        code: 500,
        applied: false,
        retry_after: None,
    },
    Verdict::Status {
        code: 503,
        applied: true,
        retry_after: None,
    },
    Verdict::Status {
        code: 429,
        applied: false,
        retry_after: Some(2),
    },
    Verdict::Status {
        code: 409,
        applied: false,
        retry_after: None,
    },
    Verdict::Status {
        code: 504,
        applied: true,
        retry_after: None,
    },
    Verdict::Reset { applied: false },
    Verdict::Reset { applied: true },
    Verdict::Silence { applied: false },
    Verdict::Silence { applied: true },
];
/// What happens to watches.
const WATCHES: &[Verdict] = &[
    Verdict::Watch(Watch::Ends(0)),
    Verdict::Watch(Watch::Ends(1)),
    Verdict::Watch(Watch::Breaks(1)),
    Verdict::Watch(Watch::Repeats),
    Verdict::Watch(Watch::Reorders),
    Verdict::Watch(Watch::Gone),
    Verdict::Watch(Watch::Silent(0)),
    Verdict::Watch(Watch::Silent(1)),
];
/// Every so many requests meet a fault in one run; so many runs meet all of them.
const APART: usize = 23;

pub fn run() -> Figures {
    let scene = Scene::small();
    let mut figures = Figures::default();
    let expected = match expected(&scene) {
        Ok(expected) => expected,
        Err(wrong) => return wrong,
    };
    figures.add(at_every_request(&scene, &expected));
    figures.add(away(&scene, &expected));
    figures
}

fn at_every_request(scene: &Arc<Scene>, expected: &Final) -> Figures {
    let mut figures = Figures::default();
    let work: Vec<usize> = (0..APART).collect();
    let found = spread(work, |offset| {
        paused(async {
            let (world, home) = (scene.world(), scene.home());
            let count = Arc::new(Mutex::new((0_usize, 0_usize)));
            let counted = count.clone();
            let life = Life::new(&world, &home).script(move |point| {
                if point.place != Place::Server {
                    return Verdict::Go;
                }
                let mut count = counted.lock().unwrap();
                let number = count.0;
                count.0 += 1;
                if number % APART != offset {
                    return Verdict::Go;
                }
                count.1 += 1;
                let faults = if point.what.ends_with(" watch") {
                    WATCHES
                } else {
                    REQUESTS
                };
                faults[(number / APART + offset) % faults.len()]
            });
            let working = world.start();
            let mut wrong = Vec::new();
            let mut end = Ask::whole(scene).go(&life).await;
            let mut runs = 1;
            // Not every fault can be waited through; then the same command goes on.
            while !end.is_success() && runs < 4 {
                wrong.extend(told_well(&end));
                end = Ask::whole(scene).go(&Life::new(&world, &home)).await;
                runs += 1;
            }
            drop(working);
            if end.is_success() {
                let last = Final::of(&world, &home).await;
                wrong.extend(violations(&world));
                wrong.extend(expected.differences(&last, |_| 0));
            } else {
                wrong.push(end.told());
            }
            let faults = count.lock().unwrap().1;
            let wrong: Vec<String> = wrong
                .into_iter()
                .map(|w| format!("faults at {offset} of {APART}: {w}"))
                .collect();
            (faults, runs, wrong)
        })
    });
    for (faults, runs, wrong) in found {
        figures.faults += faults;
        figures.runs += runs;
        figures.violations.extend(wrong);
    }
    figures
}

/// No API server answers for a minute after each step was done.
fn away(scene: &Arc<Scene>, expected: &Final) -> Figures {
    let mut figures = Figures::default();
    let work: Vec<usize> = (0..scene.plan.steps.len()).collect();
    figures.faults = work.len();
    figures.runs = work.len();
    let found = spread(work, |number| {
        let step = scene.plan.steps[number].id.0.clone();
        paused(async {
            let (world, home) = (scene.world(), scene.home());
            let since: Arc<Mutex<Option<tokio::time::Instant>>> = Arc::default();
            let files = home.clone();
            let done = format!("\"step-done\",\"step\":\"{step}\"");
            let life = Life::new(&world, &home).script(move |point| {
                let mut since = since.lock().unwrap();
                if since.is_none() && point.place != Place::File {
                    let files = files.lock();
                    let journal = files
                        .files
                        .iter()
                        .find(|(p, _)| p.ends_with("journal.jsonl"));
                    let text = journal
                        .map(|(_, (b, _))| String::from_utf8_lossy(b).into_owned())
                        .unwrap_or_default();
                    if text.contains(&done) {
                        *since = Some(tokio::time::Instant::now());
                    }
                }
                match *since {
                    Some(since)
                        if point.place == Place::Server
                            && since.elapsed() < Duration::from_secs(60) =>
                    {
                        Verdict::Reset { applied: false }
                    }
                    _ => Verdict::Go,
                }
            });
            let working = world.start();
            let end = Ask::whole(scene).go(&life).await;
            let mut wrong = Vec::new();
            if let End::Failed(..) = end {
                wrong.push(format!("a minute is not waited through: {}", end.told()));
            }
            drop(working);
            let last = Final::of(&world, &home).await;
            wrong.extend(violations(&world));
            if wrong.is_empty() {
                wrong.extend(expected.differences(&last, |_| 0));
            }
            wrong
                .into_iter()
                .map(|w| format!("servers away after `{step}`: {w}"))
                .collect::<Vec<_>>()
        })
    });
    figures.violations.extend(found.into_iter().flatten());
    figures
}
