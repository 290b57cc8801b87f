//! Every combination of facts: what must never follow from any of them, and what must follow from the usual ones.

use super::{
    facts::{Containers, Facts, Known, Machine, Object, Own, Side, Temporary},
    marks::Marks,
    *,
};

const MINE: &str = "5f";
const OTHER: &str = "77";

fn sides() -> Vec<Known<Side>> {
    let mut all = vec![Known::Absent, Known::Unknown("no route to host".into())];
    for object in [Object::None, Object::Acting, Object::Paused, Object::Moving] {
        for run in [None, Some(MINE), Some(OTHER)] {
            let run = run.map(str::to_owned);
            all.push(Known::Is(Side { object, run }));
        }
    }
    all
}

fn engines() -> Vec<Known<Containers>> {
    let mut all = vec![Known::Absent, Known::Unknown("connection refused".into())];
    for registry in [None, Some(""), Some(MINE), Some(OTHER)] {
        for temporary in [None, Some(MINE), Some(OTHER)] {
            for machines in [&[][..], &["external-load-balancer"], &["control-plane"]] {
                for stranger in [false, true] {
                    all.push(Known::Is(containers(
                        registry, temporary, machines, stranger,
                    )));
                }
            }
        }
    }
    all
}

fn containers(
    registry: Option<&str>,
    temporary: Option<&str>,
    machines: &[&str],
    stranger: bool,
) -> Containers {
    Containers {
        own: registry
            .map(|run| Own {
                name: "mctl-demo-registry".into(),
                marks: Marks {
                    run: run.into(),
                    ca: "aa".into(),
                },
            })
            .into_iter()
            .collect(),
        temporary: temporary
            .map(|run| Temporary {
                name: format!("mctl-demo-{run}-control-plane"),
                run: run.into(),
            })
            .into_iter()
            .collect(),
        machines: machines
            .iter()
            .map(|role| Machine {
                name: "demo-x".into(),
                role: (*role).into(),
                running: true,
            })
            .collect(),
        strangers: stranger
            .then(|| "demo-control-plane".to_owned())
            .into_iter()
            .collect(),
    }
}

fn every_combination() -> Vec<Facts> {
    let mut all = Vec::new();
    for engine in engines() {
        for temporary in sides() {
            for management in sides() {
                for pivot_remembered in [false, true] {
                    all.push(Facts {
                        cluster: "demo".into(),
                        mine: MINE.into(),
                        pivot_remembered,
                        engine: engine.clone(),
                        temporary: temporary.clone(),
                        management: management.clone(),
                    });
                }
            }
        }
    }
    all
}

fn object(side: &Known<Side>) -> Option<Object> {
    match side {
        Known::Is(side) => Some(side.object),
        _ => None,
    }
}

