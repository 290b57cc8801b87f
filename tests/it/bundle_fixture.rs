//! Makes small image layouts, whole or broken, as a folder or a tar.

use std::{collections::BTreeMap, fs, io::Write, path::PathBuf};

use mctl::bundle::{Digest, media};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const PROFILE_TYPE: &str = "application/vnd.mctl.profile.v1+yaml";
pub const PROFILE: &str = "\
apiVersion: mctl.giantswarm.io/v1alpha1
kind: Profile
metadata: {name: lab}
spec:
  kubernetesVersion: v1.36.3
  nodeImage: docker.io/kindest/node:v1.36.3
  without: [notification-controller]
  values:
    cilium: {envoy: {enabled: false}}
";

/// Files of a layout by path, and the descriptors of its `index.json`.
#[derive(Clone)]
pub struct Fixture {
    pub files: BTreeMap<String, Vec<u8>>,
    pub roots: Vec<Value>,
    /// Leaves out `index.json`.
    pub no_index: bool,
}

pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

pub fn digest_of(descriptor: &Value) -> Digest {
    Digest::parse(descriptor["digest"].as_str().unwrap()).unwrap()
}

impl Fixture {
    /// A layout without images.
    pub fn new() -> Self {
        let marker = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        Self {
            files: [("oci-layout".to_owned(), marker)].into(),
            roots: Vec::new(),
            no_index: false,
        }
    }

    /// Two images that share a layer, one behind an index of which another platform is missing, and a profile.
    pub fn usual() -> Self {
        let mut fixture = Self::new();
        let shared = vec![7; 3000];
        let pause = fixture.image(&[&shared, b"pause"]);
        fixture.root("registry.k8s.io/pause:3.10", pause);
        let mut ours = fixture.image(&[&shared, b"nginx"]);
        ours["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let mut other = fixture.image(&[b"foreign"]);
        other["platform"] = json!({"os": "linux", "architecture": "s390x"});
        fixture.files.remove(&blob_path(&digest_of(&other)));
        let index =
            json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [other, ours]});
        let index = fixture.document(media::INDEX, &index);
        fixture.root("docker.io/library/nginx:1.2", index);
        let profile = fixture.artifact(PROFILE_TYPE, PROFILE.as_bytes());
        fixture.root("mctl.giantswarm.io/profile:lab", profile);
        fixture
    }

    /// Stores content.
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.files.insert(blob_path(&digest), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Stores a document.
    pub fn document(&mut self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// A manifest over these layers; not stored.
    pub fn manifest(&mut self, layers: &[&[u8]]) -> Value {
        let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let config = self.document(media::CONFIG, &config);
        let layers: Vec<_> = layers.iter().map(|l| self.blob(media::LAYER, l)).collect();
        json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers})
    }

    /// Stores an image.
    pub fn image(&mut self, layers: &[&[u8]]) -> Value {
        let manifest = self.manifest(layers);
        self.document(media::MANIFEST, &manifest)
    }

    /// Stores an artifact with one layer.
    pub fn artifact(&mut self, kind: &str, content: &[u8]) -> Value {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST, "artifactType": kind,
            "config": self.blob(media::EMPTY, b"{}"), "layers": [self.blob(kind, content)],
        });
        self.document(media::MANIFEST, &manifest)
    }

    /// Names a manifest in `index.json`.
    pub fn root(&mut self, reference: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": reference});
        self.roots.push(descriptor);
    }

    /// All files, with `index.json` unless a test has put its own.
    pub fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": self.roots});
        if !self.no_index {
            files
                .entry("index.json".to_owned())
                .or_insert_with(|| index.to_string().into_bytes());
        }
        files
    }

    /// Writes a folder.
    pub fn folder(&self) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        for (path, content) in self.all() {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let path = folder.path().to_owned();
        (folder, path)
    }

    /// The bytes of a tar.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        for (path, content) in self.all() {
            tar.extend(entry(&path, b'0', content.len() as u64, &content));
        }
        tar.extend([0; 1024]);
        tar
    }

    /// Writes a tar file.
    pub fn tar_file(&self) -> (TempDir, PathBuf) {
        file(&self.tar())
    }
}

/// Writes a file in a folder of its own.
pub fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bundle.tar");
    fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    (folder, path)
}

/// One tar entry that says what it is told to say.
pub fn entry(path: &str, kind: u8, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let (prefix, name) = match path.len() {
        0..=100 => ("", path),
        _ => path.split_at(path.rfind('/').unwrap()),
    };
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    let mut entry = header.to_vec();
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// Makes a header's checksum right again.
pub fn seal(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header[..512].iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A PAX record.
pub fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// The smallest file that passes for a static executable, filled up to a length.
pub fn executable(length: usize) -> Vec<u8> {
    let mut file = vec![0; length];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[32] = 64;
    file[54] = 56;
    file
}
