//! One `mctl bootstrap` on a world: what the command does between its arguments and its report. Must not repair anything.

use std::{path::PathBuf, sync::Arc};

use mctl::{
    Error, Result,
    engine::{Alone, Outcome, Run, Steps, behind, event::Event, journal::Journal},
    plan::{Plan, StepId},
    ports::Ports,
    steps::{
        self, Shared,
        state::{Request, State},
    },
};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::{
    outside::Life,
    scene::{NAME, RUN, STATE, Scene},
};

/// How a process ended.
#[derive(Debug)]
pub enum End {
    /// All steps are done.
    Success,
    /// A step failed, or something before the first one.
    Failed(String, Error),
    /// It died.
    Died,
}

impl End {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }

    pub fn told(&self) -> String {
        match self {
            Self::Success => "success".into(),
            Self::Failed(step, error) => format!("`{step}` failed: {error}"),
            Self::Died => "died".into(),
        }
    }
}

/// Changes the ports or steps of a run, for planted bugs.
pub type Change<T> = Arc<dyn Fn(T) -> T + Send + Sync>;

/// What is asked for.
#[derive(Clone)]
pub struct Ask {
    pub scene: Arc<Scene>,
    /// Stop after this step.
    pub until: Option<String>,
    /// Other ports.
    pub ports: Option<Change<Ports>>,
    /// Other steps.
    pub steps: Option<Change<Steps>>,
    /// Another plan.
    pub plan: Option<Change<Plan>>,
    /// The point of no return is looked for in the part of the plan that is to run only: a planted bug.
    pub cut: bool,
    /// Suffix of the temporary cluster's name if this is the first run.
    pub run: String,
}

impl Ask {
    pub fn whole(scene: &Arc<Scene>) -> Self {
        Self {
            scene: scene.clone(),
            until: None,
            ports: None,
            steps: None,
            plan: None,
            cut: false,
            run: RUN.into(),
        }
    }

    #[must_use]
    pub fn until(mut self, step: &str) -> Self {
        self.until = Some(step.to_owned());
        self
    }

    /// Runs to the end or to the death of the process.
    pub async fn go(&self, life: &Life) -> End {
        tokio::select! {
            biased;
            () = life.died() => End::Died,
            end = self.work(life) => end,
        }
    }

    async fn work(&self, life: &Life) -> End {
        match self.prepare(life).await {
            Err(error) => End::Failed("before the first step".into(), error),
            Ok(ready) => ready.go().await,
        }
    }

    /// Everything up to the first step.
    pub async fn prepare(&self, life: &Life) -> Result<Ready> {
        let scene = &self.scene;
        let ports = match &self.ports {
            Some(change) => change(life.ports()),
            None => life.ports(),
        };
        let mut state = State::at(&NAME.parse()?)?.kept_in(ports.files.clone());
        state.folder = PathBuf::from(STATE).join(NAME);
        let earlier = state.request()?;
        let plan = match &self.until {
            Some(step) => scene.plan.until(step)?,
            None => scene.plan.clone(),
        };
        let plan = match &self.plan {
            Some(change) => change(plan),
            None => plan,
        };
        let docker = mctl::ports::docker::Docker::new(ports.processes.clone(), None);
        let network_was_there = match earlier.as_ref().and_then(|r| r.network_was_there) {
            Some(known) => known,
            None => docker.inspect("network", "kind").await?.is_some(),
        };
        let request = Request {
            document: scene.document.clone(),
            bundle: Some(PathBuf::from("/srv/bundle")),
            run: earlier.map_or_else(|| self.run.clone(), |r| r.run),
            engine: None,
            engine_id: String::new(),
            network_was_there: Some(network_was_there),
        };
        state.set_request(&request)?;
        let journal = state.journal()?;
        let history = journal.history().clone();
        let shared = Shared::new(
            ports.clone(),
            state,
            request,
            scene.catalog.clone(),
            scene.plan.kubernetes_version.clone(),
            Some(scene.bundle.clone()),
        )
        .around(scene.image.clone());
        for (_, output) in &history.outputs {
            shared.learn(output)?;
        }
        let shared = Arc::new(shared);
        let steps = steps::all(&plan, &shared);
        let steps = match &self.steps {
            Some(change) => change(steps),
            None => steps,
        };
        Ok(Ready {
            behind: behind(if self.cut { &plan } else { &scene.plan }, &history),
            plan,
            steps,
            shared,
            journal,
            ports,
        })
    }
}

/// A run that can begin.
pub struct Ready {
    pub plan: Plan,
    pub steps: Steps,
    pub shared: Arc<Shared>,
    pub journal: Journal,
    pub ports: Ports,
    pub behind: std::collections::BTreeSet<StepId>,
}

impl Ready {
    pub async fn go(self) -> End {
        let (views, mut events) = unbounded_channel::<Event>();
        let shared = self.shared.clone();
        let run = Run {
            plan: &self.plan,
            steps: &self.steps,
            behind: self.behind,
            owner: Arc::new(Alone),
            clock: self.ports.clock.clone(),
            learn: Arc::new(move |output| shared.learn(output)),
        };
        let outcome = run.go(self.journal, views, CancellationToken::new()).await;
        events.close();
        match outcome {
            Outcome::Success => End::Success,
            Outcome::Failed(step, error) => End::Failed(step.0, error),
            Outcome::Interrupted => End::Died,
        }
    }
}
