//! The journal: lasting events as JSON lines, each on disk before anybody acts on it. Must not interpret steps.

use std::{path::Path, sync::Arc};

use super::{
    event::{Body, Event, FORMAT},
    replay::{self, History},
};
use crate::{
    Error, Kind, Result,
    ports::{
        files::{Disk, Files},
        json_lines::{JsonLines, Record},
    },
};

/// An open journal: events of all runs so far.
#[derive(Debug)]
pub struct Journal {
    lines: JsonLines<Event>,
    history: History,
}

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
    /// Opens a journal on the host's disk.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_in(Arc::new(Disk), path)
    }

    /// Opens the journal; the first event makes it. A last line torn by a crash is left out; damage elsewhere, and an order of
    /// events that no run can have written, is an error.
    pub fn open_in(files: Arc<dyn Files>, path: &Path) -> Result<Self> {
        let lines = JsonLines::open_in(files, path)?;
        let history = replay(lines.records(), path)?;
        Ok(Self { lines, history })
    }

    /// Reads a journal without opening it for writing.
    pub fn read(path: &Path) -> Result<Vec<Event>> {
        Self::read_in(&Disk, path)
    }

    /// Reads a journal without opening it for writing.
    pub fn read_in(files: &dyn Files, path: &Path) -> Result<Vec<Event>> {
        let events = JsonLines::read_in(files, path)?;
        replay(&events, path)?;
        Ok(events)
    }

    /// Events of all runs so far, oldest first.
    pub fn events(&self) -> &[Event] {
        self.lines.records()
    }

    /// Appends one event; it is on disk when this returns. One that cannot follow what was before is refused.
    pub fn append(&mut self, event: &Event) -> Result<()> {
        replay::check(&self.history, &event.body).map_err(|why| {
            Error::new(Kind::Internal, "a run did what no run may do")
                .because(why)
                .state("the journal is as it was before")
        })?;
        self.lines.append(event)?;
        replay::take(&mut self.history, &event.body);
        Ok(())
    }

    /// What all runs so far reached.
    pub fn history(&self) -> &History {
        &self.history
    }
}

fn replay(events: &[Event], path: &Path) -> Result<History> {
    let mut history = History::default();
    for (i, event) in events.iter().enumerate() {
        replay::check(&history, &event.body).map_err(|why| {
            Event::damaged()
                .at(format!("{}:{}", path.display(), i + 1))
                .because(why)
        })?;
        replay::take(&mut history, &event.body);
    }
    Ok(history)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
