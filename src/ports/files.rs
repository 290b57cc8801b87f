//! Files that must survive a crash: write, fsync, rename; behind a trait, so that a test can fail each of them. Must not know
//! what is in them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use crate::{Result, error::Context};

/// Reads and writes files. What returns without an error is on disk.
pub trait Files: Send + Sync {
    /// Content; `None` if there is no such file.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a file in one step: a crash leaves the old or the new content, never a part.
    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()>;

    /// Cuts a file at a length and writes the record there; makes the file, with mode 0600, if there is none. A crash may leave
    /// a part of the record.
    fn append(&self, path: &Path, at: u64, record: &[u8]) -> io::Result<()>;

    /// Removes a file; gone already is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all in it; gone already is fine.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Renames a file; what had the new name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// True if there is anything of that name.
    fn exists(&self, path: &Path) -> bool;

    /// Makes a folder and its parents with mode 0700.
    fn folder(&self, path: &Path) -> io::Result<()>;

    /// Names in a folder, sorted; none if there is no such folder.
    fn names(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes a file or a folder with all in it one's own under another name: large files are linked where that is possible,
    /// the rest is copied. The original may go away afterwards.
    fn adopt(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Locks a file, which is made if there is none; `None` if somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
}

/// A lock on a file; ends when this is dropped or when the process dies.
#[derive(Debug)]
pub struct Lock(Option<File>);

impl Lock {
    /// A lock that holds nothing, for tests.
    pub fn of_nothing() -> Self {
        Self(None)
    }

    /// Writes into the locked file, for others to read who holds it.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        let Some(file) = &mut self.0 else {
            return Ok(());
        };
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }
}

/// The host's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        absent(fs::read(path))
    }

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let folder = folder_of(path);
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let temporary = folder.join(format!(".{name}.{}", std::process::id()));
        let result = (|| {
            let mut f = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(mode)
                .open(&temporary)?;
            f.write_all(content)?;
            f.sync_all()?;
            fs::rename(&temporary, path)?;
            sync(folder)
        })();
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn append(&self, path: &Path, at: u64, record: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        file.set_len(at)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(record)?;
        file.sync_data()?;
        // The file's name must survive a crash as well as its content.
        if at == 0 {
            sync(folder_of(path))
        } else {
            Ok(())
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        absent(fs::remove_file(path)).map(drop)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        absent(fs::remove_dir_all(path)).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync(folder_of(to))
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in absent(fs::read_dir(path))?.into_iter().flatten() {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn adopt(&self, from: &Path, to: &Path) -> io::Result<()> {
        take(from, to)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(Some(file)))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }
}

/// Anything smaller is copied: tools write an index anew in its place, but not the blobs that it names.
const COPIED: u64 = 1 << 20;

fn take(from: &Path, to: &Path) -> io::Result<()> {
    let data = fs::symlink_metadata(from)?;
    if data.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            take(&entry.path(), &to.join(entry.file_name()))?;
        }
        return sync(to);
    }
    // Another file system, a file of somebody else, a file system without links: then it is copied too.
    if data.is_file() && data.len() >= COPIED && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Files with errors that say which file it was and what was tried.
pub trait Told {
    /// Content, or `None` if there is no such file.
    fn content(&self, path: &Path) -> Result<Option<Vec<u8>>>;

    /// Text, or `None` if there is no such file.
    fn text(&self, path: &Path) -> Result<Option<String>> {
        Ok(self
            .content(path)?
            .map(|b| String::from_utf8_lossy(&b).into_owned()))
    }

    /// Replaces a file that only its owner may read.
    fn keep(&self, path: &Path, content: &[u8]) -> Result<()>;

    /// Replaces a file with a mode of its own.
    fn keep_as(&self, path: &Path, content: &[u8], mode: u32) -> Result<()>;

    /// Makes a folder that only its owner may enter.
    fn private(&self, path: &Path) -> Result<()>;

    /// Removes a file.
    fn discard(&self, path: &Path) -> Result<()>;
}

