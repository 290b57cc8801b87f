//! The journal: lasting events as JSON lines, each on disk before anybody acts on it. Must not interpret steps.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::event::{Body, Event, FORMAT};
use crate::{
    Error, Kind, Result,
    error::Context,
    plan::{Plan, StepId},
};

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Events of all runs so far, oldest first.
    pub events: Vec<Event>,
}

impl Journal {
    /// Opens or makes the journal. A last line torn by a crash is cut off; damage elsewhere is an error.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("cannot open the journal {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .context(what)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).context(what)?;
        let (events, good) = parse(&text, path)?;
        if good < text.len() {
            file.set_len(good as u64).context(what)?;
            file.seek(SeekFrom::End(0)).context(what)?;
            file.sync_all().context(what)?;
        }
        if let Some(folder) = path.parent() {
            File::open(folder)
                .and_then(|f| f.sync_all())
                .context(what)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            events,
        })
    }

    /// Reads a journal without opening it for writing.
    pub fn read(path: &Path) -> Result<Vec<Event>> {
        let text = crate::ports::files::read_optional(path)?.unwrap_or_default();
        Ok(parse(&text, path)?.0)
    }

    /// Appends one event; it is on disk when this returns.
    pub fn append(&mut self, event: &Event) -> Result<()> {
        let what = || format!("cannot write to the journal {}", self.path.display());
        let mut line = serde_json::to_vec(event).context(what)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(|e| {
                Error::failed(what())
                    .because(&e)
                    .fix("free space on that disk, then run the same command again")
                    .state("the step before it is complete; nothing is lost")
            })?;
        self.events.push(event.clone());
        Ok(())
    }

    /// What earlier runs reached.
    pub fn history(&self) -> History {
        History::of(&self.events)
    }
}

fn parse(text: &[u8], path: &Path) -> Result<(Vec<Event>, usize)> {
    let mut events = Vec::new();
    let mut good = 0;
    for (i, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        let complete = line.ends_with(b"\n");
        match serde_json::from_slice::<Event>(line) {
            Ok(event) if complete => {
                if let Body::RunStarted { format, .. } = &event.body
                    && *format != FORMAT
                {
                    return Err(Error::new(Kind::Usage, format!("the journal was written in format {format}, this mctl writes format {FORMAT}"))
                        .at(format!("{}:{}", path.display(), i + 1))
                        .fix("go on with the version of mctl that began the run, or destroy the cluster and begin again")
                        .state("nothing was changed"));
                }
                events.push(event);
                good += line.len();
            }
            // Only the last line can be torn: each one is synced before the next begins.
            _ if !complete => break,
            Ok(_) => break,
            Err(e) => {
                return Err(Error::failed("the journal is damaged")
                    .at(format!("{}:{}", path.display(), i + 1))
                    .because(&e)
                    .fix("restore the file, or `mctl destroy` the cluster and begin again")
                    .state("nothing was changed"));
            }
        }
    }
    Ok((events, good))
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
            assert_eq!(j.events.len(), 1, "cut at {cut}");
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
