//! Objects of one component: from its chart, from its manifests, ready to apply. Must not know particular components.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Context, FLUX_NAMESPACE, Rendered, chart, manifests, object, scope, upstream};
use crate::{
    Error, Kind, Result,
    catalog::{Component, Target},
};

pub(super) fn render(
    context: Context<'_>,
    component: &Component,
    target: Target,
) -> Result<Rendered> {
    all(context, component, target).map_err(|e| {
        let what = format!("component `{}` cannot be rendered", component.name);
        Error::new(e.kind(), what).because(e.line())
    })
}

fn all(context: Context<'_>, component: &Component, target: Target) -> Result<Rendered> {
    let (templates, values) = scope::component_templates(context, component, target)?;
    let mut rendered = Rendered::default();
    let mut values = match &component.chart {
        Some(chart) => chart::objects(context, component, chart, target, &templates, values)?,
        None => Vec::new(),
    };
    // A chart in the temporary cluster installs into the new one; what stands beside it has no place there.
    if component.chart.is_none() || target == Target::Management {
        let (more, certificates) = manifests::objects(context, component, &templates)?;
        values.extend(more);
        rendered.certificates = certificates;
    }
    for mut value in values {
        if let Some(provider) = &component.cluster_api_provider {
            upstream::label_provider(&mut value, provider);
        }
        upstream::protect(&mut value);
        match target {
            Target::Temporary => upstream::strip_descriptions(&mut value),
            Target::Management => label_owner(&mut value, &component.name),
        }
        rendered
            .objects
            .push(object::object(value, &component.name)?);
    }
    object::sort(&mut rendered.objects);
    Ok(rendered)
}

/// The labels that Flux gives to what it applies: what is seeded with them is as Flux wants it, and Flux's first look
/// changes nothing.
fn label_owner(value: &mut Value, component: &str) {
    for (key, label) in [
        ("kustomize.toolkit.fluxcd.io/name", component),
        ("kustomize.toolkit.fluxcd.io/namespace", FLUX_NAMESPACE),
    ] {
        object::set(value, &["metadata", "labels", key], label);
    }
}

/// Charts that this chart waits for. Its release waits for theirs rather than its Kustomization for theirs: helm-controller
/// looks every two seconds, while a Kustomization learns only every five whether what it applied is ready.
pub(super) fn releases_needed<'a>(
    context: Context<'a>,
    component: &'a Component,
) -> BTreeSet<&'a str> {
    if component.chart.is_none() {
        return BTreeSet::new();
    }
    let mut needs = context.catalog.needs(context.document, component);
    let chart = |name: &&str| {
        let needed = context.catalog.components.get(*name);
        needed.is_some_and(|c| c.chart.is_some())
    };
    needs.retain(chart);
    needs
}

pub(super) fn interval(component: &Component) -> &str {
    component.flux.interval.as_deref().unwrap_or("5m")
}

pub(super) fn timeout(component: &Component) -> &str {
    component.flux.timeout.as_deref().unwrap_or("5m")
}

/// Objects as plain data, in the order given.
pub(super) fn data(objects: &[kube::core::DynamicObject]) -> Result<Vec<Value>> {
    objects
        .iter()
        .map(|o| {
            serde_json::to_value(o)
                .map_err(|e| Error::new(Kind::Internal, "an object cannot be written").because(&e))
        })
        .collect()
}
