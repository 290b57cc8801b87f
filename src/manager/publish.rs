//! Renders what the newest inputs ask for and puts it into the registry; on every replica. Must not touch the cluster.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    conditions::Finding,
    in_force::{InForce, refusal},
    inputs::Inputs,
    rendering::{self, Refusal, Rendering},
    shared::{Published, Shared},
};
use crate::{
    GROUP, Result,
    pki::{self, Authority},
    registry::{ServingCertificate, Store, artifact},
};

/// Condition that says what became of the document.
const TYPE: &str = "DocumentAccepted";
/// How often the age of the registry's certificate is looked at.
const LOOK: Duration = Duration::from_secs(600);

/// Names under which the registry is reached in the cluster.
pub fn names(namespace: &str) -> Vec<String> {
    let short = format!("{}.{namespace}", super::kinds::MANAGER);
    vec![
        short.clone(),
        format!("{short}.svc"),
        format!("{short}.svc.cluster.local"),
    ]
}

/// Renders on every change of document or environment, for ever.
pub async fn publish(shared: &Shared, store: &Store) {
    let mut inputs = shared.inputs.clone();
    loop {
        let now = inputs.borrow_and_update().clone();
        if let Some(published) = next(shared, store, &now).await {
            shared.published.send_replace(published);
            shared.look.notify_one();
        }
        if inputs.changed().await.is_err() {
            return;
        }
    }
}

/// What to publish for these inputs; `None` while some are missing.
async fn next(shared: &Shared, store: &Store, inputs: &Inputs) -> Option<Published> {
    let document = inputs.document.clone()?;
    let environment = inputs.environment.clone()?;
    let mut published = shared.published.borrow().clone();
    // A document that cannot even be read: the last good one stays in force.
    if let Some((object, why)) = inputs.unreadable.first() {
        let told = format!("{object} cannot be read: {why}");
        published.verdict = Some(Finding::no(TYPE, "Invalid", told));
        return Some(published);
    }
    let authority = inputs.authority.as_ref().map(|a| a.certificate.as_str());
    if let Some(why) = refusal(&environment, authority) {
        tracing::warn!("the environment is not acted upon: {why}");
        published.verdict = Some(Finding::no(TYPE, "EnvironmentRefused", why));
        return Some(published);
    }
    let in_force = InForce::of(&document, &environment);
    let begin = Instant::now();
    let rendered =
        tokio::task::spawn_blocking(move || rendering::render(&document, &environment)).await;
    let result = match rendered {
        Ok(Ok(rendering)) => put(shared, store, rendering),
        Ok(Err(refusal)) => Err(refusal),
        Err(e) => Err(Refusal::Failed(format!("rendering ended early: {e}"))),
    };
    shared
        .metrics
        .round("render", result.is_ok(), begin.elapsed());
    match result {
        Ok((rendering, digest)) => {
            tracing::info!(%digest, seconds = begin.elapsed().as_secs_f32(), "serving the platform");
            published.verdict = Some(Finding::yes(TYPE, "Valid", "the document is in force"));
            published.rendering = Some(Arc::new(rendering));
            published.in_force = Some(Arc::new(in_force));
            published.digest = Some(digest);
        }
        Err(refusal) => {
            let (reason, why) = match refusal {
                Refusal::Invalid(why) => ("Invalid", why),
                Refusal::Failed(why) => ("RenderFailed", why),
            };
            tracing::warn!(reason, "the document is not acted upon: {why}");
            published.verdict = Some(Finding::no(TYPE, reason, why));
        }
    }
    Some(published)
}

fn put(
    shared: &Shared,
    store: &Store,
    mut rendering: Rendering,
) -> Result<(Rendering, String), Refusal> {
    let files = std::mem::take(&mut rendering.platform);
    let artifact = artifact::platform(&files)?;
    let digest = artifact.digest.to_string();
    let repository = format!("{GROUP}/platform/{}", shared.name);
    store.put_artifact(&repository, "latest", artifact)?;
    Ok((rendering, digest))
}

/// Waits for the CA, then gives the registry's certificate.
pub async fn certificate(shared: &Shared) -> Result<Arc<ServingCertificate>> {
    let mut inputs = shared.inputs.clone();
    loop {
        let authority = inputs.borrow_and_update().authority.clone();
        if let Some(authority) = authority {
            let leaf = authority.serving(&names(&shared.namespace))?;
            return ServingCertificate::new(&leaf.certificate, &leaf.key);
        }
        if inputs.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Signs the registry's certificate anew when the CA changes and at two thirds of its life, for ever.
pub async fn renew(shared: &Shared, certificate: &ServingCertificate) {
    let mut inputs = shared.inputs.clone();
    let mut current: Option<(Arc<Authority>, String)> = None;
    loop {
        let authority = inputs.borrow_and_update().authority.clone();
        if let Some(authority) = authority {
            let good = current.as_ref().is_some_and(|(of, leaf)| {
                of.certificate == authority.certificate
                    && !pki::due_for_renewal(leaf).unwrap_or(true)
            });
            if !good {
                let renewed = authority
                    .serving(&names(&shared.namespace))
                    .and_then(|l| certificate.replace(&l.certificate, &l.key).map(|()| l));
                match renewed {
                    Ok(leaf) => current = Some((authority, leaf.certificate)),
                    Err(e) => {
                        tracing::warn!(error = %e.line(), "cannot renew the registry's certificate")
                    }
                }
            }
        }
        tokio::select! {
            changed = inputs.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
