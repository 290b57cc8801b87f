//! A bootstrap: everything that is asked before the first change is asked under the lock, and again by the engine. Must not
//! make anything before [`Ready::run`].

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, engine, lock::Lock, new_run, owner::Guard, ownership};
use crate::{
    Error, Kind, Result,
    engine::{self as scheduler, History, Outcome, Steps, event::Event, journal::Journal},
    ownership::{
        Ownership, Stage,
        facts::{Containers, Known},
        look::{Asked, Found},
        marks,
    },
    pki::Authority,
    plan::{Plan, StepId, id},
    ports::{
        Ports,
        docker::Docker,
        kubernetes::{Cluster, kinds, names, objects::secret_text},
    },
    preflight::{self, Finding},
    prepare::Prepared,
    registry::own_image::OwnImage,
    steps::{
        self, Shared,
        state::{MANAGEMENT, Request, State, TEMPORARY},
    },
};

/// File of the events.
const JOURNAL: &str = "journal.jsonl";
/// What to do after what stands in the way is gone.
const AGAIN: &str = "the same mctl bootstrap command";

/// What is asked for.
pub struct Wish {
    /// Document, bundle, catalog, plan.
    pub read: Prepared,
    /// Last step, if not all are wanted.
    pub until: Option<String>,
    /// `DOCKER_HOST` of the shell.
    pub shell: Option<String>,
    /// True when nothing is to be changed, not even a lock taken.
    pub dry: bool,
    /// Name of the run if it is a new one; drawn if there is none here.
    pub run: Option<String>,
}

/// What there is to do.
pub enum Begin {
    /// Nothing any more; how it stands.
    Nothing(String),
    /// Some steps.
    Ready(Box<Ready>),
}

/// Everything is checked; nothing is changed yet.
pub struct Ready {
    /// Steps to run.
    pub plan: Plan,
    /// True when an earlier run is gone on with.
    pub resumes: bool,
    /// Who owns the cluster.
    pub owner: Ownership,
    /// What the checks came to; nothing of it is bad.
    pub findings: Vec<Finding>,
    wish: Wish,
    ports: Ports,
    state: State,
    lock: Option<Lock>,
    engine: engine::Chosen,
    run: String,
    earlier: Option<Request>,
    found: Found,
    history: History,
}

/// Asks everything that must be known before the first change.
pub async fn begin(ports: &Ports, wish: Wish) -> Result<Begin> {
    let name = wish.read.document.cluster_name()?;
    let state = State::at(&name)?;
    let lock = match wish.dry {
        true => None,
        false => Some(state.lock()?),
    };
    let mut ready = match ask(ports, wish, state, lock).await? {
        Begin::Ready(ready) => ready,
        nothing => return Ok(nothing),
    };
    let earlier = ready.earlier.as_ref();
    let docker = &ready.engine.docker;
    let prepared = &ready.wish.read;
    ready.findings = prepared
        .findings(ports, docker, &ready.state, earlier)
        .await?;
    preflight::refuse(&ready.findings, AGAIN)?;
    Ok(Begin::Ready(ready))
}

/// The part of [`begin`] that asks engine, clusters and state, but not this host what it can do.
pub async fn ask(ports: &Ports, wish: Wish, state: State, lock: Option<Lock>) -> Result<Begin> {
    let name = state.cluster.clone();
    let plan = match &wish.until {
        Some(step) => wish.read.plan.until(step)?,
        None => wish.read.plan.clone(),
    };
    let earlier = state.request()?;
    let recorded = earlier.as_ref().map(Request::recorded);
    let shell = wish.shell.clone();
    let chosen = engine::choose(ports.processes.clone(), recorded.as_ref(), shell).await;
    let engine = match chosen {
        Err(e) if e.kind() == Kind::Preflight && earlier.is_none() => {
            return Err(everything_in_the_way(ports, &wish, &state, e).await);
        }
        chosen => chosen?,
    };
    let history = History::of(&Journal::read_in(state.files(), &state.file(JOURNAL))?);
    let run = match (&earlier, &wish.run) {
        (Some(request), _) => request.run.clone(),
        (None, Some(run)) => run.clone(),
        (None, None) => new_run(ports),
    };
    let asked = Asked {
        ports,
        docker: &engine.docker,
        cluster: &name,
        run: &run,
        temporary: state.kubeconfig(TEMPORARY)?,
        management: state.kubeconfig(MANAGEMENT)?,
        pivot_remembered: history.started.contains(&StepId::from(id::PIVOT)),
    };
    let (owner, found) = ownership(ports, &asked, PATIENCE).await;
    owner.check(&name, &engine.name())?;
    if earlier.is_none() && state.files().exists(&state.file(JOURNAL)) {
        return Err(lost_request(&state));
    }
    check_authority(&state, &found)?;
    let ready = Ready {
        findings: Vec::new(),
        resumes: earlier.is_some(),
        plan,
        owner,
        ports: ports.clone(),
        state,
        lock,
        engine,
        run,
        earlier,
        found,
        history,
        wish,
    };
    let behind = ready.behind();
    if ready.plan.steps.iter().all(|s| behind.contains(&s.id)) {
        return Ok(Begin::Nothing(match ready.owner {
            Ownership::Pivoted { .. } => format!("`{name}` manages itself; there is nothing to do"),
            _ => format!("`{name}` is being moved into itself; there is nothing to do up to here"),
        }));
    }
    // Before the request of the earlier run is replaced.
    scheduler::same_plan(&ready.history, &ready.plan)?;
    Ok(Begin::Ready(Box::new(ready)))
}

