//! What the move relies on is lost: its journal at every point, its source before and after the commit, both.

use mctl::{
    cluster_api::{
        export::FileExports,
        move_objects::{self, Order},
    },
    ports::kubernetes::Cluster,
};
use serde_json::json;

use super::{
    tally::{CRASHES, through},
    world::{NAMESPACE, World, install, picture},
};
use crate::fake::{Fake, Fault};

/// The process dies at each `step`th write, the journal is lost too; what is marked in the clusters suffices.
async fn journal_lost(clusters: &[&str], step: usize) -> usize {
    let clean = World::clean(clusters).await;
    let mut points = 0;
    for at in (0..).step_by(step) {
        let world = World::new(clusters);
        world.fault_at(at, true, Fault::Crash { applied: true });
        if let Some(result) = world.run_or_crash().await {
            result.unwrap();
            break;
        }
        points += 1;
        let when = format!("journal lost after write {at}");
        world.journal.lose();
        world.no_faults();
        world.run().await.unwrap_or_else(|e| panic!("{when}: {e}"));
        world.check(&when);
        assert_eq!(world.end(), clean, "{when}");
    }
    points
}

#[tokio::test(start_paused = true)]
async fn the_journal_at_every_write() {
    let points = journal_lost(&["golem"], 1).await;
    assert!(points > 60, "{points}");
    through(&CRASHES, points);
}

#[tokio::test(start_paused = true)]
async fn the_journal_of_three_clusters() {
    let points = journal_lost(&["golem", "gauss", "galaxy"], 5).await;
    assert!(points > 35, "{points}");
    through(&CRASHES, points);
}

/// Lost again and again, each time a few writes further.
#[tokio::test(start_paused = true)]
async fn the_journal_many_times() {
    let clean = World::clean(&["golem"]).await;
    let mut points = 0;
    for step in [5, 13] {
        let world = World::new(&["golem"]);
        for n in 1.. {
            world.fault_at(step, true, Fault::Crash { applied: true });
            let Some(result) = world.run_or_crash().await else {
                points += 1;
                world.check(&format!("step {step}, loss {n}"));
                world.journal.lose();
                assert!(n < 60, "it gets nowhere");
                continue;
            };
            result.unwrap();
            break;
        }
        assert_eq!(world.end(), clean, "step {step}");
    }
    through(&CRASHES, points);
}

/// The record was or was not written, and then the file is gone.
#[tokio::test(start_paused = true)]
async fn the_journal_at_every_record() {
    let clean = World::clean(&["golem"]).await;
    for at in 0.. {
        let world = World::new(&["golem"]);
        world.journal.fail_at(at, true);
        if world.run().await.is_ok() {
            assert!(at > 10, "only {at} records");
            return through(&CRASHES, at);
        }
        world.journal.no_faults();
        world.journal.lose();
        let when = format!("lost after record {at}");
        world.run().await.unwrap_or_else(|e| panic!("{when}: {e}"));
        assert_eq!(world.end(), clean, "{when}");
    }
}

/// The source dies at any write, with or without the journal; the engine says that its container is gone.
#[tokio::test(start_paused = true)]
async fn the_source_at_every_write() {
    let clean = World::clean(&["golem"]).await;
    let mut points = 0;
    for at in 0.. {
        for journal_too in [false, true] {
            let mut world = World::new(&["golem"]);
            world.fault_at(at, true, Fault::Crash { applied: true });
            if let Some(result) = world.run_or_crash().await {
                result.unwrap();
                assert!(points > 110, "{points}");
                return through(&CRASHES, points);
            }
            points += 1;
            let when = format!("source gone after write {at}, journal too: {journal_too}");
            world.no_faults();
            world.gone = true;
            if journal_too {
                world.journal.lose();
            }
            let asked = world.source.log().len();
            let result = world.run().await;
            assert_eq!(world.source.log().len(), asked, "{when}: it was asked");
            if world.exports.is_there() {
                result.unwrap_or_else(|e| panic!("{when}: {e}"));
                assert_eq!(picture(&world.target), clean.0, "{when}");
                world.exports.discard();
                assert!(world.run().await.is_ok(), "{when}, asked for again");
            } else {
                // Nothing had been paused either.
                let e = result.unwrap_err();
                assert!(e.has_state(), "{when}: {e}");
                assert!(e.to_string().contains("fix:"), "{when}: {e}");
                let cluster = world.source.get("Cluster", Some(NAMESPACE), "golem");
                assert!(cluster.unwrap()["spec"].get("paused").is_none(), "{when}");
            }
        }
    }
}

