//! The journal of a move: what has been done to which object, on disk before anybody relies on it. Must not talk to a cluster.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Kind, Result,
    error::Context,
    ports::{
        files::{Disk, Files},
        json_lines::{self, JsonLines},
        kubernetes::Progress,
    },
};

/// Version of the record format; written in the first record.
pub const FORMAT: u32 = 1;

/// One object by name, as the source cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// `group/version` or `v1`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; none for cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// UID in the source cluster.
    pub uid: String,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(ns) => write!(f, "{} {ns}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One object of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Which.
    #[serde(flatten)]
    pub object: Reference,
    /// Its layer; owners are in lower layers.
    pub layer: usize,
    /// True for objects that are copied but stay in the source as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "record",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Record {
    /// A move began, and nothing before counts; clusters are told apart by the UID of their namespace `kube-system`.
    Started {
        /// [`FORMAT`].
        format: u32,
        /// UID of the source cluster.
        source: String,
        /// UID of the target cluster.
        target: String,
        /// Namespace that moves.
        namespace: String,
    },
    /// About to pause this object of the source.
    Pausing {
        /// Which.
        #[serde(flatten)]
        object: Reference,
        /// `spec.paused` as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<bool>,
    },
    /// What was paused is running again in the source.
    Released,
    /// About to create these objects in the target. A later one replaces an earlier one.
    Planned {
        /// All objects of the plan.
        objects: Vec<Planned>,
    },
    /// The journal was made anew from the marks, and these copies had lost their originals already: they are kept whatever the
    /// source holds.
    Kept {
        /// Which.
        objects: Vec<Planned>,
    },
    /// Objects stand in the target: source UID to target UID.
    Created {
        /// Pairs of source and target UID.
        uids: Vec<(String, String)>,
    },
    /// Every planned object is proven in the target and the source has not changed. From here only forward.
    Committed,
    /// Objects are gone from the source.
    Deleted {
        /// Source UIDs.
        uids: Vec<String>,
    },
    /// Everything is paused no longer in the target.
    Unpaused,
    /// The move is complete.
    Done {
        /// Objects moved.
        objects: usize,
    },
}

/// Where a move keeps its records.
pub trait MoveJournal: Send + Sync {
    /// All records so far, oldest first.
    fn load(&self) -> Vec<Record>;
    /// Adds one; it is on disk when this returns.
    fn append(&self, record: &Record) -> Result<()>;
}

impl json_lines::Record for Record {
    const FILE: &'static str = "journal of the move";
    const LOCKED: Option<&'static str> = Some("another mctl is working on the same move");

    fn damaged() -> Error {
        Error::new(Kind::Usage, "the journal of the move is damaged")
            .state("nothing was changed")
            .fix("set the file aside: a move that was under way is found by its marks on the objects")
    }

    fn refusal(&self) -> Option<Error> {
        let Self::Started { format, .. } = self else {
            return None;
        };
        (*format != FORMAT).then(|| {
            Error::new(
                Kind::Usage,
                format!("the journal of the move has format {format}, this mctl reads {FORMAT}"),
            )
            .state("nothing was changed")
            .fix("go on with the version of mctl that began the move")
        })
    }
}

/// A journal as JSON lines in a file, locked against a second process.
#[derive(Debug)]
pub struct FileJournal(Mutex<JsonLines<Record>>);

impl FileJournal {
    /// Opens or makes the file. A last line torn by a crash is cut off; damage elsewhere is an error.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_in(Arc::new(Disk), path)
    }

    /// [`Self::open`] with the file kept elsewhere.
    pub fn open_in(files: Arc<dyn Files>, path: &Path) -> Result<Self> {
        JsonLines::open_in(files, path).map(|lines| Self(Mutex::new(lines)))
    }

    /// Opens or makes the file; a damaged one is set aside first, for the marks on the objects tell what it told.
    pub fn open_or_anew(
        files: Arc<dyn Files>,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<Self> {
        match Self::open_in(files.clone(), path) {
            Err(e) if e.what() == <Record as json_lines::Record>::damaged().what() => {
                let aside = path.with_extension("damaged");
                files
                    .rename(path, &aside)
                    .context(|| format!("cannot set {} aside", path.display()))?;
                progress.seen(&format!(
                    "{}; it is {} now, and the marks on the objects tell what it told",
                    e.line(),
                    aside.display()
                ));
                Self::open_in(files, path)
            }
            other => other,
        }
    }
}

