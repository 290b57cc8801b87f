//! `mctl bootstrap`: checks, lock, engine, report. A second call goes on where the first one stopped.

use std::{io::IsTerminal, sync::Arc};

use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::input::{self, Input};
use crate::{
    Error, Kind, Result,
    engine::{self, Alone, Outcome, Run, view::RunView},
    env,
    ports::{Ports, docker::Docker, process::Processes},
    preflight,
    report::{self, printer, summary},
    steps::{
        self, Shared,
        state::{Request, State},
    },
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
    let read = input::read(&args.input)?;
    let name = read.document.cluster_name()?;
    let state = State::at(&name)?;
    let earlier = state.request()?;
    let engine_address =
        env::get("DOCKER_HOST").or_else(|| earlier.as_ref().and_then(|r| r.engine.clone()));
    let ports = Ports::real();
    let docker = Docker::new(ports.processes.clone(), engine_address.clone());
    let run = earlier.as_ref().map_or_else(new_run, |r| r.run.clone());
    preflight::check(&read, &docker, &state, earlier.as_ref()).await?;
    let plan = match &args.until {
        Some(step) => read.plan.until(step)?,
        None => read.plan.clone(),
    };
    if args.dry_run {
        printer::out(&format!(
            "all checks pass; {} steps, Kubernetes {}; `mctl plan` shows them. Nothing was changed.",
            plan.steps.len(),
            plan.kubernetes_version
        ));
        return Ok(());
    }
    confirm(&args, &read, earlier.is_some())?;

    let _lock = state.lock()?;
    let network_was_there = match earlier.as_ref().and_then(|r| r.network_was_there) {
        Some(known) => known,
        None => docker.inspect("network", "kind").await?.is_some(),
    };
    let request = Request {
        document: read.document.clone(),
        bundle: read.bundle.as_ref().map(|(path, _)| path.clone()),
        run,
        engine: engine_address,
        network_was_there: Some(network_was_there),
    };
    state.set_request(&request)?;
    let shared = Arc::new(Shared::new(
        ports.clone(),
        state.clone(),
        request,
        read.catalog,
        read.plan.kubernetes_version.clone(),
        read.bundle.map(|(_, b)| b),
    ));
    let journal = state.journal()?;
    let (events, received) = unbounded_channel();
    let view = report::spawn(args.output, received);
    let cancel = CancellationToken::new();
    let stop = on_signal(cancel.clone(), ports.processes.clone());
    for (_, output) in &journal.history().outputs {
        shared.learn(output)?;
    }
    let learned = shared.clone();
    let run = Run {
        plan: &plan,
        steps: &steps::all(&plan, &shared),
        // Of the whole plan: a part of it may end before the point of no return that an earlier run has passed.
        behind: engine::behind(&read.plan, journal.history()),
        owner: Arc::new(Alone),
        clock: ports.clock.clone(),
        learn: Arc::new(move |output| learned.learn(output)),
    };
    let outcome = run.go(journal, events, cancel).await;
    stop.abort();
    let view = view.await.unwrap_or_default();
    finish(&args, &name, outcome, &view)
}

fn new_run() -> String {
    // Time is enough: one host, one lock per cluster.
    format!("{:x}", jiff::Timestamp::now().as_second())
}

/// Asks on a terminal; without one `--yes` is needed. Going on with an earlier run asks nothing.
fn confirm(args: &Args, read: &input::Read, resumes: bool) -> Result<()> {
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
    printer::err(&format!(
        "Create management cluster `{}` with Kubernetes {} in {} steps? [y/N] ",
        read.plan.cluster,
        read.plan.kubernetes_version.clone(),
        read.plan.steps.len()
    ));
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Error::new(Kind::Interrupted, "not confirmed").state("nothing was changed"))
    }
}

/// First SIGINT or SIGTERM stops cleanly, a second one at once.
fn on_signal(
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

fn finish(args: &Args, name: &str, outcome: Outcome, view: &RunView) -> Result<()> {
    let again = again(args);
    match outcome {
        Outcome::Success => {
            if args.output != report::Output::Json {
                printer::err(&format!("\n{}", summary::durations(view)));
                if args.until.is_none() {
                    printer::err(&format!(
                        "management cluster `{name}` manages itself.\n  mctl status {name}\n  mctl verify {name}\n  export KUBECONFIG=$(mctl kubeconfig {name} --path)\n  mctl destroy {name}"
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
    let mut line = format!("mctl bootstrap --config {}", args.input.config.display());
    if let Some(bundle) = &args.input.bundle {
        line.push_str(&format!(" --bundle {}", bundle.display()));
    }
    line
}
