//! Two movers at once, and Leases that are stale, forged, or out of reach for a while.

use std::time::Duration;

use mctl::Kind;
use serde_json::json;

use super::world::{NAMESPACE, World, picture, writes};
use crate::fake::{Fake, Fault};

const LEASE: (&str, Option<&str>, &str) = ("Lease", Some("kube-system"), "mctl-move");

fn lease(fake: &Fake) -> Option<serde_json::Value> {
    fake.get(LEASE.0, LEASE.1, LEASE.2)
}

/// A source whose controllers do not stop, so that a move waits.
fn restless(world: &World, restless: bool) {
    let status = if restless { "False" } else { "True" };
    let mut store = world.source.store();
    let machine = store.find("DevMachine", Some(NAMESPACE), "golem-abcde");
    let mut machine = machine.unwrap();
    machine["status"]["conditions"] = json!([{"type": "Paused", "status": status}]);
    store.put(machine);
}

#[tokio::test(start_paused = true)]
async fn the_second_is_refused_while_the_first_lives() {
    let clean = World::clean(&["golem"]).await;
    let world = World::new(&["golem"]);
    restless(&world, true);
    let second = world.other_mover("run-2");
    {
        let first = world.run();
        let other = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            for fake in [&world.source, &world.target] {
                assert_eq!(lease(fake).unwrap()["spec"]["holderIdentity"], "run-1");
            }
            let changed = writes(&world.source).len();
            let e = second.run().await.unwrap_err();
            assert_eq!(e.kind(), Kind::Locked);
            for text in [
                "run-1",
                "sign of life",
                "2026-01-01T00:00",
                "Lease kube-system/mctl-move",
                "fix:",
                "state:",
            ] {
                assert!(e.to_string().contains(text), "{text}: {e}");
            }
            assert_eq!(writes(&world.source).len(), changed);
        };
        tokio::select! {
            result = first => panic!("{result:?}"),
            () = other => {}
        }
    }
    // The first has died: its Lease gives no sign of life any more, whatever time is written in it.
    restless(&world, false);
    let begin = tokio::time::Instant::now();
    second.run().await.unwrap();
    assert!(
        begin.elapsed() >= Duration::from_secs(90),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(picture(&world.target), clean.0);
    for fake in [&world.source, &world.target] {
        assert!(lease(fake).is_none(), "it goes with the move");
    }
}

/// The same run goes on at once after a crash.
#[tokio::test(start_paused = true)]
async fn its_own_lease_does_not_hold_it_up() {
    let world = World::new(&["golem"]);
    world.fault_at(20, true, Fault::Crash { applied: true });
    assert!(world.run_or_crash().await.is_none());
    world.no_faults();
    let begin = tokio::time::Instant::now();
    world.run().await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

/// Clocks of two hosts say nothing about each other: an old time does not make a Lease stale, a future one does not keep it.
#[tokio::test(start_paused = true)]
async fn written_times_do_not_count() {
    for time in ["2001-01-01T00:00:00.000000Z", "2101-01-01T00:00:00.000000Z"] {
        let world = World::new(&["golem"]);
        world.target.put(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"namespace": "kube-system", "name": "mctl-move"},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 90, "acquireTime": time, "renewTime": time},
        }));
        let begin = tokio::time::Instant::now();
        world.run().await.unwrap();
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_secs(90), "{time}: {waited:?}");
        assert!(waited < Duration::from_secs(100), "{time}: {waited:?}");
    }
}

/// Somebody takes the Lease by force: the first stops before it changes anything more.
#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_move() {
    let world = World::new(&["golem"]);
    restless(&world, true);
    let thief = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let mut taken = lease(&world.target).unwrap();
        taken["spec"]["holderIdentity"] = json!("thief");
        world.target.put(taken);
        let changed = writes(&world.source).len();
        tokio::time::sleep(Duration::from_secs(20)).await;
        restless(&world, false);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(writes(&world.source).len(), changed);
    };
    let (result, ()) = tokio::join!(world.run(), thief);
    let e = result.unwrap_err();
    assert_eq!(e.kind(), Kind::Locked);
    assert!(e.to_string().contains("another process holds it"), "{e}");
    assert!(e.has_state(), "{e}");
}

/// An API server that is away for a minute, from any request on: the move waits and ends as if nothing had been.
#[tokio::test(start_paused = true)]
async fn an_api_server_away_for_a_minute() {
    let clean = World::clean(&["golem"]).await;
    for side in ["source", "target"] {
        for at in (0..90).step_by(9) {
            let world = World::new(&["golem"]);
            let fake = if side == "source" {
                &world.source
            } else {
                &world.target
            };
            let mut since = None;
            fake.on_request(move |call, _| {
                if call.index < at {
                    return Fault::None;
                }
                let since = *since.get_or_insert_with(tokio::time::Instant::now);
                match since.elapsed() < Duration::from_secs(60) {
                    true => Fault::Reset { applied: false },
                    false => Fault::None,
                }
            });
            let when = format!("{side} away from request {at} on");
            world.run().await.unwrap_or_else(|e| panic!("{when}: {e}"));
            world.check(&when);
            assert_eq!(world.end(), clean, "{when}");
        }
    }
}