/// No engine is only one of the things that may stand in the way of a first run; all are told at once.
async fn everything_in_the_way(ports: &Ports, wish: &Wish, state: &State, error: Error) -> Error {
    let docker = Docker::new(ports.processes.clone(), wish.shell.clone());
    match wish.read.findings(ports, &docker, state, None).await {
        Ok(findings) => preflight::refuse(&findings, AGAIN).err().unwrap_or(error),
        Err(_) => error,
    }
}

/// A run is known by its events alone: where it worked is not.
fn lost_request(state: &State) -> Error {
    Error::new(
        Kind::Usage,
        format!(
            "the request of an earlier run of `{}` is lost",
            state.cluster
        ),
    )
    .at(state.file("request.json").display().to_string())
    .because(
        "its journal is there, but neither its document nor the engine that it worked on is known",
    )
    .fix("restore the file")
    .fix(format!(
        "or, if nothing of that run is left on any engine, remove its state: rm -r {}",
        state.folder.display()
    ))
    .state("nothing was changed")
}

/// What the engine's containers trust must be the CA of this host's state, as far as either is there.
fn check_authority(state: &State, found: &Found) -> Result<()> {
    let Known::Is(containers) = &found.facts.engine else {
        return Ok(());
    };
    let trusted = containers.own.iter().find(|o| !o.marks.ca.is_empty());
    let (Some(own), Some(certificate)) = (trusted, state.ca_certificate()?) else {
        return Ok(());
    };
    let digest = marks::ca_digest(&certificate);
    if own.marks.ca == digest {
        return Ok(());
    }
    Err(Error::new(
        Kind::Preflight,
        format!(
            "`{}` was made with another CA than the one on this host",
            state.cluster
        ),
    )
    .at(state.file("ca.crt").display().to_string())
    .because(format!(
        "container {} trusts {}, the file is {digest}",
        own.name, own.marks.ca
    ))
    .fix("restore ca.crt and ca.key of that run")
    .fix(format!(
        "or remove everything: mctl destroy {}",
        state.cluster
    ))
    .state("nothing was changed"))
}

impl Ready {
    /// Steps of the whole plan that are behind this cluster.
    fn behind(&self) -> BTreeSet<StepId> {
        let mut behind = self.owner.behind(&self.wish.read.plan);
        let pivot = StepId::from(id::PIVOT);
        let gone = self.found.facts.temporary == Known::Absent;
        if matches!(self.owner, Ownership::Pivoted { .. })
            && (gone || self.history.done.contains(&pivot))
        {
            behind.insert(pivot);
        }
        behind
    }

    /// True when nothing trusts any CA of this cluster yet.
    fn may_make_authority(&self) -> bool {
        match &self.found.facts.engine {
            Known::Is(containers) => *containers == Containers::default(),
            _ => false,
        }
    }

    /// Runs the steps.
    pub async fn run(
        self,
        events: UnboundedSender<Event>,
        cancel: CancellationToken,
    ) -> Result<Outcome> {
        Ok(self.set_up(None).await?.go(events, cancel).await)
    }

