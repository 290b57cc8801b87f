//! `assets/vendor.lock`: digests of all vendored files, and what differs from them; must not fetch anything.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::pins::Pins;
use crate::host;

const HEADER: &str = "# Written by `cargo xtask vendor --update` from xtask/vendor.toml; review changes, do not edit.\n\n";

/// All files, sorted by path.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// One entry a file.
    #[serde(default)]
    pub file: Vec<Entry>,
}

/// A vendored file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Path under assets/vendor.
    pub path: String,
    /// Module it comes from.
    pub module: String,
    /// That module's version.
    pub version: String,
    /// Digest, lower-case hex.
    pub sha256: String,
}

impl Lock {
    /// A lock of the given files.
    pub fn of(entries: impl Iterator<Item = Entry>) -> Self {
        let mut file: Vec<_> = entries.collect();
        file.sort_by(|a, b| a.path.cmp(&b.path));
        Self { file }
    }

    /// Reads the file; none means an empty lock.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        host::write_atomically(
            path,
            format!("{HEADER}{}", toml::to_string(self)?).as_bytes(),
            0o644,
        )
    }

    /// Whether it was written from these pins: the same paths, each from the pinned version.
    pub fn is_of(&self, pins: &Pins) -> bool {
        let expected = pins.outputs();
        let charts = self
            .file
            .iter()
            .filter(|entry| entry.path.starts_with("charts/"));
        let known = |entry: &Entry| match expected.get(entry.path.as_str()) {
            Some(module) => pins.split(module) == (&entry.module, &entry.version),
            // A chart's file is named by what is in it; its module must be right.
            None => pins
                .chart
                .iter()
                .any(|chart| pins.split(&chart.module) == (&entry.module, &entry.version)),
        };
        charts.count() == pins.chart.len()
            && self.file.len() == expected.len() + pins.chart.len()
            && self.file.iter().all(known)
    }

    /// Paths in the folder that are missing, altered or unknown to the lock. An empty lock never matches.
    pub fn differences(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let mut differences = Vec::new();
        for entry in &self.file {
            let path = folder.join(&entry.path);
            if !path.is_file() || host::sha256_file(&path)? != entry.sha256 {
                differences.push(entry.path.clone());
            }
        }
        let known = |path: &String| self.file.iter().any(|entry| &entry.path == path);
        differences.extend(
            host::files_under(folder)?
                .into_iter()
                .filter(|path| !known(path)),
        );
        if self.file.is_empty() {
            differences.push("assets/vendor.lock".to_owned());
        }
        Ok(differences)
    }

    /// One sentence for each file in which `found` differs from this lock.
    pub fn problems(&self, found: &Self) -> Vec<String> {
        let expected: BTreeMap<_, _> = self.file.iter().map(|entry| (&entry.path, entry)).collect();
        let made: BTreeMap<_, _> = found
            .file
            .iter()
            .map(|entry| (&entry.path, entry))
            .collect();
        let mut problems = Vec::new();
        for (path, found) in &made {
            let source = format!("{}@{}", found.module, found.version);
            match expected.get(path) {
                None => problems.push(format!(
                    "{path} is not in assets/vendor.lock: found sha256 {} from {source}",
                    found.sha256
                )),
                Some(entry) if entry.sha256 != found.sha256 => problems.push(format!(
                    "{path} differs: expected sha256 {} from {}@{}, found {} from {source}",
                    entry.sha256, entry.module, entry.version, found.sha256
                )),
                Some(entry)
                    if (&entry.module, &entry.version) != (&found.module, &found.version) =>
                {
                    problems.push(format!(
                        "{path} comes from {source}, but assets/vendor.lock says {}@{}",
                        entry.module, entry.version
                    ));
                }
                Some(_) => {}
            }
        }
        for (path, entry) in expected {
            if !made.contains_key(path) {
                problems.push(format!("{path} is in assets/vendor.lock (from {}@{}) but xtask/vendor.toml no longer makes it", entry.module, entry.version));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, version: &str, sha256: &str) -> Entry {
        Entry {
            path: path.into(),
            module: "example.org/m".into(),
            version: version.into(),
            sha256: sha256.into(),
        }
    }

    #[test]
    fn every_difference_is_one_sentence_with_both_digests() {
        let lock = Lock::of(
            [
                entry("a", "v1", "11"),
                entry("b", "v1", "22"),
                entry("c", "v1", "33"),
            ]
            .into_iter(),
        );
        let found = Lock::of(
            [
                entry("a", "v1", "11"),
                entry("b", "v2", "23"),
                entry("d", "v1", "44"),
            ]
            .into_iter(),
        );
        assert_eq!(
            lock.problems(&found),
            [
                "b differs: expected sha256 22 from example.org/m@v1, found 23 from example.org/m@v2",
                "d is not in assets/vendor.lock: found sha256 44 from example.org/m@v1",
                "c is in assets/vendor.lock (from example.org/m@v1) but xtask/vendor.toml no longer makes it",
            ]
        );
        assert!(lock.problems(&lock).is_empty());
    }

    #[test]
    fn a_changed_pin_is_noticed() {
        let root = host::root();
        let text = std::fs::read_to_string(root.join("xtask/vendor.toml")).unwrap();
        let lock = Lock::read(&root.join("assets/vendor.lock")).unwrap();
        assert!(lock.is_of(&Pins::parse(&text).unwrap()));
        for (from, to) in [
            ("kind@v0.32.0", "kind@v0.33.0"),
            ("cilium@v1", "cilium@v2"),
            ("flux/helm-controller.crds", "flux/other.crds"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(
                !lock.is_of(&Pins::parse(&text.replace(from, to)).unwrap()),
                "{to}"
            );
        }
    }

    #[test]
    fn a_lock_survives_being_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vendor.lock");
        let lock = Lock::of([entry("z", "v1", "11"), entry("a", "v1", "22")].into_iter());
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(lock.file[0].path, "a");
    }

    #[test]
    fn missing_altered_and_foreign_files_are_differences() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("good"), b"x").unwrap();
        std::fs::write(folder.path().join("bad"), b"y").unwrap();
        std::fs::write(folder.path().join("foreign"), b"z").unwrap();
        let digest = host::sha256(b"x");
        let lock = Lock::of(
            [
                entry("good", "v1", &digest),
                entry("bad", "v1", &digest),
                entry("gone", "v1", &digest),
            ]
            .into_iter(),
        );
        assert_eq!(
            lock.differences(folder.path()).unwrap(),
            ["bad", "gone", "foreign"]
        );
        assert!(
            !Lock::default()
                .differences(folder.path())
                .unwrap()
                .is_empty()
        );
    }
}
