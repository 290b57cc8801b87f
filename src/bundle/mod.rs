//! Reads an OCI image layout from a folder or one plain tar file, without unpacking. Must not write or serve.
//!
//! ```text
//! folder │ tar ─▶ source ─▶ blob ─▶ layout (graph of manifests) ─▶ Bundle ─▶ registry, docker_archive, verify
//! ```

mod blob;
mod digest;
pub mod docker_archive;
mod layout;
mod reference;
mod source;
mod tar_index;
mod verify;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;

use self::source::Source;
use crate::{
    Error, Kind, Result,
    catalog::{Profile, yaml},
    error::Context,
};

pub use self::{
    blob::{Blob, Part, Reader},
    digest::{Digest, Hasher},
    layout::{Content, Descriptor, Layout, Manifest, Platform, media},
    reference::{Reference, full_repository, is_host, is_tag},
    verify::Progress,
};

const PROFILE: &str = "application/vnd.mctl.profile.v1+yaml";
const MAX_PROFILE: u64 = 1024 * 1024;

/// An opened bundle; cheap to clone, safe to read from many tasks.
#[derive(Clone)]
pub struct Bundle(Arc<Inner>);

struct Inner {
    path: PathBuf,
    source: Source,
    layout: Layout,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bundle").field(&self.0.path).finish()
    }
}

/// What helps with every bundle that cannot be used.
const ANOTHER: &str = "carry the bundle over again, or name another with --bundle";

