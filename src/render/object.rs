//! Kubernetes objects as data: from JSON, their order, patches by name. Must not know particular components.

use kube::core::DynamicObject;
use serde_json::{Map, Value};

use crate::{Error, Kind, Result};

/// Text at a path of keys; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter()
        .try_fold(value, |v, key| v.get(key))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Turns data into an object; `place` names where it comes from.
pub(super) fn object(value: Value, place: &str) -> Result<DynamicObject> {
    for path in [&["apiVersion"][..], &["kind"], &["metadata", "name"]] {
        if text(&value, path).is_empty() {
            return Err(Error::new(
                Kind::Internal,
                format!("an object has no {}", path.join(".")),
            )
            .at(place));
        }
    }
    serde_json::from_value(value).map_err(|e| {
        Error::new(Kind::Internal, "an object cannot be read")
            .at(place)
            .because(&e)
    })
}

/// Sorts for applying: namespaces, definitions, the rest as it came, webhooks last.
pub(super) fn sort(objects: &mut [DynamicObject]) {
    objects.sort_by_key(|o| match o.types.as_ref().map_or("", |t| t.kind.as_str()) {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => 3,
        _ => 2,
    });
}

/// Sets what is at a path of keys; maps on the way are made.
pub(super) fn set(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    let mut at = value;
    for key in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[*key];
    }
    *at = new.into();
}

/// Merges a patch: maps by key, `null` removes, lists of maps with a `name` by that name, other lists are replaced.
pub(super) fn patch(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.shift_remove(key);
                } else {
                    patch(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (Value::Array(base), Value::Array(over)) if named(base) && named(over) => {
            for item in over {
                match base.iter_mut().find(|b| b["name"] == item["name"]) {
                    Some(b) => patch(b, item),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, Value::Object(over)) => {
            *base = Value::Object(Map::new());
            patch(base, &Value::Object(over.clone()));
        }
        (base, over) => *base = over.clone(),
    }
}

fn named(list: &[Value]) -> bool {
    !list.is_empty()
        && list
            .iter()
            .all(|i| i.get("name").is_some_and(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_by_name() {
        let mut base = json!({"containers": [{"name": "a", "args": ["x"], "image": "i"}], "volumes": [{"name": "v"}],
            "tolerations": [{"key": "k"}], "gone": 1});
        patch(
            &mut base,
            &json!({"containers": [{"name": "a", "args": ["y"]}], "volumes": [{"name": "w"}], "tolerations": [{"key": "l"}],
            "gone": null, "new": {"deep": {"x": 1, "y": null}}}),
        );
        assert_eq!(
            base,
            json!({"containers": [{"name": "a", "args": ["y"], "image": "i"}], "volumes": [{"name": "v"}, {"name": "w"}],
            "tolerations": [{"key": "l"}], "new": {"deep": {"x": 1}}})
        );
    }

    #[test]
    fn refuses_what_is_no_object() {
        let error = object(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}),
            "here",
        );
        assert!(error.unwrap_err().to_string().contains("no metadata.name"));
    }
}
