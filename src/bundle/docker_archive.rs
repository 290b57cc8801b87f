//! Writes an image in the form that `docker load` takes. Must not hold a layer in memory.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use serde_json::json;

use super::{Blob, Digest, digest::Hasher};
use crate::{Error, Result, error::Context};

const BUFFER: usize = 1024 * 1024;

/// Writes configuration and layers (lowest first) as one image named `tag`, and checks every digest on the way.
/// After an error the archive has no end: whoever reads it refuses it.
pub fn write(
    config: (&Digest, &Blob),
    layers: &[(Digest, Blob)],
    tag: &str,
    to: &mut dyn Write,
) -> Result<()> {
    let what = || format!("cannot write the archive of {tag}");
    // Half of a SHA-512 is as unique, and fits a tar header.
    let path = |digest: &Digest| {
        let hex = digest.hex();
        format!(
            "blobs/{}/{}",
            digest.algorithm(),
            hex.get(..64).unwrap_or(hex)
        )
    };
    let manifest = json!([{
        "Config": path(config.0),
        "RepoTags": [tag],
        "Layers": layers.iter().map(|(digest, _)| path(digest)).collect::<Vec<_>>(),
    }]);
    // First, so that a reader that streams knows what is to come.
    let manifest = Blob::from(manifest.to_string().into_bytes());
    header("manifest.json", manifest.size(), to).context(what)?;
    copy(&manifest, None, to).context(what)?;
    let mut written = BTreeSet::new();
    let all = std::iter::once(config).chain(layers.iter().map(|(digest, blob)| (digest, blob)));
    for (digest, blob) in all {
        if !written.insert(digest) {
            continue;
        }
        header(&path(digest), blob.size(), to).context(what)?;
        let mut hasher = Hasher::like(digest);
        copy(blob, Some(&mut hasher), to).context(what)?;
        if hasher.finish() != *digest {
            return Err(Error::failed(format!(
                "{digest} of {tag} has other content than its digest says: it is altered"
            )));
        }
    }
    to.write_all(&[0; 1024])
        .and_then(|()| to.flush())
        .context(what)
}

fn header(path: &str, size: u64, to: &mut dyn Write) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    to.write_all(header.as_bytes())
}

fn copy(blob: &Blob, mut hasher: Option<&mut Hasher>, to: &mut dyn Write) -> io::Result<()> {
    let size = usize::try_from(blob.size()).unwrap_or(usize::MAX);
    let mut buffer = vec![0; size.clamp(1, BUFFER)];
    let mut offset = 0;
    while offset < blob.size() {
        let read = blob.read_at(offset, &mut buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(bytes);
        }
        to.write_all(bytes)?;
        offset += read as u64;
    }
    let rest = usize::try_from(blob.size().next_multiple_of(512) - blob.size()).unwrap_or_default();
    to.write_all(&[0; 512][..rest])
}
