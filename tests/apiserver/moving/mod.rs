//! The move between two real API servers that hold the vendored definitions of Cluster API: whole, interrupted, disturbed.

mod clusters;
mod tap;
mod world;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kube::{
    api::{DeleteParams, Patch, PatchParams},
    core::DynamicObject,
};
use mctl::ports::kubernetes::Cluster;
use serde_json::json;

use clusters::{Maker, Size};
use world::{Case, Fail, World, kind_of};

const SMALL: Size = Size {
    control_plane: 1,
    workers: 1,
};

/// Finalizer of what was made anew.
const ANEW: &str = "test.example.org/anew";

/// One test, for starting the servers takes longer than all cases.
#[tokio::test]
async fn between_real_servers() {
    let world = World::start().await;
    let begin = std::time::Instant::now();
    let told = |what: &str| println!("{what} ({:.1} s)", begin.elapsed().as_secs_f32());
    told("servers are ready");
    whole(&world).await;
    told("moved whole");
    let records = failing_at_every_record(&world).await;
    told(&format!("the journal failed at each of {records} records"));
    let points = dying_at_writes(&world).await;
    told(&format!("died at {points} writes"));
    let deaths = dying_again_and_again(&world).await;
    told(&format!("died {deaths} times in one move"));
    made_anew(&world, When::BeforeItIsMarked).await;
    made_anew(&world, When::BeforeItsFinalizersGo).await;
    made_anew(&world, When::BetweenTwoRuns).await;
    told("what was made anew is left alone");
}

/// Two clusters, one of them paused by its user.
async fn whole(world: &World) {
    let size = Size {
        control_plane: 3,
        workers: 2,
    };
    let mut case = world.case("whole", &["golem", "gauss"], size).await;
    let gauss = case.get(0, "Cluster", "gauss").await.unwrap();
    let maker = Maker {
        cluster: &world.admins[0],
        namespace: "whole",
    };
    let pause = json!({"spec": {"paused": true}});
    maker.merge(&gauss, false, pause).await;
    case.expect_all().await;
    let report = case.run().await.unwrap().unwrap();
    case.check("whole").await;
    case.finish("whole").await;
    let paused =
        async |name| case.get(1, "Cluster", name).await.unwrap().data["spec"]["paused"].clone();
    assert_eq!(paused("golem").await, json!(null));
    assert_eq!(paused("gauss").await, json!(true));
    assert_eq!(report.objects, case.before.len());
    assert_eq!(report.requests, case.tap.calls().len() as u64);
    let each = (report.requests - report.fixed) as f64 / report.objects as f64;
    println!(
        "{} objects, {each:.2} requests each and {} lists, {:.2} s",
        report.objects, report.fixed, report.seconds
    );
    assert!(each <= 5.0, "{each}");
    let again = case.run().await.unwrap().unwrap();
    assert_eq!(again.objects, report.objects);
    case.finish("asked for again").await;
}

async fn failing_at_every_record(world: &World) -> usize {
    for at in 0.. {
        let namespace = format!("record-{at}");
        let case = world.case(&namespace, &["golem"], SMALL).await;
        let failed = case
            .run_with(Some(Fail::At(at, at % 2 == 0)))
            .await
            .unwrap();
        if failed.is_ok() {
            assert!(at > 10, "only {at} records");
            return at;
        }
        case.check(&namespace).await;
        go_on(&case, &namespace).await;
    }
    0
}

async fn dying_at_writes(world: &World) -> usize {
    let mut points = 0;
    for at in (0..).step_by(11) {
        let namespace = format!("write-{at}");
        let case = world.case(&namespace, &["golem"], SMALL).await;
        case.tap.crash_at(at, points % 2 == 0);
        if let Some(result) = case.run().await {
            result.unwrap();
            break;
        }
        points += 1;
        case.check(&namespace).await;
        case.tap.no_crash();
        go_on(&case, &namespace).await;
    }
    assert!(points > 5, "{points}");
    points
}

