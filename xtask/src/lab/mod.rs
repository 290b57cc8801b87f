//! Builds every program of the stack from source and packs the images into one bundle; must not touch an engine's existing objects.

mod cache;
mod debian;
pub mod engine;
mod firewall;
mod pins;
mod proc;

use anyhow::Result;

use cache::Cache;
use debian::Debian;
use pins::{DebLock, Pins};

/// Options of `cargo xtask lab`.
#[derive(clap::Args)]
pub struct Args {
    /// Prints where the bundle is and does nothing else.
    #[arg(long)]
    path: bool,
    /// Starts the lab's own Docker engine if none answers, and does nothing else.
    #[arg(long, conflicts_with = "path")]
    engine: bool,
    /// Stops the engine that the lab started, removes its data and puts the kernel's settings back.
    #[arg(long, conflicts_with_all = ["path", "engine"])]
    engine_stop: bool,
    /// Writes the lock of Debian packages anew, with what the mirror offers now.
    #[arg(long)]
    update_debs: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let cache = Cache::open()?;
    if args.engine_stop {
        let stopped = engine::stop(&cache)?;
        eprintln!(
            "{}",
            if stopped {
                "engine stopped, its data removed"
            } else {
                "the lab has no engine running"
            }
        );
        return Ok(());
    }
    let pins = Pins::load()?;
    if args.update_debs {
        let empty = DebLock::default();
        let debian = Debian::new(&cache, &pins.debian, &empty);
        return debian.update_lock(&pins.debs()?, &DebLock::path());
    }
    let lock = DebLock::load()?;
    let debian = Debian::new(&cache, &pins.debian, &lock);
    if args.engine {
        debian.ensure_host()?;
        let engine = engine::ensure(&cache, &pins, &debian)?;
        eprintln!(
            "engine at {}{}",
            engine.host,
            if engine.ours { " (the lab's own)" } else { "" }
        );
        return Ok(());
    }
    Ok(())
}
