//! Servers that answer with errors, late, or not at all, at every request in turn: the move itself gets over each.

use super::{
    tally::{FAULTS, through},
    world::World,
};
use crate::fake::Fault;

/// At every write, or at every fourth of all requests: reads are much alike.
async fn fault_everywhere(fault: Fault, only_writes: bool) -> usize {
    let clusters = ["golem"];
    let clean = World::clean(&clusters).await;
    let total = {
        let world = World::new(&clusters);
        let requests = world.run().await.unwrap().requests as usize;
        let log = world.source.log().into_iter().chain(world.target.log());
        if only_writes {
            log.filter(|c| c.writes()).count()
        } else {
            requests
        }
    };
    let points = (0..total).step_by(if only_writes { 1 } else { 4 });
    let count = points.len();
    for at in points {
        let world = World::new(&clusters);
        world.fault_at(at, only_writes, fault);
        let when = format!("{fault:?} at request {at}");
        world.run().await.unwrap_or_else(|e| panic!("{when}: {e}"));
        world.check(&when);
        assert_eq!(world.end(), clean, "{when}");
    }
    count
}

#[tokio::test(start_paused = true)]
async fn server_errors() {
    let mut count = 0;
    for applied in [false, true] {
        count += fault_everywhere(Fault::Status { code: 500, applied }, true).await;
    }
    count += fault_everywhere(
        Fault::Status {
            code: 503,
            applied: false,
        },
        false,
    )
    .await;
    through(&FAULTS, count);
}

#[tokio::test(start_paused = true)]
async fn too_many_requests() {
    let mut count = 0;
    count += fault_everywhere(
        Fault::Status {
            code: 429,
            applied: false,
        },
        false,
    )
    .await;
    through(&FAULTS, count);
}

#[tokio::test(start_paused = true)]
async fn conflicts() {
    let mut count = 0;
    for applied in [false, true] {
        count += fault_everywhere(Fault::Status { code: 409, applied }, true).await;
    }
    through(&FAULTS, count);
}

#[tokio::test(start_paused = true)]
async fn no_answer() {
    let mut count = 0;
    for applied in [false, true] {
        count += fault_everywhere(Fault::Hang { applied }, true).await;
    }
    count += fault_everywhere(Fault::Hang { applied: false }, false).await;
    through(&FAULTS, count);
}

#[tokio::test(start_paused = true)]
async fn broken_connections() {
    let mut count = 0;
    for applied in [false, true] {
        count += fault_everywhere(Fault::Reset { applied }, true).await;
    }
    count += fault_everywhere(Fault::Reset { applied: false }, false).await;
    through(&FAULTS, count);
}
