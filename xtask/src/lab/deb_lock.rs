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
    /// Digest of the file.
    pub sha256: String,
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
