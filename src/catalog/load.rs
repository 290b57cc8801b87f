//! Reads the embedded catalog and finds every mistake in it at once. Must not render.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use super::{Catalog, Component, MANAGEMENT_CLUSTER_CRD, Provider, assets, yaml};
use crate::{Error, Kind, Result};

impl Catalog {
    /// The catalog compiled into this executable.
    pub fn embedded() -> Result<Self> {
        let mut problems = Vec::new();
        let mut catalog = Self {
            components: read(
                assets::component_files(),
                "component.yaml",
                assets::component,
                |c: &Component| &c.name,
                &mut problems,
            ),
            providers: read(
                assets::provider_files(),
                "provider.yaml",
                assets::provider,
                |p: &Provider| &p.name,
                &mut problems,
            ),
            profile: None,
        };
        for component in catalog.components.values_mut() {
            if component.version == "mctl" {
                component.version = crate::VERSION.to_owned();
            }
        }
        for component in catalog.components.values() {
            catalog.check_component(component, &mut problems);
        }
        for provider in catalog.providers.values() {
            catalog.check_provider(provider, &mut problems);
        }
        catalog.check_cycles(&mut problems);
        if problems.is_empty() {
            return Ok(catalog);
        }
        Err(problems.into_iter().fold(
            Error::new(Kind::Internal, "the catalog in this executable is wrong"),
            |error, problem| error.because(problem),
        ))
    }

    fn check_component(&self, component: &Component, problems: &mut Vec<String>) {
        let mut problem = |text: String| problems.push(format!("{}: {text}", component.name));
        if component.chart.is_none() && component.manifests.is_empty() {
            problem("has neither a chart nor manifests".into());
        }
        if let Some(chart) = &component.chart
            && assets::chart(&chart.name, &chart.version).is_none()
        {
            problem(format!("no chart {}-{}.tgz", chart.name, chart.version));
        }
        for manifest in &component.manifests {
            if manifest != MANAGEMENT_CLUSTER_CRD && component.manifest(manifest).is_none() {
                problem(format!("no file for `{manifest}`"));
            }
        }
        if component.required && !component.enabled {
            problem("is required and off".into());
        }
        if component.clusters.is_empty() {
            problem("is for no cluster".into());
        }
        for image in &component.images {
            if let Err(why) = check_image(image) {
                problem(format!("image `{image}` {why}"));
            }
        }
        let unique: BTreeSet<_> = component.images.iter().map(|i| short_name(i)).collect();
        if unique.len() != component.images.len() {
            problem("two images have the same last name".into());
        }
        for need in &component.depends_on {
            match self.components.get(need) {
                None => problem(format!("depends on `{need}`, which does not exist")),
                Some(need) if need.stage > component.stage => {
                    problem(format!("depends on `{}` of a later stage", need.name));
                }
                Some(_) => {}
            }
        }
        for ready in &component.ready {
            if !["Deployment", "DaemonSet", "StatefulSet"].contains(&ready.kind.as_str()) {
                problem(format!("cannot wait for a {}", ready.kind));
            }
        }
        for (field, empty) in [
            ("description", component.description.is_empty()),
            ("version", component.version.is_empty()),
            ("namespace", component.namespace.is_empty()),
        ] {
            if empty {
                problem(format!("{field} is empty"));
            }
        }
    }

    fn check_provider(&self, provider: &Provider, problems: &mut Vec<String>) {
        let mut problem = |text: String| problems.push(format!("{}: {text}", provider.name));
        if provider.templates.is_empty() {
            problem("has no templates".into());
        }
        for template in &provider.templates {
            if provider.template(template).is_none() {
                problem(format!("no template `{template}`"));
            }
        }
        for need in &provider.components {
            if !self.components.contains_key(need) {
                problem(format!("needs `{need}`, which does not exist"));
            }
        }
        for image in provider.images.iter().chain([&provider.node_image]) {
            if let Err(why) = check_image(&image.replace("{version}", "v0.0.0")) {
                problem(format!("image `{image}` {why}"));
            }
        }
        if !provider.kubernetes_version.starts_with('v') {
            problem("kubernetesVersion does not start with `v`".into());
        }
    }

