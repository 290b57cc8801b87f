//! Reads an OCI image layout from a folder or one plain tar file, without unpacking. Must not write or serve.

use std::path::Path;

use crate::{Error, Result, catalog::Profile};

/// An opened bundle; cheap to clone, safe to read from many tasks.
#[derive(Clone, Debug)]
pub struct Bundle {}

impl Bundle {
    /// Opens a folder or tar file: reads the index, checks that every blob it reaches is there with its size (not the digests).
    pub fn open(path: &Path) -> Result<Self> {
        Err(Error::failed(format!(
            "{}: bundles are not written",
            path.display()
        )))
    }

    /// The profile it carries, if any.
    pub fn profile(&self) -> Result<Option<Profile>> {
        Ok(None)
    }

    /// References of all images, sorted.
    pub fn references(&self) -> Vec<String> {
        Vec::new()
    }

    /// Writes one image as a docker-archive (for `docker load`) under `tag`, verifying every digest on the way; returns the image ID (config digest).
    pub fn write_docker_archive(
        &self,
        _reference: &str,
        _tag: &str,
        _to: &mut dyn std::io::Write,
    ) -> Result<String> {
        Err(Error::failed("not written"))
    }

    /// Image ID (config digest) of a reference, as the engine names it after loading.
    pub fn image_id(&self, _reference: &str) -> Result<String> {
        Err(Error::failed("not written"))
    }
}
