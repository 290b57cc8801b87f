//! Brings everything together: programs, images, the bundle; must not know how any of them is built.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::cache::{Cache, hash_sources, recipe_hash, remove_tree, write_atomic};
use super::image::Images;
use super::oci::Layout;
use super::pins::{Pins, Program, Tier, data_dir};
use super::programs::Builder;
use super::progress::Progress;

/// Media type of a profile in a bundle.
pub const PROFILE: &str = "application/vnd.mctl.profile.v1+yaml";

/// Where the bundle of the tiers up to this one is.
pub fn path(cache: &Cache, tier: Tier) -> PathBuf {
    cache.join(name(tier))
}

fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Main => "bundle",
        Tier::Long => "bundle-all",
    }
}

/// Where it is written what the bundle is made of.
pub fn stamp_path(cache: &Cache, tier: Tier) -> PathBuf {
    cache.join(format!("{}.stamp", name(tier)))
}

/// Fails when there is less free disk than what is still to be made needs.
pub fn check_disk(cache: &Cache, pins: &Pins, missing: usize, all: usize) -> Result<()> {
    if missing == 0 {
        return Ok(());
    }
    let stat = rustix::fs::statvfs(cache.root()).context("cannot read the free disk")?;
    let free = (stat.f_bavail * stat.f_frsize) >> 30;
    // The build caches are most of it, and grow with what is built.
    let need = (pins.disk_gib * missing as u64)
        .div_ceil(all.max(1) as u64)
        .max(4);
    if free < need {
        bail!(
            "{} has {free} GiB free, the lab needs {need} GiB for what is still to be built \
             (most of it only while it builds); make room or set XDG_CACHE_HOME to another disk",
            cache.root().display()
        );
    }
    eprintln!("disk: {free} GiB free, {need} GiB needed");
    Ok(())
}

/// Builds the programs that are missing.
pub fn programs(programs: &[&Program], builder: &Builder, progress: &Progress) -> Result<()> {
    let mut missing = Vec::new();
    for program in programs {
        if !builder.is_made(program)? {
            missing.push(program);
        }
    }
    let count = missing.len();
    for (number, program) in missing.into_iter().enumerate() {
        progress.step(
            &format!("program {}/{count} {}", number + 1, program.name),
            || builder.build(program),
        )?;
    }
    Ok(())
}

/// Builds the programs that the machine itself uses and links them below `bin/`.
pub fn host_programs(
    cache: &Cache,
    pins: &Pins,
    tier: Tier,
    builder: &Builder,
    progress: &Progress,
) -> Result<()> {
    let mut wanted: Vec<&Program> = Vec::new();
    for reference in pins.host_programs.values() {
        let (program, _) = pins.program_of(reference)?;
        if program.tier <= tier && !wanted.iter().any(|p| p.name == program.name) {
            wanted.push(program);
        }
    }
    programs(&wanted, builder, progress)?;
    link_host_programs(cache, pins, builder)
}

/// Builds the programs and images of these names and nothing else.
pub fn only(names: &[String], images: &Images, progress: &Progress) -> Result<()> {
    let pins = images.pins;
    for name in names {
        if let Some(program) = pins.programs.iter().find(|p| p.name == *name) {
            programs(&[program], images.builder, progress)?;
        } else if let Some(image) = pins.images.iter().find(|i| i.name == *name) {
            progress.step(&image.name, || images.layers(image))?;
        } else {
            let known: Vec<&str> = pins
                .programs
                .iter()
                .map(|p| &p.name)
                .chain(pins.images.iter().map(|i| &i.name))
                .map(String::as_str)
                .collect();
            bail!(
                "no program or image {name:?}; there are {}",
                known.join(", ")
            );
        }
    }
    Ok(())
}

/// Builds every image and the layout of all of them; the old bundle stays until the new one is whole.
pub fn bundle(images: &Images, tier: Tier, progress: &Progress) -> Result<PathBuf> {
    let (cache, pins) = (images.cache, images.pins);
    let target = path(cache, tier);
    let stamp_path = stamp_path(cache, tier);
    let wanted = pins.images_of(tier)?;
    let mut recipes = Vec::new();
    for image in &wanted {
        recipes.push(images.recipe(image)?);
    }
    recipes.extend(pins.roots.iter().map(|root| images.root_recipe(root)));
    let profile = data_dir().join(&pins.profile.file);
    let stamp = recipe_hash(&json!({
        "bundle": 1, "images": recipes, "profile": &pins.profile, "text": hash_sources(&profile)?,
    }));
    if target.join("index.json").exists()
        && fs::read_to_string(&stamp_path).is_ok_and(|s| s == stamp)
    {
        return Ok(target);
    }
    let missing: Vec<bool> = wanted
        .iter()
        .map(|i| images.is_made(i))
        .map(|m| m.map(|m| !m))
        .collect::<Result<_>>()?;
    let count = missing.iter().filter(|m| **m).count();
    let work = cache.work_dir(name(tier))?;
    let mut layout = Layout::create(&work)?;
    let mut number = 0;
    for (image, missing) in wanted.into_iter().zip(missing) {
        let layers = if missing {
            number += 1;
            progress.step(&format!("image {number}/{count} {}", image.name), || {
                images.layers(image)
            })?
        } else {
            images.layers(image)?
        };
        layout.add_image(image, pins.epoch, &layers)?;
    }
    layout.add_artifact(&pins.profile.name, PROFILE, &fs::read(profile)?)?;
    layout.finish()?;
    swap(&work, &target)?;
    write_atomic(&stamp_path, stamp.as_bytes())?;
    Ok(target)
}

/// Puts a finished folder in another's place.
pub fn swap(new: &Path, target: &Path) -> Result<()> {
    let old = target.with_extension("old");
    if old.exists() {
        remove_tree(&old)?;
    }
    if target.exists() {
        fs::rename(target, &old)?;
    }
    fs::rename(new, target)
        .with_context(|| format!("cannot move the bundle to {}", target.display()))?;
    if old.exists() {
        remove_tree(&old)?;
    }
    Ok(())
}

/// Links the programs that the machine itself uses below `bin/`.
pub fn link_host_programs(cache: &Cache, pins: &Pins, builder: &Builder) -> Result<()> {
    let bin = cache.join("bin");
    fs::create_dir_all(&bin)?;
    for (name, reference) in &pins.host_programs {
        let (program, executable) = pins.program_of(reference)?;
        if !builder.is_made(program)? {
            continue;
        }
        let target = builder.build(program)?.join(executable);
        let link = bin.join(name);
        if fs::read_link(&link).is_ok_and(|t| t == target) {
            continue;
        }
        let temp = bin.join(format!(".{name}.new"));
        let _ = fs::remove_file(&temp);
        symlink(&target, &temp)?;
        fs::rename(&temp, &link)?;
    }
    Ok(())
}
