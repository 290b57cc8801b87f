//! The journal: lasting events as JSON lines, each on disk before anybody acts on it. Must not interpret steps.

use std::{collections::BTreeSet, path::Path};

use super::event::{Body, Event, FORMAT};
use crate::{
    Error, Kind, Result,
    plan::{Plan, StepId},
    ports::json_lines::{JsonLines, Record},
};

/// An open journal: events of all runs so far.
#[derive(Debug)]
pub struct Journal(JsonLines<Event>);

impl Record for Event {
    const FILE: &'static str = "journal";
    // Whoever opens it holds the lock on the folder.
    const LOCKED: Option<&'static str> = None;

    fn damaged() -> Error {
        Error::failed("the journal is damaged")
            .fix("restore the file, or `mctl destroy` the cluster and begin again")
            .state("nothing was changed")
    }

    fn unwritten(error: Error) -> Error {
        error
            .fix("free space on that disk, then run the same command again")
            .state("the step before it is complete; nothing is lost")
    }

    fn refusal(&self) -> Option<Error> {
        let Body::RunStarted { format, .. } = &self.body else {
            return None;
        };
        (*format != FORMAT).then(|| {
            Error::new(Kind::Usage, format!("the journal was written in format {format}, this mctl writes format {FORMAT}"))
                .fix("go on with the version of mctl that began the run, or destroy the cluster and begin again")
                .state("nothing was changed")
        })
    }
}

impl Journal {
    /// Opens or makes the journal. A last line torn by a crash is cut off; damage elsewhere is an error.
    pub fn open(path: &Path) -> Result<Self> {
        JsonLines::open(path).map(Self)
    }

    /// Reads a journal without opening it for writing.
    pub fn read(path: &Path) -> Result<Vec<Event>> {
        JsonLines::read(path)
    }

    /// Events of all runs so far, oldest first.
    pub fn events(&self) -> &[Event] {
        self.0.records()
    }

    /// Appends one event; it is on disk when this returns.
    pub fn append(&mut self, event: &Event) -> Result<()> {
        self.0.append(event)
    }

    /// What earlier runs reached.
    pub fn history(&self) -> History {
        History::of(self.events())
    }
}

/// What a journal says about earlier runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Plan of the last run.
    pub plan: Option<Plan>,
    /// Steps that were done at least once.
    pub done: BTreeSet<StepId>,
    /// Steps that were started at least once.
    pub started: BTreeSet<StepId>,
    /// True when the last run ended in success.
    pub complete: bool,
}

impl History {
    /// Folds events.
    pub fn of(events: &[Event]) -> Self {
        let mut h = Self::default();
        for e in events {
            match &e.body {
                Body::RunStarted { plan, .. } => {
                    h.plan = Some(plan.clone());
                    h.complete = false;
                }
                Body::StepStarted { step, .. } => {
                    h.started.insert(step.clone());
                }
                Body::StepDone { step, .. } => {
                    h.done.insert(step.clone());
                }
                Body::RunEnded { outcome } => h.complete = outcome == "success",
                Body::StepProgress { .. } | Body::StepFailed { .. } => {}
            }
        }
        h
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn event(step: &str) -> Event {
        Event {
            at: Timestamp::UNIX_EPOCH,
            body: Body::StepDone {
                step: step.into(),
                evidence: "x".into(),
                already: false,
            },
        }
    }

    #[test]
    fn a_torn_last_line_is_cut_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut j = Journal::open(&path).unwrap();
        j.append(&event("one")).unwrap();
        j.append(&event("two")).unwrap();
        drop(j);
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut j = Journal::open(&path).unwrap();
            assert_eq!(j.events().len(), 1, "cut at {cut}");
            j.append(&event("three")).unwrap();
            drop(j);
            assert_eq!(
                Journal::read(&path).unwrap(),
                vec![event("one"), event("three")]
            );
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut j = Journal::open(&path).unwrap();
        for s in ["one", "two", "three"] {
            j.append(&event(s)).unwrap();
        }
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replacen("\"two\"", "\"tw", 1);
        std::fs::write(&path, text).unwrap();
        let e = Journal::open(&path).unwrap_err().to_string();
        assert!(e.contains("journal.jsonl:2"), "{e}");
    }
}
