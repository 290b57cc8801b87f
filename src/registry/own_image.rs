//! mctl's own image, formed around the running static executable. Must not push anything, nor copy the executable.

use std::{fs::File, io::Write, path::Path, sync::Arc};

use serde_json::json;

use super::{Artifact, elf};
use crate::{
    Error, GROUP, Kind, Result, VERSION,
    bundle::{Blob, Digest, Hasher, Part, docker_archive, media},
    error::Context,
};

const EXECUTABLE: &str = "usr/local/bin/mctl";
const USER: u32 = 65_532;
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The image: one layer around the executable, read from its file when served.
#[derive(Clone, Debug)]
pub struct OwnImage {
    /// `<version>-<first 12 hex digits of the executable's SHA-256>`.
    pub tag: String,
    /// As the registry serves it.
    pub artifact: Artifact,
}

impl OwnImage {
    /// Repository of the image.
    pub fn repository() -> String {
        format!("{GROUP}/mctl")
    }

    /// Around the running executable; refuses one that needs a loader.
    pub fn of_this_executable() -> Result<Self> {
        // Names this very file even after it was replaced or deleted.
        Self::around(Path::new("/proc/self/exe"))
    }

    /// Around another executable file.
    pub fn around(path: &Path) -> Result<Self> {
        let what = || format!("cannot form mctl's image from {}", path.display());
        let file = File::open(path).context(what)?;
        let length = file.metadata().context(what)?.len();
        let executable = Part::File {
            file: Arc::new(file),
            offset: 0,
            length,
        };
        let content = Blob::from(vec![executable.clone()]);
        elf::check_static(&content).map_err(|why| {
            Error::new(
                Kind::Preflight,
                "mctl cannot form its own image from this executable",
            )
            .because(why)
            .fix("use a release, or build with --target x86_64-unknown-linux-musl")
        })?;
        let layer = layer(executable).context(what)?;
        let (program, digest) = (
            sha256(&content).context(what)?,
            sha256(&layer).context(what)?,
        );
        let tag = format!("{VERSION}-{}", program.hex().get(..12).unwrap_or_default());
        let config = json!({
            "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "created": CREATED,
            "config": {
                "User": format!("{USER}:{USER}"),
                "Env": ["PATH=/usr/local/bin"],
                "Entrypoint": [format!("/{EXECUTABLE}")],
                "WorkingDir": "/",
                "Labels": {"org.opencontainers.image.title": "mctl", "org.opencontainers.image.version": VERSION},
            },
            "rootfs": {"type": "layers", "diff_ids": [digest]},
            "history": [{"created": CREATED, "created_by": "mctl"}],
        });
        let artifact = Artifact::new(
            (media::CONFIG, config.to_string().into_bytes()),
            (media::LAYER, digest, layer),
            [(
                "org.opencontainers.image.version".to_owned(),
                VERSION.to_owned(),
            )]
            .into(),
        );
        Ok(Self { tag, artifact })
    }

    /// Full reference: `mctl.giantswarm.io/mctl:<tag>`.
    pub fn reference(&self) -> String {
        format!("{}:{}", Self::repository(), self.tag)
    }

    /// Image ID (digest of the configuration), as the engine names it after loading.
    pub fn id(&self) -> String {
        self.artifact
            .blobs
            .first()
            .map_or_else(String::new, |(digest, _)| digest.to_string())
    }

    /// Writes it for `docker load` under this tag; returns the image ID.
    pub fn write_docker_archive(&self, tag: &str, to: &mut dyn Write) -> Result<String> {
        if let Some(((digest, config), layers)) = self.artifact.blobs.split_first() {
            docker_archive::write((digest, config), layers, tag, to)?;
        }
        Ok(self.id())
    }
}

/// The layer's archive: small files, then the executable in its own file, then the end.
fn layer(executable: Part) -> std::io::Result<Blob> {
    let length = Blob::from(vec![executable.clone()]).size();
    let users = format!(
        "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n"
    );
    let groups = format!("root:x:0:\nnobody:x:65534:\nnonroot:x:{USER}:\n");
    let mut head = tar::Builder::new(Vec::new());
    for (path, mode, content) in [
        ("etc/", 0o755, ""),
        ("etc/group", 0o644, groups.as_str()),
        ("etc/passwd", 0o644, users.as_str()),
        ("tmp/", 0o1777, ""),
        ("usr/", 0o755, ""),
        ("usr/local/", 0o755, ""),
        ("usr/local/bin/", 0o755, ""),
    ] {
        head.append(
            &header(path, mode, content.len() as u64)?,
            content.as_bytes(),
        )?;
    }
    head.get_mut()
        .write_all(header(EXECUTABLE, 0o755, length)?.as_bytes())?;
    // `into_inner` would write the end of the archive.
    let head = head.get_ref().clone();
    let padding = usize::try_from(length.next_multiple_of(512) - length).unwrap_or_default();
    let tail = vec![0; padding + 1024];
    Ok(Blob::from(vec![
        Part::Memory(head.into()),
        executable,
        Part::Memory(tail.into()),
    ]))
}

fn header(path: &str, mode: u32, size: u64) -> std::io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(if path.ends_with('/') {
        tar::EntryType::Directory
    } else {
        tar::EntryType::Regular
    });
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

fn sha256(blob: &Blob) -> std::io::Result<Digest> {
    let mut hasher = Hasher::like(&Digest::of(b""));
    let mut buffer = vec![0; 1024 * 1024];
    let mut offset = 0;
    loop {
        let read = blob.read_at(offset, &mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hasher.finish());
        };
        hasher.update(bytes);
        offset += read as u64;
    }
}
