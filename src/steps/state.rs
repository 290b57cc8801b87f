//! The state directory of one cluster: request, journal, CA, kubeconfigs. Must not talk to clusters.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Kind, Result,
    config::{ClusterName, ManagementCluster},
    engine::{History, journal::Journal},
    env,
    environment::Environment,
    error::Context,
    pki::Authority,
    ports::files::{Disk, Files, Told},
    session::{engine::Recorded, lock::Lock},
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
    /// Address of the container engine (`DOCKER_HOST`), if it has one of its own.
    pub engine: Option<String>,
    /// What that engine calls itself.
    pub engine_id: String,
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

impl Request {
    /// The engine that the run works on.
    pub fn recorded(&self) -> Recorded {
        Recorded {
            address: self.engine.clone(),
            id: self.engine_id.clone(),
        }
    }
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

    /// Where it is below another folder than the user's.
    pub fn below(root: &std::path::Path, cluster: &ClusterName) -> Self {
        Self {
            folder: root.join(cluster.as_str()),
            cluster: cluster.clone(),
            files: Arc::new(Disk),
        }
    }

    /// What the runs of this host's journal gave to know.
    pub fn environment(&self) -> Result<Environment> {
        let events = Journal::read_in(self.files(), &self.file("journal.jsonl"))?;
        let history = History::of(&events);
        Environment::of(history.outputs.iter().map(|(_, output)| output))
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
        .because("no bootstrap of that name was begun with this state folder")
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
        Lock::take(&self.folder, &self.cluster)
    }

    /// Who holds the lock, if anybody does; takes nothing.
    pub fn holder(&self) -> Result<Option<String>> {
        Lock::holder(&self.folder)
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

    /// The cluster's CA. It is made once, before anything trusts it; another one later would be trusted by nobody.
    pub fn authority(&self) -> Result<Authority> {
        self.authority_if_any()?
            .ok_or_else(|| self.authority_lost())
    }

    /// The cluster's CA, if this host has both halves of it.
    pub fn authority_if_any(&self) -> Result<Option<Authority>> {
        let certificate = self.files.text(&self.file("ca.crt"))?;
        let key = self.files.text(&self.file("ca.key"))?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Authority::from_pem(&certificate, &key).map(Some),
            _ => Ok(None),
        }
    }

    /// The CA's certificate; it stays when its key has gone to the cluster.
    pub fn ca_certificate(&self) -> Result<Option<String>> {
        self.kubeconfig("ca.crt")
    }

    /// The key's place is the cluster now.
    pub fn drop_key(&self) -> Result<()> {
        self.files.discard(&self.file("ca.key"))
    }

    /// Makes the cluster's CA, unless this host has it.
    pub fn make_authority(&self) -> Result<()> {
        if self.authority_if_any()?.is_some() {
            return Ok(());
        }
        let authority = Authority::new(&format!("mctl {}", self.cluster))?;
        self.keep_authority(&authority)
    }

    /// Keeps the cluster's CA.
    pub fn keep_authority(&self, authority: &Authority) -> Result<()> {
        // Key first: a certificate is never there without its key.
        self.files
            .keep(&self.file("ca.key"), authority.key().as_bytes())?;
        self.files.keep_as(
            &self.file("ca.crt"),
            authority.certificate.as_bytes(),
            0o644,
        )
    }

    /// The error for a CA that was made and is not whole any more.
    pub fn authority_lost(&self) -> Error {
        let missing: Vec<String> = ["ca.crt", "ca.key"]
            .iter()
            .map(|name| self.file(name))
            .filter(|path| !self.files.exists(path))
            .map(|path| path.display().to_string())
            .collect();
        Error::new(
            Kind::Usage,
            format!("the CA of `{}` is not whole on this host", self.cluster),
        )
        .at(missing.join(", "))
        .because("registry and machines trust it already, and would trust no other one")
        .fix("restore both halves of it")
        .fix(format!(
            "or remove everything: mctl destroy {}",
            self.cluster
        ))
        .state("nothing was changed")
    }

    /// Keeps a kubeconfig, unless it is the one that is kept.
    pub fn keep_kubeconfig(&self, name: &str, text: &str) -> Result<()> {
        if self.kubeconfig(name)?.as_deref() == Some(text) {
            return Ok(());
        }
        self.files.keep(&self.file(name), text.as_bytes())
    }

    /// Text of a kubeconfig, if it is there.
    pub fn kubeconfig(&self, name: &str) -> Result<Option<String>> {
        self.files.text(&self.file(name))
    }

    /// Removes the folder: it has another name before anything in it goes, so that half of it is never taken for the whole.
    pub fn remove(&self) -> Result<()> {
        self.finish_removal()?;
        if !self.files.exists(&self.folder) {
            return Ok(());
        }
        self.files
            .rename(&self.folder, &self.condemned())
            .context(|| format!("cannot remove {}", self.folder.display()))?;
        self.finish_removal()
    }

    /// Removes what a removal that was killed has left of the folder.
    pub fn finish_removal(&self) -> Result<()> {
        let condemned = self.condemned();
        self.files
            .remove_folder(&condemned)
            .context(|| format!("cannot remove {}", condemned.display()))
    }

    /// Its name while it is removed; no cluster can be called so.
    fn condemned(&self) -> PathBuf {
        self.folder
            .with_file_name(format!(".{}.removed", self.cluster))
    }

    /// True when nothing was ever begun here: the folder has a lock and nothing else.
    pub fn is_bare(&self) -> Result<bool> {
        let names = self
            .files
            .names(&self.folder)
            .context(|| format!("cannot read {}", self.folder.display()))?;
        Ok(names.iter().all(|n| n == "lock" || n == "removal.jsonl"))
    }

    /// Removes a file of a run that was not this folder's, and the folder if nothing else is in it.
    pub fn forget(&self, file: &Path) -> Result<()> {
        self.files.discard(file)?;
        match self.is_bare()? {
            true => self.remove(),
            false => Ok(()),
        }
    }

    fn read_json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        let path = self.file(name);
        self.files
            .content(&path)?
            .map(|b| {
                serde_json::from_slice(&b).map_err(|e| {
                    Error::new(
                        Kind::Usage,
                        format!("{name} is damaged, or another version of mctl wrote it"),
                    )
                    .at(path.display().to_string())
                    .because(&e)
                    .fix("restore the file, or go on with the version of mctl that wrote it")
                    .state("nothing was changed")
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
