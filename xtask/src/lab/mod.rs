//! Builds every program of the stack from source and packs the images into one bundle; must not touch an engine's existing objects.

mod bundle;
mod cache;
mod deb_lock;
mod debian;
pub mod engine;
mod firewall;
mod gomod;
mod image;
mod kernel;
mod layer;
mod oci;
mod pins;
mod proc;
mod programs;
mod progress;
mod registries;

use std::path::PathBuf;

use anyhow::{Result, bail};

use cache::Cache;
use deb_lock::DebLock;
use debian::Debian;
use image::Images;
use pins::Pins;
use programs::Builder;
use progress::Progress;

/// Options of `cargo xtask lab`.
#[derive(Default, clap::Args)]
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
    /// Builds only this program or image and no bundle; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Keeps Go's build cache, for more builds to come.
    #[arg(long)]
    keep_build_cache: bool,
    /// Fills the bundle by pulling its images instead of building them.
    #[arg(long)]
    from_registries: bool,
    /// Writes the lock of Debian packages anew, with what the mirror offers now.
    #[arg(long)]
    update_debs: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let cache = Cache::open()?;
    if args.path {
        let path = bundle::path(&cache);
        if !path.join("index.json").exists() {
            bail!("there is no bundle yet; `cargo xtask lab` makes it");
        }
        println!("{}", path.display());
        return Ok(());
    }
    if args.engine_stop {
        let stopped = stop_engine()?;
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
    if args.engine {
        let engine = engine()?;
        let whose = if engine.ours { " (the lab's own)" } else { "" };
        eprintln!("engine at {}{whose}", engine.host);
        return Ok(());
    }
    if args.update_debs {
        let (pins, empty) = (Pins::load()?, DebLock::default());
        return Debian::new(&cache, &pins.debian, &empty)
            .update_lock(&pins.debs()?, &DebLock::path());
    }
    make(&cache, &args)
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
    make(
        &cache,
        &Args {
            from_registries,
            ..Args::default()
        },
    )?;
    Ok(Lab {
        bundle: bundle::path(&cache),
        bin: cache.join("bin"),
    })
}

/// The engine that answers, else the lab's own, started.
pub fn engine() -> Result<engine::Engine> {
    need_root()?;
    let (cache, pins, lock) = (Cache::open()?, Pins::load()?, DebLock::load()?);
    let debian = Debian::new(&cache, &pins.debian, &lock);
    debian.ensure_host(&pins.debian.host)?;
    let engine = engine::ensure(&cache, &pins, &debian)?;
    if let Ok(_free) = cache.lock("lab") {
        debian.clean()?; // no build beside this is using the package lists
    }
    Ok(engine)
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

fn need_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "the lab runs as root: it makes file systems with their owners, and starts a container engine"
    )
}

fn make(cache: &Cache, args: &Args) -> Result<()> {
    let (pins, lock) = (Pins::load()?, DebLock::load()?);
    let (pins, debian) = (&pins, &Debian::new(cache, &pins.debian, &lock));
    need_root()?;
    let _lock = cache.lock("lab")?;
    cache.clean_work()?;
    let progress = Progress::start();
    if args.from_registries {
        let path = registries::pull(cache, pins, debian, &progress)?;
        bundle::host_programs(cache, pins, &Builder::new(cache)?, &progress)?;
        progress.say(&format!("bundle: {}", path.display()));
        return Ok(());
    }
    let builder = Builder::new(cache)?;
    let missing = pins
        .programs
        .iter()
        .map(|p| builder.is_made(p))
        .collect::<Result<Vec<_>>>()?;
    bundle::check_disk(
        cache,
        pins,
        missing.iter().filter(|made| !**made).count(),
        missing.len(),
    )?;
    debian.ensure_host(&pins.debian.host)?;
    let images = Images {
        cache,
        pins,
        debian,
        builder: &builder,
    };
    if !args.only.is_empty() {
        bundle::only(&args.only, &images, &progress)?;
        return bundle::link_host_programs(cache, pins, &builder);
    }
    bundle::programs(
        &pins.programs.iter().collect::<Vec<_>>(),
        &builder,
        &progress,
    )?;
    bundle::link_host_programs(cache, pins, &builder)?;
    let path = bundle::bundle(&images, &progress)?;
    debian.clean()?;
    if !args.keep_build_cache {
        builder.drop_build_cache()?;
    }
    progress.say(&format!("bundle: {}", path.display()));
    Ok(())
}
