//! Schedules by seed: faults, crashes and losses wherever the dice fall; each seed runs twice and must show the same, byte by byte.

use std::sync::{Arc, Mutex};

use super::{
    tally::{SEEDS, through},
    world::World,
};
use crate::fake::{Call, Fault, Store};

/// Numbers by xorshift: the same in every run.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn fault(&mut self, writes: bool) -> Fault {
        let applied = writes && self.roll(2) == 0;
        match self.roll(if writes { 7 } else { 6 }) {
            0 => Fault::Status { code: 500, applied },
            1 => Fault::Status {
                code: 503,
                applied: false,
            },
            2 => Fault::Status {
                code: 429,
                applied: false,
            },
            3 => Fault::Reset { applied },
            4 => Fault::Hang { applied },
            5 => Fault::Crash { applied },
            _ => Fault::Status { code: 409, applied },
        }
    }
}

/// Runs a schedule to its end and gives back all that happened.
async fn trace(seed: u64) -> String {
    let clusters = &["golem", "gauss"][..1 + seed as usize % 2];
    let clean = World::clean(clusters).await;
    let world = World::new(clusters);
    let dice = Arc::new(Mutex::new(Dice::new(seed)));
    let trace = Arc::new(Mutex::new(Vec::new()));
    let calm = 12 + dice.lock().unwrap().roll(40);
    for (side, fake) in [("source", &world.source), ("target", &world.target)] {
        let (dice, trace) = (dice.clone(), trace.clone());
        fake.on_request(move |call: &Call, _: &mut Store| {
            let mut dice = dice.lock().unwrap();
            let fault = match dice.roll(calm) {
                0 => dice.fault(call.writes()),
                _ => Fault::None,
            };
            let line = format!(
                "{side} {} {}?{} {fault:?}",
                call.method, call.path, call.query
            );
            trace.lock().unwrap().push(line);
            fault
        });
    }
    for round in 0.. {
        if round == 30 {
            world.no_faults();
        }
        let line = match world.run_or_crash().await {
            Some(Ok(report)) => format!("moved {} objects", report.objects),
            Some(Err(e)) => {
                assert!(e.has_state(), "seed {seed}: {e}");
                format!("error: {}", e.line())
            }
            None => {
                world.check(&format!("seed {seed}, round {round}"));
                if dice.lock().unwrap().roll(3) == 0 {
                    world.journal.lose();
                }
                "died".to_owned()
            }
        };
        let over = line.starts_with("moved");
        trace.lock().unwrap().push(line);
        if over {
            break;
        }
        assert!(round < 32, "seed {seed} gets nowhere");
    }
    assert_eq!(world.end(), clean, "seed {seed}");
    let mut all = trace.lock().unwrap().clone();
    all.extend(world.shown.0.lock().unwrap().iter().cloned());
    all.push(format!(
        "{:?}",
        tokio::time::Instant::now() - world.clock.begin()
    ));
    all.join("\n")
}

#[tokio::test(start_paused = true)]
async fn each_seed_twice() {
    let seeds = 24;
    for seed in 0..seeds {
        let (first, second) = (trace(seed).await, trace(seed).await);
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert!(first == second, "seed {seed} at {differs:?}");
    }
    through(&SEEDS, seeds as usize);
}
