//! One version of every Go module that several programs are built with, so that its packages compile once; must not build programs.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::pins::{Pins, data_dir};
use super::programs::{Builder, Use};
use super::progress::Progress;

const HEAD: &str = "# One version of each Go module that several programs are built with; `cargo xtask lab --update-libraries` writes it.\n";

/// Module to version.
pub type Libraries = BTreeMap<String, String>;

/// Where the lock is.
pub fn path() -> PathBuf {
    data_dir().join("libraries.lock")
}

/// Reads the lock.
pub fn load() -> Result<Libraries> {
    let path = path();
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is not as expected", path.display()))
}

fn parse(text: &str) -> Result<Libraries> {
    let mut found = Libraries::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (module, version) = line
            .split_once(' ')
            .with_context(|| format!("{line:?} is not module and version"))?;
        if found
            .insert(module.to_owned(), version.to_owned())
            .is_some()
        {
            bail!("{module} is there twice");
        }
    }
    Ok(found)
}

fn text(libraries: &Libraries) -> String {
    let lines = libraries.iter().map(|(m, v)| format!("{m} {v}\n"));
    HEAD.to_owned() + &lines.collect::<String>()
}

/// Writes the lock anew: the highest version that any program needs, until all of them agree with it.
pub fn update(pins: &Pins, mut builder: Builder<'_>, progress: &Progress) -> Result<()> {
    let apart: BTreeSet<&str> = pins
        .libraries
        .apart
        .iter()
        .map(String::as_str)
        .chain(pins.programs.iter().flat_map(|p| p.module_paths()))
        .collect();
    builder.libraries.clear();
    for round in 1..=10 {
        let mut uses = Vec::new();
        for program in pins.programs.iter().filter(|p| p.shares_libraries()) {
            let name = format!("round {round}: {}", program.name);
            uses.push(progress.step(&name, || builder.uses(program))?);
        }
        let next = shared(&uses, &apart);
        if next == builder.libraries && uses.iter().flatten().all(|used| agrees(used, &next)) {
            fs::write(path(), text(&next))?;
            progress.say(&format!("{} shared libraries", next.len()));
            return Ok(());
        }
        builder.libraries = next;
    }
    bail!(
        "the programs' versions do not settle; put the module that goes back and forth into `libraries.apart`"
    )
}

fn agrees(used: &Use, libraries: &Libraries) -> bool {
    libraries
        .get(&used.module)
        .is_none_or(|version| *version == used.version)
}

/// What more than one program uses, at the highest version; replaced modules have no version that others could share.
fn shared(uses: &[Vec<Use>], apart: &BTreeSet<&str>) -> Libraries {
    let mut all: BTreeMap<&str, Vec<&Use>> = BTreeMap::new();
    for used in uses.iter().flatten() {
        all.entry(&used.module).or_default().push(used);
    }
    all.into_iter()
        .filter(|(module, used)| {
            used.len() > 1 && !apart.contains(module) && !used.iter().any(|u| u.replaced)
        })
        .filter_map(|(module, used)| {
            let highest = used
                .iter()
                .map(|u| &u.version)
                .max_by(|a, b| compare(a, b))?;
            Some((module.to_owned(), highest.clone()))
        })
        .collect()
}

/// Order of two versions of one module, as Go has it.
fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (split(left), split(right));
    left.0.cmp(&right.0).then_with(|| {
        // A pre-release comes before its release.
        match (left.1.is_empty(), right.1.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => left.1.cmp(&right.1),
        }
    })
}

/// One part of a pre-release; numbers come before words.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u64),
    Word(&'a str),
}

fn split(version: &str) -> (Vec<u64>, Vec<Part<'_>>) {
    let version = version
        .trim_start_matches('v')
        .split('+')
        .next()
        .unwrap_or_default();
    let (core, pre) = version.split_once('-').unwrap_or((version, ""));
    let part = |text| match str::parse(text) {
        Ok(number) => Part::Number(number),
        Err(_) => Part::Word(text),
    };
    (
        core.split('.').map(|n| n.parse().unwrap_or(0)).collect(),
        pre.split('.')
            .filter(|text| !text.is_empty())
            .map(part)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(module: &str, version: &str) -> Use {
        Use {
            module: module.into(),
            version: version.into(),
            replaced: false,
        }
    }

    #[test]
    fn versions_are_ordered_as_go_orders_them() {
        for (low, high) in [
            ("v1.9.0", "v1.10.0"),
            ("v1.0.0-rc.1", "v1.0.0"),
            ("v1.0.0-rc.2", "v1.0.0-rc.10"),
            ("v1.0.0-1", "v1.0.0-rc"),
            (
                "v0.0.0-20250910181357-589584f1c912",
                "v0.0.0-20260603220949-865597e52e25",
            ),
            ("v1.36.11", "v1.36.12-0.20260120151049-f2248ac996af"),
            ("v2.0.0+incompatible", "v2.0.1+incompatible"),
        ] {
            assert_eq!(compare(low, high), Ordering::Less, "{low} {high}");
            assert_eq!(compare(high, low), Ordering::Greater, "{high} {low}");
        }
        assert_eq!(compare("v1.0.0", "v1.0.0"), Ordering::Equal);
    }

    #[test]
    fn only_what_several_programs_use_is_shared_at_the_highest_version() {
        let mut forked = used("example.org/forked", "v1.0.0");
        forked.replaced = true;
        let uses = [
            vec![
                used("example.org/a", "v1.2.0"),
                used("example.org/apart", "v1.0.0"),
                forked,
                used("example.org/one", "v1.0.0"),
            ],
            vec![
                used("example.org/a", "v1.10.0"),
                used("example.org/apart", "v1.0.0"),
                used("example.org/forked", "v1.0.0"),
            ],
        ];
        let found = shared(&uses, &["example.org/apart"].into());
        assert_eq!(text(&found), format!("{HEAD}example.org/a v1.10.0\n"));
        assert_eq!(parse(&text(&found)).unwrap(), found);
        assert!(agrees(&used("example.org/one", "v3.0.0"), &found));
        assert!(!agrees(&used("example.org/a", "v1.2.0"), &found));
    }

    #[test]
    fn the_committed_lock_names_no_module_that_must_stay_apart() {
        let (libraries, pins) = (load().unwrap(), Pins::load().unwrap());
        assert!(libraries.contains_key("k8s.io/client-go"));
        for module in pins
            .libraries
            .apart
            .iter()
            .map(String::as_str)
            .chain(pins.programs.iter().flat_map(|p| p.module_paths()))
        {
            assert!(!libraries.contains_key(module), "{module}");
        }
        assert!(parse("a v1\na v2\n").is_err() && parse("a\n").is_err());
    }
}
