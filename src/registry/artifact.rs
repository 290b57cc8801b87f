//! Builds OCI artifacts (platform, charts) as bytes. Pure and deterministic: equal input, equal digest.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use bytes::Bytes;
use flate2::{Compression, GzBuilder, read::GzDecoder};
use serde_json::{Value, json};

use crate::{
    Error, Result,
    bundle::{Blob, Descriptor, Digest, media},
    catalog::yaml,
    error::Context,
};

const FLUX_CONFIG: &str = "application/vnd.cncf.flux.config.v1+json";
const FLUX_CONTENT: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const HELM_CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// Equal input must give equal bytes, so time stands still.
const CREATED: &str = "1970-01-01T00:00:00Z";
const MAX_CHART_FILE: u64 = 1024 * 1024;

/// A manifest with all it points to.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Media type of the manifest.
    pub media_type: String,
    /// The manifest.
    pub manifest: Bytes,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Content by digest: configuration first, then layers.
    pub blobs: Vec<(Digest, Blob)>,
}

impl Artifact {
    /// An OCI manifest over a configuration and one layer.
    pub(super) fn new(
        config: (&str, Vec<u8>),
        layer: (&str, Digest, Blob),
        annotations: BTreeMap<String, String>,
    ) -> Self {
        let config_digest = Digest::of(&config.1);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": Descriptor::new(config.0, config_digest.clone(), config.1.len() as u64),
            "layers": [Descriptor::new(layer.0, layer.1.clone(), layer.2.size())],
            "annotations": annotations,
        });
        let manifest = Bytes::from(manifest.to_string());
        Self {
            media_type: media::MANIFEST.to_owned(),
            digest: Digest::of(&manifest),
            manifest,
            blobs: vec![(config_digest, config.1.into()), (layer.1, layer.2)],
        }
    }
}

/// The platform as Flux takes it: files by relative path in one compressed layer.
pub fn platform(files: &BTreeMap<String, Vec<u8>>) -> Result<Artifact> {
    let tar = archive(files)?;
    let content = Digest::of(&tar);
    let what = || "cannot compress the platform".to_owned();
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::new(6));
    gzip.write_all(&tar).context(what)?;
    let layer = gzip.finish().context(what)?;
    // What `flux push artifact` writes: an image's configuration without an image.
    let config = json!({
        "architecture": "",
        "os": "",
        "created": CREATED,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [content]},
    });
    Ok(Artifact::new(
        (FLUX_CONFIG, config.to_string().into_bytes()),
        (FLUX_CONTENT, Digest::of(&layer), layer.into()),
        annotations([
            ("org.opencontainers.image.created", CREATED),
            ("org.opencontainers.image.revision", content.as_str()),
            ("org.opencontainers.image.source", crate::GROUP),
        ]),
    ))
}

/// A packaged Helm chart, byte by byte as it was packaged.
pub fn chart(tgz: Vec<u8>, name: &str, version: &str) -> Result<Artifact> {
    let chart = chart_file(&tgz).map_err(|e| {
        Error::failed(format!("the chart {name}-{version} cannot be read")).because(e)
    })?;
    let text = |key: &str| chart.get(key).and_then(Value::as_str).unwrap_or_default();
    if (text("name"), text("version")) != (name, version) {
        return Err(Error::failed(format!(
            "the chart {name}-{version} says it is {}-{}",
            text("name"),
            text("version")
        )));
    }
    let about = annotations([
        ("org.opencontainers.image.created", CREATED),
        ("org.opencontainers.image.description", text("description")),
        ("org.opencontainers.image.title", name),
        ("org.opencontainers.image.version", version),
    ]);
    Ok(Artifact::new(
        (HELM_CONFIG, chart.to_string().into_bytes()),
        (HELM_CONTENT, Digest::of(&tgz), tgz.into()),
        about,
    ))
}

/// The tag of a chart version: `+` is not allowed in tags, and Helm writes `_` for it.
pub fn chart_tag(version: &str) -> String {
    version.replace('+', "_")
}

fn annotations<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    let filled = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    filled
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn archive(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, content.as_slice())
            .context(|| format!("cannot pack {path:?} into the platform"))?;
    }
    tar.into_inner()
        .context(|| "cannot pack the platform".to_owned())
}

/// `Chart.yaml` of a packaged chart, as JSON.
fn chart_file(tgz: &[u8]) -> Result<Value, String> {
    let mut tar = tar::Archive::new(GzDecoder::new(tgz));
    for entry in tar.entries().map_err(|e| e.to_string())? {
        let entry = entry.map_err(|e| e.to_string())?;
        let path = entry.path().map_err(|e| e.to_string())?;
        let parts: Vec<_> = path.components().collect();
        if parts.len() != 2 || !path.ends_with("Chart.yaml") {
            continue;
        }
        let mut content = Vec::new();
        entry
            .take(MAX_CHART_FILE)
            .read_to_end(&mut content)
            .map_err(|e| e.to_string())?;
        return yaml::one(&content);
    }
    Err("it has no Chart.yaml".to_owned())
}
