//! Time: what is on the wall, and waiting. Must not decide how long anybody waits.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time and lets it pass.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Time on the wall, for records.
    fn now(&self) -> Timestamp;

    /// Time that only goes forward, for limits.
    fn instant(&self) -> Instant;

    /// Lets time pass.
    async fn sleep(&self, time: Duration);
}

/// The host's clock; it waits as the run time does, and so do the ports, so that tests can pause all of it at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wall;

#[async_trait]
impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
