//! A Lease that says "somebody works on this": taken before the work, renewed while it goes on, deleted after it. Must not know
//! what the work is.
//!
//! Who comes second is refused as soon as the holder gives a sign of life, with its name; a holder that gives none for the
//! whole duration, on the clock of the one who waits, is dead and its lease is taken over.

use std::{future::Future, sync::Arc, time::Duration};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};

use super::{
    Cluster, Progress,
    lease::{Candidate, Leadership, Seen, Timing},
    short,
};
use crate::{Error, Kind, Result, ports::clock::Clock};

/// How long an API server may fail to answer before the lease counts as out of reach.
const LIMIT: Duration = Duration::from_secs(120);

/// Times of a piece of work: an API server that is away for a minute does not end it.
pub const WORK: Timing = Timing {
    duration: Duration::from_secs(90),
    renew: Duration::from_secs(10),
    deadline: Duration::from_secs(75),
    retry: Duration::from_secs(2),
    request: Duration::from_secs(5),
};

/// What a lease is for, for messages.
#[derive(Clone, Debug)]
pub struct Purpose<'a> {
    /// Namespace of the Lease.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Who wants it; the same after a crash, so that work can go on at once.
    pub holder: &'a str,
    /// What the holder does: `moves Cluster API objects`.
    pub what: &'a str,
}

/// A lease in hand.
pub struct Hold {
    candidate: Candidate,
    lease: Lease,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold")
            .field("name", &self.candidate.name)
            .finish_non_exhaustive()
    }
}

impl Hold {
    /// Takes the lease, or says who has it. Waits no longer than it takes to tell a living holder from a dead one.
    pub async fn take(
        cluster: &Cluster,
        purpose: &Purpose<'_>,
        timing: Timing,
        clock: Arc<dyn Clock>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (namespace, name) = (purpose.namespace, purpose.name);
        let candidate = Candidate::of(
            cluster,
            namespace,
            name,
            purpose.holder,
            timing,
            clock.clone(),
        );
        let place = format!("Lease {namespace}/{name} of the {}", cluster.name);
        let begin = clock.instant();
        let mut seen = Seen::nothing(begin);
        let mut first: Option<LeaseSpec> = None;
        loop {
            match candidate.attempt(&mut seen).await {
                Ok(Some(lease)) => return Ok(Self { candidate, lease }),
                Ok(None) => {
                    // Without a record somebody else was faster: the next look tells who.
                    if let Some(now) = seen.record.clone() {
                        let holder = now.holder_identity.clone().unwrap_or_default();
                        match &first {
                            Some(first) if *first != now && holder != purpose.holder => {
                                return Err(refused(purpose, &place, &now));
                            }
                            Some(_) => {}
                            None => {
                                progress.seen(&format!(
                                    "{place} is held by {holder}: waiting for a sign of life, up to {} s",
                                    timing.duration.as_secs()
                                ));
                                first = Some(now);
                            }
                        }
                    }
                }
                Err(e) if clock.instant() - begin > LIMIT => {
                    return Err(Error::new(
                        Kind::Stalled,
                        format!("cannot take {place}, so nobody knows who {}", purpose.what),
                    )
                    .because(short(&e))
                    .fix("run the same command again when the API server answers"));
                }
                Err(e) => progress.seen(&format!("{place}: {}", short(&e))),
            }
            clock.sleep(timing.retry).await;
        }
    }

    /// Does the work while renewing the lease; if the lease is lost, the work ends there.
    pub async fn during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut leadership = Leadership {
            candidate: &self.candidate,
            lease: self.lease.clone(),
        };
        let result = tokio::select! {
            biased;
            result = work => result,
            lost = leadership.keep() => Err(Error::new(Kind::Locked, lost.line())
                .fix("if another mctl does the same work, let it end; then run the same command again")),
        };
        self.lease = leadership.lease;
        result
    }

    /// Deletes the lease. Best effort: if it cannot be deleted, it is dead after its duration.
    pub async fn release(self) {
        if let Err(e) = self.candidate.delete(&self.lease).await {
            tracing::debug!(lease = %self.candidate.name, error = %short(&e), "cannot delete the lease; it expires by itself");
        }
    }
}

fn refused(purpose: &Purpose<'_>, place: &str, record: &LeaseSpec) -> Error {
    let time = |t: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>| {
        t.as_ref().map_or_else(
            || "an unknown time".to_owned(),
            |t| t.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        )
    };
    let holder = record.holder_identity.as_deref().unwrap_or_default();
    Error::new(
        Kind::Locked,
        format!("another mctl {}: {holder}", purpose.what),
    )
    .at(place.to_owned())
    .because(format!(
        "it has done so since {}, its last sign of life is of {}",
        time(&record.acquire_time),
        time(&record.renew_time)
    ))
    .state("nothing was changed")
    .fix("wait for it to end, or stop it: what it began can be gone on with")
}
