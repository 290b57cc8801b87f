//! Where the lab keeps what it made: paths and the content-addressed store; must not know what an entry holds.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The lab's folder, outside every checkout.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/mctl/lab`, by default below `~/.cache`.
    pub fn open() -> Result<Self> {
        Self::at(crate::host::cache()?.join("lab"))
    }

    /// A cache at a given folder, made when it is missing.
    pub fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder or file below the cache.
    pub fn join(&self, rel: impl AsRef<Path>) -> PathBuf {
        self.root.join(rel)
    }

    /// Takes the one lock of a kind of work; a second run says so instead of waiting.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.join(format!("{name}.lock"));
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                bail!(
                    "another `cargo xtask lab` is at work on {} (lock {})",
                    self.root.display(),
                    path.display()
                )
            }
            Err(fs::TryLockError::Error(e)) => {
                Err(e).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Where the entry of a recipe is, whether made or not.
    pub fn entry(&self, kind: &str, recipe: &Value) -> PathBuf {
        self.join(kind).join(recipe_hash(recipe))
    }

    /// The entry of a recipe; `make` fills an empty folder when there is none yet.
    ///
    /// The folder appears under its name only when complete and on disk, so an interrupted run leaves nothing that
    /// looks finished.
    pub fn get_or_make(
        &self,
        kind: &str,
        recipe: &Value,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.entry(kind, recipe);
        if entry.exists() {
            return Ok(entry);
        }
        let temp = self.work_dir(&format!("{kind}-{}", recipe_hash(recipe)))?;
        make(&temp)?;
        fs::write(temp.join("recipe.json"), serde_json::to_vec_pretty(recipe)?)?;
        sync_tree(&temp)?;
        let parent = self.join(kind);
        fs::create_dir_all(&parent)?;
        fs::rename(&temp, &entry)
            .with_context(|| format!("cannot move into {}", entry.display()))?;
        sync_dir(&parent)?;
        Ok(entry)
    }

    /// An empty folder for work in progress; removed by the next run's [`Cache::clean_work`] when this one dies.
    pub fn work_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.join("work").join(name);
        if dir.exists() {
            remove_tree(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Removes what an interrupted run left; the engine has a lock of its own and may be at work beside this run.
    pub fn clean_work(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(self.join("work")) else {
            return Ok(());
        };
        for entry in entries {
            let path = entry?.path();
            if !path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("engine-"))
            {
                remove_tree(&path)?;
            }
        }
        Ok(())
    }
}

/// Short, stable name of a recipe: the hash of its canonical JSON (keys sorted).
pub fn recipe_hash(recipe: &Value) -> String {
    let canonical = canonical(recipe).to_string();
    hex::encode(Sha256::digest(canonical))[..24].to_owned()
}

fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(
                keys.into_iter()
                    .map(|(k, v)| (k.clone(), canonical(v)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

/// Hash of a file or of all files below a folder, by relative name and content.
pub fn hash_sources(path: &Path) -> Result<String> {
    let files = if path.is_dir() {
        crate::host::files_under(path)?
    } else {
        vec![String::new()]
    };
    let mut hash = Sha256::new();
    for name in files {
        let file = if name.is_empty() {
            path.to_owned()
        } else {
            path.join(&name)
        };
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hex::encode(hash.finalize()))
}

/// Writes a file so that it is either the old or the new one after a crash.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().context("a file without a folder")?;
    fs::create_dir_all(parent)?;
    let temp = path.with_extension("tmp");
    let mut file =
        File::create(&temp).with_context(|| format!("cannot write {}", temp.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    sync_dir(parent)
}

/// Removes a folder, also one with read-only folders in it, as Go's are.
pub fn remove_tree(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_recipe_hash_ignores_key_order_and_sees_every_value() {
        let a = recipe_hash(&json!({"a": 1, "b": {"c": [1, 2], "d": "x"}}));
        assert_eq!(
            a,
            recipe_hash(&json!({"b": {"d": "x", "c": [1, 2]}, "a": 1}))
        );
        assert_ne!(
            a,
            recipe_hash(&json!({"b": {"d": "x", "c": [2, 1]}, "a": 1}))
        );
        assert_eq!(a.len(), 24);
    }

    #[test]
    fn sources_are_hashed_by_name_and_content() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a.go"), "package a").unwrap();
        let first = hash_sources(dir.path()).unwrap();
        assert_eq!(first, hash_sources(dir.path()).unwrap());
        fs::write(dir.path().join("sub/a.go"), "package b").unwrap();
        assert_ne!(first, hash_sources(dir.path()).unwrap());
    }

    #[test]
    fn an_entry_is_made_once_and_a_failed_one_never_appears() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("lab")).unwrap();
        let recipe = json!({"n": 1});
        assert!(
            cache
                .get_or_make("programs", &recipe, |_| bail!("broken"))
                .is_err()
        );
        assert!(!cache.entry("programs", &recipe).exists());
        let entry = cache
            .get_or_make("programs", &recipe, |d| Ok(fs::write(d.join("x"), "1")?))
            .unwrap();
        assert_eq!(fs::read_to_string(entry.join("x")).unwrap(), "1");
        let again = cache
            .get_or_make("programs", &recipe, |_| bail!("made twice"))
            .unwrap();
        assert_eq!(entry, again);
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_owned()).unwrap();
        let held = cache.lock("lab").unwrap();
        assert!(
            cache
                .lock("lab")
                .unwrap_err()
                .to_string()
                .contains("another")
        );
        drop(held);
        cache.lock("lab").unwrap();
    }
}
