//! Applies objects and remembers how they looked afterwards, so that looking again costs one small read each. Must not know what it keeps.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, core::DynamicObject};
use serde_json::Value;

use crate::{
    Error, Kind, Result,
    ports::kubernetes::{Cluster, gvk, kind, objects::key, short},
};

/// Longest time for one look.
const LOOK: Duration = Duration::from_secs(10);
/// Longest time for one apply with its retries.
const APPLY: Duration = Duration::from_secs(30);
/// Objects worked on at the same time.
const PARALLEL: usize = 4;

/// How an object was when it was last seen to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Good {
    /// Of what was asked for.
    hash: u64,
    uid: String,
    /// Changes whenever the content does; kinds without it are compared in full every time.
    generation: i64,
}

impl Good {
    fn of(hash: u64, meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            hash,
            uid: meta.uid.clone()?,
            generation: meta.generation?,
        })
    }
}

/// Keeps objects as they were asked for.
pub struct Keeper {
    cluster: Cluster,
    good: Mutex<HashMap<String, Good>>,
}

impl Keeper {
    /// A keeper that remembers nothing yet.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            good: Mutex::default(),
        }
    }

    /// Brings all objects to what is asked for: namespaces, then CRDs, then the rest. Goes on after a failure and tells the
    /// first; returns what had to be applied.
    pub async fn keep(&self, objects: &[DynamicObject]) -> Result<Vec<String>> {
        self.keep_with(objects, None::<&fn() -> std::future::Ready<Result<()>>>)
            .await
    }

    /// The same for objects that somebody may take away meanwhile: `may` is asked before each write, and an object that was
    /// there a moment ago is only changed, never made anew.
    pub async fn keep_while<F: Future<Output = Result<()>>>(
        &self,
        objects: &[DynamicObject],
        may: &impl Fn() -> F,
    ) -> Result<Vec<String>> {
        self.keep_with(objects, Some(may)).await
    }

    async fn keep_with<F: Future<Output = Result<()>>>(
        &self,
        objects: &[DynamicObject],
        may: Option<&impl Fn() -> F>,
    ) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        let mut failed: Option<(Error, usize)> = None;
        for rank in 0..3 {
            let group = objects.iter().filter(|o| rank_of(o) == rank);
            let results: Vec<Result<Option<String>>> = stream::iter(group)
                .map(|o| self.keep_one(o, may))
                .buffer_unordered(PARALLEL)
                .collect()
                .await;
            for result in results {
                match result {
                    Ok(done) => changed.extend(done),
                    Err(e) => failed = Some(failed.map_or((e, 0), |(first, n)| (first, n + 1))),
                }
            }
        }
        match failed {
            None => Ok(changed),
            Some((e, 0)) => Err(e),
            Some((e, more)) => Err(e.because(format!("and {more} more objects failed"))),
        }
    }

    async fn keep_one<F: Future<Output = Result<()>>>(
        &self,
        object: &DynamicObject,
        may: Option<&impl Fn() -> F>,
    ) -> Result<Option<String>> {
        let id = format!("{} {}", kind(object), key(object));
        let hash = hash(object);
        if let Some(known) = self.known(&id) {
            let meta = self
                .look(object, &id, async |api, name| {
                    api.get_metadata_opt(name).await
                })
                .await?;
            if meta.and_then(|m| Good::of(hash, &m.metadata)).as_ref() == Some(&known) {
                return Ok(None);
            }
        }
        let live = self
            .look(object, &id, async |api, name| api.get_opt(name).await)
            .await?;
        if let Some(live) = &live
            && holds(live, object)
        {
            self.remember(&id, Good::of(hash, &live.metadata));
            return Ok(None);
        }
        let mut asked = object.clone();
        if let Some(may) = may {
            may().await?;
            // With a UID the API server refuses to make what is not there any more.
            asked.metadata.uid = live.and_then(|l| l.metadata.uid);
        }
        let applied = tokio::time::timeout(APPLY, self.cluster.apply(&asked, &()))
            .await
            .map_err(|_| stalled("apply", &id, APPLY))??;
        self.remember(&id, Good::of(hash, &applied.metadata));
        Ok(Some(id))
    }

    fn known(&self, id: &str) -> Option<Good> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(id).cloned()
    }

    fn remember(&self, id: &str, now: Option<Good>) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        match now {
            Some(now) => good.insert(id.to_owned(), now),
            None => good.remove(id),
        };
    }

    async fn look<T>(
        &self,
        object: &DynamicObject,
        id: &str,
        get: impl AsyncFnOnce(Api<DynamicObject>, &str) -> Result<Option<T>, kube::Error>,
    ) -> Result<Option<T>> {
        let gvk = gvk(object)?;
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let call = async {
            let api = self
                .cluster
                .api(&gvk, object.metadata.namespace.as_deref())
                .await?;
            get(api, name).await
        };
        match tokio::time::timeout(LOOK, call).await {
            Err(_) => Err(stalled("read", id, LOOK)),
            // The kind itself is not there: applying waits for it.
            Ok(Err(kube::Error::Discovery(_))) => Ok(None),
            Ok(Err(kube::Error::Api(s))) if s.code == 404 => Ok(None),
            Ok(Err(e)) => Err(Error::failed(format!("cannot read {id}")).because(short(&e))),
            Ok(Ok(found)) => Ok(found),
        }
    }
}

