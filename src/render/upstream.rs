//! Rules for vendored upstream manifests: variables, certificates without cert-manager, labels for moves, no pruning. Must not know particular components.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{CertificateRequest, object};
use crate::{Error, Kind, Result};

const INJECT: &str = "cert-manager.io/inject-ca-from";

/// Replaces `${NAME:=default}` in string leaves.
pub(super) fn substitute(
    value: &mut Value,
    variables: &BTreeMap<String, String>,
    used: &mut BTreeSet<String>,
) -> Result<()> {
    match value {
        Value::String(s) if s.contains("${") => *s = substituted(s, variables, used)?,
        Value::Array(list) => {
            for item in list {
                substitute(item, variables, used)?;
            }
        }
        Value::Object(map) => {
            for item in map.values_mut() {
                substitute(item, variables, used)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn substituted(
    text: &str,
    variables: &BTreeMap<String, String>,
    used: &mut BTreeSet<String>,
) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let parts = after.split_once('}').map(|(body, rest)| {
            let end = body
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(body.len());
            (&body[..end], &body[end..], rest)
        });
        let Some((name, default, tail)) = parts.filter(|(name, ..)| !name.is_empty()) else {
            // Not a variable: shell text, a regular expression.
            out.push_str("${");
            rest = after;
            continue;
        };
        let default = [":=", ":-", "="]
            .iter()
            .find_map(|o| default.strip_prefix(o));
        match (variables.get(name), default) {
            (Some(value), _) => out.push_str(value),
            // Upstream writes `${X:=""}` for an empty text.
            (None, Some(default)) => out.push_str(default.trim_matches('"')),
            (None, None) => {
                return Err(Error::new(
                    Kind::Internal,
                    format!("variable `{name}` has neither value nor default"),
                ));
            }
        }
        used.insert(name.to_owned());
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// Takes cert-manager's part: `Certificate`s become requests, `Issuer`s vanish, `inject-ca-from` becomes the CA.
pub(super) fn certificates(
    objects: Vec<Value>,
    ca_certificate: &str,
) -> Result<(Vec<Value>, Vec<CertificateRequest>)> {
    let bundle = Value::String(STANDARD.encode(ca_certificate));
    let mut kept = Vec::with_capacity(objects.len());
    let mut requests = Vec::new();
    for mut value in objects {
        match object::text(&value, &["kind"]) {
            "Issuer" | "ClusterIssuer" => continue,
            "Certificate" => {
                requests.push(request(&value)?);
                continue;
            }
            _ => {}
        }
        let annotations = value["metadata"]
            .get_mut("annotations")
            .and_then(Value::as_object_mut);
        if let Some(annotations) = annotations
            && annotations.shift_remove(INJECT).is_some()
        {
            if annotations.is_empty()
                && let Some(metadata) = value["metadata"].as_object_mut()
            {
                metadata.shift_remove("annotations");
            }
            inject(&mut value, &bundle);
        }
        kept.push(value);
    }
    Ok((kept, requests))
}

fn request(certificate: &Value) -> Result<CertificateRequest> {
    let spec = &certificate["spec"];
    let request = CertificateRequest {
        namespace: object::text(certificate, &["metadata", "namespace"]).to_owned(),
        secret: object::text(spec, &["secretName"]).to_owned(),
        dns_names: spec["dnsNames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|n| n.as_str().map(str::to_owned))
            .collect(),
    };
    if request.namespace.is_empty() || request.secret.is_empty() || request.dns_names.is_empty() {
        return Err(Error::new(
            Kind::Internal,
            format!(
                "Certificate `{}` has no namespace, secretName or dnsNames",
                object::text(certificate, &["metadata", "name"])
            ),
        ));
    }
    Ok(request)
}

fn inject(value: &mut Value, bundle: &Value) {
    for webhook in value
        .get_mut("webhooks")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        object::set(webhook, &["clientConfig", "caBundle"], bundle.clone());
    }
    if let Some(client) = value.pointer_mut("/spec/conversion/webhook/clientConfig") {
        client["caBundle"] = bundle.clone();
    }
}

/// What clusterctl puts on a provider's objects; moves find definitions by it.
pub(super) fn label_provider(value: &mut Value, provider: &str) {
    for (key, label) in [
        ("cluster.x-k8s.io/provider", provider),
        ("clusterctl.cluster.x-k8s.io", ""),
    ] {
        object::set(value, &["metadata", "labels", key], label);
    }
}

/// Definitions and namespaces are never pruned: that would delete everything of the kind or in it.
pub(super) fn protect(value: &mut Value) {
    if ["CustomResourceDefinition", "Namespace"].contains(&object::text(value, &["kind"])) {
        let key = "kustomize.toolkit.fluxcd.io/prune";
        object::set(value, &["metadata", "annotations", key], "disabled");
    }
}

/// Removes descriptions from a definition's schemas: the temporary cluster's API server has less to work through.
pub(super) fn strip_descriptions(value: &mut Value) {
    if object::text(value, &["kind"]) != "CustomResourceDefinition" {
        return;
    }
    let versions = value
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            strip(schema);
        }
    }
}

fn strip(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    if map.get("description").is_some_and(Value::is_string) {
        map.shift_remove("description");
    }
    for (key, value) in map {
        match key.as_str() {
            // Names of properties are not keywords: one may be called `description`.
            "properties" | "patternProperties" => value
                .as_object_mut()
                .into_iter()
                .flatten()
                .for_each(|(_, v)| strip(v)),
            "items" | "additionalProperties" | "not" => strip(value),
            "allOf" | "anyOf" | "oneOf" => {
                value.as_array_mut().into_iter().flatten().for_each(strip)
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn substitutes_variables_and_leaves_other_text() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let mut used = BTreeSet::new();
        let mut value = json!({"a": ["x=${A:=0},y=${B:=:8443}", "${C:=\"\"}", "${$x}", "$A"]});
        substitute(&mut value, &variables, &mut used).unwrap();
        assert_eq!(value, json!({"a": ["x=1,y=:8443", "", "${$x}", "$A"]}));
        assert_eq!(used.into_iter().collect::<String>(), "ABC");
        assert!(substitute(&mut json!("${D}"), &variables, &mut BTreeSet::new()).is_err());
    }

    #[test]
    fn issues_instead_of_cert_manager() {
        let annotated = |kind: &str, rest: Value| {
            let mut v =
                json!({"kind": kind, "metadata": {"name": "x", "annotations": {INJECT: "n/c"}}});
            object::patch(&mut v, &rest);
            v
        };
        let (kept, requests) = certificates(
            vec![
                json!({"kind": "Issuer"}),
                json!({"kind": "Certificate", "metadata": {"name": "c", "namespace": "n"},
                    "spec": {"secretName": "s", "dnsNames": ["a.svc"]}}),
                annotated(
                    "ValidatingWebhookConfiguration",
                    json!({"webhooks": [{"name": "w", "clientConfig": {"service": {}}}]}),
                ),
                annotated(
                    "CustomResourceDefinition",
                    json!({"spec": {"conversion": {"webhook": {"clientConfig": {}}}}}),
                ),
                annotated("CustomResourceDefinition", json!({"spec": {}})),
            ],
            "CA",
        )
        .unwrap();
        assert_eq!(
            requests,
            [CertificateRequest {
                namespace: "n".into(),
                secret: "s".into(),
                dns_names: vec!["a.svc".into()]
            }]
        );
        assert_eq!(kept.len(), 3);
        assert_eq!(kept[0]["webhooks"][0]["clientConfig"]["caBundle"], "Q0E=");
        assert_eq!(
            kept[1]["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"],
            "Q0E="
        );
        assert_eq!(
            kept[2],
            json!({"kind": "CustomResourceDefinition", "metadata": {"name": "x"}, "spec": {}})
        );
    }

    #[test]
    fn strips_descriptions_but_not_properties_of_that_name() {
        let mut crd = json!({"kind": "CustomResourceDefinition", "spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "description": "x", "properties": {"description": {"type": "string", "description": "y"}}}}}]}});
        strip_descriptions(&mut crd);
        assert_eq!(
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            json!({"properties": {"description": {"type": "string"}}})
        );
    }
}
