//! Writes an OCI image layout folder (image-spec 1.1); must not build images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::layer::Blob;
use super::pins::Image;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Annotation with an image's full reference.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A layout being written.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    manifests: BTreeMap<String, Value>,
}

impl Layout {
    /// Starts one in an empty folder.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        Ok(Self {
            dir: dir.to_owned(),
            manifests: BTreeMap::new(),
        })
    }

    /// Adds an image of layers that are files already; they are linked, not copied.
    pub fn add_image(
        &mut self,
        image: &Image,
        epoch: u64,
        layers: &[(PathBuf, Blob)],
    ) -> Result<()> {
        for (path, blob) in layers {
            self.link_blob(path, blob)?;
        }
        let config = write_blob(
            &self.dir,
            &serde_json::to_vec(&image_config(image, epoch, layers))?,
        )?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": layers.iter().map(|(_, blob)| descriptor(LAYER, blob)).collect::<Vec<_>>(),
        });
        let blob = write_blob(&self.dir, &serde_json::to_vec(&manifest)?)?;
        let mut entry = descriptor(MANIFEST, &blob);
        entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
        entry["annotations"] = json!({REF_NAME: image.name});
        self.manifests.insert(image.name.clone(), entry);
        Ok(())
    }

    /// Adds something that is not an image; see [`artifact`].
    pub fn add_artifact(&mut self, name: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let entry = artifact(&self.dir, name, media_type, bytes)?;
        self.manifests.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Writes the index; images are sorted by name.
    pub fn finish(self) -> Result<()> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.manifests.into_values().collect::<Vec<_>>(),
        });
        fs::write(
            self.dir.join("index.json"),
            serde_json::to_vec_pretty(&index)?,
        )?;
        fs::write(
            self.dir.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(())
    }

    fn link_blob(&self, path: &Path, blob: &Blob) -> Result<()> {
        let target = blob_path(&self.dir, blob);
        if target.exists() {
            return Ok(());
        }
        if fs::hard_link(path, &target).is_err() {
            fs::copy(path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
        Ok(())
    }
}

/// Writes an artifact of one layer of its own media type; gives its entry in the index.
pub fn artifact(layout: &Path, name: &str, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let config = write_blob(layout, b"{}")?;
    let layer = write_blob(layout, bytes)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": media_type,
        "config": descriptor(EMPTY, &config),
        "layers": [descriptor(media_type, &layer)],
    });
    let blob = write_blob(layout, &serde_json::to_vec(&manifest)?)?;
    let mut entry = descriptor(MANIFEST, &blob);
    entry["artifactType"] = json!(media_type);
    entry["annotations"] = json!({REF_NAME: name});
    Ok(entry)
}

fn blob_path(layout: &Path, blob: &Blob) -> PathBuf {
    layout.join("blobs/sha256").join(blob.hex())
}

fn write_blob(layout: &Path, bytes: &[u8]) -> Result<Blob> {
    let blob = Blob::of(bytes);
    fs::write(blob_path(layout, &blob), bytes)?;
    Ok(blob)
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size})
}

fn image_config(image: &Image, epoch: u64, layers: &[(PathBuf, Blob)]) -> Value {
    let mut env = vec![PATH.to_owned()];
    env.extend(
        image
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    let mut config = json!({"Env": env});
    for (key, list) in [("Entrypoint", &image.entrypoint), ("Cmd", &image.cmd)] {
        if !list.is_empty() {
            config[key] = json!(list);
        }
    }
    for (key, value) in [
        ("User", &image.user),
        ("WorkingDir", &image.workdir),
        ("StopSignal", &image.stop_signal),
    ] {
        if let Some(value) = value {
            config[key] = json!(value);
        }
    }
    let created = rfc3339(epoch);
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(_, blob)| &blob.digest).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created": created, "created_by": "cargo xtask lab"})).collect::<Vec<_>>(),
    })
}

/// Seconds since 1970 as a UTC date and time.
fn rfc3339(epoch: u64) -> String {
    let (days, rest) = (epoch / 86_400, epoch % 86_400);
    // Civil date from a day number, counted in 400-year eras that begin in March.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Image {
        toml::from_str(&format!(
            "name = '{name}'\nentrypoint = ['/x']\nuser = '65532'\n"
        ))
        .unwrap()
    }

    fn write(dir: &Path, names: &[&str]) {
        fs::create_dir_all(dir).unwrap();
        let layer = dir.join("../layer.tar");
        fs::write(&layer, "layer").unwrap();
        let mut layout = Layout::create(dir).unwrap();
        for name in names {
            layout
                .add_image(&image(name), 0, &[(layer.clone(), Blob::of(b"layer"))])
                .unwrap();
        }
        layout
            .add_artifact(
                "example.org/profile:lab",
                "application/vnd.test.v1+yaml",
                b"a: 1\n",
            )
            .unwrap();
        layout.finish().unwrap();
    }

    #[test]
    fn a_layout_does_not_depend_on_the_order_of_work() {
        let dir = tempfile::tempdir().unwrap();
        write(
            &dir.path().join("a"),
            &["example.org/a:1", "example.org/b:1"],
        );
        write(
            &dir.path().join("b"),
            &["example.org/b:1", "example.org/a:1"],
        );
        let index = fs::read_to_string(dir.path().join("a/index.json")).unwrap();
        assert_eq!(
            index,
            fs::read_to_string(dir.path().join("b/index.json")).unwrap()
        );
        assert_eq!(
            fs::read_dir(dir.path().join("a/blobs/sha256"))
                .unwrap()
                .count(),
            6
        );
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_reached_from_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("a");
        write(&layout, &["example.org/a:1"]);
        let read = |digest: &Value| -> Value {
            let hex = digest
                .as_str()
                .unwrap()
                .trim_start_matches("sha256:")
                .to_owned();
            let bytes = fs::read(layout.join("blobs/sha256").join(&hex)).unwrap();
            assert_eq!(Blob::of(&bytes).hex(), hex);
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        };
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"][REF_NAME], "example.org/a:1");
        let manifest = read(&entry["digest"]);
        let config = read(&manifest["config"]["digest"]);
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        assert_eq!(config["config"]["User"], "65532");
        let profile = read(&index["manifests"][1]["digest"]);
        assert_eq!(profile["artifactType"], "application/vnd.test.v1+yaml");
    }

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_600), "2026-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_210_096), "2024-02-29T12:34:56Z");
    }
}
