//! What the registry holds: artifacts in memory, replaceable at any time, and a bundle. Must not know about HTTP.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;

use super::Artifact;
use crate::{
    Error, Result,
    bundle::{Blob, Bundle, Digest, full_repository, is_tag},
};

/// A client that has read the manifest of an artifact may still ask for its content after that was replaced.
const KEPT_GENERATIONS: usize = 4;

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Exactly the stored bytes.
    pub bytes: Bytes,
}

/// Content of the registry; shared between the server and whoever renews artifacts.
#[derive(Debug, Default)]
pub struct Store {
    bundle: Option<Bundle>,
    artifacts: RwLock<Artifacts>,
}

#[derive(Debug, Default)]
struct Artifacts {
    /// By repository and tag; the newest generation first.
    tags: BTreeMap<String, BTreeMap<String, VecDeque<Arc<Artifact>>>>,
    manifests: HashMap<Digest, Document>,
    blobs: HashMap<Digest, Blob>,
}

impl Store {
    /// Serves this bundle, if there is one, beside the artifacts.
    pub fn new(bundle: Option<Bundle>) -> Self {
        Self {
            bundle,
            artifacts: RwLock::default(),
        }
    }

    /// Puts an artifact in place of what this tag had; equal content changes nothing. Artifacts come before the bundle's images.
    pub fn put_artifact(&self, repository: &str, tag: &str, artifact: Artifact) -> Result<()> {
        let name = full_repository(repository).filter(|_| is_tag(tag));
        let Some(name) = name else {
            return Err(Error::failed(format!(
                "{repository}:{tag} is no name for an artifact"
            )));
        };
        let mut all = self
            .artifacts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let generations = all
            .tags
            .entry(name)
            .or_default()
            .entry(tag.to_owned())
            .or_default();
        if generations
            .front()
            .is_some_and(|newest| newest.digest == artifact.digest)
        {
            return Ok(());
        }
        generations.push_front(Arc::new(artifact));
        generations.truncate(KEPT_GENERATIONS);
        all.index();
        Ok(())
    }

    /// A manifest by tag in one of these repositories, or by digest.
    pub(super) fn manifest(&self, repositories: &[String], reference: &str) -> Option<Document> {
        let artifacts = self
            .artifacts
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let digest = match Digest::parse(reference) {
            Some(digest) => digest,
            None => repositories.iter().find_map(|name| {
                let own = artifacts
                    .tags
                    .get(name)
                    .and_then(|tags| tags.get(reference)?.front());
                own.map(|artifact| artifact.digest.clone()).or_else(|| {
                    let layout = self.bundle.as_ref()?.layout();
                    layout.repositories.get(name)?.get(reference).cloned()
                })
            })?,
        };
        if let Some(document) = artifacts.manifests.get(&digest) {
            return Some(document.clone());
        }
        let manifest = self.bundle.as_ref()?.layout().manifests.get(&digest)?;
        Some(Document {
            media_type: manifest.descriptor.media_type.clone(),
            digest,
            bytes: manifest.bytes.clone(),
        })
    }

    /// Content by digest. May open a file.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        let artifacts = self
            .artifacts
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = artifacts.blobs.get(digest) {
            return Ok(Some(blob.clone()));
        }
        match &self.bundle {
            // What the graph does not reach is none of the bundle's content.
            Some(bundle) if bundle.holds(digest) => bundle.blob(digest),
            _ => Ok(None),
        }
    }

    /// Tags of these repositories, sorted; `None` when there is none of them.
    pub(super) fn tags(&self, repositories: &[String]) -> Option<BTreeSet<String>> {
        let artifacts = self
            .artifacts
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let bundle = self
            .bundle
            .as_ref()
            .map(|bundle| &bundle.layout().repositories);
        let mut tags = BTreeSet::new();
        let mut known = false;
        for name in repositories {
            if let Some(own) = artifacts.tags.get(name) {
                known = true;
                tags.extend(own.keys().cloned());
            }
            if let Some(bundled) = bundle.and_then(|repositories| repositories.get(name)) {
                known = true;
                tags.extend(bundled.keys().cloned());
            }
        }
        known.then_some(tags)
    }

    /// All repositories, sorted.
    pub fn repositories(&self) -> BTreeSet<String> {
        let artifacts = self
            .artifacts
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let bundled = self
            .bundle
            .iter()
            .flat_map(|b| b.layout().repositories.keys());
        artifacts.tags.keys().chain(bundled).cloned().collect()
    }
}

impl Artifacts {
    fn index(&mut self) {
        self.manifests.clear();
        self.blobs.clear();
        for artifact in self.tags.values().flat_map(BTreeMap::values).flatten() {
            self.manifests.insert(
                artifact.digest.clone(),
                Document {
                    media_type: artifact.media_type.clone(),
                    digest: artifact.digest.clone(),
                    bytes: artifact.manifest.clone(),
                },
            );
            self.blobs.extend(artifact.blobs.iter().cloned());
        }
    }
}
