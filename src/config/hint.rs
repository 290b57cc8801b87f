//! Words for what is wrong and the fix that is most likely meant. Must not walk documents.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use regex::Regex;
use serde_json::{Map, Value};

use super::{
    problem::{Path, shown},
    scalar::{self, Other, Plain},
};

/// What is said about a field that does not exist.
pub(super) struct Unknown {
    pub(super) what: String,
    pub(super) fix: String,
    /// The field here that was most likely meant.
    pub(super) meant: Option<String>,
}

impl Unknown {
    /// Nothing but the fact.
    pub(super) fn plain(name: &str) -> Self {
        Self {
            what: format!("unknown field {}", shown(name)),
            fix: "remove it".to_owned(),
            meant: None,
        }
    }
}

/// An unknown field: misspelt, in the wrong place, set by the cluster, or made up.
pub(super) fn unknown_field<'a>(
    document: &Value,
    fields: &Map<String, Value>,
    absent: impl Iterator<Item = &'a str>,
    parent: &Path,
    name: &str,
) -> Unknown {
    let plain = |what: String, fix: String| Unknown {
        what,
        fix,
        meant: None,
    };
    if let Some(what) = set_by_cluster(parent, name) {
        return plain(what.to_owned(), "remove it".to_owned());
    }
    let what = format!("unknown field {}", shown(name));
    let near = nearest(name, absent);
    let free = fields
        .iter()
        .find(|(_, f)| f["x-kubernetes-preserve-unknown-fields"] == true);
    let elsewhere = match free {
        Some(_) => Vec::new(),
        None => homes(document, name),
    };
    let exact_elsewhere = matches!(elsewhere.as_slice(), [_]);
    match near {
        // A different spelling of a field here wins over a field of that name elsewhere.
        Some((field, distance)) if distance <= 1 || !exact_elsewhere => Unknown {
            what,
            fix: format!("write `{field}`"),
            meant: Some(field.to_owned()),
        },
        _ => match elsewhere.as_slice() {
            [_] | [_, _] => {
                let homes = either(elsewhere.iter().map(|h| format!("`{h}`")));
                plain(what, format!("move it to {homes}"))
            }
            _ if free.is_some() => {
                let free = free.map_or("", |(name, _)| name.as_str());
                plain(what, format!("move it below `{free}`"))
            }
            _ => {
                let known = either_list(fields.keys().map(String::as_str));
                plain(what, format!("remove it; known here: {known}"))
            }
        },
    }
}

/// Fields of objects in the cluster that no file should hold.
fn set_by_cluster(parent: &Path, name: &str) -> Option<&'static str> {
    const METADATA: &[&str] = &[
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ];
    let parent = parent.to_string();
    match parent.as_str() {
        "the document" if name == "status" => Some("`status` is written by the cluster"),
        "metadata" if METADATA.contains(&name) => Some("this field is written by the cluster"),
        _ => None,
    }
}

/// Places of the schema that have a field of this name.
fn homes(schema: &Value, name: &str) -> Vec<String> {
    fn visit(schema: &Value, at: &str, name: &str, out: &mut Vec<String>) {
        for (key, field) in schema["properties"].as_object().into_iter().flatten() {
            if key == name {
                out.push(if at.is_empty() {
                    "the top level".to_owned()
                } else {
                    at.to_owned()
                });
            }
            let at = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            visit(field, &at, name, out);
        }
        if schema["items"].is_object() {
            visit(&schema["items"], &format!("{at}[]"), name, out);
        }
        if schema["additionalProperties"].is_object() {
            visit(
                &schema["additionalProperties"],
                &format!("{at}.NAME"),
                name,
                out,
            );
        }
    }
    let mut out = Vec::new();
    visit(schema, "", name, &mut out);
    out
}

/// The candidate that is most like the name, if any is like it, with the number of edits between them.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<(&'a str, usize)> {
    let bare = |s: &str| -> String {
        s.chars()
            .filter(|c| !matches!(c, '-' | '_' | ' ' | '.'))
            .flat_map(char::to_lowercase)
            .take(64)
            .collect()
    };
    let wanted = bare(name);
    let scored = candidates.filter_map(|candidate| {
        let other = bare(candidate);
        let edits = strsim::damerau_levenshtein(&wanted, &other);
        let longest = wanted.chars().count().max(other.chars().count());
        let close = edits <= (longest / 3).max(1) && edits < longest;
        // A part of the name stands for it: `version` for `kubernetesVersion`.
        let part = wanted.len() >= 4 && (other.ends_with(&wanted) || other.starts_with(&wanted));
        (close || part).then_some((if close { edits } else { edits.max(2) }, candidate))
    });
    let (edits, candidate) = scored.min_by_key(|(edits, _)| *edits)?;
    Some((candidate, edits))
}

