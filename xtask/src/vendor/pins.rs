//! The pins in `xtask/vendor.toml`: their shape and their checks; must not fetch anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Version of the Go toolchain.
    pub go: String,
    /// Short name to `path@version`.
    pub modules: BTreeMap<String, String>,
    /// Programs that only run here.
    #[serde(default)]
    pub tools: BTreeMap<String, Tool>,
    /// Programs to build.
    #[serde(default)]
    pub program: Vec<Program>,
    /// Charts to package.
    #[serde(default)]
    pub chart: Vec<Chart>,
    /// Kustomizations to build.
    #[serde(default)]
    pub kustomization: Vec<Kustomization>,
    /// Manifests to join.
    #[serde(default)]
    pub manifest: Vec<Manifest>,
    /// CRDs to generate from Go types.
    #[serde(default)]
    pub generated: Vec<Generated>,
}

/// A program that makes other files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Short name of its module.
    pub module: String,
    /// Its package, as what follows the module's path.
    pub package: String,
}

/// CRDs that controller-gen writes from a module's types.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// Where the result goes, under assets/vendor.
    pub path: String,
    /// Short name of the module with the types.
    pub module: String,
}

/// A program built from its module's root package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where it goes, under assets/vendor.
    pub path: String,
    /// Short name of its module.
    pub module: String,
}

/// A chart folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// Short name of its module.
    pub module: String,
    /// Folder in the module.
    pub folder: String,
}

/// A folder that kustomize builds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kustomization {
    /// Where the result goes, under assets/vendor.
    pub path: String,
    /// Short name of its module.
    pub module: String,
    /// Folder in the module that is copied.
    pub folder: String,
    /// Folder in the copy that is built.
    pub build: String,
    /// Changes of the copy.
    #[serde(default)]
    pub replace: Vec<Replacement>,
}

/// One exact text replacement; the text must occur.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// File in the copied folder.
    pub file: String,
    /// Text to find.
    pub from: String,
    /// Text in its place.
    pub to: String,
}

/// YAML files joined into one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Where the result goes, under assets/vendor.
    pub path: String,
    /// Short name of its module.
    pub module: String,
    /// Files in the module; `*` stands for any name in the last part.
    pub files: Vec<String>,
    /// Which documents are kept.
    pub documents: Documents,
    /// Whether schemas keep their descriptions.
    #[serde(default = "yes")]
    pub descriptions: bool,
}

fn yes() -> bool {
    true
}

/// Selection of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Documents {
    /// Every one.
    All,
    /// Custom resource definitions.
    Crds,
    /// All but those.
    Rest,
}

impl Pins {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not valid", path.display()))
    }

    /// Reads and checks a text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let pins: Self = toml::from_str(text)?;
        for (name, module) in &pins.modules {
            if module.split_once("@v").is_none() {
                bail!("module {name} is pinned to {module:?}, which is not path@version");
            }
        }
        let programs = pins.program.iter().map(|item| item.module.as_str());
        let tools = pins.tools.values().map(|item| item.module.as_str());
        for name in pins.sources().into_iter().chain(programs).chain(tools) {
            if !pins.modules.contains_key(name) {
                bail!("module {name} is used but not pinned under [modules]");
            }
        }
        Ok(pins)
    }

    /// Modules that files are read from; programs and tools are fetched by `go install`.
    pub fn sources(&self) -> BTreeSet<&str> {
        let used = self.chart.iter().map(|item| &item.module);
        let used = used.chain(self.kustomization.iter().map(|item| &item.module));
        let used = used.chain(self.manifest.iter().map(|item| &item.module));
        used.chain(self.generated.iter().map(|item| &item.module))
            .map(String::as_str)
            .collect()
    }

    /// Every path that is known before anything is fetched, with its module; charts name themselves.
    pub fn outputs(&self) -> BTreeMap<&str, &str> {
        let all = self.program.iter().map(|item| (&item.path, &item.module));
        let all = all.chain(
            self.kustomization
                .iter()
                .map(|item| (&item.path, &item.module)),
        );
        let all = all.chain(self.manifest.iter().map(|item| (&item.path, &item.module)));
        let all = all.chain(self.generated.iter().map(|item| (&item.path, &item.module)));
        all.map(|(path, module)| (path.as_str(), module.as_str()))
            .collect()
    }

    /// Path and version of a module by its short name.
    pub fn split<'a>(&'a self, name: &'a str) -> (&'a str, &'a str) {
        self.modules
            .get(name)
            .and_then(|module| module.split_once('@'))
            .unwrap_or((name, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_pins_are_valid() {
        let pins = Pins::parse(include_str!("../../vendor.toml")).unwrap();
        assert_eq!(pins.split("kind"), ("sigs.k8s.io/kind", "v0.32.0"));
    }

    #[test]
    fn a_module_that_is_not_pinned_is_named() {
        let error = Pins::parse(
            "go = \"1.26.8\"\n[modules]\n[[program]]\npath = \"bin/x\"\nmodule = \"x\"\n",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "module x is used but not pinned under [modules]"
        );
    }

    #[test]
    fn a_pin_without_version_is_refused() {
        let error = Pins::parse("go = \"1.26.8\"\n[modules]\nx = \"example.org/x\"\n").unwrap_err();
        assert!(error.to_string().contains("not path@version"), "{error}");
    }
}
