//! Fetches upstream files from their modules and checks them against `assets/vendor.lock`; must not know what mctl does with them.

mod chart;
mod lock;
mod manifest;
mod modules;
mod pins;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::host;
use lock::{Entry, Lock};
use modules::Modules;
use pins::Pins;

/// Options of `cargo xtask vendor`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Makes every file anew and rewrites assets/vendor.lock from what was found.
    #[arg(long)]
    update: bool,
}

/// One file made from a module, before it is checked and put in its place.
struct Made {
    path: String,
    module: String,
    bytes: Vec<u8>,
    mode: u32,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let root = host::root();
    let folder = root.join("assets/vendor");
    let lock_path = root.join("assets/vendor.lock");
    let lock = Lock::read(&lock_path)?;
    let pins = Pins::read(&root.join("xtask/vendor.toml"))?;
    let current = lock.is_of(&pins) && lock.differences(&folder)?.is_empty();
    if current && !args.update {
        println!(
            "vendor: {} files in assets/vendor match assets/vendor.lock ({:.1} s)",
            lock.file.len(),
            started.elapsed().as_secs_f64()
        );
        return Ok(());
    }
    let kept = if args.update {
        Vec::new()
    } else {
        kept(&pins, &lock, &folder)?
    };
    let made = make(&pins, kept)?;
    let found = Lock::of(made.iter().map(|made| entry(made, &pins)));
    if args.update {
        found.write(&lock_path)?;
    } else {
        let problems = lock.problems(&found);
        if !problems.is_empty() {
            for problem in &problems {
                eprintln!("error: {problem}");
            }
            bail!(
                "{} of the vendored files differ from assets/vendor.lock; nothing was written (after a reviewed change of xtask/vendor.toml: `cargo xtask vendor --update`)",
                problems.len()
            );
        }
    }
    put(&folder, &made)?;
    let bytes: usize = made.iter().map(|made| made.bytes.len()).sum();
    println!(
        "vendor: wrote {} files, {:.1} MB, to assets/vendor ({:.1} s)",
        made.len(),
        bytes as f64 / 1e6,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A pinned tool that only runs here, built if it is not in the cache.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let pins = Pins::read(&host::root().join("xtask/vendor.toml"))?;
    Modules::none(&pins).tool(name)
}

/// Pinned version of a module by its short name.
pub fn version(name: &str) -> anyhow::Result<String> {
    let pins = Pins::read(&host::root().join("xtask/vendor.toml"))?;
    Ok(pins.split(name).1.to_owned())
}

fn entry(made: &Made, pins: &Pins) -> Entry {
    let (module, version) = pins.split(&made.module);
    Entry {
        path: made.path.clone(),
        module: module.to_owned(),
        version: version.to_owned(),
        sha256: host::sha256(&made.bytes),
    }
}

/// Programs that are in place as the lock wants them: compiling them again would only take time.
fn kept(pins: &Pins, lock: &Lock, folder: &Path) -> anyhow::Result<Vec<Made>> {
    let mut kept = Vec::new();
    for program in &pins.program {
        let (module, version) = pins.split(&program.module);
        let wanted = lock.file.iter().find(|entry| entry.path == program.path);
        let wanted = wanted.filter(|entry| entry.module == module && entry.version == version);
        let Ok(bytes) = fs::read(folder.join(&program.path)) else {
            continue;
        };
        if wanted.is_some_and(|entry| entry.sha256 == host::sha256(&bytes)) {
            kept.push(Made {
                path: program.path.clone(),
                module: program.module.clone(),
                bytes,
                mode: 0o755,
            });
        }
    }
    Ok(kept)
}

/// Makes every file that is not kept: programs compile beside the files that only need reading.
fn make(pins: &Pins, kept: Vec<Made>) -> anyhow::Result<Vec<Made>> {
    println!(
        "vendor: fetching {} modules; go checks each with the checksum database",
        pins.sources().len()
    );
    let modules = Modules::fetch(pins)?;
    let (programs, files) = std::thread::scope(|scope| {
        let programs = scope.spawn(|| programs(pins, &modules, kept));
        let files = files(pins, &modules);
        (programs.join(), files)
    });
    let mut made =
        programs.map_err(|_| anyhow::anyhow!("building the programs was interrupted"))??;
    made.extend(files?);
    made.sort_by(|a, b| a.path.cmp(&b.path));
    let mut seen = BTreeMap::new();
    for made in &made {
        if let Some(other) = seen.insert(&made.path, &made.module) {
            bail!(
                "xtask/vendor.toml makes {} twice: from {other} and from {}",
                made.path,
                made.module
            );
        }
    }
    Ok(made)
}

fn programs(pins: &Pins, modules: &Modules, kept: Vec<Made>) -> anyhow::Result<Vec<Made>> {
    let work = tempfile::tempdir()?;
    let mut made = kept;
    for program in &pins.program {
        if made.iter().any(|made| made.path == program.path) {
            continue;
        }
        println!("vendor: building {}", pins.modules[&program.module]);
        let file = modules.install(&program.module, work.path())?;
        let bytes =
            fs::read(&file).with_context(|| format!("go install left no {}", file.display()))?;
        made.push(Made {
            path: program.path.clone(),
            module: program.module.clone(),
            bytes,
            mode: 0o755,
        });
    }
    Ok(made)
}

fn files(pins: &Pins, modules: &Modules) -> anyhow::Result<Vec<Made>> {
    let mut made = Vec::new();
    for chart in &pins.chart {
        let packed = chart::package(&modules.folder(&chart.module)?.join(&chart.folder))
            .with_context(|| {
                format!(
                    "cannot package the chart {} of {}",
                    chart.folder, pins.modules[&chart.module]
                )
            })?;
        made.push(Made {
            path: format!("charts/{}-{}.tgz", packed.name, packed.version),
            module: chart.module.clone(),
            bytes: packed.bytes,
            mode: 0o644,
        });
    }
    for manifest in &pins.manifest {
        let bytes =
            manifest::join(&modules.folder(&manifest.module)?, manifest).with_context(|| {
                format!(
                    "cannot make {} from {}",
                    manifest.path, pins.modules[&manifest.module]
                )
            })?;
        made.push(Made {
            path: manifest.path.clone(),
            module: manifest.module.clone(),
            bytes,
            mode: 0o644,
        });
    }
    let kustomize = modules.tool("kustomize")?;
    for item in &pins.kustomization {
        let bytes = manifest::kustomize(&kustomize, &modules.folder(&item.module)?, item)
            .with_context(|| {
                format!(
                    "cannot make {} from {}",
                    item.path, pins.modules[&item.module]
                )
            })?;
        made.push(Made {
            path: item.path.clone(),
            module: item.module.clone(),
            bytes,
            mode: 0o644,
        });
    }
    let controller_gen = modules.tool("controller-gen")?;
    for item in &pins.generated {
        let bytes = manifest::generate(
            modules.command(&controller_gen),
            &modules.folder(&item.module)?,
        )
        .with_context(|| {
            format!(
                "cannot make {} from {}",
                item.path, pins.modules[&item.module]
            )
        })?;
        made.push(Made {
            path: item.path.clone(),
            module: item.module.clone(),
            bytes,
            mode: 0o644,
        });
    }
    Ok(made)
}

/// Writes the files and removes what is not among them: rust-embed takes the whole folder.
fn put(folder: &Path, made: &[Made]) -> anyhow::Result<()> {
    for made in made {
        let path = folder.join(&made.path);
        // A file that is already right keeps its time, so that nothing is compiled again for it.
        if !fs::read(&path).is_ok_and(|bytes| bytes == made.bytes) {
            host::write_atomically(&path, &made.bytes, made.mode)?;
        }
    }
    for stale in host::files_under(folder)? {
        if !made.iter().any(|made| made.path == stale) {
            fs::remove_file(folder.join(&stale))
                .with_context(|| format!("cannot remove the stale assets/vendor/{stale}"))?;
        }
    }
    Ok(())
}
