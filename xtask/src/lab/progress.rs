//! Tells on standard error what the lab is doing and for how long; must not print to standard output.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a running step says that it is still alive.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Progress of one run.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// One line without a duration.
    pub fn say(&self, text: &str) {
        eprintln!("[{}] {text}", clock(self.started.elapsed()));
    }

    /// Runs a step with a line at its begin, a heartbeat and a line at its end.
    pub fn step<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        self.say(&format!("{name} …"));
        let (done, waiting) = channel::<()>();
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let waiting = waiting;
                while waiting.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                    self.say(&format!(
                        "{name}: still at work, {}",
                        clock(begin.elapsed())
                    ));
                }
            });
            let result = work();
            drop(done);
            result
        });
        let how = if result.is_ok() { "done" } else { "FAILED" };
        self.say(&format!("{name}: {how} in {}", clock(begin.elapsed())));
        result
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{}.{} s", seconds, time.subsec_millis() / 100)
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(clock(Duration::from_millis(5230)), "5.2 s");
        assert_eq!(clock(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn a_step_gives_its_result() {
        assert_eq!(Progress::start().step("x", || Ok(3)).unwrap(), 3);
    }
}
