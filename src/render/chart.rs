//! A chart as Flux objects. Must be equal for both clusters but for where it points and whose cluster it installs into.

use serde_json::{Value, json};

use super::{
    Context, FLUX_NAMESPACE, MANAGER_REGISTRY, REGISTRY_CA_SECRET, component, object, scope,
};
use crate::{
    Error, GROUP, Kind, Result,
    catalog::{Chart, Component, Target, template::Templates},
};

/// Media type of a chart's layer.
const LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

pub(super) fn objects(
    context: Context<'_>,
    component: &Component,
    chart: &Chart,
    target: Target,
    templates: &Templates,
    values: Value,
) -> Result<Vec<Value>> {
    let registry = match target {
        Target::Temporary => context.environment.mirror.as_str(),
        Target::Management => MANAGER_REGISTRY,
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
            "layerSelector": {"mediaType": LAYER, "operation": "copy"},
        },
    });
    // Failures are retried for ever; never rolled back or uninstalled, which would take a working cluster apart.
    let action = json!({"crds": "CreateReplace", "strategy": {"name": "RetryOnFailure", "retryInterval": "10s"}});
    let mut release = json!({
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": metadata,
        "spec": {
            // Often, because drift in what a chart brought is found by its release alone.
            "interval": component.flux.interval.as_deref().unwrap_or("1m"),
            "timeout": component::timeout(component),
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
    let needs = component::releases_needed(context, component);
    if target == Target::Management && !needs.is_empty() {
        let needs: Vec<Value> = needs.iter().map(|name| json!({"name": name})).collect();
        object::set(&mut release, &["spec", "dependsOn"], needs);
    }
    let patches = patches(component, templates)?;
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
    Ok(vec![source, release])
}

/// The component's patches as kustomize takes them from Helm's post-renderer.
fn patches(component: &Component, templates: &Templates) -> Result<Vec<Value>> {
    let mut all = Vec::with_capacity(component.patches.len());
    for change in &component.patches {
        let place = format!("patch of {}", change.kind);
        let Some(mut patch) = templates.value(&place, change.merge.clone())? else {
            continue;
        };
        let mut target = json!({"kind": change.kind});
        if let Some(name) = &change.name {
            target["name"] = name.as_str().into();
        }
        // kustomize wants the patch to look like an object; the target above says which one.
        let name = change.name.as_deref().unwrap_or("any");
        object::set(&mut patch, &["kind"], change.kind.as_str());
        object::set(&mut patch, &["metadata", "name"], name);
        all.push(json!({"target": target, "patch": patch.to_string()}));
    }
    Ok(all)
}
