//! The process dies at every request and at every journal record; the same call must finish as if nothing had happened.

use super::{
    tally::{CRASHES, through},
    world::World,
};
use crate::fake::Fault;

/// Crashes at each `step`th request (or write) in turn, then goes on. Returns how many crash points there were.
///
/// A request that took effect before the crash leaves what a crash just before the next one leaves, so `applied` alone
/// meets every state; `MCTL_CRASH_POINTS=all` tries both and every one.
async fn crash_everywhere(clusters: &[&str], only_writes: bool, step: usize) -> usize {
    let all = std::env::var("MCTL_CRASH_POINTS").is_ok_and(|v| v == "all");
    let (variants, step) = if all {
        (&[false, true][..], 1)
    } else {
        (&[true][..], step)
    };
    let clean = World::clean(clusters).await;
    let mut points = 0;
    for at in (0..).step_by(step) {
        for &applied in variants {
            let world = World::new(clusters);
            world.fault_at(at, only_writes, Fault::Crash { applied });
            if let Some(result) = world.run_or_crash().await {
                result.unwrap();
                return points;
            }
            points += 1;
            let when = format!("crash at request {at}, applied: {applied}");
            world.check(&when);
            world.no_faults();
            world.run().await.unwrap_or_else(|e| panic!("{when}: {e}"));
            world.check(&when);
            assert_eq!(world.end(), clean, "{when}");
        }
    }
    points
}

#[tokio::test(start_paused = true)]
async fn one_cluster_at_every_request() {
    let points = crash_everywhere(&["golem"], false, 1).await;
    assert!(points > 110, "{points}");
    through(&CRASHES, points);
}

#[tokio::test(start_paused = true)]
async fn three_clusters_at_every_other_write() {
    let points = crash_everywhere(&["golem", "gauss", "galaxy"], true, 2).await;
    assert!(points > 75, "{points}");
    through(&CRASHES, points);
}

#[tokio::test(start_paused = true)]
async fn at_every_journal_record() {
    let clusters = ["golem"];
    let clean = World::clean(&clusters).await;
    for at in 0.. {
        let mut over = false;
        for written in [false, true] {
            let world = World::new(&clusters);
            world.journal.fail_at(at, written);
            let when = format!("journal fails at record {at}, written: {written}");
            match world.run().await {
                Ok(_) => {
                    over = true;
                    break;
                }
                Err(e) => assert!(e.has_state(), "{when}: {e}"),
            }
            world.check(&when);
            world.journal.no_faults();
            world.run().await.unwrap_or_else(|e| panic!("{when}: {e}"));
            assert_eq!(world.end(), clean, "{when}");
        }
        if over {
            assert!(at > 10, "only {at} records");
            return through(&CRASHES, 2 * at);
        }
    }
}

/// Again and again, each time a few requests further.
#[tokio::test(start_paused = true)]
async fn many_times_in_one_move() {
    let clusters = ["golem"];
    let clean = World::clean(&clusters).await;
    let mut points = 0;
    for step in [7, 23, 60] {
        let world = World::new(&clusters);
        let mut crashes = 0;
        for n in 1.. {
            world.fault_at(
                step * n,
                false,
                Fault::Crash {
                    applied: n % 2 == 0,
                },
            );
            match world.run_or_crash().await {
                None => crashes += 1,
                Some(result) => {
                    result.unwrap();
                    break;
                }
            }
            world.check(&format!("step {step}, crash {n}"));
        }
        assert!(crashes > 0);
        points += crashes;
        assert_eq!(world.end(), clean, "step {step}");
    }
    through(&CRASHES, points);
}