impl Told for dyn Files + '_ {
    fn content(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        self.read(path)
            .context(|| format!("cannot read {}", path.display()))
            .map_err(mend)
    }

    fn keep(&self, path: &Path, content: &[u8]) -> Result<()> {
        self.keep_as(path, content, 0o600)
    }

    fn keep_as(&self, path: &Path, content: &[u8], mode: u32) -> Result<()> {
        self.write(path, content, mode)
            .context(|| format!("cannot write {}", path.display()))
            .map_err(mend)
    }

    fn private(&self, path: &Path) -> Result<()> {
        self.folder(path)
            .context(|| format!("cannot make folder {}", path.display()))
            .map_err(mend)
    }

    fn discard(&self, path: &Path) -> Result<()> {
        self.remove(path)
            .context(|| format!("cannot remove {}", path.display()))
            .map_err(mend)
    }
}

fn mend(error: crate::Error) -> crate::Error {
    error
        .fix("mend that (space, permissions, the disk), then run the same command again")
        .state("the file is as it was before")
}

/// [`Told::keep`] on the host's disk.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    (&Disk as &dyn Files).keep(path, content)
}

/// [`Told::keep_as`] on the host's disk.
pub fn write_mode(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    (&Disk as &dyn Files).keep_as(path, content, mode)
}

/// [`Told::private`] on the host's disk.
pub fn private_folder(path: &Path) -> Result<()> {
    (&Disk as &dyn Files).private(path)
}

/// [`Told::content`] on the host's disk.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    (&Disk as &dyn Files).content(path)
}

/// Text of a file that somebody else may be writing, for messages; empty if it cannot be read.
pub fn glance(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(4096).read_to_string(&mut text);
    }
    text
}

/// A failing disk for tests of whatever keeps something.
#[cfg(test)]
pub mod failing {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// How a write fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Failure {
        /// Nothing reaches the disk.
        Nothing(i32),
        /// A part of the record does.
        Torn(i32),
    }

    /// EIO.
    pub const EIO: i32 = 5;
    /// ENOSPC.
    pub const ENOSPC: i32 = 28;

    /// The host's disk, on which the writes of the given numbers fail.
    #[derive(Clone, Default)]
    pub struct Failing {
        plan: Arc<Mutex<Vec<(usize, Failure)>>>,
        writes: Arc<Mutex<usize>>,
    }

    impl Failing {
        /// The write of this number, from 0, fails.
        pub fn at(number: usize, failure: Failure) -> Self {
            let failing = Self::default();
            failing.plan.lock().unwrap().push((number, failure));
            failing
        }

        /// Writes tried so far.
        pub fn writes(&self) -> usize {
            *self.writes.lock().unwrap()
        }

        fn next(&self) -> Option<Failure> {
            let mut writes = self.writes.lock().unwrap();
            let number = *writes;
            *writes += 1;
            let plan = self.plan.lock().unwrap();
            plan.iter().find(|(n, _)| *n == number).map(|(_, f)| *f)
        }
    }

    impl Files for Failing {
        fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
            Disk.read(path)
        }

        fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
            match self.next() {
                None => Disk.write(path, content, mode),
                Some(Failure::Nothing(code) | Failure::Torn(code)) => {
                    Err(io::Error::from_raw_os_error(code))
                }
            }
        }

        fn append(&self, path: &Path, at: u64, record: &[u8]) -> io::Result<()> {
            match self.next() {
                None => Disk.append(path, at, record),
                Some(Failure::Nothing(code)) => Err(io::Error::from_raw_os_error(code)),
                Some(Failure::Torn(code)) => {
                    Disk.append(path, at, &record[..record.len() / 2])?;
                    Err(io::Error::from_raw_os_error(code))
                }
            }
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            Disk.remove(path)
        }

        fn remove_folder(&self, path: &Path) -> io::Result<()> {
            Disk.remove_folder(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            Disk.rename(from, to)
        }

        fn adopt(&self, from: &Path, to: &Path) -> io::Result<()> {
            Disk.adopt(from, to)
        }

        fn exists(&self, path: &Path) -> bool {
            Disk.exists(path)
        }

        fn folder(&self, path: &Path) -> io::Result<()> {
            Disk.folder(path)
        }

        fn names(&self, path: &Path) -> io::Result<Vec<String>> {
            Disk.names(path)
        }

        fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
            Disk.lock(path)
        }
    }
}
