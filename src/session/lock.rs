//! The lock of one cluster on this host. Must not know what is done under it.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    Error, Kind, Result,
    error::Context,
    ports::files::{Disk, Files, Told},
};

/// Held while a command changes things; released when dropped or when the process dies. A folder that was made for the lock
/// alone goes with it, unless something was begun in it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    folder: Option<PathBuf>,
}

impl Lock {
    /// Takes the lock of a state folder; an error says who holds it, since when.
    pub fn take(folder: &Path, cluster: &str) -> Result<Self> {
        let fresh = !folder.exists();
        let path = folder.join("lock");
        let what = || format!("cannot use {}", path.display());
        let files: &dyn Files = &Disk;
        loop {
            files.private(folder)?;
            let opened = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path);
            let mut file = match opened {
                // Removed meanwhile by whoever made the folder for its own lock.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.context(what)?,
            };
            if let Err(e) = file.try_lock() {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(match e {
                    fs::TryLockError::WouldBlock => {
                        Error::new(Kind::Locked, format!("another mctl works on `{cluster}`"))
                            .at(path.display().to_string())
                            .because(holder.trim().to_owned())
                            .fix("wait for it to end, or stop it: it can be resumed")
                            .state("nothing was changed")
                    }
                    fs::TryLockError::Error(e) => Error::failed(what())
                        .because(&e)
                        .fix("have the state on a file system with locks, by XDG_STATE_HOME")
                        .state("nothing was changed"),
                });
            }
            // Whoever held it may have removed file and folder; a lock on what has no name keeps nobody out.
            let same = fs::metadata(&path)
                .and_then(|named| Ok((named.ino(), file.metadata()?.ino())))
                .is_ok_and(|(named, held)| named == held);
            if !same {
                continue;
            }
            file.set_len(0).and_then(|()| file.rewind()).context(what)?;
            writeln!(
                file,
                "process {} since {}",
                std::process::id(),
                jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")
            )
            .context(what)?;
            return Ok(Self {
                _file: file,
                folder: fresh.then(|| folder.to_owned()),
            });
        }
    }

    /// Something begins: the folder stays.
    pub fn keep(&mut self) {
        self.folder = None;
    }

    /// Who holds the lock, if anybody does. Takes nothing, not even for a moment: whoever begins then would be refused.
    pub fn holder(folder: &Path) -> Result<Option<String>> {
        let path = folder.join("lock");
        let (Some(text), Ok(file)) = (
            crate::ports::files::read_optional(&path)?,
            fs::metadata(&path),
        ) else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let process = text.split(' ').nth(1).and_then(|p| p.parse::<u32>().ok());
        Ok(process.filter(|p| has_open(*p, &file)).map(|_| text))
    }
}

/// Whether a process has a file open; the one that holds the lock has.
fn has_open(process: u32, file: &fs::Metadata) -> bool {
    let same = |m: fs::Metadata| (m.dev(), m.ino()) == (file.dev(), file.ino());
    match fs::read_dir(format!("/proc/{process}/fd")) {
        Ok(all) => all
            .flatten()
            .any(|f| fs::metadata(f.path()).is_ok_and(same)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        // Another user's: it lives, and that is all that can be seen.
        Err(_) => true,
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_file(folder.join("lock"));
            // Only if nothing else is in it.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_and_the_second_is_told_who() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("demo");
        let mut first = Lock::take(&folder, "demo").unwrap();
        let e = Lock::take(&folder, "demo").unwrap_err();
        assert_eq!(e.kind(), Kind::Locked);
        assert!(
            e.to_string()
                .contains(&format!("process {}", std::process::id()))
        );
        assert!(Lock::holder(&folder).unwrap().is_some());
        first.keep();
        drop(first);
        assert!(folder.exists());
        assert_eq!(Lock::holder(&folder).unwrap(), None);
        drop(Lock::take(&folder, "demo").unwrap());
        assert!(folder.exists(), "it was there before");
    }

    #[test]
    fn looking_for_the_holder_never_keeps_anybody_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("demo");
        Lock::take(&folder, "demo").unwrap().keep();
        let done = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|s| {
            s.spawn(|| {
                while !done.load(order) {
                    Lock::holder(&folder).unwrap();
                }
            });
            let refused = (0..500)
                .filter(|_| Lock::take(&folder, "demo").is_err())
                .count();
            done.store(true, order);
            assert_eq!(refused, 0);
        });
        // What a killed process left says nothing of who works now.
        fs::write(folder.join("lock"), "process 4194304 since noon").unwrap();
        assert_eq!(Lock::holder(&folder).unwrap(), None);
    }

    #[test]
    fn a_folder_made_for_the_lock_alone_goes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("demo");
        drop(Lock::take(&folder, "demo").unwrap());
        assert!(!folder.exists());
        let lock = Lock::take(&folder, "demo").unwrap();
        fs::write(folder.join("ca.key"), "x").unwrap();
        drop(lock);
        assert!(folder.join("ca.key").exists());
    }

    #[test]
    fn many_takers_have_one_holder_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("demo");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..200 {
                        let Ok(lock) = Lock::take(&folder, "demo") else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, order), 0);
                        inside.fetch_sub(1, order);
                        drop(lock);
                    }
                });
            }
        });
    }
}