impl Bundle {
    /// Opens a folder or tar file: reads the index and every manifest, checks that every blob they reach is there with its size (not the blobs' digests).
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            let source = Source::open(path)?;
            let file = |name: &str| {
                source.file(name)?.ok_or_else(|| {
                    format!("it has no {name}: it is no OCI image layout, or incomplete")
                })
            };
            let (marker, index) = (file("oci-layout")?, file("index.json")?);
            let layout = layout::read(&marker, &index, &|digest| source.blob(digest))?;
            Ok((source, layout))
        };
        let (source, layout) = open().map_err(|problem: String| {
            Error::new(
                Kind::Preflight,
                format!("cannot use the bundle {}", path.display()),
            )
            .at(path.display().to_string())
            .because(problem)
            .fix(ANOTHER)
        })?;
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            source,
            layout,
        })))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The profile it carries, if any.
    pub fn profile(&self) -> Result<Option<Profile>> {
        let layer = self
            .0
            .layout
            .manifests
            .values()
            .find_map(|m| match &m.content {
                Content::Image {
                    artifact_type,
                    layers,
                    ..
                } if artifact_type.as_deref() == Some(PROFILE) => layers.first(),
                _ => None,
            });
        let Some(layer) = layer else {
            return Ok(None);
        };
        let what = || {
            format!(
                "cannot read the profile of the bundle {}",
                self.0.path.display()
            )
        };
        let bytes = self
            .required(&layer.digest)?
            .read_all(MAX_PROFILE)
            .context(what)?;
        if !layer.digest.matches(&bytes) {
            return Err(self.damaged(what()).because("it is altered"));
        }
        parse_profile(&bytes)
            .map(Some)
            .map_err(|e| self.damaged(what()).because(e))
    }

    /// References of all images, sorted; artifacts such as the profile are left out.
    pub fn references(&self) -> Vec<String> {
        let mut references: Vec<String> = self
            .tags()
            .filter(|(_, _, digest)| !self.is_artifact(digest))
            .map(|(repository, tag, _)| format!("{repository}:{tag}"))
            .collect();
        references.sort();
        references
    }

    fn tags(&self) -> impl Iterator<Item = (&str, &str, &Digest)> {
        self.0
            .layout
            .repositories
            .iter()
            .flat_map(|(repository, tags)| {
                tags.iter()
                    .map(move |(tag, digest)| (repository.as_str(), tag.as_str(), digest))
            })
    }

    fn is_artifact(&self, digest: &Digest) -> bool {
        let content = self.0.layout.manifests.get(digest).map(|m| &m.content);
        matches!(
            content,
            Some(Content::Image {
                artifact_type: Some(_),
                ..
            })
        )
    }

    /// Documents and names; for serving.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// What a reference or digest stands for, as stored: an index behind a tag stays an index.
    pub fn resolve(&self, reference: &str) -> Option<(&Descriptor, &Bytes)> {
        let manifest = self.manifest(reference)?;
        Some((&manifest.descriptor, &manifest.bytes))
    }

    fn manifest(&self, reference: &str) -> Option<&Manifest> {
        let layout = &self.0.layout;
        let digest = match Digest::parse(reference) {
            Some(digest) => digest,
            None => {
                let reference = Reference::parse(reference)?;
                match (reference.digest, reference.tag) {
                    (Some(digest), _) => digest,
                    (None, tag) => layout
                        .repositories
                        .get(&reference.repository)?
                        .get(&tag?)?
                        .clone(),
                }
            }
        };
        layout.manifests.get(&digest)
    }

    /// Content by digest, if the bundle holds it; manifests too.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        self.0.source.blob(digest).map_err(|problem| {
            self.damaged(format!("cannot read {digest} of the bundle"))
                .because(problem)
        })
    }

    /// True when the bundle's graph reaches this content.
    pub fn holds(&self, digest: &Digest) -> bool {
        let layout = &self.0.layout;
        layout.manifests.contains_key(digest) || layout.blobs.contains_key(digest)
    }

    /// An error of the bundle itself, with its place and what helps.
    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::new(Kind::Preflight, what)
            .at(self.0.path.display().to_string())
            .fix(ANOTHER)
    }

    fn required(&self, digest: &Digest) -> Result<Blob> {
        self.blob(digest)?.ok_or_else(|| {
            self.damaged("the bundle is not complete any more")
                .because(format!("{digest} is gone"))
        })
    }

    /// Every digest that the bundle's graph reaches and that is there, sorted.
    pub fn digests(&self) -> BTreeSet<&Digest> {
        let layout = &self.0.layout;
        layout.manifests.keys().chain(layout.blobs.keys()).collect()
    }

    /// Bytes of all content, each counted once.
    pub fn size(&self) -> u64 {
        self.digests()
            .into_iter()
            .map(|digest| self.size_of(digest))
            .sum()
    }

    /// Bytes of an image with all that it needs and the bundle holds; content shared with others counts too.
    pub fn image_size(&self, digest: &Digest) -> u64 {
        self.reached(digest)
            .into_iter()
            .map(|digest| self.size_of(digest))
            .sum()
    }

    fn size_of(&self, digest: &Digest) -> u64 {
        let layout = &self.0.layout;
        let manifest = layout.manifests.get(digest).map(|m| m.descriptor.size);
        manifest
            .or_else(|| layout.blobs.get(digest).copied())
            .unwrap_or_default()
    }

    /// A manifest and everything below it. Each once: an index may list the same thing many times.
    fn reached<'a>(&'a self, root: &'a Digest) -> BTreeSet<&'a Digest> {
        let mut reached = BTreeSet::new();
        let mut open = vec![root];
        while let Some(digest) = open.pop() {
            if !reached.insert(digest) {
                continue;
            }
            match self.0.layout.manifests.get(digest).map(|m| &m.content) {
                Some(Content::Image { config, layers, .. }) => {
                    open.extend(std::iter::once(config).chain(layers).map(|d| &d.digest));
                }
                Some(Content::Index(children)) => open.extend(children.iter().map(|d| &d.digest)),
                None => {}
            }
        }
        reached
    }

    /// References that need this content, sorted.
    pub fn users(&self, digest: &Digest) -> Vec<String> {
        self.tags()
            .filter(|(_, _, root)| self.reached(root).contains(digest))
            .map(|(repository, tag, _)| format!("{repository}:{tag}"))
            .collect()
    }

    /// Hashes everything on two threads; the callback hears of progress (from either thread).
    pub fn verify(&self, report: &(dyn Fn(Progress) + Sync)) -> Result<Progress> {
        verify::verify(self, report)
    }

    /// Configuration and layers of a reference, for this machine's platform.
    fn image(&self, reference: &str) -> Result<(&Descriptor, &[Descriptor])> {
        let missing = || {
            let bundle = self.0.path.display();
            Error::new(
                Kind::Preflight,
                format!("the bundle {bundle} does not hold {reference}"),
            )
            .at(bundle.to_string())
            .fix(format!("see what it holds: mctl bundle inspect {bundle}"))
        };
        let mut manifest = self.manifest(reference).ok_or_else(missing)?;
        loop {
            match &manifest.content {
                Content::Image { config, layers, .. } => return Ok((config, layers)),
                Content::Index(children) => {
                    manifest = children
                        .iter()
                        .filter(|child| child.platform.as_ref().is_some_and(Platform::is_ours))
                        .find_map(|child| self.0.layout.manifests.get(&child.digest))
                        .ok_or_else(|| missing().because("it lacks this machine's platform"))?;
                }
            }
        }
    }

    /// Writes one image as a docker-archive (for `docker load`) under `tag`, verifying every digest on the way; returns the image ID (config digest).
    pub fn write_docker_archive(
        &self,
        reference: &str,
        tag: &str,
        to: &mut dyn std::io::Write,
    ) -> Result<String> {
        let (config, layers) = self.image(reference)?;
        let layers = layers
            .iter()
            .map(|layer| Ok((layer.digest.clone(), self.required(&layer.digest)?)))
            .collect::<Result<Vec<_>>>()?;
        let content = self.required(&config.digest)?;
        docker_archive::write((&config.digest, &content), &layers, tag, to)?;
        Ok(config.digest.to_string())
    }

    /// Image ID (config digest) of a reference, as the engine names it after loading.
    pub fn image_id(&self, reference: &str) -> Result<String> {
        Ok(self.image(reference)?.0.digest.to_string())
    }
}

/// `kind: Profile` as it stands in the bundle.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileDocument {
    api_version: String,
    kind: String,
    metadata: ProfileMetadata,
    #[serde(default)]
    spec: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct ProfileMetadata {
    name: String,
}

fn parse_profile(bytes: &[u8]) -> Result<Profile, String> {
    let document: ProfileDocument = yaml::one(bytes)?;
    let version = format!("{}/v1alpha1", crate::GROUP);
    if document.kind != "Profile" || document.api_version != version {
        return Err(format!("it is no Profile of {version}"));
    }
    let mut profile = document.spec;
    profile.insert("name".to_owned(), document.metadata.name.into());
    serde_json::from_value(profile.into()).map_err(|e| e.to_string())
}
