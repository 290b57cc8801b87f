//! One Lease: acquire, renew, lose. Must not know what its holder does.
//!
//! As in client-go, expiry is judged by how long *this* process has seen the record unchanged, never by comparing
//! clocks of two machines. Who cannot renew within the deadline has lost, before anyone else may take over.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api,
    api::{DeleteParams, PatchParams, PostParams, Preconditions},
};
use tokio::{sync::watch, time::Instant};

use super::{Cluster, short};
use crate::{Error, FIELD_MANAGER, Result, ports::clock::Clock};

/// Times of a lease; by default those of an election.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others wait after the last renewal before they take over.
    pub duration: Duration,
    /// How often the leader renews.
    pub renew: Duration,
    /// Without a renewal for this long the leader has lost; shorter than `duration`.
    pub deadline: Duration,
    /// Pause of a candidate between looks, and of the leader after a failed renewal.
    pub retry: Duration,
    /// Longest time for one request.
    pub request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(30),
            renew: Duration::from_secs(10),
            deadline: Duration::from_secs(20),
            retry: Duration::from_secs(2),
            request: Duration::from_secs(5),
        }
    }
}

/// What to do about a record.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Create,
    Take,
    Wait,
}

/// The record as last seen, and since when it has looked like that.
pub(super) struct Seen {
    pub(super) record: Option<LeaseSpec>,
    since: Instant,
}

impl Seen {
    /// Nothing was seen yet.
    pub(super) fn nothing(now: Instant) -> Self {
        Self {
            record: None,
            since: now,
        }
    }

    fn note(&mut self, record: Option<&LeaseSpec>, now: Instant) {
        if self.record.as_ref() != record {
            self.record = record.cloned();
            self.since = now;
        }
    }

    fn decide(&self, identity: &str, now: Instant) -> Move {
        let Some(record) = &self.record else {
            return Move::Create;
        };
        let lasts = Duration::from_secs(
            u64::try_from(record.lease_duration_seconds.unwrap_or(0)).unwrap_or(0),
        );
        match record.holder_identity.as_deref() {
            None | Some("") => Move::Take,
            Some(holder) if holder == identity => Move::Take,
            _ if now.duration_since(self.since) >= lasts => Move::Take,
            _ => Move::Wait,
        }
    }
}

/// One process that wants the lease.
pub struct Candidate {
    api: Api<Lease>,
    pub(super) name: String,
    identity: String,
    pub(super) timing: Timing,
    pub(super) clock: Arc<dyn Clock>,
    /// Requests of the cluster that it belongs to, if they are counted.
    attempts: Arc<AtomicU64>,
    holder: watch::Sender<Option<String>>,
    answered: watch::Sender<Option<Instant>>,
}

