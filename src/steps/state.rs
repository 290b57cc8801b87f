//! The state directory of one cluster: lock, journal, environment, CA, kubeconfigs. Must not talk to clusters.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Kind, Result,
    config::{ClusterName, ManagementCluster},
    engine::journal::Journal,
    env,
    environment::Environment,
    error::Context,
    pki::Authority,
    ports::files::{private_folder, read_optional, write_mode, write_private},
};

/// Kubeconfig of the new cluster.
pub const MANAGEMENT: &str = "management.kubeconfig";
/// Kubeconfig of the temporary cluster.
pub const TEMPORARY: &str = "temporary.kubeconfig";

/// What was asked for, kept so that later commands need only the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The document.
    pub document: ManagementCluster,
    /// Absolute path of the bundle, if one was given.
    pub bundle: Option<PathBuf>,
    /// Suffix of the temporary cluster's name; new for each bootstrap from nothing.
    pub run: String,
    /// Address of the container engine (`DOCKER_HOST`), if it was not the default.
    pub engine: Option<String>,
    /// True when the engine's network `kind` was there before.
    #[serde(default)]
    pub network_was_there: Option<bool>,
}

/// State of one cluster on this host.
#[derive(Clone, Debug)]
pub struct State {
    /// Its folder.
    pub folder: PathBuf,
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// Steps that work at the same time must not lose each other's changes of the environment.
    changing: Arc<Mutex<()>>,
}

/// Held while a command changes things; released when dropped or when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl State {
    /// Where the state of a cluster is, whether there is any or not.
    pub fn at(cluster: &ClusterName) -> Result<Self> {
        Ok(Self {
            folder: env::state_folder()?.join(cluster.as_str()),
            cluster: cluster.clone(),
            changing: Arc::default(),
        })
    }

    /// State of a cluster that this host knows; an error lists those it knows.
    pub fn open(cluster: &ClusterName) -> Result<Self> {
        let state = Self::at(cluster)?;
        if state.file("request.json").exists() {
            return Ok(state);
        }
        let known = Self::known()?;
        let error = Error::new(
            Kind::Usage,
            format!("this host knows no management cluster `{cluster}`"),
        )
        .at(state.folder.display().to_string())
        .state("nothing was changed");
        Err(if known.is_empty() {
            error.fix("create one: mctl bootstrap --config FILE")
        } else {
            let known: Vec<&str> = known.iter().map(ClusterName::as_str).collect();
            error.fix(format!("known here: {}", known.join(", ")))
        })
    }

    /// Names of the clusters this host knows; folders with other names are not mctl's.
    pub fn known() -> Result<Vec<ClusterName>> {
        let root = env::state_folder()?;
        let entries = match fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                return Err(
                    Error::new(Kind::Usage, "the state of clusters cannot be read")
                        .at(root.display().to_string())
                        .because(&e)
                        .fix("run as the user who owns it, or set XDG_STATE_HOME")
                        .state("nothing was changed"),
                );
            }
        };
        let mut names: Vec<ClusterName> = entries
            .flatten()
            .filter(|e| e.path().join("request.json").exists())
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Takes the lock; an error says who holds it, since when.
    pub fn lock(&self) -> Result<Lock> {
        private_folder(&self.folder)?;
        let path = self.file("lock");
        let what = || format!("cannot use {}", path.display());
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .context(what)?;
        if let Err(e) = file.try_lock() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(match e {
                fs::TryLockError::WouldBlock => Error::new(
                    Kind::Locked,
                    format!("another mctl works on `{}`", self.cluster),
                )
                .at(path.display().to_string())
                .because(holder.trim().to_owned())
                .fix("wait for it to end, or stop it: it can be resumed")
                .state("nothing was changed"),
                fs::TryLockError::Error(e) => Error::failed(what()).because(&e),
            });
        }
        file.set_len(0).and_then(|()| file.rewind()).context(what)?;
        writeln!(
            file,
            "process {} since {}",
            std::process::id(),
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        .context(what)?;
        Ok(Lock { _file: file })
    }

    /// Who holds the lock, if anybody does; takes nothing.
    pub fn holder(&self) -> Result<Option<String>> {
        let path = self.file("lock");
        let Ok(mut file) = File::open(&path) else {
            return Ok(None);
        };
        match file.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)
                    .context(|| format!("cannot read {}", path.display()))?;
                Ok(Some(holder.trim().to_owned()))
            }
            Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(None),
        }
    }

    /// What was asked for, if anything was.
    pub fn request(&self) -> Result<Option<Request>> {
        self.read_json("request.json")
    }

    /// Keeps what was asked for.
    pub fn set_request(&self, request: &Request) -> Result<()> {
        self.write_json("request.json", request)
    }

    /// Facts found so far.
    pub fn environment(&self) -> Result<Environment> {
        Ok(self.read_json("environment.json")?.unwrap_or_default())
    }

    /// Changes the facts.
    pub fn update_environment(&self, change: impl FnOnce(&mut Environment)) -> Result<Environment> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut environment = self.environment()?;
        change(&mut environment);
        self.write_json("environment.json", &environment)?;
        Ok(environment)
    }

    /// The journal, opened for writing.
    pub fn journal(&self) -> Result<Journal> {
        Journal::open(&self.file("journal.jsonl"))
    }

    /// The cluster's CA; made on first use.
    pub fn authority(&self) -> Result<Authority> {
        let (certificate, key) = (self.file("ca.crt"), self.file("ca.key"));
        if let (Some(c), Some(k)) = (read_optional(&certificate)?, read_optional(&key)?) {
            return Authority::from_pem(&String::from_utf8_lossy(&c), &String::from_utf8_lossy(&k));
        }
        let authority = Authority::new(&format!("mctl {}", self.cluster))?;
        // Key first: a crash in between makes a new pair, never a certificate without its key.
        write_private(&key, authority.key().as_bytes())?;
        write_mode(&certificate, authority.certificate.as_bytes(), 0o644)?;
        Ok(authority)
    }

    /// Text of a kubeconfig, if it is there.
    pub fn kubeconfig(&self, name: &str) -> Result<Option<String>> {
        Ok(read_optional(&self.file(name))?.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }

    /// Removes the folder.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context(|| format!("cannot remove {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn read_json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        let path = self.file(name);
        read_optional(&path)?
            .map(|b| {
                serde_json::from_slice(&b).context(|| {
                    format!(
                        "{} is damaged or of another version of mctl",
                        path.display()
                    )
                })
            })
            .transpose()
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        private_folder(&self.folder)?;
        let bytes = serde_json::to_vec_pretty(value).context(|| format!("cannot write {name}"))?;
        write_private(&self.file(name), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_of_the_environment_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let state = State {
            folder: folder.path().join("golem"),
            cluster: "golem".parse().unwrap(),
            changing: Arc::default(),
        };
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..20 {
                        state.update_environment(|e| e.mirror.push('x')).unwrap();
                    }
                });
            }
        });
        assert_eq!(state.environment().unwrap().mirror.len(), 160);
    }
}
