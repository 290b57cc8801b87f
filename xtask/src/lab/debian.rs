//! Debian packages from the machine's own mirror, with an apt state of their own; must not change the machine's package lists of another suite.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache::{Cache, write_atomic};
use super::deb_lock::{Deb, DebLock};
use super::pins::Debian as Pins;
use super::proc::{Run, which};
use crate::host::sha256_file;

/// Debian's packages of one or more suites.
#[derive(Debug)]
pub struct Debian<'a> {
    cache: &'a Cache,
    pins: &'a Pins,
    lock: &'a DebLock,
    /// Suites whose package lists were read in this run.
    updated: RefCell<BTreeSet<String>>,
}

impl<'a> Debian<'a> {
    /// Nothing is fetched before it is asked for.
    pub fn new(cache: &'a Cache, pins: &'a Pins, lock: &'a DebLock) -> Self {
        Self {
            cache,
            pins,
            lock,
            updated: RefCell::default(),
        }
    }

    fn log(&self) -> PathBuf {
        self.cache.join("logs/debian.log")
    }

    /// Installs what the machine itself needs and has not: program name to package name.
    pub fn ensure_host(&self, programs: &BTreeMap<String, String>) -> Result<()> {
        let missing: Vec<&String> = programs
            .iter()
            .filter(|(program, _)| which(program).is_none())
            .map(|(_, package)| package)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if which("apt-get").is_none() {
            bail!("this machine has no apt-get: the lab needs Debian as the host");
        }
        self.host_lists()?;
        Run::new("apt-get")
            .args(["install", "-y", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .log(&self.log())
            .ok()
            .context("the lab needs these Debian packages on the machine (as root)")
    }

    /// Address of the Debian mirror that this machine's own apt uses for its own release.
    pub fn mirror(&self) -> Result<String> {
        let release =
            fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let codename =
            os_codename(&release).context("/etc/os-release names no VERSION_CODENAME")?;
        if let Some(uri) = pick_mirror(&self.index_targets()?, codename) {
            return Ok(uri);
        }
        self.host_lists()?;
        pick_mirror(&self.index_targets()?, codename).with_context(|| {
            format!("apt of this machine knows no Debian mirror for {codename}; see /etc/apt")
        })
    }

    fn index_targets(&self) -> Result<String> {
        Run::new("apt-get")
            .args([
                "indextargets",
                "--format",
                "$(ORIGIN)|$(CODENAME)|$(REPO_URI)",
                "Created-By: Packages",
            ])
            .log(&self.log())
            .output()
    }

    /// Reads the machine's own package lists, once a run.
    fn host_lists(&self) -> Result<()> {
        if self.updated.borrow_mut().insert("host".to_owned()) {
            Run::new("apt-get").arg("update").log(&self.log()).ok()?;
        }
        Ok(())
    }

    /// The keyring that signs the suites.
    pub fn keyring(&self) -> &Path {
        Path::new(&self.pins.keyring)
    }

    /// apt's configuration for a suite, its package lists read.
    pub fn apt_config(&self, suite: &str) -> Result<PathBuf> {
        let dir = self.cache.join("apt").join(suite);
        let conf = dir.join("apt.conf");
        if self.updated.borrow().contains(suite) {
            return Ok(conf);
        }
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        fs::write(dir.join("status"), "")?;
        let source = self.source_line(suite)?;
        fs::write(dir.join("sources.list"), format!("{source}\n"))?;
        fs::write(&conf, self.conf_text(suite, &dir))?;
        let update = || {
            Run::new("apt-get")
                .arg("update")
                .env("APT_CONFIG", &conf)
                .log(&self.log())
                .ok()
        };
        if let Err(first) = update() {
            // An older keyring does not know the newer suites' keys; the own release brings a newer one, signed.
            self.host_lists()?;
            Run::new("apt-get")
                .args([
                    "install",
                    "-y",
                    "--no-install-recommends",
                    "debian-archive-keyring",
                ])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .log(&self.log())
                .ok()?;
            update().map_err(|_| first)?;
        }
        self.updated.borrow_mut().insert(suite.to_owned());
        Ok(conf)
    }

    /// One line of a sources.list for a suite.
    pub fn source_line(&self, suite: &str) -> Result<String> {
        Ok(format!(
            "deb [signed-by={}] {} {suite} main",
            self.pins.keyring.display(),
            self.mirror()?
        ))
    }

    /// Whether the suite's lists are taken although their time is over.
    pub fn past_valid_until(&self, suite: &str) -> bool {
        self.pins.past_valid_until.iter().any(|s| s == suite)
    }

    fn conf_text(&self, suite: &str, dir: &Path) -> String {
        let dir = dir.display();
        let mut text = format!(
            "Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::State \"{dir}\";\n\
             Dir::State::lists \"{dir}/lists\";\n\
             Dir::State::status \"{dir}/status\";\n\
             Dir::Cache \"{dir}/cache\";\n\
             APT::Architecture \"amd64\";\n\
             APT::Architectures \"amd64\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        if self.past_valid_until(suite) {
            text.push_str("Acquire::Check-Valid-Until \"false\";\n");
        }
        text
    }

    /// The locked packages of these names (`suite/package`), as part of a recipe.
    pub fn locked(&self, names: &[String]) -> Result<Vec<Deb>> {
        names.iter().map(|n| self.lock.get(n).cloned()).collect()
    }

    /// Fetches locked packages (`suite/package`) into a folder and checks their digests; in the order asked for.
    pub fn fetch(&self, names: &[String], into: &Path) -> Result<Vec<PathBuf>> {
        let locked = self.locked(names)?;
        for suite in locked.iter().map(|d| &d.suite).collect::<BTreeSet<_>>() {
            let wanted: Vec<String> = locked
                .iter()
                .filter(|d| d.suite == *suite)
                .map(|d| format!("{}={}", d.package, d.version))
                .collect();
            // One call for all: apt reads the package lists each time.
            let conf = self.apt_config(suite)?;
            self.download(Some(&conf), &wanted, into)
                .with_context(|| {
                    format!(
                        "{suite} does not offer {} any more? `cargo xtask lab --update-debs` takes what it offers now",
                        wanted.join(", ")
                    )
                })?;
        }
        let mut files = Vec::new();
        for deb in locked {
            let file = into.join(deb.file_name());
            let found = sha256_file(&file)?;
            if found != deb.sha256 {
                bail!(
                    "{} has sha256 {found}, debs.lock says {}",
                    deb.file_name(),
                    deb.sha256
                );
            }
            files.push(file);
        }
        Ok(files)
    }

    /// Fetches packages of the machine's own release; apt checks their signature.
    pub fn fetch_host(&self, packages: &[String], into: &Path) -> Result<Vec<PathBuf>> {
        self.mirror()?; // reads the lists when there are none
        let before = debs_in(into)?;
        self.download(None, packages, into)?;
        Ok(debs_in(into)?.difference(&before).cloned().collect())
    }

    fn download(&self, conf: Option<&Path>, what: &[String], into: &Path) -> Result<()> {
        fs::create_dir_all(into)?;
        let mut run = Run::new("apt-get")
            .args(["-o", "APT::Sandbox::User=root", "download"])
            .args(what)
            .dir(into);
        if let Some(conf) = conf {
            run = run.env("APT_CONFIG", conf);
        }
        run.log(&self.log()).ok()
    }

    /// Unpacks packages without running their scripts.
    pub fn unpack(&self, debs: &[PathBuf], root: &Path) -> Result<()> {
        fs::create_dir_all(root)?;
        for deb in debs {
            Run::new("dpkg-deb")
                .arg("-x")
                .arg(deb)
                .arg(root)
                .log(&self.log())
                .ok()?;
        }
        Ok(())
    }

    /// Reads what the mirror offers now for every package that is used, and writes the lock.
    pub fn update_lock(&self, wanted: &BTreeSet<(String, String)>, path: &Path) -> Result<()> {
        let mut debs = Vec::new();
        for (suite, package) in wanted {
            let conf = self.apt_config(suite)?;
            let text = Run::new("apt-cache")
                .args(["show", "--no-all-versions", package])
                .env("APT_CONFIG", conf)
                .log(&self.log())
                .output()
                .with_context(|| format!("{suite} has no package {package}"))?;
            let field = |name: &str| {
                control_field(&text, name)
                    .with_context(|| format!("{package} of {suite} has no {name}"))
            };
            debs.push(Deb {
                suite: suite.clone(),
                package: package.clone(),
                version: field("Version")?,
                architecture: field("Architecture")?,
                sha256: field("SHA256")?,
            });
        }
        write_atomic(path, DebLock { deb: debs }.to_text()?.as_bytes())
    }

    /// Drops package lists; nothing needs them between runs.
    pub fn clean(&self) -> Result<()> {
        let dir = self.cache.join("apt");
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        Ok(())
    }
}

fn debs_in(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(found);
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            found.insert(path);
        }
    }
    Ok(found)
}

