//! Records as lines of JSON in a file, each on disk before anybody acts on it: the form of every journal. Must not know what they mean.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::files::read_optional;
use crate::{Error, Kind, Result, error::Context};

/// A record, and what a user has to be told about files of such records.
pub trait Record: Clone + Serialize + DeserializeOwned {
    /// What the file is, for messages.
    const FILE: &'static str;
    /// If only one process may have the file open: what the second one is told.
    const LOCKED: Option<&'static str>;

    /// The error for a line that is no record; place and cause are added to it.
    fn damaged() -> Error;

    /// Adds to the error for a record that cannot be written what state things are in.
    fn unwritten(error: Error) -> Error {
        error
    }

    /// Why a file with this record in it is not for this mctl; the place is added.
    fn refusal(&self) -> Option<Error>;
}

/// An open file.
#[derive(Debug)]
pub struct JsonLines<R> {
    path: PathBuf,
    file: File,
    records: Vec<R>,
    /// Length of the file up to the end of the last record.
    whole: u64,
    /// True when there may be more than that, because a record could not be written.
    torn: bool,
}

impl<R: Record> JsonLines<R> {
    /// Opens or makes the file. A last line torn by a crash is cut off; damage elsewhere is an error.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("cannot open the {} {}", R::FILE, path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .context(what)?;
        if let Some(locked) = R::LOCKED {
            lock(&file, path, locked, what)?;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).context(what)?;
        let (records, whole) = parse(&text, path)?;
        if whole < text.len() {
            file.set_len(whole as u64).context(what)?;
            file.seek(SeekFrom::End(0)).context(what)?;
            file.sync_all().context(what)?;
        }
        // The file's name must survive a crash as well as its content.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|f| f.sync_all())
            .context(what)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            records,
            whole: whole as u64,
            torn: false,
        })
    }

    /// Records of a file without opening it for writing; none if there is no file.
    pub fn read(path: &Path) -> Result<Vec<R>> {
        let text = read_optional(path)?.unwrap_or_default();
        Ok(parse(&text, path)?.0)
    }

    /// All records so far, oldest first.
    pub fn records(&self) -> &[R] {
        &self.records
    }

    /// Adds a record; it is on disk when this returns.
    pub fn append(&mut self, record: &R) -> Result<()> {
        let what = || format!("cannot write to the {} {}", R::FILE, self.path.display());
        let mut line = serde_json::to_vec(record).context(what)?;
        line.push(b'\n');
        let result = (|| {
            if self.torn {
                self.file.set_len(self.whole)?;
            }
            self.torn = true;
            self.file.write_all(&line)?;
            self.file.sync_data()
        })();
        result.context(what).map_err(R::unwritten)?;
        self.torn = false;
        self.whole += line.len() as u64;
        self.records.push(record.clone());
        Ok(())
    }
}

fn lock(
    file: &File,
    path: &Path,
    locked: &'static str,
    what: impl FnOnce() -> String,
) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::new(Kind::Locked, locked)
            .at(path.display().to_string())
            .fix("wait until it ends, or stop it and run the same command again")),
        Err(TryLockError::Error(e)) => Err(e).context(what),
    }
}

/// Records and the length of the part of the text that is whole.
fn parse<R: Record>(text: &[u8], path: &Path) -> Result<(Vec<R>, usize)> {
    let mut records = Vec::new();
    let mut whole = 0;
    for (i, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        // Only the last line can be torn: each one is on disk before the next begins.
        if !line.ends_with(b"\n") {
            break;
        }
        let place = || format!("{}:{}", path.display(), i + 1);
        let record: R =
            serde_json::from_slice(line).map_err(|e| R::damaged().at(place()).because(&e))?;
        if let Some(refusal) = record.refusal() {
            return Err(refusal.at(place()));
        }
        records.push(record);
        whole += line.len();
    }
    Ok((records, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Record for u32 {
        const FILE: &'static str = "list";
        const LOCKED: Option<&'static str> = None;

        fn damaged() -> Error {
            Error::failed("the list is damaged")
        }

        fn refusal(&self) -> Option<Error> {
            (*self > 9).then(|| Error::failed("too much"))
        }
    }

    #[test]
    fn what_could_not_be_written_whole_goes_before_the_next_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let mut lines = JsonLines::<u32>::open(&path).unwrap();
        lines.append(&1).unwrap();
        // As a full disk leaves it.
        lines.file.write_all(b"[2, ").unwrap();
        lines.torn = true;
        lines.append(&3).unwrap();
        assert_eq!(lines.records(), [1, 3]);
        assert_eq!(JsonLines::<u32>::read(&path).unwrap(), [1, 3]);
    }

    #[test]
    fn damage_and_refusal_name_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        for (text, why) in [("1\n\n2\n", "is damaged"), ("1\n10\n", "too much")] {
            std::fs::write(&path, text).unwrap();
            let e = JsonLines::<u32>::open(&path).unwrap_err().to_string();
            assert!(e.contains(why) && e.contains("list:2"), "{e}");
        }
    }
}
