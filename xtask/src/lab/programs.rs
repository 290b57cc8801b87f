//! Builds programs from their Go modules (and one from C), each recipe once; must not know which image uses them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::cache::{Cache, hash_sources, remove_tree};
use super::gomod::{self, Consumer};
use super::libraries::Libraries;
use super::pins::{Program, data_dir};
use super::proc::Run;

/// Builds programs into the cache.
#[derive(Debug)]
pub struct Builder<'a> {
    cache: &'a Cache,
    go_version: String,
    /// Versions that all programs are built with.
    pub libraries: Libraries,
}

/// A module that a program's packages are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its path.
    pub module: String,
    /// Its version.
    pub version: String,
    /// Whether something else stands in its place.
    pub replaced: bool,
}

impl<'a> Builder<'a> {
    /// Asks Go for its version, which is part of every recipe.
    pub fn new(cache: &'a Cache, libraries: Libraries) -> Result<Self> {
        let version = Run::new("go")
            .args(["env", "GOVERSION"])
            .env("GOTOOLCHAIN", "local")
            .output()
            .context("the lab builds from Go modules and needs Go in PATH")?;
        Ok(Self {
            cache,
            go_version: version.trim().to_owned(),
            libraries,
        })
    }

    /// What a program is made of.
    pub fn recipe(&self, program: &Program) -> Result<Value> {
        let mut sources = Vec::new();
        for source in program.sources() {
            sources.push(hash_sources(&data_dir().join(source))?);
        }
        let libraries = program.shares_libraries().then_some(&self.libraries);
        Ok(
            json!({"program": 2, "pin": program, "sources": sources, "go": self.go_version, "libraries": libraries}),
        )
    }

    /// Whether the program is there already.
    pub fn is_made(&self, program: &Program) -> Result<bool> {
        Ok(self
            .cache
            .entry("programs", &self.recipe(program)?)
            .exists())
    }

    /// Folder with the program's executables, built when missing.
    pub fn build(&self, program: &Program) -> Result<PathBuf> {
        let entry = self
            .cache
            .get_or_make("programs", &self.recipe(program)?, |dir| {
                let log = self.cache.join(format!("logs/{}.log", program.name));
                let _ = fs::remove_file(&log);
                match &program.c {
                    Some(source) => compile_c(
                        &data_dir().join(source),
                        &dir.join("bin").join(&program.name),
                        &log,
                    ),
                    None => self.go_build(program, dir, &log),
                }
            })?;
        Ok(entry.join("bin"))
    }

    /// Folder of a module's files.
    pub fn module_dir(&self, module: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(download(module)?.dir))
    }

    /// Go's build cache of the lab's own.
    pub fn build_cache(&self) -> PathBuf {
        self.cache.join("go-build")
    }

    /// Deletes the build cache; the programs themselves stay.
    pub fn drop_build_cache(&self) -> Result<()> {
        let dir = self.build_cache();
        if dir.exists() {
            remove_tree(&dir)
        } else {
            Ok(())
        }
    }

    /// Modules that the program's packages are from; downloads what is missing of them.
    pub fn uses(&self, program: &Program) -> Result<Vec<Use>> {
        let dir = self.cache.work_dir(&format!("uses-{}", program.name))?;
        self.consumer(program, &dir)?;
        let listed = self
            .go("list", program, &dir)
            .args([
                "-deps",
                "-f",
                "{{with .Module}}{{.Path}} {{.Version}} {{with .Replace}}replaced{{end}}{{end}}",
            ])
            .args(program.outputs.values())
            .log(&self.cache.join(format!("logs/uses-{}.log", program.name)))
            .output();
        remove_tree(&dir)?;
        Ok(read_uses(&listed?))
    }

    /// Writes the module that the program is built in.
    fn consumer(&self, program: &Program, source: &Path) -> Result<()> {
        fs::create_dir_all(source)?;
        let mut modules = Vec::new();
        for module in &program.modules {
            let text = fs::read_to_string(download(module)?.go_mod)?;
            modules.push((module.clone(), gomod::parse(&text)));
        }
        let mut replaces = program.replaces.clone();
        for (module, folder) in &program.shims {
            replaces.insert(
                module.clone(),
                data_dir().join(folder).to_string_lossy().into_owned(),
            );
        }
        let own = Libraries::new();
        let text = gomod::generate(&Consumer {
            name: &program.name,
            modules: &modules,
            local_replaces: program.local_replaces.as_deref(),
            replaces: &replaces,
            libraries: if program.shares_libraries() {
                &self.libraries
            } else {
                &own
            },
        })?;
        Ok(fs::write(source.join("go.mod"), text)?)
    }

    /// A command of Go for the lab's target, in a program's module.
    fn go(&self, command: &str, program: &Program, source: &Path) -> Run {
        let mut run = Run::new("go").arg(command);
        if !program.tags.is_empty() {
            run = run.args(["-tags", &program.tags.join(",")]);
        }
        run.dir(source)
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0")
            .env("GOOS", "linux")
            .env("GOARCH", "amd64")
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=mod -buildvcs=false")
            .env("GOCACHE", self.build_cache())
    }

    fn go_build(&self, program: &Program, dir: &Path, log: &Path) -> Result<()> {
        let source = dir.join("source");
        self.consumer(program, &source)?;
        fs::create_dir_all(self.build_cache())?;
        let mut ldflags = "-s -w".to_owned();
        for (variable, value) in &program.variables {
            ldflags.push_str(&format!(" -X {variable}={value}"));
        }
        for batch in batches(&program.outputs) {
            let out = dir.join("out");
            fs::create_dir_all(&out)?;
            self.go("build", program, &source)
                .args(["-trimpath", "-ldflags", &ldflags])
                .arg("-o")
                .arg(format!("{}/", out.display()))
                .args(batch.iter().map(|(_, package)| package))
                .log(log)
                .ok()?;
            fs::create_dir_all(dir.join("bin"))?;
            for (name, package) in &batch {
                let made = out.join(gomod::executable(package));
                fs::rename(&made, dir.join("bin").join(name))
                    .with_context(|| format!("go build made no {}", made.display()))?;
            }
        }
        for rest in ["out", "source"] {
            remove_tree(&dir.join(rest))?;
        }
        Ok(())
    }
}

