//! The process dies after every single change it makes outside (a command, a request, a file), and in the middle of those that
//! have one. The same command must then come to the same end with no more changes than a run that was not disturbed.

use std::sync::{Arc, Mutex};

use super::{Figures, Final, expected, paused, spread, violations};
use crate::{
    outside::{Effect, Home, Life, Place, Point, Verdict},
    run::Ask,
    scene::Scene,
    world::World,
};

/// What a crash leaves, and where it was.
pub struct Left {
    pub what: String,
    pub place: Place,
    pub world: World,
    pub home: Home,
}

pub fn run() -> Figures {
    let mut figures = everywhere(&Scene::small(), 1);
    figures.add(halves(&Scene::small()));
    // The real definitions and workloads, at some points.
    figures.add(everywhere(&Scene::usual(), 97));
    figures
}

/// After every `stride`th change.
fn everywhere(scene: &Arc<Scene>, stride: usize) -> Figures {
    let mut figures = Figures::default();
    let expected = match expected(scene) {
        Ok(expected) => expected,
        Err(wrong) => return wrong,
    };
    let ask = Ask::whole(scene);
    let left = collect(&ask, move |point| point.change.unwrap_or(0) % stride == 0);
    figures.crash_points = left.len();
    figures.runs = left.len();
    let found = spread(left, |left| resume(&ask, left, &expected));
    figures.violations.extend(found.into_iter().flatten());
    figures
}

/// Runs once and keeps what a crash right after some changes would leave. A crash just before a change leaves what one after
/// the change before left.
pub fn collect(ask: &Ask, keep: impl Fn(&Point) -> bool + Send + 'static) -> Vec<Left> {
    let kept: Arc<Mutex<Vec<Left>>> = Arc::default();
    paused(async {
        let (world, home) = (ask.scene.world(), ask.scene.home());
        let into = kept.clone();
        let life = Life::new(&world, &home).after(move |life, point| {
            if keep(point) {
                into.lock().unwrap().push(Left {
                    what: point.what.clone(),
                    place: point.place,
                    world: life.world.copy(),
                    home: life.home.copy(),
                });
            }
        });
        let working = world.start();
        ask.go(&life).await;
        drop(working);
    });
    std::mem::take(&mut *kept.lock().unwrap())
}

/// Goes on after a crash; what is wrong with the end.
pub fn resume(ask: &Ask, left: Left, expected: &Final) -> Vec<String> {
    paused(async {
        let when = format!("after `{}`", left.what);
        let working = left.world.start();
        let end = ask.go(&Life::new(&left.world, &left.home)).await;
        drop(working);
        if !end.is_success() {
            return vec![format!("{when}: {}", end.told())];
        }
        let last = Final::of(&left.world, &left.home).await;
        let mut wrong: Vec<String> = violations(&left.world);
        wrong.extend(expected.differences(&last, |what| repeats(what, left.place)));
        wrong.into_iter().map(|w| format!("{when}: {w}")).collect()
    })
}

/// What may be done once more than in an undisturbed run: only what the crash itself cut in half.
pub fn repeats(what: &str, place: Place) -> usize {
    let temporary = what.contains("container mctl-") && what.contains("-control-plane");
    usize::from(temporary && place == Place::Kind)
}

/// In the middle of every change that has one.
fn halves(scene: &Arc<Scene>) -> Figures {
    let mut figures = Figures::default();
    let expected = match expected(scene) {
        Ok(expected) => expected,
        Err(wrong) => return wrong,
    };
    let points = points(scene);
    let work: Vec<usize> = points
        .iter()
        .filter(|(_, place, what)| match place {
            Place::Kind | Place::Load => true,
            Place::File => what.starts_with("append"),
            _ => false,
        })
        .map(|(change, ..)| *change)
        .collect();
    figures.crash_points = work.len();
    figures.runs = 2 * work.len();
    let found = spread(work, |change| {
        let left = paused(async {
            let (world, home) = (scene.world(), scene.home());
            let what = Arc::new(Mutex::new((String::new(), Place::File)));
            let seen = what.clone();
            let life = Life::new(&world, &home).script(move |point| {
                if point.change == Some(change) {
                    *seen.lock().unwrap() = (format!("half of {}", point.what), point.place);
                    Verdict::Crash(Effect::Half)
                } else {
                    Verdict::Go
                }
            });
            let working = world.start();
            Ask::whole(scene).go(&life).await;
            drop(working);
            let (what, place) = what.lock().unwrap().clone();
            Left {
                what,
                place,
                world: world.copy(),
                home: home.copy(),
            }
        });
        resume(&Ask::whole(scene), left, &expected)
    });
    figures.violations.extend(found.into_iter().flatten());
    figures
}

/// All changes of an undisturbed run: number, place, what.
pub fn points(scene: &Arc<Scene>) -> Vec<(usize, Place, String)> {
    let points: Arc<Mutex<Vec<(usize, Place, String)>>> = Arc::default();
    paused(async {
        let (world, home) = (scene.world(), scene.home());
        let into = points.clone();
        let life = Life::new(&world, &home).script(move |point| {
            if let Some(change) = point.change {
                into.lock()
                    .unwrap()
                    .push((change, point.place, point.what.clone()));
            }
            Verdict::Go
        });
        let working = world.start();
        Ask::whole(scene).go(&life).await;
        drop(working);
    });
    std::mem::take(&mut *points.lock().unwrap())
}
