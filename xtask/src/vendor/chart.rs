//! Packages a Helm chart with the same bytes everywhere: sorted names, no times, no owners; must not change templates or values.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use flate2::{Compression, GzBuilder};

use crate::host;

/// A packaged chart.
pub struct Packaged {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The archive.
    pub bytes: Vec<u8>,
}

/// Packages the chart in a folder.
pub fn package(folder: &Path) -> anyhow::Result<Packaged> {
    let text = fs::read_to_string(folder.join("Chart.yaml")).context("cannot read Chart.yaml")?;
    let name = top_level(&text, "name").context("Chart.yaml has no name")?;
    let version = top_level(&text, "version").context("Chart.yaml has no version")?;
    let (trimmed, dropped) =
        drop_dependencies(&text, |name| folder.join("charts").join(name).is_dir());
    let ignored = fs::read_to_string(folder.join(".helmignore")).unwrap_or_default();
    let ignored = Ignore::parse(&ignored)?;

    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::best());
    let mut archive = tar::Builder::new(gzip);
    // Helm writes and reads Chart.yaml first.
    let mut files = host::files_under(folder)?;
    files.sort_by_key(|file| (file != "Chart.yaml", file.clone()));
    for file in files {
        if ignored.matches(&file) || (file == "Chart.lock" && !dropped.is_empty()) {
            continue;
        }
        let bytes = if file == "Chart.yaml" {
            trimmed.clone().into_bytes()
        } else {
            fs::read(folder.join(&file))?
        };
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, format!("{name}/{file}"), bytes.as_slice())?;
    }
    Ok(Packaged {
        name: name.to_owned(),
        version: version.to_owned(),
        bytes: archive.into_inner()?.finish()?,
    })
}

/// Value of a plain top-level key; a trailing comment is no part of it.
fn top_level<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let value = line
        .split(" #")
        .next()
        .unwrap_or(line)
        .trim()
        .trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

/// Removes the dependencies whose subchart is not carried; returns the text and the removed names.
fn drop_dependencies(text: &str, carried: impl Fn(&str) -> bool) -> (String, Vec<String>) {
    let mut kept = String::new();
    let mut dropped = Vec::new();
    let (mut inside, mut skipping) = (false, false);
    for line in text.lines() {
        if line == "dependencies:" {
            inside = true;
        } else if inside && !line.starts_with([' ', '-']) {
            (inside, skipping) = (false, false);
        } else if inside && line.trim_start().starts_with("- ") {
            let name = line
                .trim_start()
                .trim_start_matches("- ")
                .strip_prefix("name:")
                .map(str::trim)
                .unwrap_or_default();
            skipping = !carried(name);
            if skipping {
                dropped.push(name.to_owned());
            }
        }
        if !(inside && skipping) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    (kept, dropped)
}

/// The part of .helmignore that charts use: names and globs, a trailing slash for folders.
struct Ignore {
    patterns: Vec<(String, bool)>,
}

impl Ignore {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut patterns = Vec::new();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (pattern, folder) = line
                .strip_suffix('/')
                .map_or((line, false), |pattern| (pattern, true));
            if pattern.starts_with('!')
                || pattern.contains("**")
                || pattern.trim_start_matches('/').contains('/')
            {
                bail!(".helmignore has a pattern that is not supported here: {line:?}");
            }
            patterns.push((pattern.trim_start_matches('/').to_owned(), folder));
        }
        Ok(Self { patterns })
    }

    fn matches(&self, file: &str) -> bool {
        let parts: Vec<_> = file.split('/').collect();
        parts.iter().enumerate().any(|(index, part)| {
            let folder = index + 1 < parts.len();
            self.patterns
                .iter()
                .any(|(pattern, only_folder)| (folder || !only_folder) && glob(pattern, part))
        })
    }
}

/// Matches a name with `*` and `?`.
pub fn glob(pattern: &str, name: &str) -> bool {
    fn step(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                step(rest, name)
                    || name
                        .split_first()
                        .is_some_and(|(_, name)| step(pattern, name))
            }
            (Some((b'?', rest)), Some((_, name))) => step(rest, name),
            (Some((wanted, rest)), Some((found, name))) => wanted == found && step(rest, name),
            _ => false,
        }
    }
    step(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHART: &str = "name: demo\nversion: 3.9.1  # VERSION\ndependencies:\n  - name: crds\n    version: 1\n  - name: far\n    repository: \"https://example.org\"\n  - name: grafana\nhome: x\n";

    #[test]
    fn dependencies_that_are_not_carried_go() {
        let (text, dropped) = drop_dependencies(CHART, |name| name != "far");
        assert_eq!(dropped, ["far"]);
        assert_eq!(
            text,
            "name: demo\nversion: 3.9.1  # VERSION\ndependencies:\n  - name: crds\n    version: 1\n  - name: grafana\nhome: x\n"
        );
    }

    #[test]
    fn name_and_version_are_read_without_comments() {
        assert_eq!(top_level(CHART, "name"), Some("demo"));
        assert_eq!(top_level(CHART, "version"), Some("3.9.1"));
        assert_eq!(top_level(CHART, "icon"), None);
    }

    #[test]
    fn ignored_files_and_folders() {
        let ignore = Ignore::parse("# x\n.helmignore\nci/\n*.tmpl\n").unwrap();
        assert!(
            ignore.matches(".helmignore")
                && ignore.matches("ci/values.yaml")
                && ignore.matches("a/values.yaml.tmpl")
        );
        assert!(!ignore.matches("templates/ci") && !ignore.matches("values.yaml"));
        assert!(Ignore::parse("!keep").is_err());
    }

    #[test]
    fn a_package_has_the_same_bytes_twice_and_chart_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("templates")).unwrap();
        for (name, text) in [
            ("Chart.yaml", CHART),
            ("Chart.lock", "x"),
            ("README.md", "x"),
            ("templates/a.yaml", "a"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let first = package(folder.path()).unwrap();
        assert_eq!(first.bytes, package(folder.path()).unwrap().bytes);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(first.bytes.as_slice()));
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            ["demo/Chart.yaml", "demo/README.md", "demo/templates/a.yaml"]
        );
    }
}
