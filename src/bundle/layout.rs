//! The documents of an OCI image layout and the graph they form, checked before anything uses it. Must not know about tar or folders.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Blob, Digest, Reference};

/// Media types that lead to other content.
pub mod media {
    /// OCI image or artifact.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's form of an image.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's form of an index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Configuration of an OCI image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Content that is `{}`.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

    /// True for an index in either form.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, INDEX | DOCKER_INDEX)
    }

    /// True for an image in either form.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, MANIFEST | DOCKER_MANIFEST)
    }
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MAX_INDEX: u64 = 16 * 1024 * 1024;
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
/// All manifests together stay in memory.
const MAX_MANIFESTS: u64 = 64 * 1024 * 1024;
const MAX_DEPTH: usize = 8;

/// Points to content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of artifact, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Platform it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// A plain one.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            platform: None,
            annotations: None,
        }
    }
}

/// Operating system and processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it.
    #[serde(default)]
    pub architecture: String,
    /// As Go names it.
    #[serde(default)]
    pub os: String,
}

impl Platform {
    /// The one this executable runs on.
    pub fn is_ours(&self) -> bool {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.os == "linux" && self.architecture == architecture
    }
}

/// An image, an artifact or an index, as stored.
#[derive(Debug)]
pub struct Manifest {
    /// What pointed to it first.
    pub descriptor: Descriptor,
    /// Exactly the stored bytes.
    pub bytes: Bytes,
    /// What it points to.
    pub content: Content,
}

/// What a manifest points to.
#[derive(Debug)]
pub enum Content {
    /// An image or an artifact.
    Image {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, lowest first.
        layers: Vec<Descriptor>,
        /// What kind of artifact; none for an image.
        artifact_type: Option<String>,
    },
    /// Several manifests, of which some may be missing (a bundle may hold one platform of many).
    Index(Vec<Descriptor>),
}

/// The graph of a layout.
#[derive(Debug, Default)]
pub struct Layout {
    /// Every manifest by its digest.
    pub manifests: HashMap<Digest, Manifest>,
    /// Digests by repository (`docker.io/library/nginx`) and tag.
    pub repositories: BTreeMap<String, BTreeMap<String, Digest>>,
    /// Sizes of all other content by its digest.
    pub blobs: HashMap<Digest, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// Reads the whole graph; every manifest's digest and every other blob's presence and size are checked. The error is one sentence.
pub fn read(
    marker: &Blob,
    index: &Blob,
    find: &dyn Fn(&Digest) -> Result<Option<Blob>, String>,
) -> Result<Layout, String> {
    let marker = marker
        .read_all(4096)
        .map_err(|e| format!("oci-layout: {e}"))?;
    let marker: LayoutFile =
        serde_json::from_slice(&marker).map_err(|e| format!("oci-layout: {e}"))?;
    if !marker.image_layout_version.starts_with("1.") {
        return Err(format!(
            "its layout has version {:?}; mctl reads 1.x",
            marker.image_layout_version
        ));
    }
    let index = index
        .read_all(MAX_INDEX)
        .map_err(|e| format!("index.json: {e}"))?;
    let document = parse(&index).map_err(|e| format!("index.json: {e}"))?;
    let roots = document.manifests.ok_or("index.json lists no manifests")?;
    let mut walk = Walk {
        find,
        layout: Layout::default(),
        bytes: 0,
    };
    for root in roots {
        let name = root
            .annotations
            .as_ref()
            .and_then(|a| a.get(REF_NAME))
            .cloned();
        let label = name.as_deref().unwrap_or(root.digest.as_str()).to_owned();
        let found = walk.visit(&root, 0).map_err(|e| format!("{label}: {e}"))?;
        if !found {
            return Err(format!("{label}: {} is missing", root.digest));
        }
        if let Some(name) = name {
            walk.name(&name, &root.digest)?;
        }
    }
    Ok(walk.layout)
}

fn parse(bytes: &[u8]) -> Result<Document, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if document.schema_version != 2 {
        return Err(format!(
            "schema version {} is not 2",
            document.schema_version
        ));
    }
    Ok(document)
}

struct Walk<'a> {
    find: &'a dyn Fn(&Digest) -> Result<Option<Blob>, String>,
    layout: Layout,
    bytes: u64,
}

