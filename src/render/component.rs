//! Objects of one component: a chart as Flux objects, or manifests through the upstream rules and patches. Must not know particular components.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Context, FLUX_NAMESPACE, REGISTRY_CA_SECRET, Rendered, object,
    scope::{self, component_templates},
    upstream,
};
use crate::{
    Error, GROUP, Kind, Result,
    catalog::{Chart, Component, MANAGEMENT_CLUSTER_CRD, Target, template::Templates, yaml},
    config,
};

/// Media type of a chart's layer.
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

pub(super) fn render(
    context: Context<'_>,
    component: &Component,
    target: Target,
) -> Result<Rendered> {
    let fail = |e: Error| {
        let what = format!("component `{}` cannot be rendered", component.name);
        Error::new(e.kind(), what).because(e.line())
    };
    match &component.chart {
        Some(chart) => self::chart(context, component, chart, target).map_err(fail),
        None => manifests(context, component, target).map_err(fail),
    }
}

fn chart(
    context: Context<'_>,
    component: &Component,
    chart: &Chart,
    target: Target,
) -> Result<Rendered> {
    let (templates, values) = component_templates(context, component, target)?;
    let registry = match target {
        Target::Temporary => context.environment.mirror.as_str(),
        Target::Management => super::MANAGER_REGISTRY,
    };
    if registry.is_empty() {
        return Err(Error::new(
            Kind::Internal,
            "the registry's address is not known",
        ));
    }
    let metadata = json!({"name": component.name, "namespace": FLUX_NAMESPACE});
    let source = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "OCIRepository",
        "metadata": metadata,
        "spec": {
            // A chart's tag never changes its content; a new version is a new tag.
            "interval": "10m",
            "url": format!("oci://{registry}/{GROUP}/charts/{}", chart.name),
            "ref": {"tag": chart.version},
            "certSecretRef": {"name": REGISTRY_CA_SECRET},
            "layerSelector": {"mediaType": CHART_LAYER, "operation": "copy"},
        },
    });
    // Failures are retried for ever; never rolled back or uninstalled, which would take a working cluster apart.
    let action = json!({"crds": "CreateReplace", "strategy": {"name": "RetryOnFailure", "retryInterval": "10s"}});
    let mut release = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": metadata,
        "spec": {
            "interval": interval(component),
            "timeout": timeout(component),
            "releaseName": chart.release,
            "targetNamespace": component.namespace,
            "storageNamespace": component.namespace,
            "chartRef": {"kind": "OCIRepository", "name": component.name},
            "install": action,
            "upgrade": action,
            "driftDetection": {"mode": "enabled"},
            "values": values,
        },
    });
    let patches = chart_patches(component, &templates)?;
    if !patches.is_empty() {
        let renderers = json!([{"kustomize": {"patches": patches}}]);
        object::set(&mut release, &["spec", "postRenderers"], renderers);
    }
    if target == Target::Temporary {
        let secret = format!("{}-kubeconfig", scope::cluster_name(context)?);
        object::set(
            &mut release,
            &["spec", "kubeConfig", "secretRef", "name"],
            secret,
        );
    }
    let objects = [source, release]
        .into_iter()
        .map(|o| object::object(o, &component.name))
        .collect::<Result<_>>()?;
    Ok(Rendered {
        objects,
        certificates: Vec::new(),
    })
}

/// Patches of a chart's objects, which exist only where Helm renders them, in the form of kustomize.
fn chart_patches(component: &Component, templates: &Templates) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for change in &component.patches {
        let place = format!("patch of {}", change.kind);
        let Some(mut patch) = templates.value(&place, change.merge.clone())? else {
            continue;
        };
        let mut target = json!({"kind": change.kind});
        // Kustomize wants a whole object, although the target says what is patched.
        object::set(&mut patch, &["kind"], change.kind.clone());
        let name = change.name.as_deref();
        object::set(
            &mut patch,
            &["metadata", "name"],
            name.unwrap_or(&component.name),
        );
        if let Some(name) = name {
            object::set(&mut target, &["name"], name);
        }
        all.push(json!({"target": target, "patch": patch.to_string()}));
    }
    Ok(all)
}

fn manifests(context: Context<'_>, component: &Component, target: Target) -> Result<Rendered> {
    let (templates, _) = component_templates(context, component, target)?;
    let mut all = Vec::new();
    let mut used = BTreeSet::new();
    for manifest in &component.manifests {
        if manifest == MANAGEMENT_CLUSTER_CRD {
            all.push(management_cluster_crd()?);
            continue;
        }
        let bytes = component
            .manifest(manifest)
            .ok_or_else(|| Error::new(Kind::Internal, "there is no such file").at(manifest))?;
        let mut documents = std::str::from_utf8(&bytes)
            .map_err(|e| e.to_string())
            .and_then(yaml::documents)
            .map_err(|e| {
                Error::new(Kind::Internal, "it cannot be read")
                    .at(manifest)
                    .because(e)
            })?;
        if manifest.starts_with("own:") {
            documents = templates.documents(manifest, documents)?;
        } else if manifest.starts_with("vendor:") {
            // Definitions have no variables, only texts about them.
            let rest = documents
                .iter_mut()
                .filter(|d| object::text(d, &["kind"]) != "CustomResourceDefinition");
            for document in rest {
                upstream::substitute(document, &component.variables, &mut used)?;
            }
        }
        all.extend(documents);
    }
    if let Some(unused) = component.variables.keys().find(|v| !used.contains(*v)) {
        return Err(Error::new(
            Kind::Internal,
            format!("no manifest has a variable `{unused}`"),
        ));
    }
    let (mut all, certificates) = upstream::certificates(all, &context.environment.ca_certificate)?;
    for change in &component.patches {
        let place = format!("patch of {}", change.kind);
        let Some(merge) = templates.value(&place, change.merge.clone())? else {
            continue;
        };
        let mut hits = 0;
        for value in all.iter_mut().filter(|v| {
            object::text(v, &["kind"]) == change.kind
                && change
                    .name
                    .as_deref()
                    .is_none_or(|n| object::text(v, &["metadata", "name"]) == n)
        }) {
            object::patch(value, &merge);
            hits += 1;
        }
        if hits == 0 {
            return Err(Error::new(Kind::Internal, "it fits no object").at(place));
        }
    }
    let mut objects = Vec::with_capacity(all.len());
    for mut value in all {
        if let Some(provider) = &component.cluster_api_provider {
            upstream::label_provider(&mut value, provider);
        }
        upstream::protect(&mut value);
        if target == Target::Temporary {
            upstream::strip_descriptions(&mut value);
        }
        objects.push(object::object(value, &component.name)?);
    }
    object::sort(&mut objects);
    Ok(Rendered {
        objects,
        certificates,
    })
}

fn management_cluster_crd() -> Result<Value> {
    serde_json::to_value(config::crd()).map_err(|e| {
        Error::new(
            Kind::Internal,
            "the definition of ManagementCluster cannot be written",
        )
        .because(&e)
    })
}

pub(super) fn interval(component: &Component) -> &str {
    component.flux.interval.as_deref().unwrap_or("1m")
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