/// Each module once, of lines that name one for every package; packages of Go itself and of the consumer have none.
fn read_uses(listed: &str) -> Vec<Use> {
    let mut found = BTreeMap::new();
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        if let (Some(module), Some(version)) = (words.next(), words.next()) {
            found.insert(module, (version, words.next().is_some()));
        }
    }
    found
        .into_iter()
        .map(|(module, (version, replaced))| Use {
            module: module.to_owned(),
            version: version.to_owned(),
            replaced,
        })
        .collect()
}

/// What `go mod download -json` says of a module.
#[derive(serde::Deserialize)]
struct Download {
    #[serde(rename = "Dir")]
    dir: String,
    #[serde(rename = "GoMod")]
    go_mod: String,
}

fn download(module: &str) -> Result<Download> {
    let text = Run::new("go")
        .args(["mod", "download", "-json", module])
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("GOWORK", "off")
        .dir(Path::new("/"))
        .output()?;
    serde_json::from_str(&text)
        .with_context(|| format!("go mod download {module} answered otherwise than expected"))
}

/// Packages that one `go build` can write into one folder: their executables' names differ.
fn batches(outputs: &BTreeMap<String, String>) -> Vec<Vec<(&str, &str)>> {
    let mut all: Vec<Vec<(&str, &str)>> = Vec::new();
    for (name, package) in outputs {
        let executable = gomod::executable(package);
        let free = all.iter_mut().find(|batch| {
            batch
                .iter()
                .all(|(_, p)| gomod::executable(p) != executable)
        });
        match free {
            Some(batch) => batch.push((name, package)),
            None => all.push(vec![(name, package)]),
        }
    }
    all
}

/// A static program from one C file; whoever has Rust has a C compiler for linking.
fn compile_c(source: &Path, target: &Path, log: &Path) -> Result<()> {
    if let Some(dir) = target.parent() {
        fs::create_dir_all(dir)?;
    }
    if !source.exists() {
        bail!("{} is missing", source.display());
    }
    Run::new("cc")
        .args(["-Os", "-static", "-s", "-o"])
        .arg(target)
        .arg(source)
        .log(log)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_once_each() {
        let uses = read_uses(
            "\nexample.org/a v1.0.0 \nexample.org/b v2.0.0 replaced\nexample.org/a v1.0.0 \n\n",
        );
        assert_eq!(uses.len(), 2);
        assert!(!uses[0].replaced && uses[1].replaced && uses[1].version == "v2.0.0");
    }

    #[test]
    fn packages_of_equal_name_are_built_apart() {
        let outputs: BTreeMap<String, String> = [
            ("cabpk", "example.org/bootstrap/kubeadm"),
            ("core", "example.org/core"),
            ("kcp", "example.org/controlplane/kubeadm"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .into();
        let names: Vec<Vec<&str>> = batches(&outputs)
            .iter()
            .map(|b| b.iter().map(|(n, _)| *n).collect())
            .collect();
        assert_eq!(names, [vec!["cabpk", "core"], vec!["kcp"]]);
    }
}
