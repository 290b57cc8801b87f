//! The embedded catalog and what a document selects from it.

use mctl::catalog::{Catalog, Stage};
use serde_json::json;

use crate::samples::{document, profile};

#[test]
fn is_right_and_quick() {
    // The best of several: other work on the machine only ever adds.
    let took = (0..5)
        .map(|_| {
            let start = std::time::Instant::now();
            let catalog = Catalog::embedded().unwrap_or_else(|e| panic!("{e}"));
            assert!(!catalog.components.is_empty());
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("loaded in {took:?}");
    assert!(took.as_millis() < 500, "{took:?}");
}

#[test]
fn components_come_after_what_they_need() {
    let catalog = Catalog::embedded().unwrap();
    let document = document(json!({}));
    let enabled = catalog.enabled(&document);
    for (at, component) in enabled.iter().enumerate() {
        for need in catalog.needs(&document, component) {
            assert!(
                enabled[..at].iter().any(|c| c.name == need),
                "{need} before {}",
                component.name
            );
        }
    }
}

#[test]
fn what_mctl_cannot_do_without_stays() {
    let catalog = Catalog::embedded().unwrap();
    let off: serde_json::Map<_, _> = catalog
        .components
        .keys()
        .map(|n| (n.clone(), json!({"enabled": false})))
        .collect();
    let document = document(json!({"components": off}));
    let left: Vec<&str> = catalog
        .enabled(&document)
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    for name in [
        "namespaces",
        "cilium",
        "cluster-api-core",
        "cluster-api-infrastructure-docker",
        "flux-crds",
        "flux-giantswarm",
        "mctl",
    ] {
        assert!(left.contains(&name), "{name} of {left:?}");
    }
    assert!(
        catalog
            .components
            .values()
            .filter(|c| left.contains(&c.name.as_str()))
            .all(|c| c.required && c.stage != Stage::Management)
    );
}

#[test]
fn a_profile_takes_away_what_its_bundle_lacks() {
    let mut lacking = profile();
    lacking.without = vec![
        "kustomize-controller".into(),
        "flux-system".into(),
        "unknown".into(),
    ];
    let catalog = Catalog::embedded().unwrap().with_profile(&lacking).unwrap();
    assert!(!catalog.components.contains_key("flux-system"));
    assert!(
        catalog
            .components
            .values()
            .all(|c| c.image("kustomize-controller").is_none())
    );
    assert_eq!(
        catalog.kubernetes_version(&document(json!({}))).unwrap(),
        "v1.36.3"
    );
    assert_eq!(
        catalog
            .kubernetes_version(&document(json!({"kubernetesVersion": "v1.35.5"})))
            .unwrap(),
        "v1.35.5"
    );
    lacking.without = vec!["cilium".into()];
    let error = Catalog::embedded()
        .unwrap()
        .with_profile(&lacking)
        .unwrap_err();
    assert!(error.to_string().contains("leaves out `cilium`"));
}