/// Another cluster answers where the source was: after the commit the move is gone on with, and a cluster with Clusters of its
/// own is never taken for one that is gone.
#[tokio::test(start_paused = true)]
async fn another_cluster_in_place_of_the_source() {
    let clean = World::clean(&["golem"]).await;
    for clusters in [&[][..], &["golem"][..]] {
        let mut world = World::new(&["golem"]);
        let mut at = 0;
        while !world.journal.committed() {
            at += 1;
            world = World::new(&["golem"]);
            world.fault_at(at, true, Fault::Crash { applied: true });
            assert!(world.run_or_crash().await.is_none());
        }
        world.no_faults();
        let other = Fake::new("other");
        install(&other);
        for name in clusters {
            super::world::cluster(&other, name);
        }
        world.source = other;
        match world.run().await {
            Ok(_) => {
                assert!(clusters.is_empty());
                assert_eq!(picture(&world.target), clean.0);
            }
            Err(e) => {
                assert!(!clusters.is_empty(), "{e}");
                assert!(e.to_string().contains("belongs to another move"), "{e}");
            }
        }
    }
}

/// Copies of a move from elsewhere are not finished by a move that never made them.
#[tokio::test(start_paused = true)]
async fn copies_of_another_move() {
    let world = World::new(&["golem"]);
    world.fault_at(15, true, Fault::Crash { applied: true });
    assert!(world.run_or_crash().await.is_none());
    world.no_faults();
    let mut second = world.other_mover("run-1");
    second.source = Fake::new("second");
    install(&second.source);
    super::world::cluster(&second.source, "gauss");
    let e = second.run().await.unwrap_err();
    assert!(e.to_string().contains("copies of another move"), "{e}");
    assert!(
        second
            .target
            .get("Cluster", Some(NAMESPACE), "gauss")
            .is_none()
    );
    world.run().await.unwrap();
}

/// With the files that a bootstrap uses: sealed before the first pause, restored from, and gone when told so.
#[tokio::test(start_paused = true)]
async fn from_the_sealed_file() {
    let clean = World::clean(&["golem"]).await;
    let folder = tempfile::tempdir().unwrap();
    let files = FileExports::new(std::sync::Arc::new(mctl::ports::files::Disk), folder.path());
    let mut world = World::new(&["golem"]);
    for gone in [false, true] {
        world.gone = gone;
        let source = Cluster::new("source", world.source.client());
        let target = Cluster::new("target", world.target.client());
        let order = Order {
            source: (!gone).then_some(&source),
            target: &target,
            namespace: NAMESPACE,
            journal: &*world.journal,
            exports: Some(&files),
            environment: json!({"ca": "c2VjcmV0"}),
            holder: "run-1",
            clock: world.clock.clone(),
            progress: &(),
        };
        if gone {
            world.no_faults();
            move_objects::run(&order).await.unwrap();
        } else {
            let first_pause = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let seen = first_pause.clone();
            let path = folder.path().join("move.export");
            world.source.on_request(move |call, _| {
                if call.method != "PATCH" {
                    return Fault::None;
                }
                assert!(path.exists(), "kept before the first pause");
                seen.store(true, std::sync::atomic::Ordering::Relaxed);
                Fault::Crash { applied: true }
            });
            tokio::select! {
                () = world.source.crashed() => {}
                result = move_objects::run(&order) => panic!("{result:?}"),
            }
            assert!(first_pause.load(std::sync::atomic::Ordering::Relaxed));
        }
    }
    assert_eq!(picture(&world.target), clean.0);
    let sealed = std::fs::read(folder.path().join("move.export")).unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("c2VjcmV0"));
    files.discard().unwrap();
    assert!(!files.is_there());
}
