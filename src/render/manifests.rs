//! Objects from a component's manifest files: templates, vendored files through the upstream rules, patches. Must not know particular components.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CertificateRequest, Context, object, upstream};
use crate::{
    Error, Kind, Result,
    catalog::{Component, MANAGEMENT_CLUSTER_CRD, template::Templates, yaml},
    config,
};

pub(super) fn objects(
    context: Context<'_>,
    component: &Component,
    templates: &Templates,
) -> Result<(Vec<Value>, Vec<CertificateRequest>)> {
    let mut all = Vec::new();
    let mut used = BTreeSet::new();
    for manifest in &component.manifests {
        if manifest == MANAGEMENT_CLUSTER_CRD {
            all.push(management_cluster_crd()?);
            continue;
        }
        let mut documents = read(component, manifest)?;
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
    for left_out in &component.omit {
        let before = all.len();
        all.retain(|v| !is(v, &left_out.kind, Some(&left_out.name)));
        if all.len() == before {
            return Err(Error::new(
                Kind::Internal,
                format!("no manifest has a {} `{}`", left_out.kind, left_out.name),
            ));
        }
    }
    let (mut all, certificates) = upstream::certificates(all, &context.environment.ca_certificate)?;
    // A chart's patches are its release's.
    if component.chart.is_none() {
        patch(component, templates, &mut all)?;
    }
    Ok((all, certificates))
}

fn read(component: &Component, manifest: &str) -> Result<Vec<Value>> {
    let bytes = component
        .manifest(manifest)
        .ok_or_else(|| Error::new(Kind::Internal, "there is no such file").at(manifest))?;
    std::str::from_utf8(&bytes)
        .map_err(|e| e.to_string())
        .and_then(yaml::documents)
        .map_err(|e| {
            Error::new(Kind::Internal, "it cannot be read")
                .at(manifest)
                .because(e)
        })
}

fn patch(component: &Component, templates: &Templates, all: &mut [Value]) -> Result<()> {
    for change in &component.patches {
        let place = format!("patch of {}", change.kind);
        let Some(merge) = templates.value(&place, change.merge.clone())? else {
            continue;
        };
        let mut hits = 0;
        for value in all
            .iter_mut()
            .filter(|v| is(v, &change.kind, change.name.as_deref()))
        {
            object::patch(value, &merge);
            hits += 1;
        }
        if hits == 0 {
            return Err(Error::new(Kind::Internal, "it fits no object").at(place));
        }
    }
    Ok(())
}

fn is(value: &Value, kind: &str, name: Option<&str>) -> bool {
    object::text(value, &["kind"]) == kind
        && name.is_none_or(|n| object::text(value, &["metadata", "name"]) == n)
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
