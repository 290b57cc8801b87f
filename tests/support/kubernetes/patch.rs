//! Patches as the fake server understands them. Must not know about storage.

use serde_json::{Map, Value, json};

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().shift_remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

/// RFC 6902; the error is what did not fit.
pub(super) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), String> {
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| e.to_string())?;
    json_patch::patch(target, &patch).map_err(|e| e.to_string())
}

/// Server-side apply without lists by key: what the manager applied before and does not apply now goes, the rest is merged.
pub(super) fn apply(target: &mut Value, before: Option<&Value>, now: &Value, others: &[&Value]) {
    if let Some(before) = before {
        prune(target, before, now, others);
    }
    overlay(target, now);
}

fn overlay(target: &mut Value, now: &Value) {
    match now {
        Value::Object(now) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (name, value) in now {
                overlay(&mut target[name.as_str()], value);
            }
        }
        other => *target = other.clone(),
    }
}

fn prune(target: &mut Value, before: &Value, now: &Value, others: &[&Value]) {
    let (Some(before), Some(target)) = (before.as_object(), target.as_object_mut()) else {
        return;
    };
    for (name, old) in before {
        let others: Vec<&Value> = others.iter().filter_map(|o| o.get(name)).collect();
        match now.get(name) {
            Some(new) => {
                if let Some(inner) = target.get_mut(name) {
                    prune(inner, old, new, &others);
                }
            }
            None if others.is_empty() => {
                target.shift_remove(name);
            }
            None => {
                if let Some(inner) = target.get_mut(name) {
                    prune(inner, old, &json!({}), &others);
                }
            }
        }
    }
}

/// `fieldsV1` of maps; lists are one field.
pub(super) fn fields(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (format!("f:{name}"), fields(value)))
            .collect::<Map<_, _>>()
            .into(),
        _ => json!({}),
    }
}