#[test]
fn no_combination_of_facts_gives_a_second_owner() {
    let all = every_combination();
    assert!(all.len() > 25_000, "{}", all.len());
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for facts in &all {
        let owner = Ownership::of(facts);
        let may_build = owner.permits(Stage::Before);
        let may_go_on = owner.permits(Stage::Beside);
        let say = || format!("{owner:?} from {facts:#?}");
        assert!(may_go_on || !may_build, "{}", say());

        // What is at work in the new cluster has no second owner.
        if object(&facts.management) == Some(Object::Acting) {
            assert!(!may_build, "{}", say());
        }
        // What follows the pivot needs a cluster that manages itself.
        if owner.permits(Stage::After) {
            assert!(
                matches!(
                    object(&facts.management),
                    Some(Object::Acting | Object::Paused)
                ),
                "{}",
                say()
            );
        }
        // Nobody builds while something moves.
        if [&facts.management, &facts.temporary]
            .iter()
            .any(|s| object(s) == Some(Object::Moving))
        {
            assert!(!may_build, "{}", say());
        }
        // Two owners are told, not chosen from.
        if object(&facts.management) == Some(Object::Acting)
            && object(&facts.temporary) == Some(Object::Acting)
        {
            assert!(!may_go_on, "{}", say());
        }
        // Another run's mark, wherever it is, and a stranger's container forbid everything.
        if facts.claims().iter().any(|(run, _)| run != MINE) {
            assert!(!may_go_on, "{}", say());
        }
        let engine = match &facts.engine {
            Known::Is(engine) => engine,
            _ => {
                assert!(!may_go_on, "{}", say());
                continue;
            }
        };
        assert!(engine.strangers.is_empty() || !may_go_on, "{}", say());
        // Nothing is begun, as if it were new, where anything is or may be.
        if owner == Ownership::Fresh {
            assert!(engine.is_empty(), "{}", say());
            assert!(facts.claims().is_empty(), "{}", say());
            assert_eq!(facts.temporary, Known::Absent, "{}", say());
            assert_eq!(facts.management, Known::Absent, "{}", say());
        }
        // What is not known permits building only where the source is at work, or no machine could be lost.
        if matches!(facts.management, Known::Unknown(_)) && may_build {
            assert_eq!(object(&facts.temporary), Some(Object::Acting), "{}", say());
        }
        if matches!(facts.temporary, Known::Unknown(_)) && may_build {
            assert_eq!(facts.management, Known::Absent, "{}", say());
        }
        // Absent is no permission: machines that nobody knows are not built upon.
        if engine.has_machines() && may_build {
            let source = object(&facts.temporary);
            let target = object(&facts.management);
            assert!(
                source == Some(Object::Acting)
                    || (source, target) == (Some(Object::Paused), Some(Object::None)),
                "{}",
                say()
            );
        }
        // Only this run is ever named as the owner that may go on, and only if something says so.
        if may_go_on && owner != Ownership::Fresh {
            assert_eq!(owner.run(), Some(MINE), "{}", say());
            assert!(!facts.claims().is_empty(), "{}", say());
        }
        // A refusal has everything that a person needs.
        if let Err(e) = owner.check("demo", "unix:///var/run/docker.sock") {
            assert!(!may_go_on, "{}", say());
            assert!(e.has_state() && e.to_string().contains("fix:"), "{e}");
            assert_eq!(e.kind(), Kind::Preflight);
        } else {
            assert!(may_go_on, "{}", say());
        }
        *seen
            .entry(match owner {
                Ownership::Fresh => "fresh",
                Ownership::Building { .. } => "building",
                Ownership::Moving { .. } => "moving",
                Ownership::Pivoted { .. } => "pivoted",
                Ownership::Foreign { .. } => "foreign",
                Ownership::Unknown { .. } => "unknown",
            })
            .or_default() += 1;
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

fn facts() -> Facts {
    Facts {
        cluster: "demo".into(),
        mine: MINE.into(),
        pivot_remembered: false,
        engine: Known::Is(Containers::default()),
        temporary: Known::Absent,
        management: Known::Absent,
    }
}

fn side(object: Object) -> Known<Side> {
    Known::Is(Side {
        object,
        run: Some(MINE.into()),
    })
}

/// The moments at which a bootstrap may be killed, in their order.
#[test]
fn every_moment_of_a_bootstrap_goes_on() {
    let silent = || Known::Unknown("no answer".to_owned());
    let registry = Some(MINE);
    let machine = &["external-load-balancer", "control-plane"][..];
    let lb = &machine[..1];
    let none = &[][..];
    let building = Ownership::Building { run: MINE.into() };
    let moving = Ownership::Moving { run: MINE.into() };
    let pivoted = Ownership::Pivoted { run: MINE.into() };
    let moments = [
        (
            "nothing yet",
            None,
            None,
            none,
            Known::Absent,
            Known::Absent,
            Ownership::Fresh,
        ),
        (
            "registry",
            registry,
            None,
            none,
            Known::Absent,
            Known::Absent,
            building.clone(),
        ),
        (
            "half a kind cluster",
            registry,
            registry,
            none,
            silent(),
            Known::Absent,
            building.clone(),
        ),
        (
            "Cluster API",
            registry,
            registry,
            none,
            side(Object::None),
            Known::Absent,
            building.clone(),
        ),
        (
            "load balancer",
            registry,
            registry,
            lb,
            side(Object::Acting),
            Known::Absent,
            building.clone(),
        ),
        (
            "first machine",
            registry,
            registry,
            machine,
            side(Object::Acting),
            silent(),
            building.clone(),
        ),
        (
            "API server",
            registry,
            registry,
            machine,
            side(Object::Acting),
            side(Object::None),
            building,
        ),
        (
            "source paused",
            registry,
            registry,
            machine,
            side(Object::Moving),
            side(Object::None),
            moving.clone(),
        ),
        (
            "copied",
            registry,
            registry,
            machine,
            side(Object::Moving),
            side(Object::Moving),
            moving.clone(),
        ),
        (
            "source cleared",
            registry,
            registry,
            machine,
            side(Object::None),
            side(Object::Moving),
            moving.clone(),
        ),
        (
            "source lost after it",
            registry,
            None,
            machine,
            Known::Absent,
            side(Object::Moving),
            moving,
        ),
        (
            "unpaused",
            registry,
            registry,
            machine,
            side(Object::None),
            side(Object::Acting),
            pivoted.clone(),
        ),
        (
            "temporary gone",
            registry,
            None,
            machine,
            Known::Absent,
            side(Object::Acting),
            pivoted.clone(),
        ),
        (
            "paused by a person later",
            registry,
            None,
            machine,
            Known::Absent,
            side(Object::Paused),
            pivoted,
        ),
    ];
    for (moment, own, temporary, machines, source, target, expected) in moments {
        let facts = Facts {
            engine: Known::Is(containers(own, temporary, machines, false)),
            temporary: source,
            management: target,
            ..facts()
        };
        assert_eq!(Ownership::of(&facts), expected, "{moment}");
    }
}

#[test]
fn what_cannot_go_on_is_named() {
    let machine = &["control-plane"][..];
    let silent = || Known::Unknown("no answer".to_owned());
    let cases = [
        // The source died before the move began.
        (Known::Absent, side(Object::None), "nobody"),
        // The new cluster is down after its bootstrap.
        (Known::Absent, silent(), "the new cluster"),
        // The engine came back, the temporary cluster did not.
        (silent(), side(Object::None), "the temporary cluster"),
    ];
    for (temporary, management, what) in cases {
        let facts = Facts {
            engine: Known::Is(containers(Some(MINE), None, machine, false)),
            temporary,
            management,
            ..facts()
        };
        let owner = Ownership::of(&facts);
        assert!(!owner.permits(Stage::Beside), "{owner:?}");
        assert!(owner.to_string().contains(what), "{owner}");
    }
}

#[test]
fn another_home_is_told_whose_it_is_and_how_to_go_on() {
    let facts = Facts {
        mine: OTHER.into(),
        engine: Known::Is(containers(Some(MINE), None, &["control-plane"], false)),
        management: side(Object::Acting),
        ..facts()
    };
    let e = Ownership::of(&facts)
        .check("demo", "unix:///var/run/docker.sock")
        .unwrap_err();
    assert_eq!(e.kind().exit_code(), 3);
    for part in [
        "run 5f",
        "container mctl-demo-registry",
        "unix:///var/run/docker.sock",
        "mctl destroy --run 5f demo",
        "nothing was changed",
    ] {
        assert!(e.to_string().contains(part), "{part}: {e}");
    }
}

#[test]
fn a_pivot_that_is_remembered_is_never_built_again() {
    let facts = Facts {
        pivot_remembered: true,
        engine: Known::Is(containers(Some(MINE), None, &[], false)),
        ..facts()
    };
    assert!(!Ownership::of(&facts).permits(Stage::Before));
}

/// The temporary cluster is lost between its pause and the first copy: nothing may be built, and only the pivot goes on.
#[test]
fn a_source_that_died_in_the_pivot_leaves_the_pivot_alone() {
    let machines = &["external-load-balancer", "control-plane"][..];
    for pivot_remembered in [false, true] {
        let facts = Facts {
            pivot_remembered,
            engine: Known::Is(containers(Some(MINE), None, machines, false)),
            management: side(Object::None),
            ..facts()
        };
        let owner = Ownership::of(&facts);
        assert!(!owner.permits(Stage::Before) && !owner.permits(Stage::After));
        assert_eq!(owner.permits(Stage::Beside), pivot_remembered, "{owner:?}");
    }
}
