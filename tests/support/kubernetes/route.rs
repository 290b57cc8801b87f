//! From HTTP requests to the fake server's store and back. Must not hold state.

use futures::{StreamExt, channel::mpsc, stream::BoxStream};
use http::request::Parts;
use serde_json::{Value, json};

use super::{
    Call, patch,
    store::{KindInfo, Refusal, Store, at_version, refuse, text},
};

/// What a request is answered with.
pub(super) enum Answer {
    /// One JSON document.
    Json(u16, Value),
    /// Watch events.
    Watch(BoxStream<'static, Value>),
}

impl Answer {
    /// A failure that has nothing to do with the request.
    pub(super) fn injected(code: u16) -> Self {
        let reason = match code {
            409 => "Conflict",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        Self::Json(code, status(code, reason, "injected failure", json!({})))
    }
}

fn status(code: u16, reason: &str, message: &str, details: Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": details,
    })
}

struct Query(Vec<(String, String)>);

impl Query {
    fn of(text: &str) -> Self {
        let decode = |s: &str| percent(&s.replace('+', " "));
        Self(
            text.split('&')
                .filter(|p| !p.is_empty())
                .map(|p| p.split_once('=').unwrap_or((p, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(k, _)| k == name)
            .map_or("", |(_, v)| v)
    }

    fn is(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }
}

fn percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' && i + 2 < bytes.len() {
            out.push(u8::from_str_radix(&text[i + 1..i + 3], 16).unwrap_or(b'?'));
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn handle(store: &mut Store, parts: &Parts, call: &Call, body: &[u8]) -> Answer {
    let query = Query::of(&call.query);
    let path: Vec<&str> = call.path.split('/').filter(|p| !p.is_empty()).collect();
    let result = match path.as_slice() {
        ["version"] => Ok(Answer::Json(
            200,
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "linux/amd64"}),
        )),
        ["readyz" | "livez" | "healthz"] => Ok(Answer::Json(200, json!("ok"))),
        ["api"] => Ok(Answer::Json(
            200,
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        )),
        ["apis"] => Ok(Answer::Json(200, groups(store))),
        ["api", version] => discovery(store, "", version),
        ["apis", group, version] => discovery(store, group, version),
        ["api", version, rest @ ..] => resource(store, parts, "", version, rest, &query, body),
        ["apis", group, version, rest @ ..] => {
            resource(store, parts, group, version, rest, &query, body)
        }
        _ => unknown(),
    };
    result.unwrap_or_else(|r| Answer::Json(r.code, status(r.code, r.reason, &r.message, r.details)))
}

fn unknown<T>() -> Result<T, Refusal> {
    Err(Refusal {
        code: 404,
        reason: "NotFound",
        message: "the server could not find the requested resource".into(),
        details: json!({}),
    })
}

fn groups(store: &Store) -> Value {
    let mut groups: Vec<Value> = Vec::new();
    for kind in store.kinds().iter().filter(|k| !k.group.is_empty()) {
        if groups.iter().any(|g| g["name"] == kind.group) {
            continue;
        }
        let versions: Vec<Value> = kind
            .versions
            .iter()
            .map(|v| json!({"groupVersion": kind.api_version(v), "version": v}))
            .collect();
        groups.push(
            json!({"name": kind.group, "preferredVersion": versions[0], "versions": versions}),
        );
    }
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn discovery(store: &Store, group: &str, version: &str) -> Result<Answer, Refusal> {
    let resources: Vec<Value> = store
        .kinds()
        .iter()
        .filter(|k| k.group == group && k.versions.iter().any(|v| v == version))
        .map(|k| {
            json!({
                "name": k.plural, "singularName": "", "namespaced": k.namespaced, "kind": k.kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    if resources.is_empty() {
        return unknown();
    }
    let name = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(Answer::Json(
        200,
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}),
    ))
}

fn resource(
    store: &mut Store,
    parts: &Parts,
    group: &str,
    version: &str,
    rest: &[&str],
    query: &Query,
    body: &[u8],
) -> Result<Answer, Refusal> {
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..]
            if !matches!(*plural, "status" | "finalize") =>
        {
            (Some(*namespace), [&[*plural], rest].concat())
        }
        _ => (None, rest.to_vec()),
    };
    let Some(info) = rest.first().and_then(|plural| {
        store
            .kinds()
            .iter()
            .find(|k| {
                k.group == group && k.plural == *plural && k.versions.iter().any(|v| v == version)
            })
            .cloned()
    }) else {
        return unknown();
    };
    // A dry run answers from a copy of the one object that could change.
    let dry = query.get("dryRun") == "All";
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let manager = match query.get("fieldManager") {
        "" => "unknown",
        m => m,
    };
    let ok = |code, object: Value| Ok(Answer::Json(code, at_version(&object, version)));
    match (parts.method.as_str(), rest.as_slice()) {
        ("GET", [_]) if query.is("watch") => {
            let wants = filter(namespace, query);
            let since = query.get("resourceVersion").parse().unwrap_or(0);
            let (send, receive) = mpsc::unbounded();
            store.watch(&info, version, since, wants, send);
            Ok(Answer::Watch(receive.boxed()))
        }
        ("GET", [_]) => Ok(list(store, parts, &info, version, namespace, query)),
        ("POST", [_]) => {
            if dry {
                let name = text(&json, "/metadata/name").to_owned();
                let key = Store::key(&info, namespace.unwrap_or_default(), &name);
                if store.load(&key).is_ok() {
                    return refuse(409, "AlreadyExists", &key, "already exists");
                }
                return ok(201, json);
            }
            ok(
                201,
                store.create(&info, namespace.unwrap_or_default(), json, manager)?,
            )
        }
        (method, [_, name, sub @ ..]) => {
            let key = Store::key(&info, namespace.unwrap_or_default(), name);
            let status_only = match sub {
                [] => false,
                ["status"] => true,
                _ => return unknown(),
            };
            match method {
                "GET" => ok(200, store.load(&key)?),
                "DELETE" if dry => ok(200, store.load(&key)?),
                "DELETE" => match store.delete(&info, &key, &json)? {
                    (true, object) => Ok(Answer::Json(
                        200,
                        json!({
                            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                            "details": {"name": key.2, "kind": info.plural, "uid": object["metadata"]["uid"]},
                        }),
                    )),
                    (false, object) => ok(200, object),
                },
                "PUT" if dry => ok(200, json),
                "PUT" => {
                    store.must_be(&key, text(&json, "/metadata/uid"))?;
                    ok(200, store.update(&info, &key, json, manager, status_only)?)
                }
                "PATCH" => {
                    let format = parts
                        .headers
                        .get("content-type")
                        .and_then(|v| v.to_str().ok())
                        .unwrap_or_default();
                    if format.starts_with("application/apply-patch") {
                        if status_only {
                            let mut new = store.load(&key)?;
                            patch::merge(&mut new["status"], &json["status"]);
                            return ok(200, store.update(&info, &key, new, manager, true)?);
                        }
                        if dry {
                            return ok(200, json);
                        }
                        return ok(
                            200,
                            store.apply(&info, &key, json, manager, query.is("force"))?,
                        );
                    }
                    let mut new = store.load(&key)?;
                    if format.starts_with("application/json-patch") {
                        if let Err(e) = patch::json_patch(&mut new, &json) {
                            return refuse(422, "Invalid", &key, &e);
                        }
                    } else {
                        patch::merge(&mut new, &json);
                    }
                    // Without a precondition of its own a patch fits every version.
                    if text(&json, "/metadata/resourceVersion").is_empty() {
                        new["metadata"]
                            .as_object_mut()
                            .unwrap()
                            .shift_remove("resourceVersion");
                    }
                    if dry {
                        return ok(200, new);
                    }
                    ok(200, store.update(&info, &key, new, manager, status_only)?)
                }
                _ => unknown(),
            }
        }
        _ => unknown(),
    }
}

fn list(
    store: &Store,
    parts: &Parts,
    info: &KindInfo,
    version: &str,
    namespace: Option<&str>,
    query: &Query,
) -> Answer {
    let wants = filter(namespace, query);
    let kind = format!("{}.{}", info.plural, info.group);
    let all: Vec<Value> = store
        .list(&kind, None)
        .into_iter()
        .filter(|o| wants(o))
        .collect();
    let from: usize = query.get("continue").parse().unwrap_or(0);
    let limit: usize = query
        .get("limit")
        .parse()
        .unwrap_or(usize::MAX)
        .min(store.page);
    let total = all.len();
    let metadata_only = parts
        .headers
        .get("accept")
        .and_then(|v| v.to_str().ok())
        .is_some_and(|a| a.contains("PartialObjectMetadataList"));
    let items: Vec<Value> = all
        .into_iter()
        .skip(from)
        .take(limit)
        .map(|o| {
            let mut o = at_version(&o, version);
            if metadata_only {
                o = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]});
            }
            o
        })
        .collect();
    let mut metadata = json!({"resourceVersion": store.revision().to_string()});
    if from + items.len() < total {
        metadata["continue"] = json!((from + items.len()).to_string());
    }
    Answer::Json(
        200,
        json!({
            "apiVersion": info.api_version(version), "kind": format!("{}List", info.kind),
            "metadata": metadata, "items": items,
        }),
    )
}