    fn check_cycles(&self, problems: &mut Vec<String>) {
        let mut open: BTreeMap<&str, BTreeSet<&str>> = self
            .components
            .values()
            .map(|c| {
                let needs = c.depends_on.iter().map(String::as_str);
                (
                    c.name.as_str(),
                    needs.filter(|n| self.components.contains_key(*n)).collect(),
                )
            })
            .collect();
        while let Some(free) = open.iter().find(|(_, n)| n.is_empty()).map(|(c, _)| *c) {
            open.remove(free);
            for needs in open.values_mut() {
                needs.remove(free);
            }
        }
        if !open.is_empty() {
            let names: Vec<_> = open.into_keys().collect();
            problems.push(format!("dependencies form a circle: {}", names.join(", ")));
        }
    }
}

/// Reads `<folder>/<file>` of every folder.
fn read<T: DeserializeOwned>(
    paths: impl Iterator<Item = std::borrow::Cow<'static, str>>,
    file: &str,
    get: fn(&str) -> Option<assets::Bytes>,
    name: fn(&T) -> &String,
    problems: &mut Vec<String>,
) -> BTreeMap<String, T> {
    let folders: BTreeSet<String> = paths
        .filter_map(|p| p.split_once('/').map(|(folder, _)| folder.to_owned()))
        .collect();
    let mut all = BTreeMap::new();
    for folder in folders {
        let path = format!("{folder}/{file}");
        let parsed = get(&path)
            .ok_or_else(|| "is missing".to_owned())
            .and_then(|bytes| yaml::one(&bytes));
        match parsed {
            Ok(item) if *name(&item) != folder => {
                problems.push(format!("{path}: is named `{}`", name(&item)));
            }
            Ok(item) => {
                all.insert(folder, item);
            }
            Err(why) => problems.push(format!("{path}: {why}")),
        }
    }
    all
}

/// A full reference with host and tag; what the bundle and the nodes' mirrors know it by.
fn check_image(image: &str) -> Result<(), &'static str> {
    let (repository, tag) = image.rsplit_once(':').ok_or("has no tag")?;
    if tag.is_empty() || tag.contains('/') {
        return Err("has no tag");
    }
    match repository.split_once('/') {
        Some((host, path)) if host.contains('.') && !path.is_empty() => Ok(()),
        _ => Err("has no registry host"),
    }
}

/// `registry.k8s.io/kube-state-metrics/kube-state-metrics:v1` → `kube-state-metrics`.
pub(crate) fn short_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split(['@', ':']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_embedded_catalog_is_right() {
        let catalog = Catalog::embedded().unwrap_or_else(|e| panic!("{e}"));
        assert!(catalog.providers.contains_key("docker"));
    }

    #[test]
    fn finds_all_mistakes_at_once() {
        let mut catalog = Catalog::default();
        for (name, needs) in [("a", "b"), ("b", "a"), ("c", "missing")] {
            let component: Component = serde_json::from_value(json!({
                "name": name, "description": "", "version": "1", "namespace": "x", "stage": "seed",
                "manifests": ["own:nothing.yaml"], "images": ["no-host:v1", "example.io/x"], "dependsOn": [needs],
                "ready": [{"kind": "Pod", "name": "x"}],
            }))
            .unwrap();
            catalog.components.insert(name.into(), component);
        }
        let mut problems = Vec::new();
        catalog.check_component(&catalog.components["c"], &mut problems);
        catalog.check_cycles(&mut problems);
        let text = problems.join("\n");
        for part in [
            "no file for `own:nothing.yaml`",
            "`no-host:v1` has no registry host",
            "`example.io/x` has no tag",
            "depends on `missing`",
            "cannot wait for a Pod",
            "description is empty",
            "form a circle: a, b",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
    }

    #[test]
    fn short_names() {
        assert_eq!(short_name("quay.io/cilium/cilium:v1.20.2"), "cilium");
        assert_eq!(short_name("localhost:5000/a@sha256:00"), "a");
    }
}
