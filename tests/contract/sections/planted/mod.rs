//! Bugs planted into steps, plan, files and requests, each of which a section must catch in the way it catches real ones. A bug
//! that nobody catches is a violation.

mod mutants;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use mctl::{
    engine::{Step, Steps},
    plan::{Plan, id},
    ports::{Ports, files::Files},
};
use mutants::{Deaf, Forgetful, How, Kept, Mutant};

use super::{Figures, Final, contracts, crashes, expected, paused, seeds, told_well, violations};
use crate::{
    outside::{Life, Place, Point, RequestBug, Verdict},
    run::Ask,
    scene::Scene,
};

/// What catches a bug; what it finds.
type Catch = Box<dyn Fn(&Ask, &Final) -> Vec<String> + Send + Sync>;

struct Bug {
    what: &'static str,
    ask: Box<dyn Fn(Ask) -> Ask + Send + Sync>,
    catch: Catch,
}

pub fn run() -> Figures {
    let mut figures = Figures::default();
    let scene = Scene::small();
    let expected = match expected(&scene) {
        Ok(expected) => expected,
        Err(wrong) => return wrong,
    };
    let bugs = bugs();
    figures.planted = bugs.len();
    let found = super::spread(bugs, |bug| {
        let found = (bug.catch)(&(bug.ask)(Ask::whole(&scene)), &expected);
        (bug.what, found)
    });
    for (what, found) in found {
        match found.first() {
            Some(first) => {
                figures.caught += 1;
                if std::env::var("MCTL_TRACE").is_ok() {
                    println!("  caught: {what}: {first}");
                }
            }
            None => figures.violations.push(format!("nobody catches: {what}")),
        }
    }
    figures
}

fn bugs() -> Vec<Bug> {
    vec![
        Bug {
            what: "a step says that it is done without looking",
            ask: step(id::REGISTRY, |inner| {
                Arc::new(Mutant {
                    inner,
                    how: How::Blind,
                })
            }),
            catch: contract(id::REGISTRY),
        },
        Bug {
            what: "looking makes what is missing",
            ask: step(id::NETWORK, |inner| {
                Arc::new(Mutant {
                    inner,
                    how: How::Acts,
                })
            }),
            catch: contract(id::NETWORK),
        },
        Bug {
            what: "a step says that it worked and did nothing",
            ask: step(id::NODE_IMAGE, |inner| {
                Arc::new(Mutant {
                    inner,
                    how: How::Idle,
                })
            }),
            catch: contract(id::NODE_IMAGE),
        },
        Bug {
            what: "a step never sees that it is done",
            ask: step(id::OWN_IMAGE, |inner| {
                Arc::new(Mutant {
                    inner,
                    how: How::Forgets,
                })
            }),
            catch: contract(id::OWN_IMAGE),
        },
        Bug {
            what: "a look that fails is taken for an absence",
            ask: step(id::TEMPORARY_CLUSTER, |inner| {
                Arc::new(Mutant {
                    inner,
                    how: How::Guesses,
                })
            }),
            catch: blinded("/version"),
        },
        Bug {
            what: "errors come without what to do",
            ask: step(id::OWN_IMAGE, |inner| {
                Arc::new(Mutant {
                    inner,
                    how: How::Silent,
                })
            }),
            catch: Box::new(|ask, _| {
                paused(async {
                    let life = Life::new(&ask.scene.world(), &ask.scene.home());
                    told_well(&ask.go(&life).await).into_iter().collect()
                })
            }),
        },
        Bug {
            what: "a step is planned but not registered",
            ask: steps(|mut steps| {
                steps.remove(&id::MACHINES.into());
                steps
            }),
            catch: whole(),
        },
        Bug {
            what: "the temporary cluster goes before the move is proven",
            ask: plan(|plan| {
                for step in plan
                    .steps
                    .iter_mut()
                    .filter(|s| s.id.0 == id::REMOVE_TEMPORARY)
                {
                    step.needs = vec![id::TEMPORARY_CLUSTER.into()];
                }
            }),
            catch: whole(),
        },
        Bug {
            what: "the journal is never on disk",
            ask: files(|path, _| {
                if path.ends_with("journal.jsonl") {
                    Kept::Not
                } else {
                    Kept::Yes
                }
            }),
            catch: crash(|point| {
                point.what.contains("docker rm") && point.what.contains("-control-plane")
            }),
        },
        Bug {
            what: "the journal does not say that a step began",
            ask: files(|_, record| {
                if record.contains("step-started") {
                    Kept::Not
                } else {
                    Kept::Yes
                }
            }),
            catch: crash(|point| {
                point.what.starts_with("DELETE temporary") && point.what.contains("/clusters/")
            }),
        },
        Bug {
            what: "writes that fail are said to have worked",
            ask: Box::new(|mut ask| {
                ask.ports = Some(Arc::new(|ports: Ports| {
                    with_files(ports, |inner| Arc::new(Deaf(inner)))
                }));
                ask
            }),
            catch: full("registry/tls.crt"),
        },
        Bug {
            what: "what is behind the cluster is forgotten",
            ask: Box::new(|mut ask| {
                ask.forgets = true;
                ask
            }),
            catch: Box::new(again_until),
        },
        Bug {
            what: "an object is said to be applied and is not sent",
            ask: Box::new(|ask| ask),
            catch: requests(RequestBug::Unsent(
                "/namespaces/flux-giantswarm/serviceaccounts",
            )),
        },
        Bug {
            what: "an object of the move is said to be deleted and is not",
            ask: Box::new(|ask| ask),
            catch: requests(RequestBug::Unsent("/devclusters/golem")),
        },
        Bug {
            what: "the wall's clock is in the journal",
            ask: Box::new(|mut ask| {
                ask.ports = Some(Arc::new(|mut ports: Ports| {
                    ports.clock = Arc::new(mctl::ports::clock::Wall);
                    ports
                }));
                ask
            }),
            catch: Box::new(|ask, _| {
                let (first, _) = seeds::trace(ask, 1);
                std::thread::sleep(std::time::Duration::from_millis(2));
                let (second, _) = seeds::trace(ask, 1);
                if first == second {
                    vec![]
                } else {
                    vec!["two runs of a seed differ".into()]
                }
            }),
        },
    ]
}