fn filter(namespace: Option<&str>, query: &Query) -> Box<dyn Fn(&Value) -> bool + Send> {
    let namespace = namespace.map(str::to_owned);
    let labels = requirements(query.get("labelSelector"));
    let fields: Vec<(String, String)> = query
        .get("fieldSelector")
        .split(',')
        .filter_map(|f| f.split_once('='))
        .map(|(k, v)| {
            (
                format!("/{}", k.replace('.', "/")),
                v.trim_start_matches('=').to_owned(),
            )
        })
        .collect();
    Box::new(move |o| {
        namespace
            .as_ref()
            .is_none_or(|n| o["metadata"]["namespace"] == n.as_str())
            && fields.iter().all(|(path, value)| text(o, path) == value)
            && labels
                .iter()
                .all(|l| l.fits(o["metadata"]["labels"].get(&l.name)))
    })
}

struct Requirement {
    name: String,
    /// Allowed values; `None` means any.
    values: Option<Vec<String>>,
    wanted: bool,
}

impl Requirement {
    fn fits(&self, label: Option<&Value>) -> bool {
        let found = match (&self.values, label.and_then(Value::as_str)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(values), Some(label)) => values.iter().any(|v| v == label),
        };
        found == self.wanted
    }
}

fn requirements(selector: &str) -> Vec<Requirement> {
    // Commas inside parentheses belong to a set.
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in selector.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    let require = |name: &str, values: Option<Vec<String>>, wanted| Requirement {
        name: name.trim().to_owned(),
        values,
        wanted,
    };
    let one = |v: &str| Some(vec![v.trim().to_owned()]);
    parts
        .iter()
        .map(|p| p.trim())
        .filter(|p| !p.is_empty())
        .map(|p| {
            let set = |p: &str, word: &str| {
                p.split_once(word).map(|(name, values)| {
                    let values = values.trim().trim_matches(['(', ')']).split(',');
                    (
                        name.to_owned(),
                        values.map(|v| v.trim().to_owned()).collect::<Vec<_>>(),
                    )
                })
            };
            if let Some((name, values)) = set(p, " notin ") {
                require(&name, Some(values), false)
            } else if let Some((name, values)) = set(p, " in ") {
                require(&name, Some(values), true)
            } else if let Some((name, value)) = p.split_once("!=") {
                require(name, one(value), false)
            } else if let Some((name, value)) = p.split_once("==").or_else(|| p.split_once('=')) {
                require(name, one(value), true)
            } else if let Some(name) = p.strip_prefix('!') {
                require(name, None, false)
            } else {
                require(p, None, true)
            }
        })
        .collect()
}
