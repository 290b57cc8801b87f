//! Builds every program of the stack from source and packs the images into one bundle; must not touch an engine's existing objects.

mod ahead;
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
mod libraries;
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
use pins::{Pins, Tier};
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
    /// Makes everything, also what only long measurements need.
    #[arg(long)]
    all: bool,
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
    /// Writes the lock of shared Go modules anew, with the highest versions that the programs need.
    #[arg(long)]
    update_libraries: bool,
}

impl Args {
    fn tier(&self) -> Tier {
        if self.all { Tier::Long } else { Tier::Main }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let cache = Cache::open()?;
    if args.path {
        let path = bundle::path(&cache, args.tier());
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
    if args.update_libraries {
        let builder = Builder::new(&cache, libraries::Libraries::new())?;
        return libraries::update(&Pins::load()?, builder, &Progress::start());
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

/// Makes what is missing of the bundle, by pulling or by building; seconds when all is there. `all`: also what only long
/// measurements need.
pub fn build(from_registries: bool, all: bool) -> Result<Lab> {
    let cache = Cache::open()?;
    let args = Args {
        from_registries,
        all,
        ..Args::default()
    };
    make(&cache, &args)?;
    Ok(Lab {
        bundle: bundle::path(&cache, args.tier()),
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

/// Free disk in GiB that making what bootstrap and the tests need takes; 0 when it is there.
pub fn room() -> Result<u64> {
    let (cache, pins) = (Cache::open()?, Pins::load()?);
    if bundle::path(&cache, Tier::Main).join("index.json").exists() {
        return Ok(0);
    }
    Ok(pins.disk_gib)
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
    let (pins, lock) = (&Pins::load()?, DebLock::load()?);
    let (tier, debian) = (args.tier(), &Debian::new(cache, &pins.debian, &lock));
    need_root()?;
    let _lock = cache.lock("lab")?;
    cache.clean_work()?;
    let progress = &Progress::start();
    let builder = &Builder::new(cache, libraries::load()?)?;
    if args.from_registries {
        let path = registries::pull(cache, pins, tier, debian, progress)?;
        bundle::host_programs(cache, pins, tier, builder, progress)?;
        progress.say(&format!("bundle: {}", path.display()));
        return Ok(());
    }
    let wanted: Vec<_> = pins.programs_of(tier).collect();
    let mut missing = Vec::new();
    for program in &wanted {
        if !builder.is_made(program)? {
            missing.push(*program);
        }
    }
    bundle::check_disk(cache, pins, missing.len(), wanted.len())?;
    debian.ensure_host(&pins.debian.host)?;
    let images = Images {
        cache,
        pins,
        debian,
        builder,
    };
    if !args.only.is_empty() {
        bundle::only(&args.only, &images, progress)?;
        return bundle::link_host_programs(cache, pins, builder);
    }
    ahead::beside(&missing, builder, pins, &lock, cache, || {
        bundle::programs(&missing, builder, progress)
    })?;
    bundle::link_host_programs(cache, pins, builder)?;
    let path = bundle::bundle(&images, tier, progress)?;
    debian.clean()?;
    if !args.keep_build_cache {
        builder.drop_build_cache()?;
    }
    progress.say(&format!("bundle: {}", path.display()));
    Ok(())
}
