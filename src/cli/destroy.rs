//! `mctl destroy`: shows what goes, asks, and has it removed. Must not contain work.

use std::io::IsTerminal;

use tokio::sync::mpsc::unbounded_channel;

use super::bootstrap::on_signal;
use crate::{
    Error, Kind, Result,
    config::ClusterName,
    engine::{Outcome, view::RunView},
    env,
    ports::Ports,
    report::{self, printer},
    session::destroy::{self, Ready, Wish},
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Management cluster
    name: ClusterName,
    /// The name once more, instead of typing it when asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<ClusterName>,
    /// Show what would be removed; change nothing
    #[arg(long)]
    plan: bool,
    /// What this run made, also if this host does not know it; the engine's containers name their run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Also when the cluster still has workload clusters, or cannot say so; their machines stay behind
    #[arg(long)]
    abandon_workload_clusters: bool,
    /// How progress is shown
    #[arg(long, short, value_enum, default_value_t = report::Output::Lines)]
    output: report::Output,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    let Args {
        name,
        confirm,
        plan,
        run,
        abandon_workload_clusters,
        output,
    } = args;
    let ports = Ports::real();
    let wish = Wish {
        name: name.clone(),
        run,
        abandon: abandon_workload_clusters,
        shell: env::get("DOCKER_HOST"),
    };
    let ready = destroy::begin(&ports, wish).await?;
    if plan {
        return printer::out_raw(&shown(&name, &ready));
    }
    printer::err(&shown(&name, &ready));
    ask(&name, confirm)?;

    let (events, received) = unbounded_channel();
    let view = report::spawn(output, received);
    let cancel = tokio_util::sync::CancellationToken::new();
    let stop = on_signal(cancel.clone(), ports.processes.clone());
    let outcome = ready.run(events, cancel).await;
    stop.abort();
    let view = view.await.unwrap_or_default();
    finish(&name, outcome?, &view)
}

fn shown(name: &ClusterName, ready: &Ready) -> String {
    let run = match ready.run.as_str() {
        "" => "which no run has begun".to_owned(),
        run => format!("run {run}"),
    };
    format!(
        "destroying management cluster `{name}` ({run}, engine {}) removes, in {} steps:\n{}",
        ready.engine,
        ready.plan.steps.len(),
        ready.list()
    )
}

fn ask(name: &ClusterName, confirm: Option<ClusterName>) -> Result<()> {
    let given = match confirm {
        Some(given) => given.to_string(),
        None if std::io::stdin().is_terminal() => {
            printer::ask(&format!("type the name `{name}` to go on:"))?
        }
        None => {
            return Err(Error::new(
                Kind::Usage,
                "destroy asks for the name, and there is no terminal to ask on",
            )
            .fix(format!("add --confirm {name}"))
            .state("nothing was changed"));
        }
    };
    if *name == *given {
        return Ok(());
    }
    Err(
        Error::new(Kind::Usage, format!("`{given}` is not `{name}`"))
            .fix(format!(
                "give the same name twice: mctl destroy {name} --confirm {name}"
            ))
            .state("nothing was changed"),
    )
}

fn finish(name: &ClusterName, outcome: Outcome, view: &RunView) -> Result<()> {
    let again = format!("go on: mctl destroy {name}");
    match outcome {
        Outcome::Success => {
            // What stays, stays for a reason that its step has told.
            let stays = view.steps.values().filter(|s| s.seen.contains(" stays: "));
            for step in stays {
                printer::err(&step.seen);
            }
            printer::err(&format!(
                "`{name}` is gone: no container, volume, image or state of it is left. kind's executable stays in the cache."
            ));
            Ok(())
        }
        Outcome::Failed(step, error) => {
            let error = match error.has_state() {
                true => error,
                false => error.state(format!(
                    "stopped at step `{step}`; what was removed before is gone, the state folder is kept"
                )),
            };
            Err(error.fix(again))
        }
        Outcome::Interrupted => Err(Error::new(Kind::Interrupted, "stopped on request")
            .state("what was removed is gone, the state folder is kept")
            .fix(again)),
    }
}
