//! Types of `xtask/lab/debs.lock`, the exact Debian packages that the pins name; must not fetch them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::pins::data_dir;

/// `suite/package` in its two parts.
pub fn split_deb(name: &str) -> Result<(String, String)> {
    let (suite, package) = name
        .split_once('/')
        .with_context(|| format!("{name:?} is not suite/package"))?;
    Ok((suite.to_owned(), package.to_owned()))
}

/// Exact Debian packages.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebLock {
    /// Sorted by suite and name.
    pub deb: Vec<Deb>,
}

/// One Debian package.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deb {
    /// Release it is from.
    pub suite: String,
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// amd64 or all.
    pub architecture: String,
    /// Digest of the file.
    pub sha256: String,
}

impl Deb {
    /// Name of the file that apt downloads it to: an epoch's colon is escaped.
    pub fn file_name(&self) -> String {
        format!(
            "{}_{}_{}.deb",
            self.package,
            self.version.replace(':', "%3a"),
            self.architecture
        )
    }
}

impl DebLock {
    /// Where the lock is.
    pub fn path() -> PathBuf {
        data_dir().join("debs.lock")
    }

    /// Reads the lock of this checkout.
    pub fn load() -> Result<Self> {
        let path = Self::path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
    }

    /// The file's text.
    pub fn to_text(&self) -> Result<String> {
        let head = "# Written by `cargo xtask lab --update-debs`: the Debian packages that pins.toml names.\n\n";
        Ok(format!("{head}{}", toml::to_string(self)?))
    }

    /// The locked package of a name `suite/package`.
    pub fn get(&self, name: &str) -> Result<&Deb> {
        let (suite, package) = split_deb(name)?;
        self.deb
            .iter()
            .find(|d| d.suite == suite && d.package == package)
            .with_context(|| {
                format!("debs.lock has no {name}; run `cargo xtask lab --update-debs`")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_apt_names_them() {
        let deb = Deb {
            suite: "trixie".to_owned(),
            package: "clang-19".to_owned(),
            version: "1:19.1.7-3+b1".to_owned(),
            architecture: "amd64".to_owned(),
            sha256: String::new(),
        };
        assert_eq!(deb.file_name(), "clang-19_1%3a19.1.7-3+b1_amd64.deb");
    }

    #[test]
    fn a_package_without_a_suite_is_refused() {
        assert!(split_deb("clang-19").is_err());
        assert!(DebLock::default().get("trixie/clang-19").is_err());
    }
}
