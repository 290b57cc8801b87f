//! Waits, on objects by watch and on anything else by looking: each shows what it last saw and ends by a stall limit, not by
//! a total time. Must not change anything.

use std::{future::Future, time::Duration};

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

/// What a wait has seen so far.
struct Seen<'a> {
    begin: Instant,
    changed: Instant,
    last: String,
    progress: &'a dyn Progress,
}

impl<'a> Seen<'a> {
    fn new(progress: &'a dyn Progress) -> Self {
        let now = Instant::now();
        Self {
            begin: now,
            changed: now,
            last: String::new(),
            progress,
        }
    }

    fn note(&mut self, text: String) {
        if text != self.last {
            self.progress.seen(&text);
            self.last = text;
            self.changed = Instant::now();
        }
    }

    fn check(&self, stall: Duration, what: impl FnOnce() -> String) -> Result<()> {
        if self.changed.elapsed() < stall {
            return Ok(());
        }
        Err(Error::new(Kind::Stalled, format!("{} does not get ready", what()))
            .because(format!(
                "nothing changed for {} s (waited {} s in all); last seen: {}",
                self.changed.elapsed().as_secs(),
                self.begin.elapsed().as_secs(),
                self.last
            ))
            .fix("look at the object and its events, mend the cause, then run the same command again: it goes on from here"))
    }
}

/// Looks again and again, with `pause` between, for what cannot be watched: an API server that does not answer yet, several
/// objects at once. `look` says as [`Cluster::wait`]'s check does what is missing; an error of its own ends the wait.
pub async fn poll<T, F>(
    what: &str,
    stall: Duration,
    pause: Duration,
    progress: &dyn Progress,
    mut look: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<Result<T, Pending>>>,
{
    let mut seen = Seen::new(progress);
    loop {
        match look().await? {
            Ok(value) => return Ok(value),
            Err(pending) => seen.note(pending),
        }
        seen.check(stall, || what.to_owned())?;
        tokio::time::sleep(pause).await;
    }
}

impl Cluster {
    /// Watches one object until `check` says `Ok`. `Err(text)` is what is missing; when that text does not change for
    /// `stall`, the wait ends with an error that carries it.
    pub async fn wait<T>(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
        stall: Duration,
        progress: &dyn Progress,
        mut check: impl FnMut(Option<&DynamicObject>) -> Result<T, Pending>,
    ) -> Result<T> {
        let mut seen = Seen::new(progress);
        let place = || self.place(&gvk.kind, namespace, name);
        loop {
            let api = match self.api(gvk, namespace).await {
                Ok(api) => api,
                Err(e) => {
                    seen.note(format!("{}: {}", gvk.kind, super::short(&e)));
                    seen.check(stall, place)?;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    continue;
                }
            };
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            let mut listed = false;
            loop {
                // The tick only looks at the stall limit; state comes by watch.
                let Ok(next) = tokio::time::timeout(Duration::from_secs(1), events.next()).await
                else {
                    seen.check(stall, place)?;
                    continue;
                };
                let object = match next {
                    None => break,
                    Some(Err(e)) => {
                        seen.note(format!("{} {name}: {e}", gvk.kind));
                        seen.check(stall, place)?;
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
                    Err(pending) => seen.note(pending),
                }
                seen.check(stall, place)?;
            }
        }
    }
}

/// Checks a condition of `status.conditions`; the pending text is its reason and message.
pub fn condition(object: &DynamicObject, type_: &str) -> Result<(), Pending> {
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
