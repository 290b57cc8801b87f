//! `mctl status`: how a cluster is, or how far its bootstrap has come. Must not contain work.

use std::path::PathBuf;

use serde::Serialize;

use super::verify::{Output, cluster, diagnosis, show};
use crate::{
    Result,
    config::ClusterName,
    engine::journal::Journal,
    launchpad::diagnosis::Diagnosis,
    report::bootstrap::Bootstrap,
    steps::state::State,
    verify::summary::{self, Summary},
};

/// Shows phase, conditions, nodes, components and drift, or how far the bootstrap has come.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the cluster; without one, all that this host knows.
    pub name: Option<ClusterName>,
    /// How to show the result.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub output: Output,
    /// Kubeconfig of the cluster; by default the one that the bootstrap kept.
    #[arg(long, value_name = "FILE", requires = "name")]
    pub kubeconfig: Option<PathBuf>,
}

/// What is known of one cluster.
#[derive(Serialize)]
struct Status {
    /// Version of this form.
    version: u32,
    /// Its name.
    cluster: ClusterName,
    /// What this host's journal tells; absent where the cluster was not bootstrapped from.
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap: Option<Bootstrap>,
    /// What the cluster tells; absent before the manager has its document.
    #[serde(skip_serializing_if = "Option::is_none")]
    management: Option<Summary>,
    /// What the engine tells of its containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Diagnosis>,
    /// Why the cluster tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent: Option<String>,
}

impl Status {
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(bootstrap) = self.bootstrap.as_ref().filter(|b| !b.complete) {
            text.push_str(&bootstrap.text(&self.cluster));
        }
        if let Some(summary) = &self.management {
            text.push_str(&summary.text());
        }
        if let Some(containers) = &self.containers {
            text.push_str(&containers.text());
        }
        if let Some(why) = &self.silent {
            text.push_str(&format!("  the cluster itself tells nothing yet: {why}\n"));
        }
        text
    }
}

/// Reads and shows.
pub async fn run(args: Args) -> Result<()> {
    let Args {
        name,
        output,
        kubeconfig,
    } = args;
    let Some(name) = name else {
        return list(output);
    };
    let bootstrap = match &kubeconfig {
        Some(_) => None,
        None => Some(bootstrap(&State::open(&name)?)?),
    };
    // An engine that does not answer is told of by what does not answer either.
    let containers = diagnosis(&name, kubeconfig.is_some())
        .await
        .and_then(Result::ok);
    let finished = bootstrap.as_ref().is_none_or(|b| b.complete);
    let told = async { summary::summary(&cluster(&name, kubeconfig).await?, &name).await };
    let (management, silent) = match told.await {
        Ok(summary) => (Some(summary), None),
        // A finished cluster that does not answer is an error; before that it is a matter of course.
        Err(e) if finished => {
            return Err(match &containers {
                Some(found) => found.explain(e),
                None => e,
            });
        }
        Err(e) => (None, Some(e.line())),
    };
    let status = Status {
        version: 1,
        cluster: name,
        bootstrap,
        management,
        containers,
        silent,
    };
    show(output, &status, || status.text())
}

fn bootstrap(state: &State) -> Result<Bootstrap> {
    let events = Journal::read(&state.file("journal.jsonl"))?;
    Ok(Bootstrap::of(&events, state.holder()?))
}

fn list(output: Output) -> Result<()> {
    let mut all = Vec::new();
    for cluster in State::known()? {
        // One that is damaged must not hide the others.
        let (bootstrap, silent) = match State::open(&cluster).and_then(|s| bootstrap(&s)) {
            Ok(bootstrap) => (Some(bootstrap), None),
            Err(e) => (None, Some(e.line())),
        };
        all.push(Status {
            version: 1,
            bootstrap,
            cluster,
            management: None,
            containers: None,
            silent,
        });
    }
    show(output, &all, || {
        if all.is_empty() {
            return "this host knows no management cluster; create one: mctl bootstrap --config FILE\n".into();
        }
        all.iter()
            .map(|s| match (&s.bootstrap, &s.silent) {
                (Some(bootstrap), _) => format!("{}: {}\n", s.cluster, bootstrap.line()),
                (None, why) => format!(
                    "{}: {}\n",
                    s.cluster,
                    why.as_deref().unwrap_or("nothing is known")
                ),
            })
            .collect()
    })
}
