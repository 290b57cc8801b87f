//! One command that changes a cluster, from its input to its end: lock ─▶ request ─▶ engine ─▶ ownership ─▶ checks ─▶ run. The
//! command line and whatever else works on a cluster use this one path. Must not ask or print.

pub mod bootstrap;
pub mod destroy;
pub mod engine;
pub mod lock;
mod owner;

use std::time::Duration;

use crate::{
    ownership::{
        Ownership,
        look::{Asked, Found},
    },
    ports::Ports,
};

/// How long it may take until everybody who must know has answered.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks until it can be told who owns the cluster; gives up after a while with what was found last.
async fn ownership(ports: &Ports, asked: &Asked<'_>, patience: Duration) -> (Ownership, Found) {
    let begin = ports.clock.instant();
    loop {
        let found = asked.look().await;
        let owner = Ownership::of(&found.facts);
        let waited = ports.clock.instant().duration_since(begin);
        if !matches!(owner, Ownership::Unknown { .. }) || waited >= patience {
            return (owner, found);
        }
        ports.clock.sleep(PAUSE).await;
    }
}

/// A name for a new run: eight digits, which nobody else will draw.
fn new_run(ports: &Ports) -> String {
    use sha2::{Digest, Sha256};
    let mut seed = Sha256::new();
    seed.update(ports.clock.now().as_nanosecond().to_le_bytes());
    seed.update(std::process::id().to_le_bytes());
    // Two hosts may share an engine and the hour.
    seed.update(rustix::system::uname().nodename().to_bytes());
    hex::encode(&seed.finalize()[..4])
}
