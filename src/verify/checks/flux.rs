//! Checks of both Flux instances and of what they follow. Pure.

use std::collections::BTreeMap;

use super::{Checked, Context, Found, bad, read, some};
use crate::{
    manager::kinds::{CUSTOMER_FLUX, NAMESPACE, PLATFORM_FLUX},
    ports::kubernetes::{
        kind,
        objects::{Readiness, flux, key, name, same_revision},
        replicas_ready,
    },
};

pub(super) fn controllers(c: &Context<'_>) -> Checked {
    let all = read(&c.facts.deployments, "Deployments")?;
    let mut told = Vec::new();
    for namespace in [PLATFORM_FLUX, CUSTOMER_FLUX] {
        let mine: Vec<_> = all
            .iter()
            .filter(|d| d.metadata.namespace.as_deref() == Some(namespace))
            .collect();
        let fix = format!("kubectl -n {namespace} get pods");
        for needed in [
            "source-controller",
            "kustomize-controller",
            "helm-controller",
        ] {
            if !mine.iter().any(|d| name(d) == needed) {
                return Err(bad(format!("no Deployment {namespace}/{needed}"), fix));
            }
        }
        for d in &mine {
            if let Err(pending) = replicas_ready(d) {
                return Err(bad(format!("{namespace}: {pending}"), fix));
            }
        }
        told.push(format!("{} in {namespace}", mine.len()));
    }
    Ok(Found::Good(format!(
        "controllers ready: {}",
        told.join(", ")
    )))
}

pub(super) fn objects(c: &Context<'_>) -> Checked {
    let all = read(&c.facts.flux, "Flux objects")?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut not_ready = Vec::new();
    for o in all {
        let namespace = o.metadata.namespace.clone().unwrap_or_default();
        *counts.entry(namespace).or_default() += 1;
        match flux(o) {
            Readiness::Ready(_) => {}
            // Flux looks again every minute; what it applied last is still what it wants.
            Readiness::Progressing(_) if same_revision(o) => {}
            other => not_ready.push(format!("{} {}: {}", kind(o), key(o), other.text())),
        }
    }
    let has_root = all
        .iter()
        .any(|o| kind(o) == "Kustomization" && key(o) == format!("{PLATFORM_FLUX}/platform"));
    if !has_root {
        return Err(bad(
            format!("no Kustomization {PLATFORM_FLUX}/platform"),
            format!("the manager makes it: kubectl -n {NAMESPACE} logs deploy/mctl"),
        ));
    }
    if !not_ready.is_empty() {
        return Err(bad(
            format!(
                "{} of {} objects not Ready: {}",
                not_ready.len(),
                all.len(),
                some(&not_ready)
            ),
            "kubectl describe the first one; what it depends on comes first",
        ));
    }
    let customer = counts.get(CUSTOMER_FLUX).copied().unwrap_or(0);
    Ok(Found::Good(format!(
        "{} objects Ready in {PLATFORM_FLUX}, {customer} in {CUSTOMER_FLUX}{}",
        counts.get(PLATFORM_FLUX).copied().unwrap_or(0),
        if customer == 0 {
            " (the document names no source)"
        } else {
            ""
        }
    )))
}