    /// Keeps what was asked for, and has the steps ready; `image` is mctl's own if it is not the one around this executable.
    pub async fn set_up(mut self, image: Option<OwnImage>) -> Result<Work> {
        let behind = self.behind();
        let network_was_there = match self.earlier.as_ref().and_then(|r| r.network_was_there) {
            Some(known) => known,
            None => self
                .engine
                .docker
                .inspect("network", "kind")
                .await?
                .is_some(),
        };
        let bundle = self.wish.read.bundle.take();
        let request = Request {
            document: self.wish.read.document.clone(),
            bundle: bundle.as_ref().map(|(path, _)| path.clone()),
            run: self.run.clone(),
            engine: self.engine.recorded.address.clone(),
            engine_id: self.engine.recorded.id.clone(),
            network_was_there: Some(network_was_there),
        };
        self.state.set_request(&request)?;
        if let Some(lock) = &mut self.lock {
            lock.keep();
        }
        self.authority().await?;
        // The copy on this host may be lost or too old.
        if let Some(kubeconfig) = &self.found.kubeconfig {
            self.state.keep_kubeconfig(MANAGEMENT, kubeconfig)?;
        }
        let guard = Guard {
            ports: self.ports.clone(),
            docker: self.engine.docker.clone(),
            engine: self.engine.name(),
            state: self.state.clone(),
            run: self.run.clone(),
            pivot_remembered: self.found.facts.pivot_remembered,
            whole: self.wish.read.plan.clone(),
        };
        let handed_over = match self.owner {
            Ownership::Moving { .. } | Ownership::Pivoted { .. } => {
                self.handed_over_environment().await?
            }
            _ => None,
        };
        let whole = self.wish.read.plan;
        let mut shared = Shared::new(
            self.ports.clone(),
            self.state.clone(),
            request,
            self.wish.read.catalog,
            whole.kubernetes_version.clone(),
            bundle.map(|(_, b)| b),
        );
        if let Some(image) = image {
            shared = shared.around(image);
        }
        let shared = Arc::new(shared);
        let journal = self.state.journal()?;
        for (_, output) in &journal.history().outputs {
            shared.learn(output)?;
        }
        if let Some(environment) = &handed_over {
            shared.learn(environment)?;
        }
        Ok(Work {
            steps: steps::all(&self.plan, &shared),
            plan: self.plan,
            behind,
            to_the_end: self.wish.until.is_none() || self.owner.permits(Stage::After),
            guard: Arc::new(guard),
            shared,
            journal,
            ports: self.ports,
            state: self.state,
            _lock: self.lock,
        })
    }

    /// The CA of the cluster: made before anything trusts it, and read back from the cluster that it was handed over to.
    async fn authority(&self) -> Result<()> {
        if self.may_make_authority() {
            return self.state.make_authority();
        }
        if self.state.authority_if_any()?.is_some() {
            return Ok(());
        }
        let Some(cluster) = &self.found.management else {
            return Err(self.state.authority_lost());
        };
        match kept_in(cluster).await? {
            Some(authority) => self.state.keep_authority(&authority),
            None => Err(self.state.authority_lost()),
        }
    }

    /// What rendering needs to know: after the handover the cluster's own word, for the journal may be lost or old.
    async fn handed_over_environment(&self) -> Result<Option<Value>> {
        let Some(cluster) = &self.found.management else {
            return Ok(None);
        };
        let kind = kinds::CONFIG_MAP.gvk();
        let map = cluster
            .look(&kind, Some(names::NAMESPACE), names::ENVIRONMENT)
            .await
            .known()?;
        // One that cannot be read says nothing; the manager keeps a copy of its own, and the journal has it too.
        Ok(map
            .and_then(|m| serde_json::from_str(m.data["data"]["environment.json"].as_str()?).ok()))
    }
}

/// Steps that can begin.
pub struct Work {
    /// What is to be done.
    pub plan: Plan,
    /// How.
    pub steps: Steps,
    /// Steps that are neither looked at nor run any more.
    pub behind: BTreeSet<StepId>,
    to_the_end: bool,
    guard: Arc<Guard>,
    shared: Arc<Shared>,
    journal: Journal,
    ports: Ports,
    state: State,
    _lock: Option<Lock>,
}

impl Work {
    /// Does it.
    pub async fn go(self, events: UnboundedSender<Event>, cancel: CancellationToken) -> Outcome {
        let learned = self.shared.clone();
        let run = scheduler::Run {
            plan: &self.plan,
            steps: &self.steps,
            behind: self.behind,
            owner: self.guard,
            clock: self.ports.clock.clone(),
            learn: Arc::new(move |output| learned.learn(output)),
        };
        let outcome = run.go(self.journal, events, cancel).await;
        if matches!(outcome, Outcome::Success) && self.to_the_end {
            // It stays for now if the cluster cannot be asked; the next run looks again.
            let _ = hand_over_key(&self.ports, &self.state).await;
        }
        outcome
    }
}

/// The CA as the new cluster keeps it.
async fn kept_in(cluster: &Cluster) -> Result<Option<Authority>> {
    let kind = kinds::SECRET.gvk();
    let secret = cluster
        .look(&kind, Some(names::NAMESPACE), names::AUTHORITY)
        .await
        .known()?;
    let text = |key: &str| secret.as_ref().and_then(|s| secret_text(s, key));
    match (text("tls.crt"), text("tls.key")) {
        (Some(certificate), Some(key)) => Authority::from_pem(&certificate, &key).map(Some),
        _ => Ok(None),
    }
}

/// The CA's key is the cluster's from now on: what this host has goes, once the cluster has shown that it has the same.
async fn hand_over_key(ports: &Ports, state: &State) -> Result<()> {
    let (Some(kubeconfig), Some(here)) = (state.kubeconfig(MANAGEMENT)?, state.authority_if_any()?)
    else {
        return Ok(());
    };
    let name = format!("management cluster {}", state.cluster);
    let cluster = ports.clusters.connect(&name, &kubeconfig).await?;
    match kept_in(&cluster).await? {
        Some(there) if there.key() == here.key() => state.drop_key(),
        _ => Ok(()),
    }
}