fn steps(
    change: impl Fn(Steps) -> Steps + Send + Sync + 'static,
) -> Box<dyn Fn(Ask) -> Ask + Send + Sync> {
    let change: crate::run::Change<Steps> = Arc::new(change);
    Box::new(move |mut ask| {
        ask.steps = Some(change.clone());
        ask
    })
}

fn step(
    name: &'static str,
    change: impl Fn(Arc<dyn Step>) -> Arc<dyn Step> + Send + Sync + 'static,
) -> Box<dyn Fn(Ask) -> Ask + Send + Sync> {
    steps(move |mut steps| {
        if let Some(inner) = steps.remove(&name.into()) {
            steps.insert(name.into(), change(inner));
        }
        steps
    })
}

fn plan(
    change: impl Fn(&mut Plan) + Send + Sync + 'static,
) -> Box<dyn Fn(Ask) -> Ask + Send + Sync> {
    let change: crate::run::Change<Plan> = Arc::new(move |mut plan| {
        change(&mut plan);
        plan
    });
    Box::new(move |mut ask| {
        ask.plan = Some(change.clone());
        ask
    })
}

fn files(keep: fn(&Path, &str) -> Kept) -> Box<dyn Fn(Ask) -> Ask + Send + Sync> {
    Box::new(move |mut ask| {
        ask.ports = Some(Arc::new(move |ports: Ports| {
            with_files(ports, |inner| {
                Arc::new(Forgetful {
                    inner,
                    keep,
                    lengths: Mutex::default(),
                })
            })
        }));
        ask
    })
}

fn with_files(mut ports: Ports, change: impl Fn(Arc<dyn Files>) -> Arc<dyn Files>) -> Ports {
    ports.files = change(ports.files.clone());
    ports
}

