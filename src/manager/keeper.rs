//! Applies objects and remembers how they looked afterwards, so that looking again costs one small read each. Must not know what it keeps.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;

use super::objects::key;
use crate::{
    Error, Kind, Result,
    ports::kubernetes::{Cluster, gvk, kind, short},
};

/// Longest time for one look.
const LOOK: Duration = Duration::from_secs(10);
/// Longest time for one apply with its retries.
const APPLY: Duration = Duration::from_secs(30);
/// Objects worked on at the same time.
const PARALLEL: usize = 4;

/// How an object was after it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    /// Of what was asked for.
    hash: u64,
    uid: String,
    /// Generation, or the resource version of kinds that have none.
    version: String,
}

impl Applied {
    fn of(hash: u64, meta: &ObjectMeta) -> Self {
        Self {
            hash,
            uid: meta.uid.clone().unwrap_or_default(),
            version: match meta.generation {
                Some(g) => g.to_string(),
                None => meta.resource_version.clone().unwrap_or_default(),
            },
        }
    }
}

/// Keeps objects as they were asked for.
pub struct Keeper {
    cluster: Cluster,
    applied: Mutex<HashMap<String, Applied>>,
}

impl Keeper {
    /// A keeper that remembers nothing yet.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            applied: Mutex::default(),
        }
    }

    /// Brings all objects to what is asked for: namespaces, then CRDs, then the rest. Goes on after a failure and tells the
    /// first; returns what had to be applied.
    pub async fn keep(&self, objects: &[DynamicObject]) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        let mut failed: Option<(Error, usize)> = None;
        for rank in 0..3 {
            let group = objects.iter().filter(|o| rank_of(o) == rank);
            let results: Vec<Result<Option<String>>> = stream::iter(group)
                .map(|o| self.keep_one(o))
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

    async fn keep_one(&self, object: &DynamicObject) -> Result<Option<String>> {
        let id = format!("{} {}", kind(object), key(object));
        let hash = hash(object);
        let live = self.look(object, &id).await?;
        let known = self
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned();
        if let Some(meta) = &live
            && known.as_ref() == Some(&Applied::of(hash, meta))
        {
            return Ok(None);
        }
        let applied = tokio::time::timeout(APPLY, self.cluster.apply(object, &()))
            .await
            .map_err(|_| stalled("apply", &id, APPLY))??;
        self.applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone(), Applied::of(hash, &applied.metadata));
        // The first look after a start applies everything; only a real difference is worth telling.
        let same =
            live.is_some_and(|m| Applied::of(hash, &m) == Applied::of(hash, &applied.metadata));
        Ok((!same).then_some(id))
    }

    async fn look(&self, object: &DynamicObject, id: &str) -> Result<Option<ObjectMeta>> {
        let gvk = gvk(object)?;
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let call = async {
            let api = self
                .cluster
                .api(&gvk, object.metadata.namespace.as_deref())
                .await?;
            api.get_metadata_opt(name).await
        };
        match tokio::time::timeout(LOOK, call).await {
            Err(_) => Err(stalled("read", id, LOOK)),
            // The kind itself is not there: applying waits for it.
            Ok(Err(kube::Error::Discovery(_))) => Ok(None),
            Ok(Err(kube::Error::Api(s))) if s.code == 404 => Ok(None),
            Ok(Err(e)) => Err(Error::failed(format!("cannot read {id}")).because(short(&e))),
            Ok(Ok(found)) => Ok(found.map(|m| m.metadata)),
        }
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
