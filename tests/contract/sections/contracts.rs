//! Every step of the plan by itself, in the plan's order: what it sees before and after, that looking changes nothing, and that
//! doing it again changes nothing. The list of steps is the plan's; one that is not met fails.

use std::{collections::BTreeSet, sync::Arc};

use mctl::engine::Observation;

use super::{Figures, Final, paused, settle, violations};
use crate::{
    outside::{Home, Life},
    picture::{self, Picture},
    run::{Ask, End},
    scene::Scene,
    world::World,
};

pub fn run() -> Figures {
    let mut figures = Figures::default();
    for scene in [Scene::small(), Scene::usual()] {
        figures.add(one(&scene));
    }
    figures
}

fn one(scene: &Arc<Scene>) -> Figures {
    paused(async {
        let mut figures = Figures::default();
        let (world, home) = (scene.world(), scene.home());
        let working = world.start();
        let mut changed = BTreeSet::new();
        for step in order(scene) {
            if let Err(why) = contract(&Ask::whole(scene), &world, &home, &step).await {
                figures.violations.push(format!("step `{step}`: {why}"));
                break;
            }
            changed.insert(step);
            figures.steps += 1;
            figures.runs += 2;
        }
        drop(working);
        // Steps that do nothing here would be under no contract.
        for step in &scene.plan.steps {
            if !changed.contains(&step.id.0) {
                figures.violations.push(format!(
                    "step `{}` is not covered: it had nothing to do",
                    step.id
                ));
            }
        }
        figures.violations.extend(violations(&world));
        figures
    })
}

/// The plan's order, but with the network of the new cluster as early as can be: alone, what comes before it would wait for a
/// Node that is ready.
fn order(scene: &Scene) -> Vec<String> {
    let plan = &scene.plan;
    let mut early = BTreeSet::new();
    for step in plan.steps.iter().filter(|s| s.id.0.starts_with("addon-")) {
        early.extend(plan.ancestors(&step.id));
        early.insert(step.id.clone());
    }
    let (first, rest): (Vec<_>, Vec<_>) = plan.steps.iter().partition(|s| early.contains(&s.id));
    first
        .into_iter()
        .chain(rest)
        .map(|s| s.id.0.clone())
        .collect()
}

/// Everything outside: objects, revisions of the servers, files.
type Outside = (Picture, Vec<u64>, Vec<(std::path::PathBuf, Vec<u8>)>);

/// Everything outside right now.
fn now(world: &World, home: &Home) -> Outside {
    let inner = world.lock();
    let revisions = inner
        .servers
        .values()
        .map(|s| s.store().revision())
        .chain([inner.changes])
        .collect();
    drop(inner);
    let files = home
        .lock()
        .files
        .iter()
        .map(|(p, (b, _))| (p.clone(), b.clone()))
        .collect();
    (picture::world(world), revisions, files)
}

/// One step whose needs are done.
pub async fn contract(ask: &Ask, world: &World, home: &Home, step: &str) -> Result<(), String> {
    let ask = ask.clone().until(step);
    // Looking changes nothing, before and after.
    settle(world).await;
    let before = look(&ask, world, home, step).await?;
    if before.is_done() {
        return Err("is done before anything was made".into());
    }
    let life = Life::new(world, home);
    let end = ask.go(&life).await;
    if !end.is_success() {
        return Err(format!("does not work: {}", end.told()));
    }
    settle(world).await;
    let after = look(&ask, world, home, step).await?;
    // Acceptance checks are looked at anew each time.
    if !after.is_done() && step != mctl::plan::id::VERIFY {
        return Err(format!("is not seen as done after it was: {after:?}"));
    }
    // The second run changes nothing but the journal.
    let first = Final::of(world, home).await;
    match ask.go(&Life::new(world, home)).await {
        End::Success => {}
        end => return Err(format!("the second run does not work: {}", end.told())),
    }
    let second = Final::of(world, home).await;
    let differences = first.differences(&second, |_| 0);
    if !differences.is_empty() {
        return Err(format!(
            "the second run changes things: {}",
            differences.join("; ")
        ));
    }
    Ok(())
}

/// Observes one step, whose needs are done, and sees to it that nothing changes.
async fn look(ask: &Ask, world: &World, home: &Home, step: &str) -> Result<Seen, String> {
    // What is asked for is written before the first step; the look itself begins afterwards.
    let copy = home.copy();
    let life = Life::new(world, &copy);
    let work = ask.prepare(&life).await.map_err(|e| e.to_string())?;
    let Some(work) = work else {
        return Ok(Seen::Done("it is behind the cluster".into()));
    };
    if work.behind.contains(&step.into()) {
        return Ok(Seen::Done("it is behind the cluster".into()));
    }
    let Some(implementation) = work.steps.get(&step.into()) else {
        return Err("is planned but not registered".into());
    };
    let before = now(world, &copy);
    world.lock().held = true;
    let observed = implementation.observe(&()).await;
    world.lock().held = false;
    if now(world, &copy) != before {
        let trace = life.trace();
        return Err(format!(
            "looking changes something: {}",
            trace[trace.len().saturating_sub(5)..].join(" | ")
        ));
    }
    Ok(match observed {
        Ok(Observation::Done(proof)) => Seen::Done(proof.evidence),
        Ok(Observation::Missing(why)) => Seen::Missing(why),
        Err(error) => Seen::Unknown(error.to_string()),
    })
}

#[derive(Debug)]
enum Seen {
    Done(#[allow(dead_code)] String),
    Missing(#[allow(dead_code)] String),
    Unknown(#[allow(dead_code)] String),
}

impl Seen {
    fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}
