//! Tools that cargo itself lacks, installed into the cache at pinned versions; must not touch the user's own.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Context;

use crate::host;

const CARGO_DENY: &str = "0.20.2";

/// PATH in which `cargo deny` is found, at the pinned version.
pub fn path_with_cargo_deny() -> anyhow::Result<OsString> {
    let folder = host::cache()?
        .join("tools")
        .join(format!("cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        let mut command = host::cargo();
        // Checks a few hundred crates in a second or two: compiling it faster is worth more than running it faster.
        command
            .args([
                "install",
                "--locked",
                "--debug",
                "--no-default-features",
                "--root",
            ])
            .arg(&folder);
        command
            .args(["cargo-deny", "--version", CARGO_DENY])
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("RUSTFLAGS", "");
        host::run("deny", command.env_remove("CARGO_TARGET_DIR"))?;
    }
    host::output(Command::new(&program).arg("--version"))
        .context("cargo-deny was installed but does not run")?;
    let mut paths = vec![folder.join("bin")];
    paths.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    Ok(std::env::join_paths(paths)?)
}
