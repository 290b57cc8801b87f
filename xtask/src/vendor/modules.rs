//! Go modules: download through go itself, which checks them with its checksum database, and `go install`; must not read what is inside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::pins::Pins;
use crate::host;

/// Modules on this disk.
pub struct Modules<'a> {
    pins: &'a Pins,
    folders: BTreeMap<String, PathBuf>,
}

/// One object of `go mod download -json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    path: String,
    version: String,
    dir: Option<PathBuf>,
    error: Option<String>,
}

impl<'a> Modules<'a> {
    /// Fetches the modules that files are read from, all at once.
    pub fn fetch(pins: &'a Pins) -> anyhow::Result<Self> {
        let sum_database = host::output(go(pins).args(["env", "GOSUMDB"]))?;
        if String::from_utf8_lossy(&sum_database).trim() == "off" {
            bail!(
                "go's checksum database is switched off (GOSUMDB=off), so the modules cannot be verified; unset it and run the command again"
            );
        }
        let sources = pins.sources();
        let mut command = go(pins);
        command.args(["mod", "download", "-json"]);
        command.args(sources.iter().map(|name| &pins.modules[*name]));
        // go exits with an error when one module fails, but still describes each of them.
        let done = command.output().context("cannot run go")?;
        let mut found = BTreeMap::new();
        let mut problems = Vec::new();
        for item in serde_json::Deserializer::from_slice(&done.stdout).into_iter::<Download>() {
            let item =
                item.context("`go mod download -json` answered with something else than JSON")?;
            let module = format!("{}@{}", item.path, item.version);
            match (item.error, item.dir) {
                (None, Some(dir)) => drop(found.insert(module, dir)),
                (error, _) => problems.push(format!(
                    "{module}: {}",
                    error.unwrap_or_else(|| "no folder".to_owned())
                )),
            }
        }
        if !problems.is_empty() {
            bail!("go could not fetch:\n  {}", problems.join("\n  "));
        }
        let mut folders = BTreeMap::new();
        for name in sources {
            let module = &pins.modules[name];
            let Some(folder) = found.remove(module) else {
                bail!(
                    "go did not fetch {module}: {}",
                    String::from_utf8_lossy(&done.stderr).trim()
                );
            };
            folders.insert(name.to_owned(), folder);
        }
        Ok(Self { pins, folders })
    }

    /// No modules: enough to build tools.
    pub fn none(pins: &'a Pins) -> Self {
        Self {
            pins,
            folders: BTreeMap::new(),
        }
    }

    /// Folder of a module by its short name (read-only, in go's module cache).
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.folders
            .get(name)
            .cloned()
            .with_context(|| format!("no files are read from module {name}"))
    }

    /// Builds a module's root package into `folder`; the result depends on the pins alone.
    pub fn install(&self, name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
        self.install_package(name, "", folder)
    }

    fn install_package(
        &self,
        module: &str,
        package: &str,
        folder: &Path,
    ) -> anyhow::Result<PathBuf> {
        let (path, version) = self.pins.split(module);
        let package = format!("{path}{package}");
        let mut command = self.go();
        command
            .env("GOBIN", folder)
            .args(["install", "-trimpath", "-ldflags=-s -w"])
            .arg(format!("{package}@{version}"));
        host::output(&mut command)?;
        Ok(folder.join(program_name(&package)))
    }

    /// A program that is only run here: built once and kept in the cache.
    pub fn tool(&self, name: &str) -> anyhow::Result<PathBuf> {
        let tool = self
            .pins
            .tools
            .get(name)
            .with_context(|| format!("{name} is not among [tools]"))?;
        let (path, version) = self.pins.split(&tool.module);
        let package = format!("{path}{}", tool.package);
        let folder = host::cache()?
            .join("tools")
            .join(format!("{name}-{version}-go{}", self.pins.go));
        let program = folder.join(program_name(&package));
        if program.is_file() {
            return Ok(program);
        }
        println!("vendor: building {package}@{version}");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // go renames the finished program into place, so that an interrupted build leaves none.
        self.install_package(&tool.module, &tool.package, &folder)
    }

    fn go(&self) -> Command {
        go(self.pins)
    }

    /// A program that itself calls go, with the same settings.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        settle(&mut command, self.pins);
        command
    }
}

/// Sets everything that could change go's results; its proxy settings stay the user's.
fn settle(command: &mut Command, pins: &Pins) {
    command
        .env("GOTOOLCHAIN", format!("go{}", pins.go))
        .env("CGO_ENABLED", "0")
        .env("GOOS", "linux")
        .env("GOARCH", "amd64");
    command
        .env("GOAMD64", "v1")
        .env("GOFLAGS", "")
        .env("GOEXPERIMENT", "")
        .env("GOFIPS140", "off")
        .env("GOWORK", "off")
        .env("GO111MODULE", "on");
    for exemption in ["GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOINSECURE"] {
        command.env(exemption, "");
    }
}

/// go, outside any module.
fn go(pins: &Pins) -> Command {
    let mut command = Command::new("go");
    command.current_dir("/");
    settle(&mut command, pins);
    command
}

/// The name that `go install` gives a package: its last part, unless that is only a major version.
fn program_name(path: &str) -> &str {
    let mut parts = path.rsplit('/');
    let last = parts.next().unwrap_or(path);
    let major = last.strip_prefix('v').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if major {
        parts.next().unwrap_or(last)
    } else {
        last
    }
}

#[cfg(test)]
mod tests {
    use super::program_name;

    #[test]
    fn programs_are_named_as_go_names_them() {
        assert_eq!(program_name("sigs.k8s.io/kind"), "kind");
        assert_eq!(
            program_name("sigs.k8s.io/kustomize/kustomize/v5"),
            "kustomize"
        );
        assert_eq!(program_name("example.org/v2tool"), "v2tool");
    }
}
