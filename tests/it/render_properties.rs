//! What holds for everything that is rendered, whatever the document says.

use std::collections::{BTreeMap, BTreeSet};

use mctl::{
    catalog::{Catalog, Component, Target},
    environment::Environment,
    render::{self, Context},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{Sample, data, document, environment, profile};

/// Calls `f` with every string and the key it is under.
fn strings<'a>(value: &'a Value, key: &'a str, f: &mut impl FnMut(&'a str, &'a str)) {
    match value {
        Value::String(s) => f(key, s),
        Value::Array(list) => list.iter().for_each(|v| strings(v, key, f)),
        Value::Object(map) => map.iter().for_each(|(k, v)| strings(v, k, f)),
        _ => {}
    }
}

/// The image that a text is or ends with, as in `--reloader=quay.io/x/y:v1`.
fn image<'a>(key: &str, text: &'a str) -> Option<&'a str> {
    let candidate = if key == "args" {
        text.split_once('=')?.1
    } else if key == "image" {
        text
    } else {
        return None;
    };
    let (host, rest) = candidate.split_once('/')?;
    let looks_like =
        host.contains('.') && !host.contains(':') && rest.contains(':') && !candidate.contains(' ');
    looks_like.then_some(candidate)
}

/// The parts of a catalog that render in no time: no megabytes of definitions.
fn small(catalog: &Catalog) -> impl Iterator<Item = &Component> {
    catalog.components.values().filter(|c| {
        c.manifests
            .iter()
            .all(|m| !m.starts_with("vendor:") || !m.contains("crds") && !m.contains("cluster-api"))
    })
}

fn check(component: &str, objects: &[Value], literal_braces: bool) {
    for object in objects {
        for field in [
            &object["apiVersion"],
            &object["kind"],
            &object["metadata"]["name"],
        ] {
            assert!(
                field.as_str().is_some_and(|t| !t.is_empty()),
                "{component}: {object}"
            );
        }
        if !literal_braces {
            strings(object, "", &mut |key, text| {
                assert!(
                    !text.contains("{{") && !text.contains("${"),
                    "{component}: {key}: {text}"
                );
            });
        }
    }
}

fn pools() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z][a-z0-9]{0,6}", (0u32..6, any::<bool>()), 0..3).prop_map(
        |pools| {
            pools
                .into_iter()
                .map(|(name, (replicas, labelled))| {
                    let labels = if labelled {
                        json!({"tier": "x"})
                    } else {
                        json!({})
                    };
                    json!({"name": name, "replicas": replicas, "labels": labels})
                })
                .collect()
        },
    )
}

fn specs() -> impl Strategy<Value = Value> {
    let customer = prop_oneof![
        Just(json!({})),
        Just(json!({"customer": {"git": {"url": "https://example.io/x.git"}}})),
        Just(
            json!({"customer": {"git": {"url": "ssh://git@example.io/x", "secretRef": "k", "path": "./a"}}})
        ),
        Just(json!({"customer": {"oci": {"url": "oci://example.io/x", "secretRef": "k"}}})),
    ];
    let mirrors = prop::collection::vec(
        prop_oneof![Just("*"), Just("quay.io"), Just("docker.io")],
        0..2,
    )
    .prop_map(|m| {
        m.into_iter()
            .map(|u| json!({"upstream": u, "endpoints": ["https://m.example.io"]}))
            .collect::<Value>()
    });
    let off = prop::collection::btree_set(
        prop_oneof![
            Just("kyverno"),
            Just("flux-system"),
            Just("monitoring"),
            Just("cilium")
        ],
        0..3,
    )
    .prop_map(|off| {
        off.into_iter()
            .map(|n| (n.to_owned(), json!({"enabled": false})))
            .collect::<serde_json::Map<_, _>>()
    });
    (
        prop_oneof![Just(1), Just(3)],
        pools(),
        customer,
        mirrors,
        off,
    )
        .prop_map(|(replicas, pools, customer, mirrors, off)| {
            json!({"controlPlane": {"replicas": replicas}, "nodePools": pools, "gitops": customer,
            "registry": {"mirrors": mirrors}, "components": off})
        })
}

fn environments() -> impl Strategy<Value = Environment> {
    (any::<bool>(), any::<bool>()).prop_map(|(bundle, bare)| {
        let mut e = environment();
        e.mirror_has_all = bundle;
        if bare {
            e.node_repository = String::new();
            e.load_balancer_image = None;
            e.engine_socket = String::new();
        }
        e
    })
}

thread_local! {
    static CATALOGS: (Catalog, Catalog) = {
        let plain = Catalog::embedded().unwrap();
        (plain.clone(), plain.with_profile(&profile()).unwrap())
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_valid_document_renders(spec in specs(), environment in environments(), with_profile: bool) {
        let document = document(spec);
        CATALOGS.with(|(plain, profiled)| {
            let catalog = if with_profile { profiled } else { plain };
            let context = Context { document: &document, catalog, environment: &environment };
            let objects = data(&render::cluster(context).unwrap_or_else(|e| panic!("{e}")));
            check("cluster", &objects, false);
            let machines: i64 = objects.iter().filter(|o| o["kind"] == "MachineDeployment")
                .map(|o| o["spec"]["replicas"].as_i64().unwrap()).sum();
            let wanted: u32 = document.spec.node_pools.iter().map(|p| p.replicas).sum();
            prop_assert_eq!(machines, i64::from(wanted));
            for component in small(catalog).filter(|c| catalog.is_enabled(&document, c)) {
                for target in &component.clusters {
                    let rendered = render::component(context, component, *target).unwrap_or_else(|e| panic!("{e}"));
                    let raw = component.manifests.iter().any(|m| m.starts_with("raw:") || m.contains("rules"));
                    check(&component.name, &data(&rendered.objects), raw);
                }
            }
            check("root", &data(&render::root(context).unwrap()), false);
            Ok(())
        })?;
    }
}

#[test]
fn no_object_belongs_to_two_components() {
    let sample = Sample::new(json!({}));
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for component in small(&sample.catalog) {
        for object in data(
            &sample
                .component(&component.name, Target::Management)
                .objects,
        ) {
            let key = format!(
                "{} {}/{}",
                object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]
            );
            if let Some(other) = owners.insert(key.clone(), &component.name) {
                panic!("{key} in {other} and {}", component.name);
            }
        }
    }
}

#[test]
fn images_are_those_the_catalog_names() {
    let sample = Sample::new(json!({}));
    for component in sample.catalog.components.values() {
        let mut used = BTreeSet::new();
        let objects = data(
            &sample
                .component(&component.name, Target::Management)
                .objects,
        );
        for object in objects
            .iter()
            .filter(|o| o["kind"] != "CustomResourceDefinition")
        {
            strings(object, "", &mut |key, text| used.extend(image(key, text)));
        }
        used.remove(sample.environment.mctl_image.as_str());
        let named: BTreeSet<&str> = component.images.iter().map(String::as_str).collect();
        match &component.chart {
            None => assert_eq!(used, named, "{}", component.name),
            // A chart's own defaults are seen only when it is installed.
            Some(_) => assert!(used.is_subset(&named), "{}: {used:?}", component.name),
        }
    }
}
