//! JSON Schema and CRD, made from the document's types. Must not hold knowledge about single fields.

use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    forms,
    types::{ManagementCluster, ManagementClusterSpec, ManagementClusterStatus},
};

/// `apiVersion` of the document.
pub const API_VERSION: &str = "mctl.giantswarm.io/v1alpha1";
/// `kind` of the document.
pub const KIND: &str = "ManagementCluster";

/// The document's schema with everything the reader uses: JSON Schema, with `x-kubernetes-*` for list keys and rules.
pub(super) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let text = |max: u64| json!({ "type": "string", "maxLength": max });
        json!({
            "title": KIND,
            "description": "Describes one management cluster. `metadata.name` alone is enough; all else has a default.",
            "type": "object",
            "additionalProperties": false,
            "required": ["apiVersion", "kind", "metadata"],
            "properties": {
                "apiVersion": { "type": "string", "enum": [API_VERSION], "description": "Version of this format." },
                "kind": { "type": "string", "enum": [KIND], "description": "What this document describes." },
                "metadata": {
                    "description": "Name, labels and annotations.",
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["name"],
                    "properties": {
                        "name": described(forms::NAME.schema(), "Name of the cluster; part of the names of all its machines.", "golem"),
                        "namespace": { "type": "string", "enum": ["giantswarm"], "description": "Where the document is kept in the cluster; always `giantswarm`." },
                        "labels": { "type": "object", "maxProperties": 64, "examples": [{ "team": "platform" }], "additionalProperties": forms::LABEL_VALUE.schema(), "description": "Labels of the document's object." },
                        "annotations": { "type": "object", "maxProperties": 64, "examples": [{ "contact": "platform@example.io" }], "additionalProperties": text(65536), "description": "Annotations of the document's object." },
                    },
                },
                "spec": generate::<ManagementClusterSpec>(),
            },
        })
    })
}

/// JSON Schema of the document, for editors and other tools.
pub fn schema() -> Value {
    let mut schema = document().clone();
    visit(&mut schema, &mut |node| {
        if node.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set") {
            node.insert("uniqueItems".into(), true.into());
        }
        if node.contains_key("x-kubernetes-preserve-unknown-fields") {
            node.insert("additionalProperties".into(), true.into());
        }
        node.retain(|key, _| !key.starts_with("x-kubernetes-"));
    });
    let mut out = Map::new();
    // Everything used here is the same in draft 7, which editors know best.
    out.insert(
        "$schema".into(),
        "http://json-schema.org/draft-07/schema#".into(),
    );
    if let Value::Object(schema) = schema {
        out.extend(schema);
    }
    Value::Object(out)
}

/// The CustomResourceDefinition: same fields, defaults and forms as the file, so that server and file agree.
pub fn crd() -> CustomResourceDefinition {
    let mut spec = document()["properties"]["spec"].clone();
    spec["default"] = serde_json::to_value(ManagementClusterSpec::default()).unwrap_or_default();
    let mut root = json!({
        "description": document()["description"],
        "type": "object",
        "required": ["metadata"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": {
                "type": "object",
                "properties": { "name": { "type": "string", "maxLength": forms::NAME_MAX, "pattern": forms::NAME.pattern() } },
            },
            "spec": spec,
            "status": generate::<ManagementClusterStatus>(),
        },
        "x-kubernetes-validations": forms::root_rules(),
    });
    visit(&mut root, &mut |node| {
        // A structural schema prunes unknown fields; saying that they are refused is not allowed in it.
        if node.get("additionalProperties") == Some(&Value::Bool(false)) {
            node.remove("additionalProperties");
        }
        node.remove("examples");
        node.remove("patternErrorMessage");
    });
    let mut crd = ManagementCluster::crd();
    let schema: JSONSchemaProps = serde_json::from_value(root).unwrap_or_default();
    for version in &mut crd.spec.versions {
        version.schema.get_or_insert_default().open_api_v3_schema = Some(schema.clone());
    }
    crd
}

fn described(schema: schemars::Schema, description: &str, example: &str) -> Value {
    let mut schema = schema.to_value();
    schema["description"] = description.into();
    schema["examples"] = json!([example]);
    schema
}

/// Schema of a type without references, in the part of JSON Schema that Kubernetes calls structural.
fn generate<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .with(|s| {
            s.inline_subschemas = true;
            s.meta_schema = None;
        })
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    visit(&mut schema, &mut |node| {
        node.remove("title");
        // Kubernetes knows int32 and int64 only; `minimum` says the rest.
        if node.get("format").and_then(Value::as_str) == Some("uint32") {
            node.remove("format");
        }
        if node.get("default") == Some(&Value::Null) {
            node.remove("default");
        }
        drop_null(node);
        // The types refuse unknown fields; not every path through schemars says so.
        if node.contains_key("properties") {
            node.insert("additionalProperties".into(), false.into());
        }
    });
    schema
}

/// An optional field is left out, not null: keeps the type only.
fn drop_null(node: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = node.get("type") {
        let rest: Vec<&Value> = types.iter().filter(|t| *t != "null").collect();
        if let [one] = rest[..] {
            let one = one.clone();
            node.insert("type".into(), one);
        }
    }
    let Some(Value::Array(options)) = node.get("anyOf") else {
        return;
    };
    let rest: Vec<&Value> = options.iter().filter(|o| o["type"] != "null").collect();
    if let [Value::Object(one)] = rest[..] {
        let one = one.clone();
        node.remove("anyOf");
        for (key, value) in one {
            node.entry(key).or_insert(value);
        }
    }
}

/// Calls `f` on every schema below and including `value`, outermost last.
fn visit(value: &mut Value, f: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(node) = value else { return };
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(|p| visit(p, f));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = node.get_mut(key) {
            visit(inner, f);
        }
    }
    if let Some(Value::Array(options)) = node.get_mut("anyOf") {
        options.iter_mut().for_each(|o| visit(o, f));
    }
    f(node);
}
