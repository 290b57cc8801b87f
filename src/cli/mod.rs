//! The command line: arguments, settings, exit codes; must not contain work.

mod bootstrap;
mod bundle;
mod completions;
pub mod config;
mod destroy;
mod engine_proxy;
pub mod input;
mod kubeconfig;
mod manager;
mod plan;
mod power;
mod preflight;
mod registry;
mod status;
mod tied;
mod verify;

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{Error, Kind, Result, env, error::About, report::printer};

/// Creates a self-managed Cluster API management cluster from one document, and keeps it so.
#[derive(Debug, Parser)]
#[command(
    name = "mctl",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_long_help = surroundings()
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
    /// Look at everything that a bootstrap needs of host, engine, document and bundle; changes nothing
    Preflight(preflight::Args),
    /// Print the kubeconfig of a management cluster
    Kubeconfig(kubeconfig::Args),
    /// Stop all containers of a management cluster; nothing is removed
    Stop(power::Args),
    /// Start a management cluster again, and wait until it answers
    Start(power::Args),
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
    /// Pass an engine's API on, with addresses for new machines; runs beside Cluster API's Docker provider
    #[command(hide = true)]
    EngineProxy(engine_proxy::Args),
    /// Write, check and describe the document, a ManagementCluster in YAML
    #[command(subcommand)]
    Config(config::Args),
    /// Run a program that ends with whoever started it
    #[command(hide = true)]
    Tied(tied::Args),
    /// Print completions for a shell
    Completions(completions::Args),
}

/// Exit codes, and every variable that is read.
fn surroundings() -> String {
    let mut text = String::from("Exit codes:\n   0  done\n");
    let mut codes: Vec<(u8, &str)> = Kind::ALL.map(|k| (k.exit_code(), k.says())).to_vec();
    codes.push((130, "stopped by a second Ctrl-C, without cleaning up"));
    codes.sort_unstable();
    for (code, says) in codes {
        text += &format!("{code:>4}  {says}\n");
    }
    text += "\nEnvironment:\n";
    for (name, does) in env::ALL {
        text += &format!("  {name:<15} {does}\n");
    }
    text
}

/// Runs the command line.
pub fn main() -> ExitCode {
    // Before any TLS: exactly one crypto provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let about = cli.command.about();
    ended(run(cli.command).map_err(|e| e.complete(&about)))
}

/// Shows the error, if there is one, and chooses the exit code.
fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As other programs: who went away is not told why.
            if error.kind() != Kind::Closed {
                printer::err(&format!("error: {error}"));
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Help and version are results; everything else is wrong usage, and says like every error what state things are in.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render();
    if !error.use_stderr() {
        // Help is data: it is not complete where it could not be written.
        return ended(printer::out_raw(&if std::io::stdout().is_terminal() {
            text.ansi().to_string()
        } else {
            text.to_string()
        }));
    }
    let _ = error.print();
    let help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !help && !error.to_string().contains("\n  state: ") {
        printer::err("  state: nothing was changed");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

impl Command {
    /// What is said of every error of a command that does not say it itself; a new command has to choose its words.
    fn about(&self) -> About {
        let reads = |place| About {
            place,
            state: "nothing was changed",
            fix: "mend what is named above, then run it again",
        };
        let serves = |place| About {
            place,
            state: "the server has ended; it is safe to start it again",
            fix: "mend what is named above; its log says more with MCTL_LOG=debug",
        };
        match self {
            Self::Bootstrap(_) => About {
                place: "mctl bootstrap",
                state: "what is done is kept, and it is safe to run it again",
                fix: "run the same command again: it goes on where it stopped",
            },
            Self::Destroy(_) => About {
                place: "mctl destroy",
                state: "what was removed is gone, the rest is kept, and it is safe to run it again",
                fix: "run the same command again: it goes on where it stopped",
            },
            Self::Verify(_) => About {
                place: "mctl verify",
                state: "nothing was changed, except what the probes of --active do; Flux puts that back",
                fix: "mend what is named above, then run it again",
            },
            Self::Stop(_) => About {
                place: "mctl stop",
                state: "some containers may be stopped; nothing was removed, and it is safe to run it again",
                fix: "run the same command again, or start the cluster: mctl start NAME",
            },
            Self::Start(_) => About {
                place: "mctl start",
                state: "what was started runs; nothing was removed, and it is safe to run it again",
                fix: "run the same command again: it goes on where it stopped",
            },
            Self::Plan(_) => reads("mctl plan"),
            Self::Preflight(_) => reads("mctl preflight"),
            Self::Kubeconfig(_) => reads("mctl kubeconfig"),
            Self::Status(_) => reads("mctl status"),
            Self::Bundle(_) => reads("mctl bundle"),
            Self::Config(_) => reads("mctl config"),
            Self::Completions(_) => reads("mctl completions"),
            Self::Tied(_) => reads("mctl tied"),
            Self::Manager(_) => serves("mctl manager"),
            Self::Registry(_) => serves("mctl registry"),
            Self::EngineProxy(_) => serves("mctl engine-proxy"),
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Completions(args) => completions::run(&args),
        Command::Tied(args) => tied::run(&args),
        Command::Config(args) => {
            let mut text = Vec::new();
            config::run(&args, &mut text)?;
            printer::out_raw(&String::from_utf8_lossy(&text))
        }
        Command::Plan(args) => plan::run(&args),
        Command::Kubeconfig(args) => kubeconfig::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Manager(args) => serve(manager::run(args)),
        Command::Status(args) => wait(status::run(args)),
        Command::Verify(args) => wait(verify::run(args)),
        Command::Registry(args) => serve(registry::run(args)),
        Command::Preflight(args) => wait(preflight::run(args)),
        Command::EngineProxy(args) => serve(engine_proxy::run(args)),
        Command::Bootstrap(args) => wait(bootstrap::run(args)),
        Command::Destroy(args) => wait(destroy::run(args)),
        Command::Stop(args) => wait(power::stop(args)),
        Command::Start(args) => wait(power::start(args)),
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
