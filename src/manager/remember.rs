//! Keeps the accepted document and environment in the cluster, and brings back whichever is gone. Must not decide: `in_force` does.

use std::time::Duration;

use super::{
    conditions::Finding,
    in_force::{Act, IN_FORCE, InForce, acts},
    kinds::SECRET,
    shared::Shared,
};
use crate::{Error, Result, ports::kubernetes::Cluster};

/// Condition that says whether what is in force is kept.
const TYPE: &str = "InForceKept";
/// How often the Secret is read without cause.
const PERIOD: Duration = Duration::from_secs(60);
/// Pause after a failure.
const AGAIN: Duration = Duration::from_secs(3);
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(500);
/// Longest time for one look with what follows from it.
const LIMIT: Duration = Duration::from_secs(30);

/// Works until dropped; for the leader alone.
pub async fn remember(cluster: &Cluster, shared: &Shared) {
    let mut inputs = shared.inputs.clone();
    let mut published = shared.published.subscribe();
    loop {
        inputs.mark_unchanged();
        published.mark_unchanged();
        let result = tokio::time::timeout(LIMIT, look(cluster, shared))
            .await
            .unwrap_or_else(|_| {
                let why = format!("no success within {} s", LIMIT.as_secs());
                Err(Error::failed("what is in force cannot be kept").because(why))
            });
        let pause = match result {
            Ok(true) => {
                let told = format!("document and environment are kept in Secret {IN_FORCE}");
                shared.note(Finding::yes(TYPE, "Kept", told), "remember");
                PERIOD
            }
            // Nothing was ever accepted.
            Ok(false) => PERIOD,
            Err(e) => {
                shared.note(Finding::no(TYPE, "Failed", e.line()), "remember");
                AGAIN
            }
        };
        tokio::select! {
            _ = inputs.changed() => {}
            _ = published.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// One look; whether anything is in force.
async fn look(cluster: &Cluster, shared: &Shared) -> Result<bool> {
    let (namespace, name) = (shared.namespace.as_str(), shared.name.as_str());
    let secret = cluster
        .get(&SECRET.gvk(), Some(namespace), IN_FORCE)
        .await?;
    let accepted = shared.published.borrow().in_force.clone();
    let kept = match secret.map(|s| InForce::from_secret(&s, name)).transpose() {
        Ok(kept) => kept,
        // What was accepted replaces what is damaged; without it nothing may be made of that.
        Err(e) if accepted.is_none() => return Err(e),
        Err(_) => None,
    };
    let (document, environment) = {
        let inputs = shared.inputs.borrow();
        (inputs.document_there(), inputs.environment_there())
    };
    let best = accepted.as_deref().or(kept.as_ref());
    let Some(best) = best else {
        return Ok(false);
    };
    for act in acts(accepted.as_deref(), kept.as_ref(), document, environment) {
        match act {
            Act::Keep => {
                cluster.apply(&best.secret(namespace, name)?, &()).await?;
            }
            Act::Environment => {
                cluster.apply(&best.environment(namespace)?, &()).await?;
                tracing::warn!("the environment was gone; it is back as it last was");
            }
            // Created, never applied: one that came meanwhile wins.
            Act::Document => {
                let made = cluster
                    .create(&best.document(namespace, name)?, &())
                    .await?;
                if made.is_some() {
                    tracing::warn!("the document was deleted; it is back as it last was");
                }
            }
        }
    }
    Ok(true)
}
