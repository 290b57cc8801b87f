//! Counts what all tests of the move did, and says so when the last one is through. Must not check anything.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Tests that count.
const TESTS: usize = 16;

static THROUGH: AtomicUsize = AtomicUsize::new(0);
/// Points at which the process died.
pub static CRASHES: AtomicUsize = AtomicUsize::new(0);
/// Requests that were answered wrongly, late, or not at all.
pub static FAULTS: AtomicUsize = AtomicUsize::new(0);
/// Schedules by seed, each run twice.
pub static SEEDS: AtomicUsize = AtomicUsize::new(0);
/// Bugs that were planted and caught.
pub static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// One test is through without a violation.
#[allow(clippy::print_stdout)]
pub fn through(counter: &AtomicUsize, count: usize) {
    counter.fetch_add(count, Ordering::Relaxed);
    if THROUGH.fetch_add(1, Ordering::Relaxed) + 1 == TESTS {
        let [crashes, faults, seeds, planted] =
            [&CRASHES, &FAULTS, &SEEDS, &PLANTED].map(|c| c.load(Ordering::Relaxed));
        println!(
            "move: {crashes} crash points, {faults} faults, {seeds} seeds twice, {planted} of {planted} planted bugs caught, 0 violations"
        );
    }
}
