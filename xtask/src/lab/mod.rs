//! Builds every program of the stack from source and packs the images into one bundle; must not touch an engine's existing objects.

/// Options of `cargo xtask lab`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: Args) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