fn control_field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
        .map(|v| v.trim().to_owned())
}

fn os_codename(os_release: &str) -> Option<&str> {
    os_release
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
        .map(|v| v.trim_matches('"'))
}

/// The mirror of Debian's own release among apt's index targets (`origin|codename|address` lines).
fn pick_mirror(targets: &str, codename: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut parts = line.splitn(3, '|');
        let (origin, name, uri) = (parts.next()?, parts.next()?, parts.next()?);
        (origin == "Debian" && name == codename).then(|| uri.trim_end_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_the_own_release() {
        let targets = "Debian|bookworm-updates|http://m.example/debian/\n\
                       Google, Inc.|bookworm|https://other.example/apt/\n\
                       Debian|bookworm|http://m.example/debian/\n\
                       Debian|bookworm-security|http://m.example/debian-security/\n";
        assert_eq!(
            pick_mirror(targets, "bookworm").unwrap(),
            "http://m.example/debian"
        );
        assert_eq!(pick_mirror(targets, "trixie"), None);
        assert_eq!(
            os_codename("ID=debian\nVERSION_CODENAME=bookworm\n"),
            Some("bookworm")
        );
    }

    #[test]
    fn control_fields_are_read_by_full_name() {
        let text = "Package: a\nVersion: 1.2-3\nSHA256: ff\n";
        assert_eq!(control_field(text, "Version").unwrap(), "1.2-3");
        assert_eq!(control_field(text, "Ver"), None);
    }
}
