//! `mctl verify`: acceptance checks with evidence. Must not contain work.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use crate::{
    Error, Kind, Result,
    config::ClusterName,
    error::Context,
    launchpad::{diagnosis::Diagnosis, power},
    ports::kubernetes::{Cluster, Progress},
    report::printer,
    steps::{
        kubeconfig,
        state::{MANAGEMENT, State},
    },
    verify::{self, Check},
};

/// Checks a management cluster and shows the evidence; changes nothing unless --active is given.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the cluster.
    pub name: ClusterName,
    /// Also probe: provoke an alert, delete and edit platform objects, scale the control plane; cleans up after itself.
    #[arg(long)]
    pub active: bool,
    /// Look at failed checks again for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
    /// How to show the result.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub output: Output,
    /// Kubeconfig of the cluster; by default the one that the bootstrap kept.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON document.
    Json,
}

/// Runs the checks; an error of kind [`Kind::Failed`] when one of them fails.
pub async fn run(args: Args) -> Result<()> {
    let Args {
        name,
        active,
        wait,
        output,
        kubeconfig,
    } = args;
    let diagnosis = diagnosis(&name, kubeconfig.is_some()).await;
    let explained = |e: Error| match &diagnosis {
        Some(Ok(d)) => d.explain(e),
        Some(Err(silent)) => e.because(silent.line()),
        None => e,
    };
    let cluster = cluster(&name, kubeconfig).await?;
    let document = verify::document(&cluster, &name).await.map_err(explained)?;
    let options = verify::Options {
        active,
        patience: Duration::from_secs(wait),
    };
    let progress = Lines {
        shown: output == Output::Human && std::io::stderr().is_terminal(),
    };
    let mut report = tokio::select! {
        report = verify::run(&cluster, &document, options, &progress) => report.map_err(explained)?,
        _ = tokio::signal::ctrl_c() => {
            let error = Error::new(Kind::Interrupted, "the checks were stopped");
            if !active {
                return Err(error.state("nothing was changed"));
            }
            return Err(match verify::clean_up(&cluster, &name).await {
                Ok(()) => error.state("what the probes changed was put back, or Flux puts it back"),
                Err(e) => error.because(e).fix(format!("mctl verify {name} --active cleans up when it runs to its end")),
            });
        }
    };
    match &diagnosis {
        Some(Ok(d)) => report.checks.push(d.check()),
        Some(Err(silent)) => report.checks.push(Check::skip("containers", silent.line())),
        None => {}
    }
    show(output, &report, || report.text())?;
    if report.passed() {
        return Ok(());
    }
    Err(Error::failed(format!("{name} is not as it should be"))
        .because(format!("failed checks: {}", report.failed().join(", ")))
        .state(if active {
            "what the probes changed was put back unless a check says otherwise"
        } else {
            "nothing was changed"
        })
        .fix(format!(
            "each failed check names its fix; then run again: mctl verify {name}"
        )))
}

/// What the engine says of the cluster's containers; nothing where another kubeconfig was given: it may be anybody's.
pub(super) async fn diagnosis(name: &ClusterName, elsewhere: bool) -> Option<Result<Diagnosis>> {
    if elsewhere {
        return None;
    }
    let state = State::open(name).ok()?;
    let docker = super::power::engine(&state).ok()?;
    Some(power::look(&docker, &state).await)
}

/// The cluster of this name, through the kubeconfig that was given or kept.
pub(super) async fn cluster(name: &ClusterName, kubeconfig: Option<PathBuf>) -> Result<Cluster> {
    let (file, kept) = match kubeconfig {
        Some(file) => (file, None),
        None => {
            let state = State::open(name)?;
            (state.file(MANAGEMENT), Some(state))
        }
    };
    let text = std::fs::read_to_string(&file).map_err(|e| {
        Error::new(Kind::Usage, format!("there is no access to {name} yet"))
            .at(file.display().to_string())
            .because(&e)
            .state("nothing was changed")
            .fix("run the bootstrap again: it goes on where it stopped")
    })?;
    let cluster = Cluster::from_kubeconfig(format!("management cluster {name}"), &text).await?;
    if let Some(state) = kept {
        // Beside the work: nobody waits for it.
        let cluster = cluster.clone();
        tokio::spawn(async move { kubeconfig::follow(&state, &cluster).await });
    }
    Ok(cluster)
}

/// Writes a result to standard output.
pub(super) fn show(
    output: Output,
    value: &impl serde::Serialize,
    human: impl FnOnce() -> String,
) -> Result<()> {
    let text = match output {
        Output::Human => human(),
        Output::Json => {
            serde_json::to_string_pretty(value).context(|| "cannot form JSON".to_owned())? + "\n"
        }
    };
    printer::out_raw(&text)
}

/// Progress as lines on a terminal.
pub(super) struct Lines {
    shown: bool,
}

impl Lines {
    /// Shown everywhere.
    pub(super) fn shown() -> Self {
        Self { shown: true }
    }
}

impl Progress for Lines {
    fn seen(&self, evidence: &str) {
        if self.shown {
            printer::err(&format!("… {evidence}"));
        }
    }
}
