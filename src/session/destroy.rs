//! A removal: what goes is found first and shown, then removed step by step, and looked for once more. Must not touch what
//! belongs to another run or to somebody else, nor take silence for absence.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::{engine, lock::Lock, ownership};
use crate::{
    Error, Kind, Result,
    config::ClusterName,
    engine::{self as scheduler, Outcome, Owner, event::Event, journal::Journal},
    ownership::{
        Ownership,
        facts::{Containers, Known},
        look::Asked,
    },
    plan::{Plan, StepId, removal},
    ports::{
        Ports, Seen,
        docker::Docker,
        kubernetes::{Cluster, kinds, names},
    },
    steps::{
        CREATION_LOCK,
        removal::{self as steps, Belongings, Remains},
        state::{MANAGEMENT, Request, State, TEMPORARY},
    },
};

/// How long the cluster is waited for: it is about to go.
const PATIENCE: Duration = Duration::from_secs(6);

/// What is asked for.
pub struct Wish {
    /// Name of the cluster.
    pub name: ClusterName,
    /// A run that this host need not know.
    pub run: Option<String>,
    /// True when workload clusters may be left without anybody who manages them.
    pub abandon: bool,
    /// `DOCKER_HOST` of the shell.
    pub shell: Option<String>,
}

/// What goes is known; nothing is removed yet.
pub struct Ready {
    /// What goes from the engine.
    pub goes: Belongings,
    /// State folder, if it goes too.
    pub folder: Option<PathBuf>,
    /// The run.
    pub run: String,
    /// The engine, for messages.
    pub engine: String,
    /// Steps.
    pub plan: Plan,
    ports: Ports,
    state: State,
    lock: Lock,
    remains: Arc<Remains>,
    engine_id: String,
}

/// Finds out what goes; refuses what must not.
pub async fn begin(ports: &Ports, wish: Wish) -> Result<Ready> {
    let state = State::at(&wish.name)?;
    state.finish_removal()?;
    let there = state.folder.exists();
    let lock = state.lock()?;
    let request = match state.request() {
        Ok(request) => request,
        // The run that was named is removed, whatever else the folder holds.
        Err(_) if wish.run.is_some() => None,
        Err(e) => return Err(name_run(ports, &wish, e).await),
    };
    // Only the request's own run is known; another one is found by what it left.
    let known = request
        .as_ref()
        .filter(|r| wish.run.as_ref().is_none_or(|run| *run == r.run));
    let recorded = known.map(Request::recorded);
    let shell = wish.shell.clone();
    let engine = engine::choose(ports.processes.clone(), recorded.as_ref(), shell).await?;
    let run = match (&wish.run, known) {
        (Some(run), _) => run.clone(),
        (None, Some(request)) => request.run.clone(),
        (None, None) => {
            let found = Containers::of(&wish.name, &engine.docker.list().await?);
            if let Some((run, place)) = found.runs().into_iter().next() {
                return Err(unknown_run(&wish.name, &engine.name(), &run, &place));
            }
            if !there {
                // The error names the clusters that are known.
                drop(lock);
                return Err(match State::open(&wish.name) {
                    Err(e) => e,
                    Ok(_) => Error::new(Kind::Locked, "another mctl has just begun this cluster")
                        .fix("run the same command again")
                        .state("nothing was changed"),
                });
            }
            if !state.is_bare()? {
                return Err(no_request(&state, &engine.name()));
            }
            String::new()
        }
    };
    let remains = Arc::new(Remains {
        ports: ports.clone(),
        docker: engine.docker.clone(),
        cluster: wish.name.to_string(),
        run: run.clone(),
        known: known.is_some(),
    });
    let goes = remains.look().await?;
    if known.is_none() && wish.run.is_some() && goes.machines.is_empty() && goes.own.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            format!("run {run} has left nothing of `{}`", wish.name),
        )
        .at(format!("engine {}", engine.name()))
        .fix("set DOCKER_HOST to the engine that it worked on")
        .state("nothing was changed"));
    }
    if !wish.abandon && !goes.machines.is_empty() {
        let asked = Asked {
            ports,
            docker: &engine.docker,
            cluster: &wish.name,
            run: &run,
            temporary: state.kubeconfig(TEMPORARY)?,
            management: state.kubeconfig(MANAGEMENT)?,
            pivot_remembered: false,
        };
        workload_clusters(ports, &asked).await?;
    }
    let folder = (known.is_some() || run.is_empty()).then(|| state.folder.clone());
    Ok(Ready {
        plan: removal::removal(&wish.name, &run),
        engine: engine.name(),
        engine_id: engine.recorded.id,
        ports: ports.clone(),
        goes,
        folder,
        run,
        state,
        lock,
        remains,
    })
}

/// A damaged request does not say which run it was; the engine may.
async fn name_run(ports: &Ports, wish: &Wish, error: Error) -> Error {
    let shell = wish.shell.clone();
    let Ok(engine) = engine::choose(ports.processes.clone(), None, shell).await else {
        return error;
    };
    let listed = engine.docker.list().await.unwrap_or_default();
    match Containers::of(&wish.name, &listed)
        .runs()
        .into_iter()
        .next()
    {
        Some((run, place)) => error.fix(format!(
            "or remove the run that {place} on engine {} is of: mctl destroy --run {run} {}",
            engine.name(),
            wish.name
        )),
        None => error,
    }
}

