//! Tracing set-up: where diagnostics of the program itself go. Must not be used for progress (events) or results (printer).

use tracing_subscriber::{EnvFilter, fmt};

use crate::env;

/// Diagnostics to standard error; `MCTL_LOG` chooses what, `default` applies without it. JSON for the manager.
pub fn start(default: &str, json: bool) {
    let filter = env::get("MCTL_LOG").unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new(default));
    // Its complaint about a closed standard error would go to standard error, and end the thread.
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second start, in tests, changes nothing.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
}
