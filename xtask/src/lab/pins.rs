//! Types of `xtask/lab/pins.toml` and `debs.lock`; must not fetch or build anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Everything the lab builds from, in one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Debian's part.
    pub debian: Debian,
    /// The Docker engine.
    pub engine: Engine,
}

/// How Debian packages are reached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Keyring that signs the suites.
    pub keyring: PathBuf,
    /// Suites whose lists are taken although their Valid-Until is over.
    pub past_valid_until: Vec<String>,
    /// Programs the machine itself needs: name to package.
    pub host: BTreeMap<String, String>,
}

/// The lab's own Docker engine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Locked packages, `suite/package`.
    pub debs: Vec<String>,
    /// Packages of the machine's own release.
    pub host_debs: Vec<String>,
    /// Kernel settings and the least value they need.
    pub sysctls: BTreeMap<String, u64>,
    /// Further kernel settings that the engine or the clusters in it change; put back when it stops.
    pub restore_sysctls: Vec<String>,
}

impl Pins {
    /// Reads the pins of this checkout.
    pub fn load() -> Result<Self> {
        let path = data_dir().join("pins.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
    }

    /// Every locked Debian package that is used, as suite and name.
    pub fn debs(&self) -> Result<BTreeSet<(String, String)>> {
        self.engine
            .debs
            .iter()
            .map(|name| split_deb(name))
            .collect()
    }
}

/// `suite/package` in its two parts.
pub fn split_deb(name: &str) -> Result<(String, String)> {
    let (suite, package) = name
        .split_once('/')
        .with_context(|| format!("{name:?} is not suite/package"))?;
    Ok((suite.to_owned(), package.to_owned()))
}

/// Folder of the lab's data files in the checkout.
pub fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
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
