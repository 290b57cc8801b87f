//! Schedules made from seeds: how long each answer takes and which of them fail. Each seed runs twice; both runs must meet the
//! outside in the same order at the same times, and come to the end that an undisturbed run comes to.

use std::{sync::Arc, time::Duration};

use super::{Figures, Final, expected, paused, spread, violations};
use crate::{
    outside::{Effect, Life, Place, Verdict},
    run::Ask,
    scene::Scene,
};

/// Seeds of a run; `MCTL_SEEDS` says another number.
const SEEDS: u64 = 60;

pub fn run() -> Figures {
    let scene = Scene::small();
    let mut figures = Figures::default();
    let expected = match expected(&scene) {
        Ok(expected) => expected,
        Err(wrong) => return wrong,
    };
    let seeds = std::env::var("MCTL_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(SEEDS);
    figures.seeds = usize::try_from(seeds).unwrap_or_default();
    let found = spread((1..=seeds).collect(), |seed| {
        let (first, mut wrong) = one(&scene, &expected, seed);
        let (second, _) = one(&scene, &expected, seed);
        if first != second {
            let at = first
                .iter()
                .zip(&second)
                .take_while(|(a, b)| a == b)
                .count();
            let line = |t: &[String]| t.get(at).cloned().unwrap_or_default();
            wrong.push(format!(
                "two runs differ at line {at}: `{}` / `{}`",
                line(&first).trim(),
                line(&second).trim()
            ));
        }
        (
            first.len(),
            wrong
                .into_iter()
                .map(|w| format!("seed {seed}: {w}"))
                .collect::<Vec<_>>(),
        )
    });
    for (_, wrong) in found {
        figures.runs += 2;
        figures.violations.extend(wrong);
    }
    figures
}

/// Small, quick, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One schedule: processes one after the other until one comes to the end.
fn one(scene: &Arc<Scene>, expected: &Final, seed: u64) -> (Vec<String>, Vec<String>) {
    let ask = Ask::whole(scene);
    let (trace, last) = trace(&ask, seed);
    let wrong = match last {
        Err(why) => vec![why],
        Ok((last, mut wrong)) => {
            let repeats = |what: &str| {
                if what.contains("container mctl-") {
                    12
                } else {
                    0
                }
            };
            wrong.extend(expected.differences(&last, repeats));
            wrong
        }
    };
    (trace, wrong)
}

/// What one schedule meets, and its end.
#[allow(clippy::type_complexity)]
pub fn trace(ask: &Ask, seed: u64) -> (Vec<String>, Result<(Final, Vec<String>), String>) {
    paused(async {
        let (world, home) = (ask.scene.world(), ask.scene.home());
        let working = world.start();
        let mut trace = Vec::new();
        for process in 0..12_u64 {
            let mut random = Random::new(seed * 1000 + process);
            let mut times = Random::new(seed * 1000 + process + 500);
            // The last ones are left alone, so that there is an end.
            let calm = process > 8;
            let life = Life::new(&world, &home)
                .script(move |point| {
                    if calm {
                        Verdict::Go
                    } else {
                        draw(
                            &mut random,
                            point.place,
                            point.change.is_some(),
                            &point.what,
                        )
                    }
                })
                .latency(move |_| Duration::from_millis(times.below(120)));
            let end = ask.go(&life).await;
            trace.extend(life.trace());
            trace.push(format!(
                "process {process}: {}",
                if end.is_success() {
                    "success"
                } else {
                    "stopped"
                }
            ));
            if end.is_success() {
                break;
            }
            if process == 11 {
                return (trace, Err(end.told()));
            }
        }
        drop(working);
        let last = Final::of(&world, &home).await;
        let found = violations(&world);
        (trace, Ok((last, found)))
    })
}

fn draw(random: &mut Random, place: Place, changes: bool, what: &str) -> Verdict {
    use crate::outside::Watch;
    let applied = random.below(2) == 0;
    match (place, random.below(1000)) {
        (_, 0..=3) if changes => Verdict::Crash(if applied { Effect::Whole } else { Effect::None }),
        (Place::Server, 4..=30) if what.ends_with(" watch") => {
            let kinds = [
                Watch::Ends(1),
                Watch::Breaks(0),
                Watch::Repeats,
                Watch::Reorders,
                Watch::Gone,
                Watch::Silent(1),
            ];
            Verdict::Watch(kinds[random.below(6) as usize])
        }
        (Place::Server, 4..=12) => Verdict::Status {
            code: 503,
            applied,
            retry_after: None,
        },
        (Place::Server, 13..=16) => Verdict::Status {
            code: 429,
            applied: false,
            retry_after: Some(1),
        },
        (Place::Server, 17..=20) => Verdict::Reset { applied },
        (Place::Server, 21..=22) => Verdict::Silence { applied },
        (Place::File, 4..=7) => Verdict::Disk {
            code: 28,
            torn: applied,
        },
        (Place::Engine, 4..=12) => Verdict::Command {
            applied: changes && applied,
            hangs: false,
        },
        (Place::Engine, 13..=14) => Verdict::Command {
            applied: changes && applied,
            hangs: true,
        },
        _ => Verdict::Go,
    }
}
