//! A disk that fails at each write in turn: full, broken, or with a part of the record written. The run must stop with what to
//! do and in which state things are, and the same command must do the rest.

use std::sync::Arc;

use super::{Figures, Final, crashes, expected, paused, spread, told_well, violations};
use crate::{
    outside::{Life, Place, Verdict},
    run::Ask,
    scene::Scene,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

pub fn run() -> Figures {
    let scene = Scene::small();
    let mut figures = Figures::default();
    let expected = match expected(&scene) {
        Ok(expected) => expected,
        Err(wrong) => return wrong,
    };
    let writes: Vec<usize> = crashes::points(&scene)
        .into_iter()
        .filter(|(_, place, _)| *place == Place::File)
        .map(|(change, ..)| change)
        .collect();
    let work: Vec<(usize, i32, bool)> = writes
        .iter()
        .enumerate()
        .map(|(n, change)| match n % 3 {
            0 => (*change, EIO, false),
            1 => (*change, ENOSPC, true),
            _ => (*change, ENOSPC, false),
        })
        .collect();
    figures.faults = work.len();
    figures.runs = 2 * work.len();
    let found = spread(work, |(change, code, torn)| {
        one(&scene, &expected, change, code, torn)
    });
    figures.violations.extend(found.into_iter().flatten());
    figures
}

fn one(scene: &Arc<Scene>, expected: &Final, change: usize, code: i32, torn: bool) -> Vec<String> {
    paused(async {
        let (world, home) = (scene.world(), scene.home());
        let life = Life::new(&world, &home).script(move |point| {
            if point.change == Some(change) && point.place == Place::File {
                Verdict::Disk { code, torn }
            } else {
                Verdict::Go
            }
        });
        let working = world.start();
        let mut wrong = Vec::new();
        let end = Ask::whole(scene).go(&life).await;
        wrong.extend(told_well(&end));
        let end = Ask::whole(scene).go(&Life::new(&world, &home)).await;
        drop(working);
        if end.is_success() {
            let last = Final::of(&world, &home).await;
            wrong.extend(violations(&world));
            wrong.extend(expected.differences(&last, |_| 0));
        } else {
            wrong.push(end.told());
        }
        let met = life
            .trace()
            .into_iter()
            .find(|l| l.contains("Disk {"))
            .unwrap_or_default();
        wrong
            .into_iter()
            .map(|w| format!("write {change} ({}): {w}", met.trim()))
            .collect()
    })
}
