//! Files below `schema/` are made from the types. After a change of those: `UPDATE=1 cargo test --test it config::generated`.

use std::{fs, path::Path};

use mctl::config;
use serde_json::Value;

fn same(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schema")
        .join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "schema/{file} is not what the types say; run: UPDATE=1 cargo test --test it config::generated"
    );
}

#[test]
fn json_schema_is_up_to_date() {
    same(
        "managementcluster.schema.json",
        &format!("{:#}\n", config::schema()),
    );
}

#[test]
fn crd_is_up_to_date() {
    same(
        "managementclusters.crd.yaml",
        &config::to_yaml(&config::crd()).unwrap(),
    );
}

/// What an API server demands of a schema, as far as it can be said in a few lines.
#[test]
fn the_crd_is_structural() {
    fn visit(at: &str, schema: &Value) {
        let schema = schema.as_object().unwrap_or_else(|| panic!("{at}"));
        const ALLOWED: &[&str] = &[
            "additionalProperties",
            "default",
            "description",
            "enum",
            "format",
            "items",
            "maxItems",
            "maxLength",
            "maxProperties",
            "maximum",
            "minItems",
            "minLength",
            "minProperties",
            "minimum",
            "pattern",
            "properties",
            "required",
            "type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-list-type",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-validations",
        ];
        for key in schema.keys() {
            assert!(ALLOWED.contains(&key.as_str()), "{at}: {key}");
        }
        assert!(
            schema.get("type").is_some_and(Value::is_string),
            "{at} has no type"
        );
        let has_fields = schema.contains_key("properties");
        let others = schema.get("additionalProperties");
        assert!(
            !(has_fields && others.is_some()),
            "{at} has fields and others"
        );
        assert!(
            schema.get("description").is_some() || at.ends_with("[]") || !at.contains(".spec."),
            "{at} has no description"
        );
        if let Some(key) = schema.get("x-kubernetes-list-map-keys") {
            let key = key[0].as_str().unwrap();
            let required = schema["items"]["required"].as_array().unwrap();
            assert!(
                required.iter().any(|r| r == key),
                "{at}: {key} may be absent"
            );
        }
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            visit(&format!("{at}.{name}"), field);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(key) {
                visit(&format!("{at}[]"), inner);
            }
        }
    }
    let crd = serde_json::to_value(config::crd()).unwrap();
    let version = &crd["spec"]["versions"][0];
    assert!(version["subresources"]["status"].is_object());
    let schema = &version["schema"]["openAPIV3Schema"];
    for name in ["spec", "status", "metadata"] {
        visit(
            &format!("managementcluster.{name}"),
            &schema["properties"][name],
        );
    }
}

/// A server that fills in defaults and a file that is read end with the same document.
#[test]
fn server_and_file_have_the_same_defaults() {
    fn fill(value: &mut Value, schema: &Value) {
        if let Value::Object(fields) = value {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = field.get("default") {
                    fields.entry(name).or_insert_with(|| default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill(value, field);
                }
            }
        }
        if let Value::Array(items) = value {
            items.iter_mut().for_each(|i| fill(i, &schema["items"]));
        }
    }
    let text = "apiVersion: mctl.giantswarm.io/v1alpha1
kind: ManagementCluster
metadata: {name: golem}
spec:
  provider: {docker: {extraMounts: [{hostPath: /a, containerPath: /b}]}}
  nodePools: [{name: a}]
  gitops: {customer: {git: {url: https://git.example.io/a/b}}}
";
    let crd = serde_json::to_value(config::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut filled: Value = serde_saphyr::from_str(text).unwrap();
    fill(&mut filled, schema);
    let filled: config::ManagementCluster = serde_json::from_value(filled).unwrap();
    assert_eq!(filled, config::load(text, "mc.yaml").unwrap());
}