/// "`a`, `b` or `c`".
pub(super) fn either(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = words.collect();
    match (words.pop(), words.as_slice()) {
        (Some(last), []) => last,
        (Some(last), _) => format!("{} or {last}", words.join(", ")),
        (None, _) => String::new(),
    }
}

fn either_list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|w| format!("`{w}`")).collect();
    words.join(", ")
}

/// The fields of an object, if the schema names them.
pub(super) fn fields(schema: &Value) -> Option<String> {
    let fields = schema["properties"].as_object()?;
    Some(either_list(fields.keys().map(String::as_str)))
}

/// An example of a value, as one line of YAML.
pub(super) fn example(schema: &Value) -> String {
    let given = schema["examples"]
        .get(0)
        .or(schema.get("default"))
        .or(schema["enum"].get(0));
    if let Some(given) = given {
        return match given {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten();
            let inner: Vec<String> = required
                .filter_map(Value::as_str)
                .map(|f| format!("{f}: {}", example(&schema["properties"][f])))
                .collect();
            format!("{{{}}}", inner.join(", "))
        }
        Some("array") => format!("[{}]", example(&schema["items"])),
        Some("integer") => "1".to_owned(),
        Some("boolean") => "true".to_owned(),
        _ => "text".to_owned(),
    }
}

/// Name of a type after "expected ".
pub(super) fn expected(schema_type: &str) -> &'static str {
    match schema_type {
        "string" => "text",
        "integer" => "a whole number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        _ => "fields",
    }
}

/// Description of a scalar after "found ".
pub(super) fn found(text: &str, plain: bool) -> String {
    if !plain {
        return format!("the text {}", shown(&format!("\"{text}\"")));
    }
    match scalar::plain(text) {
        Plain::Bool(_) => format!("the boolean {}", shown(text)),
        Plain::Int(_) | Plain::Float(_) => format!("the number {}", shown(text)),
        _ => shown(text),
    }
}

/// A scalar of the wrong type.
pub(super) fn wrong_scalar(
    text: &str,
    plain: bool,
    wanted: &str,
    schema: &Value,
) -> (String, String) {
    let meaning = if plain {
        scalar::plain(text)
    } else {
        Plain::Text
    };
    let as_is = scalar::plain(text);
    let what = format!(
        "expected {}, found {}",
        expected(wanted),
        found(text, plain)
    );
    let fix = match (wanted, meaning) {
        ("string", Plain::Unclear(other)) => {
            let (reading, _) = readings(other);
            return (
                format!(
                    "{} is not clearly text: some YAML readers take it for {reading}",
                    shown(text)
                ),
                format!("put it in quotes: `\"{text}\"`"),
            );
        }
        ("string", _) => match unfit(&text.into(), schema, None) {
            None => format!("put it in quotes: `\"{text}\"`"),
            Some((_, fix)) => fix,
        },
        ("boolean", Plain::Unclear(Other::Bool(b))) => format!("write `{b}`"),
        ("boolean", Plain::Text) if matches!(as_is, Plain::Bool(_)) => {
            format!("remove the quotes: `{text}`")
        }
        ("boolean", _) => match (nearest(text, ["true", "false"].into_iter()), as_is) {
            (Some((word, _)), _) => format!("write `{word}`"),
            (None, Plain::Int(n @ (0 | 1))) => format!("write `{}`", n == 1),
            (None, Plain::Unclear(Other::Bool(b))) => format!("write `{b}`"),
            _ => "write `true` or `false`".to_owned(),
        },
        (_, Plain::Unclear(Other::Number(Some(n)))) => format!("write `{n}`"),
        (_, Plain::Text) if matches!(as_is, Plain::Int(_)) => {
            format!("remove the quotes: `{text}`")
        }
        _ => format!("write a number such as `{}`", example(schema)),
    };
    (what, fix)
}

/// A word that readers take for different things, where anything is allowed.
pub(super) fn unclear(text: &str, other: Other) -> (String, String) {
    let (reading, value) = readings(other);
    let what = format!(
        "{} is not clear: some YAML readers take it for {reading}, some for text",
        shown(text)
    );
    let fix = match value {
        Some(value) => format!("write `{value}`, or `\"{text}\"` for the text"),
        None => format!("put it in quotes: `\"{text}\"`"),
    };
    (what, fix)
}

fn readings(other: Other) -> (&'static str, Option<String>) {
    match other {
        Other::Bool(b) => ("a boolean", Some(b.to_string())),
        Other::Null => ("nothing", Some("null".to_owned())),
        Other::Number(n) => ("a number", n.map(|n| n.to_string())),
    }
}

