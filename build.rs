//! Says in one sentence what to run when the vendored upstream files are missing; must not fetch, check digests or write anything.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};

const FIX: &str = "run `cargo xtask vendor` in the checkout, then build again";

fn main() {
    // The embedded folders: a file that comes or goes must reach the executable.
    for path in [
        "build.rs",
        "assets/vendor.lock",
        "assets/vendor",
        "embedded",
        "providers",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    if let Some(problem) = problem(
        &root.join("assets/vendor.lock"),
        &root.join("assets/vendor"),
    ) {
        println!("cargo::error={problem}: {FIX}");
    }
}

/// Compares the lock's list with the folder by name alone; digests are `cargo xtask vendor`'s to check.
fn problem(lock: &Path, folder: &Path) -> Option<String> {
    let Ok(text) = fs::read_to_string(lock) else {
        return Some("assets/vendor.lock cannot be read".to_owned());
    };
    let mut wanted: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'))
        .collect();
    if !folder.is_dir() {
        return Some("the upstream files that mctl embeds are not in assets/vendor".to_owned());
    }
    let mut found = Vec::new();
    list(folder, folder, &mut found);
    found.sort();
    wanted.sort_unstable();
    let missing = wanted
        .iter()
        .filter(|path| !found.iter().any(|found| found == *path))
        .count();
    let foreign = found
        .iter()
        .filter(|path| !wanted.contains(&path.as_str()))
        .count();
    (missing + foreign > 0).then(|| {
        format!("assets/vendor does not hold what assets/vendor.lock lists ({missing} missing or empty, {foreign} not listed)")
    })
}

/// Files that are not empty, relative to the root folder.
fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(root, &path, found);
        } else if entry.metadata().is_ok_and(|data| data.len() > 0) {
            found.extend(
                path.strip_prefix(root)
                    .ok()
                    .map(|path| path.to_string_lossy().into_owned()),
            );
        }
    }
}
