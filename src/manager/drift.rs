//! Finds changes of platform objects that Flux did not make, from metadata alone, and decides when to ask Flux to look. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::kinds::{HELM_RELEASE, KUSTOMIZATION, Known, PLATFORM_FLUX};
use crate::FIELD_MANAGER;

/// Writers whose changes are no drift.
const OURS: &[&str] = &["kustomize-controller", "helm-controller", FIELD_MANAGER];
/// Changes that come together are told to Flux together.
const SETTLE: Duration = Duration::from_millis(300);
/// Shortest pause between two requests to the same owner; doubles while the same owner keeps drifting.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest such pause: then two writers fight, and more requests would only feed it.
const LONGEST: Duration = Duration::from_secs(60);

/// The Flux object that an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Kustomization or HelmRelease.
    pub kind: Known,
    /// Its name, in the platform's namespace.
    pub name: String,
}

/// An object that is not as Flux left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Who can put it right.
    pub owner: Owner,
    /// What happened, for people: `Deployment monitoring/x was deleted`.
    pub what: String,
}

/// The owner named by Flux's labels, if it is one of the platform's.
fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let labels = meta.labels.as_ref()?;
    [HELM_RELEASE, KUSTOMIZATION].into_iter().find_map(|kind| {
        let name = labels.get(&format!("{}/name", kind.group))?;
        let namespace = labels.get(&format!("{}/namespace", kind.group))?;
        (namespace == PLATFORM_FLUX).then(|| Owner {
            kind,
            name: name.clone(),
        })
    })
}

/// Who else than Flux wrote last, if anyone. Status writers do not count.
fn foreign_writer(meta: &ObjectMeta) -> Option<&str> {
    let entries = meta.managed_fields.as_deref().unwrap_or_default();
    let written = |e: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        e.subresource.as_deref() != Some("status")
    };
    let ours = |e: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        OURS.contains(&e.manager.as_deref().unwrap_or_default())
    };
    let time = |e: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        e.time.as_ref().map(|t| t.0)
    };
    let last_of_ours = entries
        .iter()
        .filter(written)
        .filter(ours)
        .filter_map(time)
        .max();
    let last_foreign = entries
        .iter()
        .filter(written)
        .filter(|e| !ours(e))
        .max_by_key(|e| time(e))?;
    // Times have whole seconds: in doubt it was Flux, whose next interval finds the rest.
    (time(last_foreign) > last_of_ours)
        .then(|| last_foreign.manager.as_deref().unwrap_or("someone"))
}

/// An object as last seen.
#[derive(Clone, Debug)]
struct Last {
    uid: String,
    generation: i64,
    owner: Owner,
}

/// Compares what one watch tells with what it told before.
#[derive(Debug)]
pub struct Detector {
    kind: Known,
    known: HashMap<String, Last>,
    /// Names seen in a list that is being received.
    listed: Option<HashSet<String>>,
}

impl Detector {
    /// A detector for one kind and one watch.
    pub fn new(kind: Known) -> Self {
        Self {
            kind,
            known: HashMap::new(),
            listed: None,
        }
    }

    /// Takes the next event of the watch.
    pub fn observe(&mut self, event: Event<&ObjectMeta>) -> Vec<Drift> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(meta) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(key(meta));
                }
                self.compare(meta).into_iter().collect()
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<String> = self
                    .known
                    .keys()
                    .filter(|k| !listed.contains(*k))
                    .cloned()
                    .collect();
                gone.iter().filter_map(|k| self.forget(k)).collect()
            }
            Event::Apply(meta) => self.compare(meta).into_iter().collect(),
            Event::Delete(meta) => self.forget(&key(meta)).into_iter().collect(),
        }
    }

    fn forget(&mut self, key: &str) -> Option<Drift> {
        let last = self.known.remove(key)?;
        Some(Drift {
            what: format!("{} {key} was deleted", self.kind.kind),
            owner: last.owner,
        })
    }

    fn compare(&mut self, meta: &ObjectMeta) -> Option<Drift> {
        let key = key(meta);
        let now = Last {
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or(0),
            owner: owner(meta)?,
        };
        let before = self.known.insert(key.clone(), now.clone())?;
        let what = if before.uid != now.uid {
            // Deleted and made again between two looks: by Flux, or by someone who may have made it otherwise.
            let by = foreign_writer(meta)?;
            format!("{} {key} was replaced by {by}", self.kind.kind)
        } else if before.generation != now.generation {
            let by = foreign_writer(meta)?;
            format!("{} {key} was changed by {by}", self.kind.kind)
        } else {
            return None;
        };
        Some(Drift {
            owner: now.owner,
            what,
        })
    }
}

fn key(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    match meta.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

#[derive(Debug)]
struct Slot {
    due: Option<Instant>,
    last: Option<Instant>,
    pause: Duration,
}

/// Spreads requests to Flux: at once when quiet, ever more rarely when the same owner keeps drifting; none is lost.
#[derive(Debug, Default)]
pub struct Limiter(BTreeMap<Owner, Slot>);

impl Limiter {
    /// Notes that an owner should be asked.
    pub fn request(&mut self, owner: Owner, now: Instant) {
        let slot = self.0.entry(owner).or_insert(Slot {
            due: None,
            last: None,
            pause: PAUSE,
        });
        if slot.due.is_some() {
            return;
        }
        let quiet = slot
            .last
            .is_none_or(|l| now.duration_since(l) > slot.pause * 3);
        if quiet {
            slot.pause = PAUSE;
        }
        let earliest = slot.last.map_or(now, |l| l + slot.pause);
        slot.due = Some(earliest.max(now + SETTLE));
        if !quiet {
            slot.pause = (slot.pause * 2).min(LONGEST);
        }
    }

    /// Owners to ask now.
    pub fn due(&mut self, now: Instant) -> Vec<Owner> {
        // Forgets who has been quiet for long.
        self.0.retain(|_, s| {
            s.due.is_some() || s.last.is_none_or(|l| now.duration_since(l) < LONGEST * 4)
        });
        self.0
            .iter_mut()
            .filter_map(|(owner, slot)| {
                slot.due.filter(|d| *d <= now)?;
                slot.due = None;
                slot.last = Some(now);
                Some(owner.clone())
            })
            .collect()
    }

    /// When the next owner is due.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|s| s.due).min()
    }
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
