//! Cluster API objects of the management cluster from its provider's templates. Must not know a particular provider.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Context, object, scope};
use crate::{Error, Kind, Result, catalog::yaml};

/// Marks a template whose name must change with its content, because Cluster API does not look at changes of it.
const NAMED_BY_CONTENT: &str = "mctl.giantswarm.io/named-by-content";

pub(super) fn render(context: Context<'_>) -> Result<Vec<DynamicObject>> {
    let provider = context.catalog.provider(context.document)?;
    let place = |file: &str| format!("providers/{}/{file}", provider.name);
    let read = |file: &str, bytes: Option<crate::catalog::assets::Bytes>| {
        let bytes = bytes
            .ok_or_else(|| Error::new(Kind::Internal, "there is no such file").at(place(file)))?;
        std::str::from_utf8(&bytes)
            .map_err(|e| e.to_string())
            .and_then(yaml::documents)
            .map_err(|e| {
                Error::new(Kind::Internal, "it cannot be read")
                    .at(place(file))
                    .because(e)
            })
    };
    let mut names = json!({"nodeImage": node_image(context)?, "values": {}});
    if let Some(bytes) = provider.shared_values() {
        let templates = scope::provider_templates(context, names.clone())?;
        for document in read("values.yaml", Some(bytes))? {
            if let Some(values) = templates.value(&place("values.yaml"), document)? {
                names["values"] = values;
            }
        }
    }
    let templates = scope::provider_templates(context, names)?;
    let mut all = Vec::new();
    for file in &provider.templates {
        let path = format!("templates/{file}");
        let documents = read(&path, provider.template(file))?;
        all.extend(templates.documents(&place(&path), documents)?);
    }
    name_by_content(&mut all);
    all.into_iter()
        .map(|o| object::object(o, &provider.name))
        .collect()
}

/// Image of the machines for the document's Kubernetes version: from the engine's own repository, else under its upstream name.
pub(super) fn node_image(context: Context<'_>) -> Result<String> {
    match context.environment.node_repository.as_str() {
        "" => context.catalog.node_image(context.document),
        repository => {
            let version = context.catalog.kubernetes_version(context.document)?;
            Ok(format!("{repository}:{version}"))
        }
    }
}

/// Appends a digest of its content to each marked object's name, and follows in every reference to it.
fn name_by_content(objects: &mut [Value]) {
    let mut names: BTreeMap<(String, String), String> = BTreeMap::new();
    for value in objects.iter_mut() {
        let annotations = value
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut);
        let Some(annotations) = annotations else {
            continue;
        };
        if annotations.shift_remove(NAMED_BY_CONTENT).is_none() {
            continue;
        }
        if annotations.is_empty()
            && let Some(metadata) = value["metadata"].as_object_mut()
        {
            metadata.shift_remove("annotations");
        }
        let digest = hex::encode(Sha256::digest(canonical(&value["spec"])));
        let kind = object::text(value, &["kind"]).to_owned();
        let old = object::text(value, &["metadata", "name"]).to_owned();
        let new = format!("{old}-{}", &digest[..8]);
        object::set(value, &["metadata", "name"], new.clone());
        names.insert((kind, old), new);
    }
    for value in objects {
        if let Some(spec) = value.get_mut("spec") {
            follow(spec, &names);
        }
    }
}

/// JSON with sorted keys, so that the order of a template's lines does not count.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let fields = sorted
                .into_iter()
                .map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(list) => {
            let items = list.iter().map(canonical);
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn follow(value: &mut Value, names: &BTreeMap<(String, String), String>) {
    match value {
        Value::Object(map) => {
            let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
            if let (Some(kind), Some(name)) = (text("kind"), text("name"))
                && let Some(new) = names.get(&(kind, name))
            {
                map.insert("name".into(), new.as_str().into());
            }
            map.values_mut().for_each(|v| follow(v, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| follow(v, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(image: &str) -> Vec<Value> {
        let mut all = vec![
            json!({"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"ref": {"kind": "Template", "name": "t"},
                "other": [{"kind": "Template", "name": "u"}]}}),
            json!({"kind": "Template", "metadata": {"name": "t", "annotations": {NAMED_BY_CONTENT: "true"}},
                "spec": {"image": image, "a": 1}}),
            json!({"kind": "Template", "metadata": {"name": "u"}, "spec": {}}),
        ];
        name_by_content(&mut all);
        all
    }

    #[test]
    fn names_follow_content() {
        let (a, b) = (objects("one"), objects("two"));
        assert_eq!(a[0]["spec"]["ref"]["name"], a[1]["metadata"]["name"]);
        assert_eq!(a[0]["spec"]["other"][0]["name"], "u");
        assert!(a[1]["metadata"].get("annotations").is_none());
        assert_ne!(a[1]["metadata"]["name"], b[1]["metadata"]["name"]);
        assert_eq!(a, objects("one"));
        assert_eq!(
            canonical(&json!({"b": [1, {"d": 1, "c": "x"}], "a": null})),
            r#"{"a":null,"b":[1,{"c":"x","d":1}]}"#
        );
    }
}
