//! `mctl tied`: keeps a program that must not outlive who started it. Not for people.

use std::path::PathBuf;

use crate::{Error, Kind, Result, ports::tied};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File that is locked while the program lives
    #[arg(long)]
    lock: PathBuf,
    /// Program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the program; ends the process with its code.
pub fn run(args: &Args) -> Result<()> {
    let (program, rest) = args
        .command
        .split_first()
        .ok_or_else(|| Error::new(Kind::Usage, "no program was named"))?;
    match tied::keep(&args.lock, program, rest)? {
        0 => Ok(()),
        code => std::process::exit(code.into()),
    }
}
