//! Fetches upstream files from their modules and checks them against `assets/vendor.lock`; must not know what mctl does with them.

/// Options of `cargo xtask vendor`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: Args) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
