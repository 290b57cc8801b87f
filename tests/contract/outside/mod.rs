//! The outside of one process of mctl: every point where it meets the world, in order, each with a verdict. When the process
//! dies nothing of it reaches the world any more; the world goes on. Must not know what the process does.

mod ports;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mctl::ports::Ports;
use tokio::{sync::Notify, time::Instant};

use crate::world::World;

/// Where a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A `docker` command.
    Engine,
    /// `docker load`.
    Load,
    /// `kind`.
    Kind,
    /// A request to an API server.
    Server,
    /// A file.
    File,
    /// An address.
    Network,
}

/// One point where a process meets the world.
#[derive(Clone, Debug)]
pub struct Point {
    /// Number among those that change something.
    pub change: Option<usize>,
    /// Where.
    pub place: Place,
    /// What: command line, request line, file.
    pub what: String,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing special.
    Go,
    /// The process dies; what it asked for took effect, in half (if it can), or not.
    Crash(Effect),
    /// An API server answers with this code.
    Status {
        code: u16,
        applied: bool,
        retry_after: Option<u32>,
    },
    /// The connection breaks.
    Reset { applied: bool },
    /// There is no answer.
    Silence { applied: bool },
    /// A watch is not as it should be.
    Watch(Watch),
    /// A write to a file fails with this error number; a part of it may be there.
    Disk { code: i32, torn: bool },
    /// A command ends with an error, or does not end within its limit.
    Command { applied: bool, hangs: bool },
}

/// How far something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    Half,
    Whole,
}

/// What is wrong with a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// It ends after so many events.
    Ends(usize),
    /// It breaks after so many events.
    Breaks(usize),
    /// Every event comes twice.
    Repeats,
    /// Two events come in the other order.
    Reorders,
    /// It says that its past is gone.
    Gone,
    /// It says nothing more after so many events, and does not end.
    Silent(usize),
}

/// Files of one user of mctl.
#[derive(Clone, Default)]
pub struct Home(Arc<Mutex<Content>>);

/// What is in a home.
#[derive(Clone, Default, PartialEq)]
pub struct Content {
    pub files: BTreeMap<PathBuf, (Vec<u8>, u32)>,
    pub folders: BTreeSet<PathBuf>,
}

impl Home {
    pub fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    /// Another home with the same content.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }
}

type Script = Box<dyn FnMut(&Point) -> Verdict + Send>;
type After = Box<dyn FnMut(&Life, &Point) + Send>;
type Latency = Box<dyn FnMut(&Point) -> Duration + Send>;

struct Inner {
    points: usize,
    changes: usize,
    script: Option<Script>,
    after: Option<After>,
    latency: Option<Latency>,
    trace: Vec<String>,
    locked: BTreeSet<PathBuf>,
}

/// One process of mctl, from its start to its end.
#[derive(Clone)]
pub struct Life {
    pub world: World,
    pub home: Home,
    inner: Arc<Mutex<Inner>>,
    dead: Arc<AtomicBool>,
    died: Arc<Notify>,
    begin: Instant,
    /// A bug in how requests are sent.
    pub bug: Option<RequestBug>,
}

/// Bugs in how requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum RequestBug {
    /// Applies of what has this in its path are not sent, though it is said that they were.
    Unsent(&'static str),
}

impl Life {
    pub fn new(world: &World, home: &Home) -> Self {
        Self {
            world: world.clone(),
            home: home.clone(),
            inner: Arc::new(Mutex::new(Inner {
                points: 0,
                changes: 0,
                script: None,
                after: None,
                latency: None,
                trace: Vec::new(),
                locked: BTreeSet::new(),
            })),
            dead: Arc::default(),
            died: Arc::default(),
            begin: Instant::now(),
            bug: None,
        }
    }

    /// With a bug in how requests are sent.
    #[must_use]
    pub fn with_bug(mut self, bug: Option<RequestBug>) -> Self {
        self.bug = bug;
        self
    }

    /// Decides at every point.
    #[must_use]
    pub fn script(self, script: impl FnMut(&Point) -> Verdict + Send + 'static) -> Self {
        self.inner.lock().unwrap().script = Some(Box::new(script));
        self
    }

    /// Is told after every change that took effect, before the process learns of it.
    #[must_use]
    pub fn after(self, after: impl FnMut(&Life, &Point) + Send + 'static) -> Self {
        self.inner.lock().unwrap().after = Some(Box::new(after));
        self
    }

    /// How long each answer takes.
    #[must_use]
    pub fn latency(self, latency: impl FnMut(&Point) -> Duration + Send + 'static) -> Self {
        self.inner.lock().unwrap().latency = Some(Box::new(latency));
        self
    }

    /// Points so far, and those of them that change something.
    pub fn count(&self) -> (usize, usize) {
        let inner = self.inner.lock().unwrap();
        (inner.points, inner.changes)
    }

    /// Everything that was met, in order.
    pub fn trace(&self) -> Vec<String> {
        self.inner.lock().unwrap().trace.clone()
    }

    /// Seconds since the process began.
    pub fn seconds(&self) -> u64 {
        self.begin.elapsed().as_secs()
    }

    /// Resolves when the process has died.
    pub async fn died(&self) {
        if !self.is_dead() {
            self.died.notified().await;
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// The process dies now.
    pub fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    /// All ports of this process.
    pub fn ports(&self) -> Ports {
        Ports {
            processes: Arc::new(self.clone()),
            clusters: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
            files: Arc::new(self.clone()),
            network: Arc::new(self.clone()),
        }
    }

    /// A point is met; `None` when there is no process any more.
    pub fn meet(&self, place: Place, what: String, changes: bool) -> Option<(Point, Verdict)> {
        if self.is_dead() {
            return None;
        }
        let mut inner = self.inner.lock().unwrap();
        let point = Point {
            change: changes.then_some(inner.changes),
            place,
            what,
        };
        inner.points += 1;
        inner.changes += usize::from(changes);
        let verdict = match inner.script.as_mut() {
            Some(script) => script(&point),
            None => Verdict::Go,
        };
        let at = self.begin.elapsed().as_millis();
        let told = match verdict {
            Verdict::Go => String::new(),
            v => format!("  {v:?}"),
        };
        inner.trace.push(format!("{at:>8} {}{told}", point.what));
        Some((point, verdict))
    }

    /// How long the answer takes.
    pub async fn wait(&self, point: &Point) {
        let latency = {
            let mut inner = self.inner.lock().unwrap();
            inner.latency.as_mut().map(|l| l(point))
        };
        if let Some(latency) = latency.filter(|l| !l.is_zero()) {
            tokio::time::sleep(latency).await;
        }
    }

    /// A change took effect.
    pub fn done(&self, point: &Point) {
        if point.change.is_none() {
            return;
        }
        let after = self.inner.lock().unwrap().after.take();
        if let Some(mut after) = after {
            after(self, point);
            self.inner.lock().unwrap().after = Some(after);
        }
    }
}
