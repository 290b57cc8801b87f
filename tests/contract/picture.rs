//! What a world and a home look like without what differs from run to run: UIDs, times, addresses, keys and certificates.
//! Two runs that end in the same state have equal pictures. Must not leave out what steps make.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{outside::Home, scene::NAME, world::World};

/// Everything by name.
pub type Picture = BTreeMap<String, String>;

/// The world's end state.
pub fn world(world: &World) -> Picture {
    let inner = world.lock();
    let mut picture = Picture::new();
    for (name, c) in &inner.engine.containers {
        // What depends on the CA, whose key is drawn anew in every run.
        let drawn = |label: &str| label.ends_with("/ca") || label.ends_with("/recipe");
        let labels: BTreeMap<&String, &str> = c
            .labels
            .iter()
            .map(|(k, v)| (k, if drawn(k) { "…" } else { v.as_str() }))
            .collect();
        let told = format!(
            "{} labels {labels:?} network {} running {} by {}",
            c.image, c.network, c.running, c.maker
        );
        picture.insert(format!("container {name}"), told);
    }
    for (name, n) in &inner.engine.networks {
        picture.insert(
            format!("network {name}"),
            format!("{:?} {} {:?}", n.labels, n.subnet, n.options),
        );
    }
    for (name, id) in &inner.engine.images {
        picture.insert(format!("image {name}"), id.clone());
    }
    for (name, labels) in &inner.engine.volumes {
        picture.insert(format!("volume {name}"), format!("{labels:?}"));
    }
    let servers: Vec<String> = inner
        .servers
        .keys()
        .filter(|n| inner.is_up(n))
        .cloned()
        .collect();
    for server in servers {
        let store = inner.servers[&server].store();
        let uids: BTreeMap<&str, String> = store
            .every()
            .filter_map(|(k, o)| Some((o["metadata"]["uid"].as_str()?, format!("{} {}", k.0, k.2))))
            .collect();
        for ((kind, namespace, name), object) in store.every() {
            let told = bare(object.clone(), &uids).to_string();
            picture.insert(format!("{server} {kind} {namespace}/{name}"), told);
        }
    }
    picture
}

fn bare(mut object: Value, uids: &BTreeMap<&str, String>) -> Value {
    let secret = object["kind"] == "Secret";
    let meta = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        meta.shift_remove(field);
    }
    if let Some(owners) = meta
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
    {
        for owner in owners {
            let uid = owner["uid"].as_str().unwrap_or_default().to_owned();
            owner["uid"] = json!(
                uids.get(uid.as_str())
                    .cloned()
                    .unwrap_or_else(|| "nobody".into())
            );
            // An old version in a reference means the same.
            owner.as_object_mut().unwrap().shift_remove("apiVersion");
        }
    }
    // Who applied counts, how often and when does not.
    let mut managers: Vec<String> = meta
        .get("managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|f| f["operation"] == "Apply")
        .map(|f| f["manager"].as_str().unwrap_or_default().to_owned())
        .collect();
    managers.sort();
    meta.insert("managedFields".into(), json!(managers));
    for empty in ["labels", "annotations", "finalizers"] {
        if meta
            .get(empty)
            .is_some_and(|v| v == &json!({}) || v == &json!([]))
        {
            meta.shift_remove(empty);
        }
    }
    if object.pointer("/status/observedGeneration").is_some() {
        object["status"]
            .as_object_mut()
            .unwrap()
            .shift_remove("observedGeneration");
    }
    if let Some(conditions) = object
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    {
        conditions.sort_by_key(|c| c["type"].to_string());
    }
    if secret {
        for data in ["data", "stringData"] {
            if let Some(data) = object.get_mut(data).and_then(Value::as_object_mut) {
                for value in data.values_mut() {
                    *value = json!("…");
                }
            }
        }
    }
    mask(&mut object);
    sorted(object)
}

/// Certificates, addresses and digests over them.
fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if matches!(
                    key.as_str(),
                    "caBundle"
                        | "digest"
                        | "host"
                        | "leaseTransitions"
                        | "holderIdentity"
                        | "acquireTime"
                        | "renewTime"
                ) {
                    *value = json!("…");
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::String(text) => {
            while let Some(from) = text.find("-----BEGIN CERTIFICATE-----") {
                let end = text[from..]
                    .find("-----END CERTIFICATE-----")
                    .map_or(text.len(), |e| from + e + 25);
                text.replace_range(from..end, "…");
            }
            if text.contains("172.18.") {
                let number = |c: char| c.is_ascii_digit() || c == '.';
                let masked: Vec<&str> = text
                    .split("172.18.")
                    .enumerate()
                    .map(|(i, part)| match i {
                        0 => part,
                        _ => part.trim_start_matches(number),
                    })
                    .collect();
                *text = masked.join("an address");
            }
        }
        _ => {}
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<String, Value> =
                map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            json!(sorted)
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// What mctl did, by name: things made and removed in the engine, requests that changed something.
pub fn counts(world: &World) -> BTreeMap<String, usize> {
    let inner = world.lock();
    let mut counts = BTreeMap::new();
    for (what, n) in &inner.engine.made {
        counts.insert(format!("made {what}"), *n);
    }
    for (what, n) in &inner.engine.removed {
        counts.insert(format!("removed {what}"), *n);
    }
    // Leases are renewed as time goes by.
    for (what, n) in inner
        .writes
        .iter()
        .filter(|(what, _)| !what.contains("/leases"))
    {
        counts.insert(what.clone(), *n);
    }
    counts
}

/// Names of the files in a home with their modes, without the lock.
pub fn home(home: &Home) -> Picture {
    let content = home.lock();
    content
        .files
        .iter()
        .map(|(path, (_, mode))| {
            let path = path.display().to_string();
            let name = path
                .split_once(&format!("/{NAME}/"))
                .map_or(path.clone(), |(_, n)| n.to_owned());
            (name, format!("{mode:o}"))
        })
        .collect()
}

/// Lines that differ, at most a few.
pub fn difference<T: PartialEq + std::fmt::Debug>(
    a: &BTreeMap<String, T>,
    b: &BTreeMap<String, T>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
        let (x, y) = (a.get(key), b.get(key));
        if x != y {
            let show =
                |v: Option<&T>| v.map_or("nothing".to_owned(), |v| shorten(&format!("{v:?}")));
            match (x.map(|v| format!("{v:?}")), y.map(|v| format!("{v:?}"))) {
                (Some(x), Some(y)) if x.len() > 300 => {
                    let at = x
                        .bytes()
                        .zip(y.bytes())
                        .take_while(|(p, q)| p == q)
                        .count()
                        .saturating_sub(60);
                    let cut = |t: &str| t.chars().skip(at).take(160).collect::<String>();
                    lines.push(format!("{key}: …{} / …{}", cut(&x), cut(&y)));
                }
                _ => lines.push(format!("{key}: {} / {}", show(x), show(y))),
            }
        }
    }
    lines
}

fn shorten(text: &str) -> String {
    text.chars().take(160).collect()
}
