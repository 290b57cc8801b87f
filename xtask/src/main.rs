//! `cargo xtask`: builds, tests and demonstrates mctl. It must not depend on the mctl crate, so that it works in an empty clone.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod host;
mod lab;
mod vendor;

use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about)]
enum Command {
    /// Fetches upstream manifests, charts and kind into assets/vendor.
    Vendor(vendor::Args),
    /// Builds the laboratory bundle: the whole stack from source.
    Lab(lab::Args),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Vendor(args) => vendor::run(args),
        Command::Lab(args) => lab::run(args),
    }
}
