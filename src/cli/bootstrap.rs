//! `mctl bootstrap`: asks, has it done, shows it. A second call goes on where the first one stopped. Must not contain work.

use std::{io::IsTerminal, sync::Arc};

use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::{
    input::Input,
    preflight,
    verify::{Output::Json, show},
};
use crate::{
    Error, Kind, Result,
    engine::{self, Outcome, view::RunView},
    env,
    ownership::Ownership,
    ports::{Ports, process::Processes},
    preflight::counts,
    report::{self, printer, summary},
    session::bootstrap::{self, Begin, Wish},
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    /// How progress is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: report::Output,
    /// Stop after this step; `mctl plan` lists them
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
    /// Do not ask before the first change
    #[arg(long, short)]
    yes: bool,
    /// Run all checks and show the plan; change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    let read = args.input.prepare()?;
    let question = format!(
        "Create management cluster `{}` with Kubernetes {} in {} steps? [y/N]",
        read.plan.cluster,
        read.plan.kubernetes_version,
        read.plan.steps.len()
    );
    let name = read.name.clone();
    let ports = Ports::real();
    let wish = Wish {
        read,
        until: args.until.clone(),
        shell: env::get("DOCKER_HOST"),
        dry: args.dry_run,
        run: None,
    };
    let ready = match bootstrap::begin(&ports, wish).await? {
        Begin::Ready(ready) => ready,
        Begin::Nothing(why) => {
            printer::err(&why);
            return Ok(());
        }
    };
    if args.dry_run && args.output == report::Output::Json {
        return show(
            Json,
            &preflight::Report::new(&name, ready.findings),
            String::new,
        );
    }
    preflight::tell_tight(&ready.findings);
    if args.dry_run {
        return printer::out(&format!(
            "nothing stands in the way ({}); {} steps, Kubernetes {}; `mctl plan` shows them. Nothing was changed.",
            counts(&ready.findings),
            ready.plan.steps.len(),
            ready.plan.kubernetes_version
        ));
    }
    confirm(&args, &question, ready.resumes)?;

    let (events, received) = unbounded_channel();
    let view = report::spawn(args.output, received);
    let cancel = CancellationToken::new();
    let stop = on_signal(cancel.clone(), ports.processes.clone());
    let whole = args.until.is_none() || matches!(ready.owner, Ownership::Pivoted { .. });
    let outcome = ready.run(events, cancel).await;
    stop.abort();
    let view = view.await.unwrap_or_default();
    finish(&args, &name, whole, outcome?, &view)
}

/// Asks on a terminal; without one `--yes` is needed. Going on with an earlier run asks nothing.
fn confirm(args: &Args, question: &str, resumes: bool) -> Result<()> {
    if args.yes || resumes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(
            Kind::Usage,
            "bootstrap asks before the first change, and there is no terminal to ask on",
        )
        .fix("add --yes")
        .state("nothing was changed"));
    }
    if matches!(printer::ask(question)?.as_str(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Error::new(Kind::Interrupted, "not confirmed")
            .fix("run it again and answer y, or add --yes")
            .state("nothing was changed"))
    }
}

/// First SIGINT or SIGTERM stops cleanly, a second one at once.
pub(super) fn on_signal(
    cancel: CancellationToken,
    processes: Arc<dyn Processes>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut int), Ok(mut term)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return;
        };
        loop {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            if cancel.is_cancelled() {
                printer::err("stopped without cleaning up; the same command goes on from here");
                processes.end_all();
                std::process::exit(130);
            }
            cancel.cancel();
        }
    })
}

fn finish(args: &Args, name: &str, whole: bool, outcome: Outcome, view: &RunView) -> Result<()> {
    let again = again(args);
    match outcome {
        Outcome::Success => {
            if args.output != report::Output::Json {
                printer::err(&format!("\n{}", summary::durations(view)));
                if whole {
                    printer::err(&format!(
                        "`{name}` manages itself.\n  mctl status {name}\n  mctl verify {name}\n  export KUBECONFIG=$(mctl kubeconfig {name} --path)\n  mctl destroy {name}"
                    ));
                }
            }
            Ok(())
        }
        Outcome::Failed(step, error) => {
            let done = view
                .steps
                .values()
                .filter(|s| s.state == engine::view::State::Done)
                .count();
            let state = format!(
                "stopped at step `{step}`; {done} of {} steps are done and kept",
                view.steps.len()
            );
            let error = if error.has_state() {
                error
            } else {
                error.state(state)
            };
            Err(error
                .fix(format!("then go on: {again}"))
                .fix(format!("or remove everything: mctl destroy {name}")))
        }
        Outcome::Interrupted => {
            let done = view
                .steps
                .values()
                .filter(|s| s.state == engine::view::State::Done)
                .count();
            Err(Error::new(Kind::Interrupted, "stopped on request")
                .state(format!(
                    "{done} of {} steps are done and kept; nothing is lost",
                    view.steps.len()
                ))
                .fix(format!("go on: {again}")))
        }
    }
}

/// The command that goes on.
fn again(args: &Args) -> String {
    args.input.again("bootstrap")
}
