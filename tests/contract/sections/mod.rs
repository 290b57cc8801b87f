//! The sections of the lane. Each makes its worlds itself, counts what it tried, and collects what must not be.

mod contracts;
mod crashes;
mod files;
mod planted;
mod seeds;
mod servers;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
};

use crate::{
    outside::{Home, Life},
    picture::{self, Picture},
    run::{Ask, End},
    scene::Scene,
    world::World,
};

/// What a section tried and found.
#[derive(Debug, Default)]
pub struct Figures {
    pub steps: usize,
    pub runs: usize,
    pub crash_points: usize,
    pub faults: usize,
    pub seeds: usize,
    pub planted: usize,
    pub caught: usize,
    pub violations: Vec<String>,
}

impl Figures {
    pub fn add(&mut self, other: Self) {
        self.steps = self.steps.max(other.steps);
        self.runs += other.runs;
        self.crash_points += other.crash_points;
        self.faults += other.faults;
        self.seeds += other.seeds;
        self.planted += other.planted;
        self.caught += other.caught;
        self.violations.extend(other.violations);
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, what) in [
            (self.steps, "steps"),
            (self.runs, "runs"),
            (self.crash_points, "crash points"),
            (self.faults, "faults"),
            (self.seeds, "seeds"),
        ] {
            if number > 0 {
                write!(f, "{number} {what}, ")?;
            }
        }
        if self.planted > 0 {
            write!(f, "planted {} caught {}, ", self.planted, self.caught)?;
        }
        write!(f, "{} violations", self.violations.len())
    }
}

/// A part of the lane.
pub struct Section {
    pub name: &'static str,
    /// Whether it runs when no section is named: only once it finds nothing any more.
    pub by_default: bool,
    pub run: fn() -> Figures,
}

impl Section {
    pub const ALL: &'static [Self] = &[
        Self {
            name: "clean",
            by_default: true,
            run: undisturbed,
        },
        Self {
            name: "contracts",
            by_default: false,
            run: contracts::run,
        },
        Self {
            name: "crashes",
            by_default: false,
            run: crashes::run,
        },
        Self {
            name: "servers",
            by_default: false,
            run: servers::run,
        },
        Self {
            name: "files",
            by_default: false,
            run: files::run,
        },
        Self {
            name: "seeds",
            by_default: false,
            run: seeds::run,
        },
        Self {
            name: "planted",
            by_default: false,
            run: planted::run,
        },
    ];
}

/// Runs something with time that stands still while anything works.
pub fn paused<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

/// The state in which a run ended, and what it did on the way.
#[derive(Clone, PartialEq)]
pub struct Final {
    pub world: Picture,
    pub home: Picture,
    pub counts: BTreeMap<String, usize>,
}

impl Final {
    pub async fn of(world: &World, home: &Home) -> Self {
        settle(world).await;
        Self {
            world: picture::world(world),
            home: picture::home(home),
            counts: picture::counts(world),
        }
    }

    /// What differs from another one; `repeats` says how many more times something may have been done.
    pub fn differences(&self, other: &Self, repeats: impl Fn(&str) -> usize) -> Vec<String> {
        let mut all = picture::difference(&self.world, &other.world);
        all.extend(picture::difference(&self.home, &other.home));
        let mut counts = other.counts.clone();
        for (what, n) in &mut counts {
            let expected = self.counts.get(what).copied().unwrap_or(0);
            if *n > expected && *n <= expected + repeats(what) {
                *n = expected;
            }
        }
        counts.retain(|what, n| *n > 0 || self.counts.contains_key(what));
        all.extend(picture::difference(&self.counts, &counts));
        all
    }
}

/// Lets everything in the clusters come to rest.
pub async fn settle(world: &World) {
    let working = world.start();
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    drop(working);
}

/// What an undisturbed run ends in; without it nothing can be compared.
pub fn expected(scene: &Arc<Scene>) -> Result<Final, Figures> {
    clean(scene).map_err(|why| Figures {
        violations: vec![why],
        ..Figures::default()
    })
}

/// One undisturbed run to the end.
fn clean(scene: &Arc<Scene>) -> Result<Final, String> {
    paused(async {
        let (world, home) = (scene.world(), scene.home());
        let working = world.start();
        let end = Ask::whole(scene).go(&Life::new(&world, &home)).await;
        drop(working);
        if !end.is_success() {
            return Err(format!("an undisturbed run ends in {}", end.told()));
        }
        let found = violations(&world);
        if !found.is_empty() {
            return Err(found.join("; "));
        }
        Ok(Final::of(&world, &home).await)
    })
}

/// One undisturbed run of each scene, with everything it met: to look at by itself.
fn undisturbed() -> Figures {
    let mut figures = Figures::default();
    let usual = std::env::var("MCTL_SCENE").is_ok_and(|s| s == "usual");
    let scene = if usual {
        Scene::usual()
    } else {
        Scene::small()
    };
    {
        let begin = std::time::Instant::now();
        paused(async {
            let (world, home) = (scene.world(), scene.home());
            let life = Life::new(&world, &home);
            let working = world.start();
            let end = Ask::whole(&scene).go(&life).await;
            drop(working);
            let trace = life.trace();
            if std::env::var("MCTL_TRACE").is_ok() {
                trace.iter().for_each(|line| println!("{line}"));
            }
            let (points, changes) = life.count();
            println!(
                "{points} points, {changes} of them changes, {} s of the clusters' time, {:.2} s: {}",
                life.seconds(),
                begin.elapsed().as_secs_f64(),
                end.told()
            );
            if !end.is_success() {
                figures.violations.push(end.told());
            }
            figures.violations.extend(violations(&world));
        });
        figures.steps = scene.plan.steps.len();
        figures.runs = 1;
    }
    figures
}

/// What must never be in a world.
pub fn violations(world: &World) -> Vec<String> {
    world.lock().violations.iter().cloned().collect()
}

/// An error must say what to do and in which state things are.
pub fn told_well(end: &End) -> Option<String> {
    match end {
        End::Failed(step, error) if !error.has_state() || !error.to_string().contains("fix:") => {
            Some(format!("an error of `{step}` lacks state or fix: {error}"))
        }
        _ => None,
    }
}

/// Spreads work over two threads; results come in the order of the work.
pub fn spread<I: Send, T: Send>(work: Vec<I>, each: impl Fn(I) -> T + Sync) -> Vec<T> {
    let queue = Mutex::new(work.into_iter().enumerate());
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((number, item)) = next else { return };
                    let result = each(item);
                    results.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    results.into_inner().unwrap().into_values().collect()
}
