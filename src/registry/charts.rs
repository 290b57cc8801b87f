//! The charts that mctl carries, as the registry serves them. Must not render them.

use super::{
    Store,
    artifact::{chart, chart_tag},
};
use crate::{Error, GROUP, Result, catalog::assets};

/// Repository of a chart: `mctl.giantswarm.io/charts/<name>`.
pub fn repository(name: &str) -> String {
    format!("{GROUP}/charts/{name}")
}

/// Puts every embedded chart into the store, under its version as tag.
pub fn put_all(store: &Store) -> Result<()> {
    for (file, content) in assets::charts() {
        let (name, version) = split(&file)
            .ok_or_else(|| Error::failed(format!("{file} is no name of a packaged chart")))?;
        store.put_artifact(
            &repository(name),
            &chart_tag(version),
            chart(content.into_owned(), name, version)?,
        )?;
    }
    Ok(())
}

/// `kyverno-policies-3.9.1.tgz` in name and version.
fn split(file: &str) -> Option<(&str, &str)> {
    let stem = file.strip_suffix(".tgz")?;
    let at = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| semver::Version::parse(stem[at + 1..].trim_start_matches('v')).is_ok())?;
    Some((&stem[..at], &stem[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        for (file, expected) in [
            ("cilium-1.20.2.tgz", Some(("cilium", "1.20.2"))),
            (
                "kyverno-policies-3.9.1.tgz",
                Some(("kyverno-policies", "3.9.1")),
            ),
            ("a-1-1.0.0-rc.1.tgz", Some(("a-1", "1.0.0-rc.1"))),
            ("a.tgz", None),
            ("a-1.0.0", None),
        ] {
            assert_eq!(split(file), expected, "{file}");
        }
    }
}
