//! All that a move takes, sealed in a file before the source is touched: what is left if the source dies before everything is
//! proven in the target. Must not talk to a cluster.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::core::DynamicObject;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    Error, Kind, Result,
    error::Context,
    ports::files::{Files, Told},
};

/// What the file begins with; it is authenticated with the content.
const HEAD: &[u8] = b"mctl move export 1\n";
/// Name of the file.
const FILE: &str = "move.export";
/// Name of the file with its key.
const KEY: &str = "move.export.key";
/// Bytes of a key.
const KEY_LEN: usize = 32;

/// One object with what is not in its plain form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// The object without status.
    pub object: DynamicObject,
    /// Managed fields to be carried over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<ManagedFieldsEntry>>,
    /// Moves even if nothing owns it.
    pub moves: bool,
    /// Moves with everything that it owns.
    pub hierarchy: bool,
    /// `spec.paused` before the move paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_paused: Option<bool>,
}

/// What a move takes. Holds secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// UID of the source cluster.
    pub source: String,
    /// UID of the target cluster.
    pub target: String,
    /// Namespace that moves.
    pub namespace: String,
    /// The objects, owners first.
    pub objects: Vec<Exported>,
    /// ClusterClasses that Clusters of other namespaces use.
    pub shared_classes: Vec<String>,
    /// The namespaces of the objects.
    pub namespaces: Vec<ObjectMeta>,
    /// What is known of the cluster besides its objects.
    pub environment: Value,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("source", &self.source)
            .field("target", &self.target)
            .field("namespace", &self.namespace)
            .field("objects", &self.objects.len())
            .finish_non_exhaustive()
    }
}

/// Where a move keeps its export.
pub trait Exports: Send + Sync {
    /// Replaces the export; it is on disk when this returns.
    fn keep(&self, export: &Export) -> Result<()>;
    /// The last one that was kept.
    fn load(&self) -> Result<Option<Export>>;
}

/// Two files in a folder: the sealed export and its key, both only for their user.
#[derive(Clone)]
pub struct FileExports {
    files: Arc<dyn Files>,
    folder: PathBuf,
}

impl std::fmt::Debug for FileExports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileExports")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl FileExports {
    /// In this folder.
    pub fn new(files: Arc<dyn Files>, folder: &Path) -> Self {
        Self {
            files,
            folder: folder.to_owned(),
        }
    }

    /// True while any of the two files is there.
    pub fn is_there(&self) -> bool {
        let mut both = [FILE, KEY].iter();
        both.any(|f| self.files.exists(&self.folder.join(f)))
    }

    /// Removes both files, the key first: without it the other one is nothing.
    pub fn discard(&self) -> Result<()> {
        for name in [KEY, FILE] {
            self.files.discard(&self.folder.join(name))?;
        }
        Ok(())
    }

    fn key(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let path = self.folder.join(KEY);
        let Some(text) = self.files.content(&path)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let key = hex::decode(text.trim_ascii()).unwrap_or_default();
        let key = Zeroizing::new(key);
        Ok((key.len() == KEY_LEN).then_some(key))
    }

    fn make_key(&self) -> Result<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; KEY_LEN]);
        random(&mut key)?;
        let text = Zeroizing::new(hex::encode(&*key));
        self.files.keep(&self.folder.join(KEY), text.as_bytes())?;
        Ok(key)
    }
}

impl Exports for FileExports {
    fn keep(&self, export: &Export) -> Result<()> {
        // The key lasts: with a new one each time, a crash between the two files would leave an export that nobody can read.
        let key = match self.key()? {
            Some(key) => key,
            None => self.make_key()?,
        };
        let plain = serde_json::to_vec(export).context(|| "cannot write the export".to_owned())?;
        let sealed = seal(&key, &Zeroizing::new(plain))?;
        self.files.keep(&self.folder.join(FILE), &sealed)
    }

    fn load(&self) -> Result<Option<Export>> {
        let path = self.folder.join(FILE);
        let Some(sealed) = self.files.content(&path)? else {
            return Ok(None);
        };
        let unreadable = |why: &str| {
            Error::failed("the export of the move cannot be read")
                .at(path.display().to_string())
                .because(why)
                .fix("bring back the file and its key as they were, from a backup of the state folder")
        };
        let key = self.key()?.ok_or_else(|| {
            unreadable(&format!(
                "its key {} is not there or damaged",
                self.folder.join(KEY).display()
            ))
        })?;
        let plain = open(&key, &sealed)
            .ok_or_else(|| unreadable("it is damaged, or sealed with another key"))?;
        let export = serde_json::from_slice(&plain)
            .map_err(|_| unreadable("it is of another version of mctl"))?;
        Ok(Some(export))
    }
}

fn random(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::failed("the host gives no random numbers"))
}

fn cipher(key: &[u8]) -> Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key)
        .map(LessSafeKey::new)
        .map_err(|_| Error::new(Kind::Internal, "a key of wrong length"))
}

/// Head, nonce, sealed content.
fn seal(key: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce)?;
    let mut content = plain.to_vec();
    cipher(key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(HEAD),
            &mut content,
        )
        .map_err(|_| Error::new(Kind::Internal, "the export is too long to be sealed"))?;
    Ok([HEAD, &nonce, &content].concat())
}

fn open(key: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, content) = sealed
        .strip_prefix(HEAD)?
        .split_first_chunk::<NONCE_LEN>()?;
    let mut content = Zeroizing::new(content.to_vec());
    let length = cipher(key)
        .ok()?
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(HEAD),
            &mut content,
        )
        .ok()?
        .len();
    content.truncate(length);
    Some(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;
    use crate::ports::files::Disk;

    fn export(secret: &str) -> Export {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "golem-ca", "uid": "u"},
            "data": {"tls.key": secret}});
        Export {
            source: "a".into(),
            target: "b".into(),
            namespace: "n".into(),
            objects: vec![Exported {
                object: serde_json::from_value(object).unwrap(),
                fields: None,
                moves: false,
                hierarchy: false,
                was_paused: Some(false),
            }],
            shared_classes: Vec::new(),
            namespaces: Vec::new(),
            environment: json!({"mirror": secret}),
        }
    }

    #[test]
    fn comes_back_whole_and_shows_nothing() {
        const CANARY: &str = "Y2FuYXJ5LWNhbmFyeQ";
        let folder = tempfile::tempdir().unwrap();
        let files = FileExports::new(Arc::new(Disk), folder.path());
        assert!(files.load().unwrap().is_none() && !files.is_there());
        for round in ["one", "two"] {
            let kept = export(&format!("{CANARY}{round}"));
            files.keep(&kept).unwrap();
            let back = files.load().unwrap().unwrap();
            assert_eq!(
                serde_json::to_value(&back).unwrap(),
                serde_json::to_value(&kept).unwrap()
            );
            assert!(!format!("{back:?}").contains(CANARY));
        }
        for name in [FILE, KEY] {
            let path = folder.path().join(name);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
            let content = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&content);
            assert!(!text.contains(CANARY) && !text.contains("golem"), "{name}");
        }
        files.discard().unwrap();
        files.discard().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileExports::new(Arc::new(Disk), folder.path());
        files.keep(&export("secret")).unwrap();
        let path = folder.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            std::fs::write(&path, &bent).unwrap();
            assert!(files.load().is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(files.load().is_err(), "cut at {at}");
        }
        std::fs::write(&path, &whole).unwrap();
        std::fs::write(folder.path().join(KEY), "").unwrap();
        let e = files.load().unwrap_err().to_string();
        assert!(e.contains("move.export.key") && e.contains("fix:"), "{e}");
    }
}
