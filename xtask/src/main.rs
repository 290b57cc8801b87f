//! `cargo xtask`: builds, tests and demonstrates mctl. It must not depend on the mctl crate, so that it works in an empty clone.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod demo;
mod dist;
mod elf;
mod generate;
mod host;
mod lab;
mod release;
mod stack;
mod test;
mod vendor;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
enum Command {
    /// Fetches upstream manifests, charts and kind into assets/vendor.
    Vendor(vendor::Args),
    /// Builds the laboratory bundle: the whole stack from source.
    Lab(lab::Args),
    /// Creates a management cluster on this machine, from nothing; --down removes it.
    Demo(demo::Args),
    /// Runs every check, or only the named lanes.
    Test(test::Args),
    /// Measures against a peer in the same run.
    Bench(bench::Args),
    /// Builds the release executable into dist/.
    Dist,
    /// Writes the committed files that mctl itself prints: schema, CRD, command reference.
    Generate(generate::Args),
}

fn main() -> std::process::ExitCode {
    let result = match Command::parse() {
        Command::Vendor(args) => vendor::run(args),
        Command::Lab(args) => lab::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Test(args) => test::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Dist => dist::run(),
        Command::Generate(args) => generate::run(args),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