/// A value of the right type that the schema refuses all the same; `None`: it fits.
pub(super) fn unfit(value: &Value, schema: &Value, name: Option<&str>) -> Option<(String, String)> {
    let write = |value: &str| match name {
        Some(name) => format!("write `{name}: {value}`"),
        None => format!("write `{value}`"),
    };
    let word = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let found = word(value);
        let words: Vec<String> = allowed.iter().map(word).collect();
        let one = (words.len() == 1).then(|| words[0].as_str());
        let meant = one.or_else(|| nearest(&found, words.iter().map(String::as_str)).map(|n| n.0));
        let what = format!(
            "expected {}, found {}",
            either(words.iter().map(|w| format!("`{w}`"))),
            shown(&found)
        );
        return Some((
            what,
            meant.map_or_else(|| "write one of these".to_owned(), write),
        ));
    }
    if let Some(n) = value.as_i64() {
        let bound = |key: &str| schema[key].as_f64().map(|b| b as i64);
        if let Some(max) = bound("maximum").filter(|max| n > *max) {
            return Some((
                format!("{n} is too much, at most {max} is allowed"),
                format!("write {max} or less"),
            ));
        }
        if let Some(min) = bound("minimum").filter(|min| n < *min) {
            return Some((
                format!("{n} is too little, at least {min} is needed"),
                format!("write {min} or more"),
            ));
        }
    }
    let text = value.as_str()?;
    if let Some(max) = schema["maxLength"].as_u64()
        && text.chars().count() as u64 > max
    {
        return Some((
            format!(
                "too long: {} characters, at most {max} are allowed",
                text.chars().count()
            ),
            format!("shorten it to {max} characters"),
        ));
    }
    let pattern = schema["pattern"].as_str()?;
    if fits(pattern, text) {
        return None;
    }
    let says = schema["patternErrorMessage"]
        .as_str()
        .unwrap_or("another form");
    let found = if text.is_empty() {
        "empty text".to_owned()
    } else {
        shown(text)
    };
    let fix = match mended(pattern, text) {
        Some(better) => format!("write `{better}`"),
        None => format!("write a value such as `{}`", example(schema)),
    };
    Some((format!("expected {says}, found {found}"), fix))
}

/// The text in the wanted form, if a usual slip separates it from that.
fn mended(pattern: &str, text: &str) -> Option<String> {
    let text = text.trim();
    let fitting = |candidates: &[String]| candidates.iter().find(|c| fits(pattern, c)).cloned();
    if text.len() > 300 || text.is_empty() {
        return None;
    }
    let host = |address: &str| {
        let host = address.split('/').next().unwrap_or(address);
        host.to_lowercase()
    };
    if let Some((_, bare)) = text.split_once("://") {
        // Do not repeat what may be a password.
        if text.contains('@') {
            return None;
        }
        let untagged = text.rsplit_once(':').map_or(text, |(front, _)| front);
        return fitting(&[
            format!("https://{bare}"),
            format!("oci://{bare}"),
            bare.to_owned(),
            host(bare),
            untagged.to_owned(),
        ]);
    }
    let lower = text.to_lowercase();
    let dashed = lower.replace(['_', ' ', '.', '/'], "-");
    let mut candidates = vec![text.to_owned()];
    if pattern.starts_with("^v") {
        candidates.push(format!("v{}", text.trim_start_matches(['v', 'V'])));
    }
    if let Some((user_and_host, path)) = text.split_once(':')
        && user_and_host.contains('@')
    {
        candidates.push(format!("ssh://{user_and_host}/{path}"));
    }
    if text.starts_with('/') {
        let short = text.replace("//", "/");
        candidates.extend([format!(".{text}"), short.trim_end_matches('/').to_owned()]);
    } else {
        candidates.extend([format!("https://{text}"), format!("oci://{text}")]);
    }
    if text.contains('/') && host(text).contains(['.', ':']) {
        candidates.push(host(text));
    }
    candidates.extend([
        lower.trim_matches('-').trim_end_matches('.').to_owned(),
        dashed.trim_matches('-').to_owned(),
        format!("{text}/16"),
    ]);
    fitting(&candidates)
}

/// True if the text has this form. Patterns are the schema's own; one that cannot be read fits nothing (a test sees to it).
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    static KNOWN: OnceLock<Mutex<HashMap<String, Option<Regex>>>> = OnceLock::new();
    let mut known = KNOWN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    known
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).ok())
        .as_ref()
        .is_some_and(|r| r.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        let table = [
            ("replcias", Some("replicas")),
            ("Replicas", Some("replicas")),
            ("pod_cidr", Some("podCidr")),
            ("podCIDR", Some("podCidr")),
            ("version", Some("kubernetesVersion")),
            ("nodepool", Some("nodePools")),
            ("zebra", None),
            ("a", None),
        ];
        let fields = ["replicas", "podCidr", "kubernetesVersion", "nodePools"];
        for (name, meant) in table {
            assert_eq!(
                nearest(name, fields.into_iter()).map(|n| n.0),
                meant,
                "{name}"
            );
        }
    }
}
