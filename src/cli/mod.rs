//! The command line: arguments, settings, exit codes; must not contain work.

mod bootstrap;
mod bundle;
mod completions;
pub mod config;
mod destroy;
pub mod input;
mod kubeconfig;
mod manager;
mod plan;
mod registry;
mod status;
mod tied;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Error, Kind, Result, report::printer};

/// Creates a self-managed Cluster API management cluster from one document, and keeps it so.
#[derive(Debug, Parser)]
#[command(
    name = "mctl",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a management cluster, or go on where an earlier run stopped
    Bootstrap(bootstrap::Args),
    /// Show what bootstrap would do; changes nothing
    Plan(plan::Args),
    /// Print the kubeconfig of a management cluster
    Kubeconfig(kubeconfig::Args),
    /// Remove everything that bootstrap made on this host's engine
    Destroy(destroy::Args),
    /// Run as the manager inside the cluster
    Manager(manager::Args),
    /// Show phase, conditions, nodes and components of a cluster
    Status(status::Args),
    /// Check a cluster against its document, with evidence
    Verify(verify::Args),
    /// Look into a bundle
    Bundle(bundle::Args),
    /// Serve images and artifacts; bootstrap runs this in a container of its own
    Registry(registry::Args),
    /// Write, check and describe the document, a ManagementCluster in YAML
    #[command(subcommand)]
    Config(config::Args),
    /// Run a program that ends with whoever started it
    #[command(hide = true)]
    Tied(tied::Args),
    /// Print completions for a shell
    Completions(completions::Args),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    // Before any TLS: exactly one crypto provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::err(&format!("error: {error}"));
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Help and version are results; everything else is wrong usage, and says like every error what state things are in.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if error.use_stderr() && !help && !error.to_string().contains("\n  state: ") {
        printer::err("  state: nothing was changed");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Completions(args) => completions::run(&args),
        Command::Tied(args) => tied::run(&args),
        Command::Config(args) => {
            let mut text = Vec::new();
            config::run(&args, &mut text)?;
            printer::out_raw(&String::from_utf8_lossy(&text));
            Ok(())
        }
        Command::Plan(args) => plan::run(&args),
        Command::Kubeconfig(args) => kubeconfig::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Manager(args) => serve(manager::run(args)),
        Command::Status(args) => wait(status::run(args)),
        Command::Verify(args) => wait(verify::run(args)),
        Command::Registry(args) => serve(registry::run(args)),
        Command::Bootstrap(args) => wait(bootstrap::run(args)),
        Command::Destroy(args) => wait(destroy::run(args)),
    }
}

/// Runs a command for a person.
fn wait(work: impl Future<Output = Result<()>>) -> Result<()> {
    crate::telemetry::start("off", false);
    block_on(work)
}

/// Runs a server: it logs what it does.
fn serve(work: impl Future<Output = Result<()>>) -> Result<()> {
    crate::telemetry::start("info", true);
    block_on(work)
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|e| Error::new(Kind::Internal, "cannot start the run time").because(&e))?;
    let result = runtime.block_on(work);
    // Threads that still write into a pipe of a child that is gone must not hold up the end.
    runtime.shutdown_background();
    result
}
