//! Custom resources that are rendered fit their definitions, unknown fields included.

use std::collections::BTreeMap;

use mctl::{catalog::Target, render};
use serde_json::{Value, json};

use crate::samples::{Sample, data};

/// Makes a structural schema strict: a field it does not know is an error, as an API server's strict validation has it.
fn strict(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    if map.shift_remove("x-kubernetes-int-or-string").is_some() {
        map.insert("type".into(), json!(["integer", "string"]));
        map.shift_remove("anyOf");
    }
    if map.shift_remove("nullable") == Some(json!(true)) {
        map.shift_remove("type");
    }
    let open = map.contains_key("additionalProperties")
        || map.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if map.contains_key("properties") && !open {
        map.insert("additionalProperties".into(), json!(false));
    }
    for (key, value) in map {
        match key.as_str() {
            "properties" => value.as_object_mut().unwrap().values_mut().for_each(strict),
            "items" | "additionalProperties" => strict(value),
            _ => {}
        }
    }
}

#[test]
fn custom_resources_fit_their_definitions() {
    let sample = Sample::new(json!({
        "controlPlane": {"replicas": 3}, "nodePools": [{"name": "a", "replicas": 4, "labels": {"x": "y"}}],
        "provider": {"docker": {"extraMounts": [{"hostPath": "/data", "containerPath": "/mnt", "readOnly": true}]}},
        "gitops": {"customer": {"oci": {"url": "oci://example.io/x", "secretRef": "k"}}},
    }));
    let mut all: Vec<(String, Value)> = Vec::new();
    for component in sample.catalog.enabled(&sample.document) {
        let objects = data(
            &sample
                .component(&component.name, Target::Management)
                .objects,
        );
        all.extend(objects.into_iter().map(|o| (component.name.clone(), o)));
    }
    let temporary = sample.component("cilium", Target::Temporary).objects;
    for (name, objects) in [
        ("cluster", render::cluster(sample.context()).unwrap()),
        ("root", render::root(sample.context()).unwrap()),
        ("cilium in the temporary cluster", temporary),
    ] {
        all.extend(data(&objects).into_iter().map(|o| (name.to_owned(), o)));
    }
    for (path, bytes) in render::platform(sample.context()).unwrap() {
        if !path.contains('/') && path != "kustomization.yaml" {
            let text = String::from_utf8(bytes).unwrap();
            let value = serde_json::from_str(text.trim_start_matches("---\n")).unwrap();
            all.push((path, value));
        }
    }
    let mut definitions: BTreeMap<(String, String), &Value> = BTreeMap::new();
    for (_, crd) in all
        .iter()
        .filter(|(_, o)| o["kind"] == "CustomResourceDefinition")
    {
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let api = format!(
                "{}/{}",
                crd["spec"]["group"].as_str().unwrap(),
                version["name"].as_str().unwrap()
            );
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
            definitions.insert(
                (api, kind.to_owned()),
                &version["schema"]["openAPIV3Schema"],
            );
        }
    }
    let mut checks: BTreeMap<(String, String), jsonschema::Validator> = BTreeMap::new();
    let mut checked = 0;
    for (from, object) in &all {
        let key = (
            object["apiVersion"].as_str().unwrap().to_owned(),
            object["kind"].as_str().unwrap().to_owned(),
        );
        let Some(schema) = definitions.get(&key) else {
            assert!(
                key.1 == "CustomResourceDefinition"
                    || !key.0.contains(".x-k8s.io") && !key.0.contains("fluxcd.io"),
                "{key:?}"
            );
            continue;
        };
        let check = checks.entry(key).or_insert_with(|| {
            let mut schema = (*schema).clone();
            strict(&mut schema);
            schema["properties"]["metadata"] = json!({"type": "object"});
            jsonschema::validator_for(&schema).unwrap()
        });
        let problems: Vec<String> = check
            .iter_errors(object)
            .map(|e| format!("{} at {}", e, e.instance_path()))
            .collect();
        assert!(
            problems.is_empty(),
            "{from}: {} {}: {problems:#?}",
            object["kind"],
            object["metadata"]["name"]
        );
        checked += 1;
    }
    assert!(checked > 50, "only {checked}");
}
