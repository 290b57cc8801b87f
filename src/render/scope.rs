//! Names and functions that templates see. Must not decide what is rendered.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Context, ORGANIZATION_NAMESPACE};
use crate::{
    Error, Kind, Result,
    catalog::{
        Component, Target,
        template::{Templates, merge},
        yaml,
    },
};

/// Name of the cluster in the document.
pub(super) fn cluster_name(context: Context<'_>) -> Result<&str> {
    context
        .document
        .metadata
        .name
        .as_deref()
        .filter(|n| !n.is_empty())
        .ok_or_else(|| {
            Error::new(Kind::Usage, "the document has no name").fix("set `metadata.name`")
        })
}

/// What every template sees.
fn names(context: Context<'_>, target: Target) -> Result<Value> {
    let document = data(context.document)?;
    let spec = document["spec"].clone();
    let replicas = context.document.spec.control_plane.replicas;
    let workers: u32 = context
        .document
        .spec
        .node_pools
        .iter()
        .map(|p| p.replicas)
        .sum();
    let profile = context.catalog.profile.as_ref();
    Ok(json!({
        "cluster": {"name": cluster_name(context)?, "namespace": ORGANIZATION_NAMESPACE},
        "document": document,
        "spec": spec,
        "environment": data(context.environment)?,
        "kubernetesVersion": context.catalog.kubernetes_version(context.document)?,
        "nodes": {"controlPlane": replicas, "workers": workers},
        "profile": {
            "name": profile.map(|p| p.name.as_str()).unwrap_or_default(),
            "without": profile.map(|p| p.without.as_slice()).unwrap_or_default(),
        },
        "provider": data(context.catalog.provider(context.document)?)?,
        "target": data(&target)?,
        "mctlVersion": crate::VERSION,
    }))
}

fn data(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::new(Kind::Internal, "the document cannot be read as data").because(&e))
}

/// Templates for a provider: the common names and `extra`.
pub(super) fn provider_templates(context: Context<'_>, extra: Value) -> Result<Templates> {
    let mut names = names(context, Target::Management)?;
    merge(&mut names, &extra);
    let mut templates = Templates::new(names);
    add_enabled(&mut templates, context);
    Ok(templates)
}

/// Templates for a component's manifests and patches, and its values.
pub(super) fn component_templates(
    context: Context<'_>,
    component: &Component,
    target: Target,
) -> Result<(Templates, Value)> {
    let mut names = names(context, target)?;
    names["component"] = json!({
        "name": component.name, "version": component.version, "namespace": component.namespace,
    });
    let values = values(
        context,
        component,
        with_functions(&names, context, component),
    )?;
    names["values"] = values.clone();
    Ok((with_functions(&names, context, component), values))
}

fn with_functions(names: &Value, context: Context<'_>, component: &Component) -> Templates {
    let mut templates = Templates::new(names);
    add_enabled(&mut templates, context);
    let images = component.clone();
    templates.add_function("image", move |name| {
        images.image(name).map(str::to_owned).ok_or_else(|| {
            format!(
                "component.yaml of `{}` names no image `{name}`",
                images.name
            )
        })
    });
    let images = component.clone();
    templates.add_function("has_image", move |name| Ok(images.image(name).is_some()));
    templates
}

fn add_enabled(templates: &mut Templates, context: Context<'_>) {
    let enabled: BTreeSet<String> = context
        .catalog
        .enabled(context.document)
        .into_iter()
        .map(|c| c.name.clone())
        .collect();
    templates.add_function("enabled", move |name| Ok(enabled.contains(name)));
}

/// The component's values: its own, then the profile's, then the document's.
fn values(context: Context<'_>, component: &Component, templates: Templates) -> Result<Value> {
    let place = format!("embedded/components/{}/values.yaml", component.name);
    let mut values = match component.values() {
        None => json!({}),
        Some(bytes) => {
            let parsed = yaml::one::<Value>(&bytes).map_err(|e| {
                Error::new(Kind::Internal, "values cannot be read")
                    .at(&place)
                    .because(e)
            })?;
            templates
                .value(&place, parsed)?
                .filter(|v| !v.is_null())
                .unwrap_or_else(|| json!({}))
        }
    };
    let profile = context.catalog.profile.as_ref();
    if let Some(over) = profile.and_then(|p| p.values.get(&component.name)) {
        merge(&mut values, over);
    }
    let settings = context.document.spec.components.get(&component.name);
    if let Some(over) = settings.and_then(|s| s.values.as_ref()) {
        merge(&mut values, over);
    }
    Ok(values)
}