impl Candidate {
    /// A candidate for the Lease `name` in the API's namespace. The identity is unique per process that runs at a time.
    pub fn new(
        api: Api<Lease>,
        name: &str,
        identity: &str,
        timing: Timing,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            api,
            name: name.to_owned(),
            identity: identity.to_owned(),
            timing,
            clock,
            attempts: Arc::default(),
            holder: watch::Sender::new(None),
            answered: watch::Sender::new(None),
        }
    }

    /// A candidate for a Lease of this cluster, whose requests count among the cluster's.
    pub fn of(
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let api = Api::namespaced(cluster.client(), namespace);
        Self {
            attempts: cluster.attempts.clone(),
            ..Self::new(api, name, identity, timing, clock)
        }
    }

    /// Follows when the API server last answered.
    pub fn answered(&self) -> watch::Receiver<Option<Instant>> {
        self.answered.subscribe()
    }

    /// Follows who holds the lease.
    pub fn holder(&self) -> watch::Receiver<Option<String>> {
        self.holder.subscribe()
    }

    /// Waits until this process holds the lease. Errors of the API are retried for ever: a candidate has nothing else to do.
    pub async fn acquire(&self) -> Leadership<'_> {
        let mut seen = Seen::nothing(self.clock.instant());
        loop {
            match self.attempt(&mut seen).await {
                Ok(Some(lease)) => {
                    tracing::info!(lease = %self.name, identity = %self.identity, "leading");
                    return Leadership {
                        candidate: self,
                        lease,
                    };
                }
                Ok(None) => {}
                Err(e) => {
                    tracing::warn!(lease = %self.name, error = %short(&e), "cannot look at the lease");
                }
            }
            self.clock.sleep(self.timing.retry).await;
        }
    }

    /// Looks once and takes the lease if it may; `None` when somebody else has it.
    pub(super) async fn attempt(&self, seen: &mut Seen) -> Result<Option<Lease>, kube::Error> {
        let current = self.bounded(self.api.get_opt(&self.name)).await?;
        let now = self.clock.instant();
        seen.note(current.as_ref().and_then(|l| l.spec.as_ref()), now);
        self.publish(current.as_ref());
        // A Lease without a spec counts as free, but exists already.
        let what = match (&current, seen.decide(&self.identity, now)) {
            (Some(_), Move::Create) => Move::Take,
            (_, m) => m,
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match what {
            Move::Wait => return Ok(None),
            Move::Create => {
                let lease = self.mine(None);
                self.bounded(self.api.create(&params, &lease)).await
            }
            Move::Take => {
                let lease = self.mine(current.as_ref());
                self.bounded(self.api.replace(&self.name, &params, &lease))
                    .await
            }
        };
        match written {
            Ok(lease) => {
                self.publish(Some(&lease));
                Ok(Some(lease))
            }
            // Someone else was faster.
            Err(kube::Error::Api(s)) if s.code == 409 => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn publish(&self, lease: Option<&Lease>) {
        let holder = lease
            .and_then(|l| l.spec.as_ref())
            .and_then(|s| s.holder_identity.clone())
            .filter(|h| !h.is_empty());
        self.holder.send_if_modified(|h| {
            let changed = *h != holder;
            *h = holder;
            changed
        });
    }

    /// The record that makes this process the holder, based on the present one (with its resourceVersion).
    fn mine(&self, current: Option<&Lease>) -> Lease {
        let now = MicroTime(self.clock.now());
        let old = current.and_then(|l| l.spec.clone()).unwrap_or_default();
        let same = old.holder_identity.as_deref() == Some(&self.identity);
        Lease {
            metadata: current.map_or_else(
                || ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                |l| ObjectMeta {
                    managed_fields: None,
                    ..l.metadata.clone()
                },
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
                acquire_time: if same {
                    old.acquire_time
                } else {
                    Some(now.clone())
                },
                renew_time: Some(now),
                lease_transitions: Some(
                    old.lease_transitions.unwrap_or(0) + i32::from(!same && current.is_some()),
                ),
                ..LeaseSpec::default()
            }),
        }
    }

    pub(super) async fn delete(&self, lease: &Lease) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: lease.metadata.uid.clone(),
                resource_version: lease.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        self.bounded(self.api.delete(&self.name, &params))
            .await
            .map(drop)
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        match tokio::time::timeout(self.timing.request, call).await {
            Ok(result) => {
                if matches!(&result, Ok(_) | Err(kube::Error::Api(_))) {
                    self.answered.send_replace(Some(self.clock.instant()));
                }
                result
            }
            Err(_) => Err(kube::Error::Service(
                format!("no answer within {} s", self.timing.request.as_secs_f32()).into(),
            )),
        }
    }
}

/// Proof of holding the lease, until [`Leadership::keep`] returns.
pub struct Leadership<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) lease: Lease,
}

impl Leadership<'_> {
    /// Renews for as long as it works; returns why the lease is lost. The process must then stop acting at once.
    pub async fn keep(&mut self) -> Error {
        let c = self.candidate;
        let mut renewed = c.clock.instant();
        let mut pause = c.timing.renew;
        loop {
            c.clock.sleep(pause).await;
            let why = match self.renew().await {
                Ok(true) => {
                    renewed = c.clock.instant();
                    pause = c.timing.renew;
                    continue;
                }
                Ok(false) => return self.lost("another process holds it"),
                Err(e) => short(&e),
            };
            tracing::warn!(lease = %c.name, error = %why, "cannot renew the lease");
            if c.clock.instant() - renewed + c.timing.retry >= c.timing.deadline {
                return self.lost(&why);
            }
            pause = c.timing.retry;
        }
    }

    fn lost(&self, why: &str) -> Error {
        Error::failed(format!(
            "{} lost the lease {}",
            self.candidate.identity, self.candidate.name
        ))
        .because(why)
    }

    /// `Ok(false)` when another process holds the lease.
    async fn renew(&mut self) -> Result<bool, kube::Error> {
        let c = self.candidate;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let mine = c.mine(Some(&self.lease));
        match c.bounded(c.api.replace(&c.name, &params, &mine)).await {
            Ok(lease) => {
                self.lease = lease;
                Ok(true)
            }
            // Changed or deleted by someone: look who holds it now.
            Err(kube::Error::Api(s)) if s.code == 409 || s.code == 404 => {
                let mut seen = Seen::nothing(c.clock.instant());
                match c.attempt(&mut seen).await? {
                    Some(lease) => {
                        self.lease = lease;
                        Ok(true)
                    }
                    None => Ok(false),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// Gives the lease up, so that another process need not wait for it to expire.
    pub async fn release(self) {
        let c = self.candidate;
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": self.lease.metadata.resource_version },
            "spec": { "holderIdentity": "" },
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = kube::api::Patch::Merge(&patch);
        if let Err(e) = c.bounded(c.api.patch(&c.name, &params, &patch)).await {
            tracing::warn!(lease = %c.name, error = %short(&e), "cannot release the lease; it expires by itself");
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
