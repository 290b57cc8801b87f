//! Waits, on objects by watch and on anything else by looking: each shows what it last saw and ends when there is no news, not
//! by a total time alone. Must not change anything.

use std::{collections::HashSet, time::Duration};

use futures::StreamExt;
use kube::{
    core::{DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use tokio::time::Instant;

use super::{Cluster, Progress, objects};
use crate::{Error, Kind, Result};

/// Why an object is not as it should be yet.
pub type Pending = String;

/// A wait never takes longer than this many times its stall limit, whatever news there is.
const TOTAL: u32 = 6;
/// A watch that has said nothing for so long may be dead without knowing it; a new one begins with a look.
const SILENCE: Duration = Duration::from_secs(30);

/// What is waited for, and how.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// For messages: `the set of machines`.
    pub what: &'a str,
    /// The wait ends when there was no news for this long.
    pub stall: Duration,
    /// Between looks.
    pub pause: Duration,
    /// Told what is seen.
    pub progress: &'a dyn Progress,
}

/// What a wait has seen so far. For loops of their own; [`poll`] and [`Cluster::wait`] are the usual ones.
pub struct Waiting<'a> {
    begin: Instant,
    news: Instant,
    blind: Option<Instant>,
    last: String,
    seen: HashSet<String>,
    total: Duration,
    stall: Duration,
    progress: &'a dyn Progress,
}

impl<'a> Waiting<'a> {
    /// Begins to wait.
    pub fn new(stall: Duration, progress: &'a dyn Progress) -> Self {
        let now = Instant::now();
        Self {
            begin: now,
            news: now,
            blind: None,
            last: String::new(),
            seen: HashSet::new(),
            total: stall * TOTAL,
            stall,
            progress,
        }
    }

    /// Another total limit.
    #[must_use]
    pub fn within(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Notes what is missing. Only what was never seen before is news: a release that fails and is tried again alternates
    /// between two texts for ever.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.blind.take().is_some() {
            // The time without sight says nothing about the object.
            self.news = Instant::now();
        }
        if self.seen.insert(evidence(&text)) {
            self.news = Instant::now();
        }
        self.tell(text);
    }

    /// Notes that nothing could be seen; an error that will not pass ends the wait.
    pub fn unknown(&mut self, error: Error) -> Result<()> {
        if !error.is_passing() {
            return Err(error);
        }
        self.blind.get_or_insert_with(Instant::now);
        self.tell(error.line());
        Ok(())
    }

    fn tell(&mut self, text: String) {
        if text != self.last {
            self.progress.seen(&text);
            self.last = text;
        }
    }

    /// What was seen last.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// Since when it waits.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// An error when the wait is over.
    pub fn check(&self, what: impl FnOnce() -> String) -> Result<()> {
        let still = self.blind.unwrap_or(self.news).elapsed();
        let waited = self.begin.elapsed();
        let why = if waited >= self.total {
            format!("it took longer than {} s in all", self.total.as_secs())
        } else if still >= self.stall {
            format!(
                "nothing new for {} s (waited {} s in all)",
                still.as_secs(),
                waited.as_secs()
            )
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Stalled, format!("{} does not get ready", what()))
            .because(format!("{why}; last seen: {}", self.last))
            .fix("look at the object and its events, mend the cause, then run the same command again: it goes on from here"))
    }
}

