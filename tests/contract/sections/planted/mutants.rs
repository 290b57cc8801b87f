//! Steps and files that are wrong in one way each. Must not know who catches them.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use mctl::{
    Error, Result,
    engine::{Observation, Proof, Step},
    ports::{
        files::{Files, Lock},
        kubernetes::Progress,
    },
};

/// How a step is wrong.
#[derive(Clone, Copy)]
pub enum How {
    Blind,
    Acts,
    Idle,
    Forgets,
    Guesses,
    Silent,
}

/// A step that is wrong.
pub struct Mutant {
    pub inner: Arc<dyn Step>,
    pub how: How,
}

#[async_trait]
impl Step for Mutant {
    async fn observe(&self, progress: &dyn Progress) -> Result<Observation> {
        match self.how {
            How::Blind => Ok(Observation::done("surely")),
            How::Acts => {
                let seen = self.inner.observe(progress).await?;
                if matches!(seen, Observation::Missing(_)) {
                    self.inner.apply(progress).await?;
                }
                Ok(seen)
            }
            How::Forgets => Ok(Observation::Missing("surely not".into())),
            How::Guesses => match self.inner.observe(progress).await {
                Err(error) => Ok(Observation::Missing(error.line())),
                seen => seen,
            },
            How::Idle | How::Silent => self.inner.observe(progress).await,
        }
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        match self.how {
            How::Idle => Ok(()),
            How::Silent => Err(Error::failed("it does not work")),
            _ => self.inner.apply(progress).await,
        }
    }

    async fn verify(&self, progress: &dyn Progress) -> Result<Proof> {
        match self.how {
            How::Idle => Ok("surely".into()),
            _ => self.inner.verify(progress).await,
        }
    }
}

/// Whether a record reaches the disk.
pub enum Kept {
    Yes,
    Not,
}

/// Files that forget records and do not say so.
pub struct Forgetful {
    pub inner: Arc<dyn Files>,
    pub keep: fn(&Path, &str) -> Kept,
    /// How long files are and how long whoever writes them believes they are.
    pub lengths: Mutex<std::collections::BTreeMap<std::path::PathBuf, (u64, u64)>>,
}

/// Files whose writes never fail.
pub struct Deaf(pub Arc<dyn Files>);

macro_rules! delegate {
    ($inner:tt) => {
        fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
            self.$inner.read(path)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.$inner.remove(path)
        }
        fn remove_folder(&self, path: &Path) -> io::Result<()> {
            self.$inner.remove_folder(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.$inner.rename(from, to)
        }
        fn exists(&self, path: &Path) -> bool {
            self.$inner.exists(path)
        }
        fn folder(&self, path: &Path) -> io::Result<()> {
            self.$inner.folder(path)
        }
        fn names(&self, path: &Path) -> io::Result<Vec<String>> {
            self.$inner.names(path)
        }
        fn adopt(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.$inner.adopt(from, to)
        }
        fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
            self.$inner.lock(path)
        }
    };
}

impl Files for Forgetful {
    delegate!(inner);

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        self.inner.write(path, content, mode)
    }

    fn append(&self, path: &Path, at: u64, record: &[u8]) -> io::Result<()> {
        let mut lengths = self.lengths.lock().unwrap();
        let (real, believed) = lengths.entry(path.to_owned()).or_insert((at, at));
        let lost = believed.saturating_sub(*real);
        *believed = at + record.len() as u64;
        if matches!(
            (self.keep)(path, &String::from_utf8_lossy(record)),
            Kept::Not
        ) {
            return Ok(());
        }
        let place = at.saturating_sub(lost);
        *real = place + record.len() as u64;
        self.inner.append(path, place, record)
    }
}

impl Files for Deaf {
    delegate!(0);

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let _ = self.0.write(path, content, mode);
        Ok(())
    }

    fn append(&self, path: &Path, at: u64, record: &[u8]) -> io::Result<()> {
        self.0.append(path, at, record)
    }
}
