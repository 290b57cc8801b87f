//! `mctl completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Result, report::printer};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "mctl", &mut script);
    printer::out_raw(&String::from_utf8_lossy(&script))
}
