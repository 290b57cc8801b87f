//! The platform artifact and the objects that make Flux follow it. Must not contain private keys or anything that changes by itself.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    Context, FLUX_NAMESPACE, MANAGER_REGISTRY, REGISTRY_CA_SECRET, component, object, scope,
};
use crate::{
    Error, GROUP, Kind, Result,
    catalog::{Component, Target},
};

/// Name of the source and of the root Kustomization.
const PLATFORM: &str = "platform";

pub(super) fn files(context: Context<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut roots = Vec::new();
    for component in context.catalog.enabled(context.document) {
        if !component.clusters.contains(&Target::Management) {
            continue;
        }
        let rendered = component::render(context, component, Target::Management)?;
        let root = format!("{}.yaml", component.name);
        let folder = format!("components/{}", component.name);
        files.insert(
            format!("{folder}/objects.yaml"),
            documents(&component::data(&rendered.objects)?)?,
        );
        files.insert(
            format!("{folder}/kustomization.yaml"),
            documents(&[kustomization_file(&["objects.yaml".to_owned()])])?,
        );
        files.insert(
            root.clone(),
            documents(&[flux_kustomization(context, component)])?,
        );
        roots.push(root);
    }
    roots.sort();
    // Named one by one: without this file Flux would also apply everything below components/.
    files.insert(
        "kustomization.yaml".to_owned(),
        documents(&[kustomization_file(&roots)])?,
    );
    Ok(files)
}

fn kustomization_file(resources: &[String]) -> Value {
    json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources})
}

fn flux_kustomization(context: Context<'_>, component: &Component) -> Value {
    // Between charts the releases wait for each other.
    let releases = component::releases_needed(context, component);
    let depends_on: Vec<Value> = context
        .catalog
        .needs(context.document, component)
        .into_iter()
        .filter(|name| !releases.contains(name))
        .map(|name| json!({"name": name}))
        .collect();
    let mut value = kustomization(
        &component.name,
        &format!("./components/{}", component.name),
        component::interval(component),
        component::timeout(component),
    );
    if !depends_on.is_empty() {
        object::set(&mut value, &["spec", "dependsOn"], depends_on);
    }
    if component.required {
        orphan(&mut value);
    }
    if !component.flux.health.is_empty() {
        object::set(
            &mut value,
            &["spec", "healthCheckExprs"],
            component.flux.health.clone(),
        );
    }
    value
}

fn kustomization(name: &str, path: &str, interval: &str, timeout: &str) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": FLUX_NAMESPACE},
        "spec": {
            "interval": interval,
            "retryInterval": "10s",
            "timeout": timeout,
            "path": path,
            "prune": true,
            // Every object is waited for, so `healthChecks` (which Flux then ignores) are not needed.
            "wait": true,
            "force": false,
            "sourceRef": {"kind": "OCIRepository", "name": PLATFORM},
        },
    })
}

/// Whoever deletes this Kustomization, by mistake or to stop Flux, does not delete what it brought: not the network, not
/// Cluster API's definitions and with them every cluster.
fn orphan(kustomization: &mut Value) {
    object::set(kustomization, &["spec", "deletionPolicy"], "Orphan");
}

pub(super) fn root(context: Context<'_>) -> Result<Vec<DynamicObject>> {
    let cluster = scope::cluster_name(context)?;
    let source = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "OCIRepository",
        "metadata": {"name": PLATFORM, "namespace": FLUX_NAMESPACE},
        "spec": {
            "interval": "30s",
            "url": format!("oci://{MANAGER_REGISTRY}/{GROUP}/platform/{cluster}"),
            "ref": {"tag": "latest"},
            "certSecretRef": {"name": REGISTRY_CA_SECRET},
        },
    });
    // Not waiting: the components' Kustomizations say themselves whether they are ready, and a component that is not
    // must not hold back the others.
    let mut kustomization = kustomization(PLATFORM, "./", "1m", "5m");
    object::set(&mut kustomization, &["spec", "wait"], false);
    orphan(&mut kustomization);
    [registry_ca(context), source, kustomization]
        .into_iter()
        .map(|o| object::object(o, "platform"))
        .collect()
}

/// The CA's certificate for Flux's sources; holds no key.
fn registry_ca(context: Context<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": REGISTRY_CA_SECRET, "namespace": FLUX_NAMESPACE},
        "data": {"ca.crt": STANDARD.encode(&context.environment.ca_certificate)},
    })
}

/// Documents as JSON, which every YAML reader takes alike: no text can turn into a number or a truth value.
fn documents(values: &[Value]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for value in values {
        out.extend_from_slice(b"---\n");
        serde_json::to_writer(&mut out, value)
            .map_err(|e| Error::new(Kind::Internal, "an object cannot be written").because(&e))?;
        out.push(b'\n');
    }
    Ok(out)
}
