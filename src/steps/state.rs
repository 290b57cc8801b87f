//! The state directory of one cluster: lock, journal, CA, kubeconfigs. Must not talk to clusters.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Kind, Result,
    config::{ClusterName, ManagementCluster},
    engine::journal::Journal,
    env,
    error::Context,
    pki::Authority,
    ports::files::{Disk, Files, Told},
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
#[derive(Clone)]
pub struct State {
    /// Its folder.
    pub folder: PathBuf,
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// Where files are kept.
    files: Arc<dyn Files>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
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
            files: Arc::new(Disk),
        })
    }

    /// The same state with its files kept elsewhere.
    #[must_use]
    pub fn kept_in(mut self, files: Arc<dyn Files>) -> Self {
        self.files = files;
        self
    }

    /// Where files are kept.
    pub fn files(&self) -> &dyn Files {
        self.files.as_ref()
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
        self.files.private(&self.folder)?;
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

    /// The journal, opened for writing.
    pub fn journal(&self) -> Result<Journal> {
        Journal::open_in(self.files.clone(), &self.file("journal.jsonl"))
    }

    /// The cluster's CA, if it has one.
    pub fn authority_if_any(&self) -> Result<Option<Authority>> {
        let certificate = self.files.text(&self.file("ca.crt"))?;
        let key = self.files.text(&self.file("ca.key"))?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Authority::from_pem(&certificate, &key).map(Some),
            _ => Ok(None),
        }
    }

    /// The cluster's CA; made on first use.
    pub fn authority(&self) -> Result<Authority> {
        if let Some(authority) = self.authority_if_any()? {
            return Ok(authority);
        }
        let authority = Authority::new(&format!("mctl {}", self.cluster))?;
        // Key first: a crash in between makes a new pair, never a certificate without its key.
        self.files
            .keep(&self.file("ca.key"), authority.key().as_bytes())?;
        self.files.keep_as(
            &self.file("ca.crt"),
            authority.certificate.as_bytes(),
            0o644,
        )?;
        Ok(authority)
    }

    /// Text of a kubeconfig, if it is there.
    pub fn kubeconfig(&self, name: &str) -> Result<Option<String>> {
        self.files.text(&self.file(name))
    }

    /// Removes the folder.
    pub fn remove(&self) -> Result<()> {
        self.files
            .remove_folder(&self.folder)
            .context(|| format!("cannot remove {}", self.folder.display()))
    }

    fn read_json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        let path = self.file(name);
        self.files
            .content(&path)?
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
        self.files.private(&self.folder)?;
        let bytes = serde_json::to_vec_pretty(value).context(|| format!("cannot write {name}"))?;
        self.files.keep(&self.file(name), &bytes)
    }
}
