//! Records as lines of JSON in a file, each on disk before anybody acts on it: the form of every journal. Must not know what they mean.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::files::{Disk, Files, Lock, Told};
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
pub struct JsonLines<R> {
    files: Arc<dyn Files>,
    path: PathBuf,
    _lock: Option<Lock>,
    records: Vec<R>,
    /// Length of the file up to the end of the last record; what is behind goes with the next one.
    whole: u64,
}

impl<R> std::fmt::Debug for JsonLines<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonLines")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<R: Record> JsonLines<R> {
    /// Opens a file on the host's disk.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_in(Arc::new(Disk), path)
    }

    /// Opens the file; the first record makes it. A last line torn by a crash is left out; damage elsewhere is an error.
    pub fn open_in(files: Arc<dyn Files>, path: &Path) -> Result<Self> {
        let what = || format!("cannot open the {} {}", R::FILE, path.display());
        let lock = match R::LOCKED {
            None => None,
            Some(locked) => Some(files.lock(path).context(what)?.ok_or_else(|| {
                Error::new(Kind::Locked, locked)
                    .at(path.display().to_string())
                    .fix("wait until it ends, or stop it and run the same command again")
                    .state("nothing was changed")
            })?),
        };
        let text = files.content(path)?.unwrap_or_default();
        let (records, whole) = parse(&text, path)?;
        Ok(Self {
            files,
            path: path.to_owned(),
            _lock: lock,
            records,
            whole: whole as u64,
        })
    }

    /// Records of a file without opening it for writing; none if there is no file.
    pub fn read(path: &Path) -> Result<Vec<R>> {
        Self::read_in(&Disk, path)
    }

    /// Records of a file without opening it for writing; none if there is no file.
    pub fn read_in(files: &dyn Files, path: &Path) -> Result<Vec<R>> {
        let text = files.content(path)?.unwrap_or_default();
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
        self.files
            .append(&self.path, self.whole, &line)
            .context(what)
            .map_err(R::unwritten)?;
        self.whole += line.len() as u64;
        self.records.push(record.clone());
        Ok(())
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
    use super::super::files::failing::{EIO, ENOSPC, Failing, Failure};
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
    fn a_write_that_fails_loses_no_record_and_leaves_no_part() {
        for failure in [
            Failure::Nothing(EIO),
            Failure::Torn(EIO),
            Failure::Nothing(ENOSPC),
            Failure::Torn(ENOSPC),
        ] {
            for number in 0..3 {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("list");
                let files: Arc<dyn Files> = Arc::new(Failing::at(number, failure));
                let mut lines = JsonLines::<u32>::open_in(files, &path).unwrap();
                let mut kept = Vec::new();
                for n in 0..4 {
                    if lines.append(&n).is_ok() {
                        kept.push(n);
                    }
                    // What a crash right now would leave.
                    assert_eq!(JsonLines::<u32>::read(&path).unwrap(), kept, "{failure:?}");
                }
                assert_eq!(kept.len(), 3, "{failure:?} at {number}");
                assert_eq!(lines.records(), kept);
                assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
            }
        }
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