fn unknown_run(name: &ClusterName, engine: &str, run: &str, place: &str) -> Error {
    Error::new(
        Kind::Preflight,
        format!("this host does not know run {run} of `{name}`"),
    )
    .at(format!("engine {engine}"))
    .because(format!("{place} is of it"))
    .fix("remove it where it was begun: same user, host and XDG_STATE_HOME")
    .fix(format!(
        "or, if nobody else works with it, here: mctl destroy --run {run} {name}"
    ))
    .state("nothing was changed")
}

fn no_request(state: &State, engine: &str) -> Error {
    Error::new(
        Kind::Usage,
        format!(
            "the request of `{}` is lost, so it is not known which engine it worked on",
            state.cluster
        ),
    )
    .at(state.file("request.json").display().to_string())
    .because(format!(
        "the engine at {engine} holds nothing of it; another one may"
    ))
    .fix("restore the file, or set DOCKER_HOST to that engine")
    .fix(format!(
        "or, if nothing of it is left anywhere, remove its state: rm -r {}",
        state.folder.display()
    ))
    .state("nothing was changed")
}

/// Machines of workload clusters would run on with nobody to manage them. Before the pivot there can be none; later whoever
/// knows must say so.
async fn workload_clusters(ports: &Ports, asked: &Asked<'_>) -> Result<()> {
    let (owner, found) = ownership(ports, asked, PATIENCE).await;
    let listed = matches!(found.facts.engine, Known::Is(_));
    let no_machine = listed && found.facts.management == Known::Absent;
    if no_machine || matches!(owner, Ownership::Fresh | Ownership::Building { .. }) {
        return Ok(());
    }
    let name = asked.cluster;
    let anyway = format!("or leave them behind: mctl destroy {name} --abandon-workload-clusters");
    let silent = |why: String| {
        Error::new(
            Kind::Preflight,
            format!("it cannot be told whether `{name}` still manages workload clusters"),
        )
        .because(why)
        .fix("have the cluster answer, then run the same command again")
        .fix(anyway.clone())
        .state("nothing was changed")
    };
    let Some(cluster) = found.management else {
        return Err(silent(owner.to_string()));
    };
    match others(&cluster, name).await {
        Seen::Absent => Ok(()),
        Seen::Unknown(e) => Err(silent(e.line())),
        Seen::Is(others) => Err(Error::new(
            Kind::Usage,
            format!("`{name}` still manages workload clusters"),
        )
        .because(others.join(", "))
        .fix("delete them first: kubectl delete cluster -n NAMESPACE NAME")
        .fix(anyway)
        .state("nothing was changed")),
    }
}

async fn others(cluster: &Cluster, name: &str) -> Seen<Vec<String>> {
    let kind = kinds::CLUSTER.gvk();
    let all = match cluster.look_at_all(&kind, None, None).await {
        Seen::Is(all) => all,
        Seen::Absent => return Seen::Absent,
        Seen::Unknown(e) => return Seen::Unknown(e),
    };
    let itself = format!("{}/{name}", names::ORGANIZATION);
    let others: Vec<String> = all
        .iter()
        .map(|c| {
            format!(
                "{}/{}",
                c.metadata.namespace.as_deref().unwrap_or_default(),
                c.metadata.name.as_deref().unwrap_or_default()
            )
        })
        .filter(|n| *n != itself)
        .collect();
    match others.is_empty() {
        true => Seen::Absent,
        false => Seen::Is(others),
    }
}

impl Ready {
    /// What goes and what stays, for people.
    pub fn list(&self) -> String {
        let mut text = self.goes.list();
        if let Some(folder) = &self.folder {
            text.push_str(&format!("  state {}\n", folder.display()));
        }
        for other in &self.goes.others {
            text.push_str(&format!(
                "  container {other} stays: it is not of run {}\n",
                self.run
            ));
        }
        text
    }

    /// Removes everything, looks once more, and removes the state last.
    pub async fn run(
        mut self,
        events: UnboundedSender<Event>,
        cancel: CancellationToken,
    ) -> Result<Outcome> {
        self.lock.keep();
        // A creation of a run that was killed would make again what goes now.
        let creation = self.state.file(CREATION_LOCK);
        self.ports.processes.settle(&creation).await?;
        let journal = self.state.file(&match self.folder {
            Some(_) => "removal.jsonl".to_owned(),
            None => format!("removal-{}.jsonl", self.run),
        });
        let owner = Same {
            docker: self.remains.docker.clone(),
            id: self.engine_id.clone(),
        };
        let run = scheduler::Run {
            plan: &self.plan,
            steps: &steps::all(&self.plan, &self.remains),
            behind: BTreeSet::new(),
            owner: Arc::new(owner),
            clock: self.ports.clock.clone(),
            learn: Arc::new(|_| Ok(())),
        };
        let outcome = run.go(Journal::open(&journal)?, events, cancel).await;
        if matches!(outcome, Outcome::Success) {
            match self.folder {
                Some(_) => self.state.remove()?,
                None => self.state.forget(&journal)?,
            }
        }
        Ok(outcome)
    }
}

/// The engine is still the one that was looked at.
struct Same {
    docker: Docker,
    id: String,
}

#[async_trait]
impl Owner for Same {
    async fn may_change(&self, _: &StepId) -> Result<()> {
        let id = self.docker.info().await?.id;
        if id == self.id {
            return Ok(());
        }
        Err(
            Error::failed("the engine has become another one in the middle of the removal")
                .because(format!("it is engine {id}, it was {}", self.id))
                .fix("start the first one, then run the same command again")
                .state("nothing was changed by this step; what was removed before is gone"),
        )
    }
}