async fn dying_again_and_again(world: &World) -> usize {
    let case = world.case("again", &["golem"], SMALL).await;
    for deaths in 0.. {
        case.tap.crash_at(9, deaths % 2 == 0);
        if let Some(result) = case.run().await {
            result.unwrap();
            case.finish("again and again").await;
            assert!(deaths > 3, "{deaths}");
            return deaths;
        }
        case.check(&format!("death {deaths}")).await;
        assert!(deaths < 100, "it gets nowhere");
    }
    0
}

async fn go_on(case: &Case<'_>, when: &str) {
    let result = case.run().await.unwrap();
    result.unwrap_or_else(|e| panic!("{when}: {e}"));
    case.check(when).await;
    case.finish(when).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    BeforeItIsMarked,
    BeforeItsFinalizersGo,
    BetweenTwoRuns,
}

/// A Machine of the plan is deleted and made again under its name before the source is cleared of it: the new one stays.
async fn made_anew(world: &World, when: When) {
    const NAME: &str = "golem-cp0";
    let namespace = format!("{when:?}").to_lowercase();
    let case = world.case(&namespace, &["golem"], SMALL).await;
    let old = case.get(0, "Machine", NAME).await.unwrap();
    if when == When::BetweenTwoRuns {
        let stopped = case.run_with(Some(Fail::AfterCommit)).await.unwrap();
        assert!(stopped.is_err());
        replace(&world.admins[0], &old).await;
    }
    let (deleted, done) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let (replaced, admin, original) = (done.clone(), world.admins[0].clone(), old.clone());
    case.tap.before(move |call| {
        if call.side != "source" || !call.path.ends_with(&format!("/machines/{NAME}")) {
            return None;
        }
        let now = match (when, call.method.as_str()) {
            (When::BeforeItIsMarked, "PATCH") => true,
            (When::BeforeItsFinalizersGo, "PATCH") => deleted.load(Ordering::Relaxed),
            (_, "DELETE") => {
                deleted.store(true, Ordering::Relaxed);
                false
            }
            _ => false,
        };
        if !now || replaced.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (admin, original) = (admin.clone(), original.clone());
        Some(Box::pin(async move { replace(&admin, &original).await }))
    });
    case.run().await.unwrap().unwrap();
    let meanwhile = when != When::BetweenTwoRuns;
    assert_eq!(done.load(Ordering::Relaxed), meanwhile, "{when:?}");
    if when == When::BeforeItsFinalizersGo {
        let calls = case.tap.calls().into_iter();
        let refused: Vec<_> = calls
            .filter(|c| c.status == 422)
            .map(|c| c.method)
            .collect();
        assert_eq!(refused, ["PATCH"], "a real server calls it invalid");
    }
    for round in ["cleared", "asked for again"] {
        let round = format!("{when:?}, {round}");
        case.finish_but(&round, &[("Machine", NAME)]).await;
        let new = case.get(0, "Machine", NAME).await.unwrap().metadata;
        assert_ne!(new.uid, old.metadata.uid, "{round}");
        assert!(new.deletion_timestamp.is_none(), "{round}");
        assert_eq!(new.finalizers, Some(vec![ANEW.to_owned()]), "{round}");
        case.run().await.unwrap().unwrap();
    }
}

/// What another client does: off with the finalizers, away with it, and the same again.
async fn replace(admin: &Cluster, old: &DynamicObject) {
    let (namespace, name) = (
        old.metadata.namespace.as_deref().unwrap(),
        old.metadata.name.as_deref().unwrap(),
    );
    let api = admin.api(&kind_of("Machine"), Some(namespace)).await;
    let api = api.unwrap();
    let off = json!({"metadata": {"finalizers": null}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&off))
        .await
        .unwrap();
    // If it was being deleted, that was the end of it.
    let _ = api.delete(name, &DeleteParams::background()).await;
    while api.get_opt(name).await.unwrap().is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let maker = Maker {
        cluster: admin,
        namespace,
    };
    maker
        .create(
            json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
            "metadata": {"name": name, "finalizers": [ANEW]}, "spec": old.data["spec"]}),
        )
        .await;
}
