//! `cargo xtask dist`: the release executable and its digest in `dist/`; must not publish anything.

use std::fs;

use anyhow::Context;

use crate::{host, release, vendor};

/// Builds, checks and writes `dist/mctl` and `dist/mctl.sha256`.
pub fn run() -> anyhow::Result<()> {
    vendor::run(vendor::Args::default())?;
    let built = release::build()?;
    release::check(&built)?;
    let folder = host::root().join("dist");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let digest = host::sha256(&bytes);
    host::write_atomically(&folder.join("mctl"), &bytes, 0o755)?;
    host::write_atomically(
        &folder.join("mctl.sha256"),
        format!("{digest}  mctl\n").as_bytes(),
        0o644,
    )?;
    println!("dist: dist/mctl, sha256 {digest}");
    Ok(())
}