/// True when an object has all that is asked for; what others added does not count. Flux takes over the fields that mctl
/// applied, so ownership says nothing: the content does.
fn holds(live: &DynamicObject, want: &DynamicObject) -> bool {
    let texts = |m: &Option<BTreeMap<String, String>>| m.clone().unwrap_or_default();
    let within = |live: &BTreeMap<String, String>, want: &BTreeMap<String, String>| {
        want.iter().all(|(k, v)| live.get(k) == Some(v))
    };
    let (l, w) = (&live.metadata, &want.metadata);
    within(&texts(&l.labels), &texts(&w.labels))
        && within(&texts(&l.annotations), &texts(&w.annotations))
        && contains(&live.data, &want.data)
}

fn contains(live: &Value, want: &Value) -> bool {
    match (live, want) {
        (Value::Object(live), Value::Object(want)) => want.iter().all(|(k, v)| match live.get(k) {
            Some(l) => contains(l, v),
            // The API server leaves out what is empty.
            None => is_empty(v),
        }),
        (Value::Array(live), Value::Array(want)) => {
            live.len() == want.len() && live.iter().zip(want).all(|(l, w)| contains(l, w))
        }
        _ => live == want,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn stalled(verb: &str, id: &str, limit: Duration) -> Error {
    Error::new(Kind::Stalled, format!("cannot {verb} {id}"))
        .because(format!("no success within {} s", limit.as_secs()))
}

fn rank_of(object: &DynamicObject) -> u8 {
    match kind(object) {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    }
}

fn hash(object: &DynamicObject) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Rendering is deterministic, so equal objects have equal text.
    serde_json::to_string(object)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(extra: Value) -> DynamicObject {
        let mut v = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "r", "namespace": "n", "labels": {"a": "1"}},
            "rules": [{"apiGroups": [""], "verbs": ["get"]}]});
        crate::catalog::template::merge(&mut v, &extra);
        serde_json::from_value(v).unwrap()
    }

    #[tokio::test]
    async fn nothing_is_written_after_a_move_began_and_nothing_is_made_anew() {
        use crate::manager::fake::{Answer, cluster};
        let live = json!({"apiVersion": "v1", "kind": "Secret", "metadata":
            {"name": "s", "namespace": "n", "uid": "u1", "generation": 1}, "type": "old"});
        let (cluster, seen) = cluster(move |method, path, body| match method {
            "GET" if path.ends_with("/s") => Answer::Ok(live.clone()),
            "GET" => Answer::missing("secrets"),
            _ => Answer::Ok(body),
        });
        let secret = |name: &str| -> DynamicObject {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": name, "namespace": "n"}, "type": "new"}))
            .unwrap()
        };
        let keeper = Keeper::new(cluster);
        let wanted = [secret("s"), secret("t")];
        let refused = async || Err(Error::failed("the Cluster is paused"));
        let told = keeper.keep_while(&wanted, &refused).await.unwrap_err();
        assert!(told.line().contains("paused"), "{}", told.line());
        assert!(seen.of("PATCH").is_empty());
        let free = async || Ok(());
        assert_eq!(keeper.keep_while(&wanted, &free).await.unwrap().len(), 2);
        for (path, body) in seen.of("PATCH") {
            let uid = if path.ends_with("/s") {
                json!("u1")
            } else {
                json!(null)
            };
            assert_eq!(body["metadata"]["uid"], uid, "{path}");
        }
    }

    #[test]
    fn additions_of_others_are_good_and_changes_are_not() {
        let want = role(json!({}));
        let cases = [
            (
                json!({"metadata": {"labels": {"b": "2"}, "resourceVersion": "7"}}),
                true,
            ),
            (json!({"metadata": {"labels": {"a": "2"}}}), false),
            (json!({"metadata": {"labels": {"a": null}}}), false),
            (
                json!({"rules": [{"apiGroups": [""], "verbs": ["get"], "resources": ["x"]}]}),
                true,
            ),
            (json!({"rules": []}), false),
            (json!({"rules": null}), false),
        ];
        for (extra, good) in cases {
            assert_eq!(holds(&role(extra.clone()), &want), good, "{extra}");
        }
        let empty = role(json!({"more": {"x": [], "y": {"z": null}}}));
        assert!(holds(&want, &empty));
    }
}
