//! Builds every program of the stack from source and packs the images into one bundle; must not touch an engine's existing objects.

mod cache;
mod debian;
pub mod engine;
mod firewall;
mod pins;
mod proc;

use std::path::PathBuf;

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

/// What the lab has ready for tests and demonstrations.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The bundle with every image.
    pub bundle: PathBuf,
    /// Folder with the programs that run on this machine: etcd, kube-apiserver, kubectl, clusterctl and others.
    pub bin: PathBuf,
}

/// Makes what is missing of the bundle, by pulling or by building; seconds when all is there.
pub fn build(from_registries: bool) -> Result<Lab> {
    let cache = Cache::open()?;
    anyhow::ensure!(!from_registries, "pulling the bundle is not written yet");
    let lab = Lab {
        bundle: cache.join("bundle"),
        bin: cache.join("bin"),
    };
    anyhow::ensure!(
        lab.bundle.join("index.json").is_file(),
        "building the bundle is not written yet"
    );
    Ok(lab)
}

/// The engine that answers, else the lab's own, started.
pub fn engine() -> Result<engine::Engine> {
    let (cache, pins, lock) = (Cache::open()?, Pins::load()?, DebLock::load()?);
    let debian = Debian::new(&cache, &pins.debian, &lock);
    debian.ensure_host()?;
    engine::ensure(&cache, &pins, &debian)
}

/// Stops the engine that the lab started, removes its data and puts the kernel's settings back; false if there is none.
pub fn stop_engine() -> Result<bool> {
    engine::stop(&Cache::open()?)
}

/// Folders that stay when everything is stopped, and what they are for.
pub fn caches() -> Result<Vec<(PathBuf, &'static str)>> {
    Ok(vec![(
        Cache::open()?.root().to_owned(),
        "programs and images of the lab",
    )])
}