impl Walk<'_> {
    fn name(&mut self, name: &str, digest: &Digest) -> Result<(), String> {
        let reference =
            Reference::parse(name).ok_or_else(|| format!("{name:?} is no image reference"))?;
        // A reference by digest alone is found without a name.
        let Some(tag) = reference.tag else {
            return Ok(());
        };
        let tags = self
            .layout
            .repositories
            .entry(reference.repository)
            .or_default();
        match tags.insert(tag, digest.clone()) {
            Some(other) if other != *digest => Err(format!("{name} is there twice")),
            _ => Ok(()),
        }
    }

    /// Takes in a manifest and all below it; false when it is not there.
    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<bool, String> {
        let digest = &descriptor.digest;
        if depth > MAX_DEPTH {
            return Err("its indexes are nested too deeply".to_owned());
        }
        if let Some(known) = self.layout.manifests.get(digest) {
            return same(&known.descriptor, descriptor).map(|()| true);
        }
        let Some(blob) = self.sized(descriptor)? else {
            return Ok(false);
        };
        if !media::is_index(&descriptor.media_type) && !media::is_manifest(&descriptor.media_type) {
            return Err(format!(
                "{digest} has the media type {:?}, which is no image's",
                descriptor.media_type
            ));
        }
        self.bytes += blob.size();
        if self.bytes > MAX_MANIFESTS {
            return Err(format!(
                "its manifests have more than {MAX_MANIFESTS} bytes"
            ));
        }
        let bytes = blob
            .read_all(MAX_MANIFEST)
            .map_err(|e| format!("{digest}: {e}"))?;
        if !digest.matches(&bytes) {
            return Err(format!(
                "{digest} has other content than its digest says: it is altered"
            ));
        }
        let content = self.content(descriptor, &bytes, depth)?;
        let manifest = Manifest {
            descriptor: descriptor.clone(),
            bytes: bytes.into(),
            content,
        };
        self.layout.manifests.insert(digest.clone(), manifest);
        Ok(true)
    }

    fn content(&mut self, of: &Descriptor, bytes: &[u8], depth: usize) -> Result<Content, String> {
        let digest = &of.digest;
        let document = parse(bytes).map_err(|e| format!("{digest}: {e}"))?;
        if document
            .media_type
            .as_ref()
            .is_some_and(|told| *told != of.media_type)
        {
            return Err(format!(
                "{digest} says it has another media type than what points to it"
            ));
        }
        if media::is_index(&of.media_type) {
            let children = document
                .manifests
                .ok_or_else(|| format!("{digest} lists no manifests"))?;
            let mut found = 0;
            for child in &children {
                found += usize::from(self.visit(child, depth + 1)?);
            }
            if found == 0 && !children.is_empty() {
                return Err(format!(
                    "none of the manifests that {digest} lists is there"
                ));
            }
            return Ok(Content::Index(children));
        }
        let (Some(config), Some(layers)) = (document.config, document.layers) else {
            return Err(format!("{digest} lacks its configuration or layers"));
        };
        for child in std::iter::once(&config).chain(&layers) {
            if self.sized(child)?.is_none() {
                return Err(format!(
                    "{} ({}) is missing",
                    child.digest, child.media_type
                ));
            }
            self.layout.blobs.insert(child.digest.clone(), child.size);
        }
        let artifact = !matches!(config.media_type.as_str(), media::CONFIG)
            && !config.media_type.contains("docker.container.image");
        Ok(Content::Image {
            artifact_type: document
                .artifact_type
                .or_else(|| artifact.then(|| config.media_type.clone())),
            config,
            layers,
        })
    }

    /// The content of a descriptor, if it is there; its size must be the stored one.
    fn sized(&self, descriptor: &Descriptor) -> Result<Option<Blob>, String> {
        let blob = (self.find)(&descriptor.digest)?;
        match &blob {
            Some(blob) if blob.size() != descriptor.size => Err(format!(
                "{} has {} bytes where {} are told: it is truncated or altered",
                descriptor.digest,
                blob.size(),
                descriptor.size
            )),
            _ => Ok(blob),
        }
    }
}

fn same(one: &Descriptor, other: &Descriptor) -> Result<(), String> {
    if one.media_type == other.media_type && one.size == other.size {
        Ok(())
    } else {
        Err(format!("{} is described in two ways", one.digest))
    }
}