/// The contract of one step, after an undisturbed run of all before it.
fn contract(step: &'static str) -> Catch {
    Box::new(move |ask, _| {
        paused(async {
            let (world, home) = (ask.scene.world(), ask.scene.home());
            let working = world.start();
            let needs = ask.scene.plan.ancestors(&step.into());
            for need in ask
                .scene
                .plan
                .steps
                .iter()
                .filter(|s| needs.contains(&s.id))
            {
                Ask::whole(&ask.scene)
                    .until(&need.id.0)
                    .go(&Life::new(&world, &home))
                    .await;
            }
            let found = contracts::contract(ask, &world, &home, step).await;
            drop(working);
            found.err().into_iter().collect()
        })
    })
}

/// One run, compared with an undisturbed one.
fn whole() -> Catch {
    Box::new(|ask, expected| paused(compared(ask, expected, None)))
}

fn requests(bug: RequestBug) -> Catch {
    Box::new(move |ask, expected| paused(compared(ask, expected, Some(bug))))
}

async fn compared(ask: &Ask, expected: &Final, bug: Option<RequestBug>) -> Vec<String> {
    let (world, home) = (ask.scene.world(), ask.scene.home());
    let working = world.start();
    let end = ask.go(&Life::new(&world, &home).with_bug(bug)).await;
    drop(working);
    if !end.is_success() {
        return vec![end.told()];
    }
    let last = Final::of(&world, &home).await;
    let mut found = violations(&world);
    found.extend(expected.differences(&last, |_| 0));
    found
}

/// Crashes at some points.
fn crash(at: fn(&Point) -> bool) -> Catch {
    Box::new(move |ask, expected| {
        let left = crashes::collect(ask, at);
        if left.is_empty() {
            return vec![];
        }
        left.into_iter()
            .flat_map(|left| crashes::resume(ask, left, expected))
            .collect()
    })
}

/// A second process that cannot see something for a moment.
fn blinded(path: &'static str) -> Catch {
    Box::new(move |ask, expected| {
        paused(async {
            let (world, home) = (ask.scene.world(), ask.scene.home());
            let working = world.start();
            let before = ask
                .clone()
                .until(id::TEMPORARY_PROVIDERS)
                .go(&Life::new(&world, &home))
                .await;
            let life = Life::new(&world, &home).script({
                let mut left = 3;
                move |point| {
                    if left > 0 && point.what.ends_with(path) {
                        left -= 1;
                        Verdict::Reset { applied: false }
                    } else {
                        Verdict::Go
                    }
                }
            });
            let end = ask.go(&life).await;
            drop(working);
            if !before.is_success() || !end.is_success() {
                return vec![before.told(), end.told()];
            }
            let last = Final::of(&world, &home).await;
            expected.differences(&last, |_| 0)
        })
    })
}

/// A disk that is full when this file is written.
fn full(file: &'static str) -> Catch {
    Box::new(move |ask, expected| {
        paused(async {
            let (world, home) = (ask.scene.world(), ask.scene.home());
            let working = world.start();
            let life = Life::new(&world, &home).script(move |point| {
                if point.place == Place::File && point.what.ends_with(file) {
                    Verdict::Disk {
                        code: 28,
                        torn: false,
                    }
                } else {
                    Verdict::Go
                }
            });
            let _ = ask.go(&life).await;
            let end = ask.go(&Life::new(&world, &home)).await;
            drop(working);
            if !end.is_success() {
                return vec![end.told()];
            }
            expected.differences(&Final::of(&world, &home).await, |_| 0)
        })
    })
}

/// Everything is done; then the command is told to stop at an early step.
pub fn again_until(ask: &Ask, expected: &Final) -> Vec<String> {
    paused(async {
        let (world, home) = (ask.scene.world(), ask.scene.home());
        let working = world.start();
        let end = ask.go(&Life::new(&world, &home)).await;
        let again = ask
            .clone()
            .until(id::CONTROL_PLANE)
            .go(&Life::new(&world, &home))
            .await;
        drop(working);
        if !end.is_success() {
            return vec![end.told()];
        }
        let mut found = expected.differences(&Final::of(&world, &home).await, |_| 0);
        found.extend(violations(&world));
        if !again.is_success() {
            found.push(again.told());
        }
        found
    })
}