impl MoveJournal for FileJournal {
    fn load(&self) -> Vec<Record> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.records().to_vec()
    }

    fn append(&self, record: &Record) -> Result<()> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.append(record)
    }
}

/// What the records say, folded.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Source, target and namespace of the move.
    pub(super) started: Option<(String, String, String)>,
    /// `spec.paused` as it was, by source UID of what this move paused.
    pub(super) was_paused: BTreeMap<String, Option<bool>>,
    /// The newest plan.
    pub(super) planned: Vec<Planned>,
    /// Everything that this move may ever have created.
    pub(super) ever_planned: BTreeSet<Reference>,
    /// Copies whose originals had gone when the journal was made anew.
    pub(super) kept: Vec<Planned>,
    /// Target UIDs by source UID.
    pub(super) created: HashMap<String, String>,
    /// True after the point of no return.
    pub(super) committed: bool,
    /// Objects of the finished move.
    pub(super) done: Option<usize>,
}

impl State {
    /// Folds all records.
    pub(super) fn of(records: Vec<Record>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.add(record);
        }
        state
    }

    /// Takes in one more record.
    pub(super) fn add(&mut self, record: Record) {
        match record {
            Record::Started {
                source,
                target,
                namespace,
                ..
            } => {
                *self = Self {
                    started: Some((source, target, namespace)),
                    ..Self::default()
                };
            }
            Record::Pausing { object, was } => {
                self.was_paused.insert(object.uid, was);
            }
            Record::Released => self.was_paused.clear(),
            Record::Planned { objects } => {
                self.ever_planned
                    .extend(objects.iter().map(|p| p.object.clone()));
                self.planned = objects;
            }
            Record::Kept { objects } => self.kept = objects,
            Record::Created { uids } => self.created.extend(uids),
            Record::Committed => self.committed = true,
            Record::Deleted { .. } | Record::Unpaused => {}
            Record::Done { objects } => self.done = Some(objects),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Record {
        Record::Started {
            format: FORMAT,
            source: "a".into(),
            target: "b".into(),
            namespace: "n".into(),
        }
    }

    #[test]
    fn survives_a_torn_last_line_and_refuses_a_second_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("move.jsonl");
        let journal = FileJournal::open(&path).unwrap();
        journal.append(&started()).unwrap();
        journal.append(&Record::Committed).unwrap();
        assert_eq!(
            FileJournal::open(&path).unwrap_err().kind(),
            Kind::Locked,
            "two processes must not share a journal"
        );
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let journal = FileJournal::open(&path).unwrap();
            let records = journal.load();
            let lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(records.len(), lines, "cut at {cut}");
            journal.append(&Record::Released).unwrap();
            drop(journal);
            assert_eq!(FileJournal::open(&path).unwrap().load().len(), lines + 1);
        }
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_never_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("move.jsonl");
        std::fs::write(&path, "nonsense\n").unwrap();
        let journal = FileJournal::open_or_anew(Arc::new(Disk), &path, &()).unwrap();
        assert!(journal.load().is_empty());
        assert_eq!(
            FileJournal::open_or_anew(Arc::new(Disk), &path, &())
                .unwrap_err()
                .kind(),
            Kind::Locked
        );
        let aside = folder.path().join("move.damaged");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "nonsense\n");
    }

    #[test]
    fn refuses_damage_and_foreign_formats() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("move.jsonl");
        std::fs::write(&path, "{\"record\":\"committed\"}\nnonsense\n{}\n").unwrap();
        let e = FileJournal::open(&path).unwrap_err();
        assert!(e.to_string().contains("move.jsonl:2"), "{e}");
        std::fs::write(
            &path,
            "{\"record\":\"started\",\"format\":9,\"source\":\"a\",\"target\":\"b\",\"namespace\":\"n\"}\n",
        )
        .unwrap();
        let e = FileJournal::open(&path).unwrap_err();
        assert!(e.to_string().contains("format 9"), "{e}");
    }
}
