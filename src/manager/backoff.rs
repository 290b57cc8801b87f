//! Pause between attempts of a watch: short at first, bounded, reset by success. Must not know what is attempted.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// Doubles from `first` to `longest`.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Steady {
    /// A backoff between these two.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }
}

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        Some(now)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {
        self.next = self.first;
    }
}