/// A text without what changes by itself: durations, times, addresses. Plain numbers count (2 of 3 ready).
fn evidence(text: &str) -> String {
    let changes = |word: &&str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        word.starts_with(|c: char| c.is_ascii_digit()) && word.parse::<u64>().is_err()
    };
    text.split_whitespace()
        .filter(|word| !changes(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Looks again and again for what cannot be watched: an API server that does not answer yet, several objects at once. `look`
/// says as [`Cluster::wait`]'s check does what is missing. When it cannot see, that is shown and waited through; an error that
/// will not pass ends the wait.
pub async fn poll<T, F>(wait: Wait<'_>, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Result<T, Pending>>>,
{
    let mut waiting = Waiting::new(wait.stall, wait.progress);
    loop {
        match tokio::time::timeout(wait.stall, look()).await {
            Ok(Ok(Ok(value))) => return Ok(value),
            Ok(Ok(Err(pending))) => waiting.note(pending),
            Ok(Err(error)) => waiting.unknown(error)?,
            // The check below ends it.
            Err(_) => waiting.tell("a look took longer than the whole wait may".into()),
        }
        waiting.check(|| wait.what.to_owned())?;
        tokio::time::sleep(wait.pause).await;
    }
}

impl Cluster {
    /// Watches one object until `check` says `Ok`. `Err(text)` is what is missing; without news for `stall` the wait ends with
    /// an error that carries it.
    pub async fn wait<T>(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
        stall: Duration,
        progress: &dyn Progress,
        mut check: impl FnMut(Option<&DynamicObject>) -> Result<T, Pending>,
    ) -> Result<T> {
        let mut waiting = Waiting::new(stall, progress);
        let place = || self.place(&gvk.kind, namespace, name);
        loop {
            let api = match tokio::time::timeout(SILENCE, self.api(gvk, namespace)).await {
                Ok(Ok(api)) => api,
                failed => {
                    let why = match failed {
                        Ok(Err(e)) => super::short(&e),
                        _ => format!("no answer within {} s", SILENCE.as_secs()),
                    };
                    let error = Error::failed(gvk.kind.clone()).because(why).passing();
                    waiting.unknown(error)?;
                    waiting.check(place)?;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    continue;
                }
            };
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            let mut listed = false;
            let mut heard = Instant::now();
            while heard.elapsed() < SILENCE {
                // The tick only looks at the limits; state comes by watch.
                let Ok(next) = tokio::time::timeout(Duration::from_secs(1), events.next()).await
                else {
                    waiting.check(place)?;
                    continue;
                };
                heard = Instant::now();
                let object = match next {
                    None => break,
                    Some(Err(e)) => {
                        let error = Error::failed(format!("{} {name}", gvk.kind)).because(&e);
                        waiting.unknown(error.passing())?;
                        waiting.check(place)?;
                        continue;
                    }
                    Some(Ok(watcher::Event::Init)) => {
                        listed = false;
                        continue;
                    }
                    Some(Ok(watcher::Event::InitDone)) if listed => continue,
                    Some(Ok(watcher::Event::InitApply(o) | watcher::Event::Apply(o))) => {
                        listed = true;
                        Some(super::typed(o, gvk))
                    }
                    Some(Ok(watcher::Event::InitDone | watcher::Event::Delete(_))) => None,
                };
                match check(object.as_ref()) {
                    Ok(value) => return Ok(value),
                    Err(pending) => waiting.note(pending),
                }
                waiting.check(place)?;
            }
        }
    }
}

/// That a condition of `status.conditions` is true; else its reason and message.
pub fn met(object: &DynamicObject, type_: &str) -> Result<(), Pending> {
    let name = objects::name(object);
    let kind = super::kind(object);
    match objects::condition(object, type_) {
        None => Err(format!("{kind} {name}: no condition {type_} yet")),
        Some(c) if c["status"] == "True" => Ok(()),
        Some(c) => Err(format!(
            "{kind} {name}: {type_} is {} ({}) {}",
            c["status"].as_str().unwrap_or_default(),
            c["reason"].as_str().unwrap_or_default(),
            c["message"].as_str().unwrap_or_default().replace('\n', " ")
        )),
    }
}

/// Checks that a Deployment, StatefulSet or DaemonSet runs its newest generation with every replica ready.
pub fn replicas_ready(object: &DynamicObject) -> Result<(), Pending> {
    let kind = super::kind(object);
    let name = objects::name(object);
    let number = |path: &str| objects::number(object, path);
    let (want, updated, ready) = if kind == "DaemonSet" {
        (
            number("/status/desiredNumberScheduled"),
            number("/status/updatedNumberScheduled"),
            number("/status/numberReady"),
        )
    } else {
        let want = object
            .data
            .pointer("/spec/replicas")
            .and_then(serde_json::Value::as_i64)
            .unwrap_or(1);
        (
            want,
            number("/status/updatedReplicas"),
            number("/status/readyReplicas"),
        )
    };
    let observed = number("/status/observedGeneration");
    let generation = object.metadata.generation.unwrap_or(0);
    if observed < generation {
        return Err(format!(
            "{kind} {name}: generation {generation} not observed yet"
        ));
    }
    // A DaemonSet before its first scheduling round also says 0 of 0.
    if (kind == "DaemonSet" && want == 0) || updated < want || ready < want {
        return Err(format!(
            "{kind} {name}: {ready} of {want} ready, {updated} up to date"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Mutex, PoisonError},
    };

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Progress for Told {
        fn seen(&self, evidence: &str) {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(evidence.to_owned());
        }
    }

    fn wait(progress: &dyn Progress) -> Wait<'_> {
        Wait {
            what: "the release",
            stall: Duration::from_secs(300),
            pause: Duration::from_secs(10),
            progress,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn texts_that_alternate_are_no_news() {
        let begin = Instant::now();
        let mut turn = 0;
        let e = poll(wait(&()), || {
            turn += 1;
            let text = match turn % 2 {
                0 => format!("Running 'install' action with timeout of 5m{turn}s"),
                _ => format!("install failed after {turn}.5s"),
            };
            async { Ok(Err::<(), _>(text)) }
        })
        .await
        .unwrap_err();
        assert_eq!(e.kind(), Kind::Stalled);
        assert!(begin.elapsed() < Duration::from_secs(330), "{e}");
    }

    #[tokio::test(start_paused = true)]
    async fn news_for_ever_end_at_the_total() {
        let begin = Instant::now();
        let mut turn = 0;
        let e = poll(wait(&()), || {
            turn += 1;
            let text = format!("{turn} of 100000");
            async { Ok(Err::<(), _>(text)) }
        })
        .await
        .unwrap_err();
        assert!(e.to_string().contains("1800 s in all"), "{e}");
        assert!(begin.elapsed() <= Duration::from_secs(1810));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_seen_is_told_and_waited_through() {
        let told = Told::default();
        let away = || Err(Error::failed("cannot list").because("refused").passing());
        let mut looks: VecDeque<Result<Result<u8, String>>> = VecDeque::new();
        looks.push_back(Ok(Err("not yet".into())));
        looks.extend((0..20).map(|_| away()));
        looks.push_back(Ok(Err("not yet".into())));
        looks.push_back(Ok(Ok(7)));
        let value = poll(wait(&told), || {
            let next = looks.pop_front().unwrap();
            async { next }
        })
        .await
        .unwrap();
        assert_eq!(value, 7);
        let told = told.0.lock().unwrap();
        assert_eq!(*told, ["not yet", "cannot list: refused", "not yet"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_be_seen_ends_the_wait() {
        let look = || async { Err::<Result<(), String>, _>(Error::failed("x").passing()) };
        assert_eq!(
            poll(wait(&()), look).await.unwrap_err().kind(),
            Kind::Stalled
        );
        let refused =
            || async { Err::<Result<(), String>, _>(Error::new(Kind::Authentication, "x")) };
        let begin = Instant::now();
        let e = poll(wait(&()), refused).await.unwrap_err();
        assert_eq!(
            (e.kind(), begin.elapsed()),
            (Kind::Authentication, Duration::ZERO)
        );
    }
}
