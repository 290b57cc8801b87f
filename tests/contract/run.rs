//! One `mctl bootstrap` on a world: the command's own path between its arguments and its report, without what it asks of this
//! very host. Must not repair anything.

use std::sync::Arc;

use mctl::{
    Error, Result,
    engine::{Outcome, Steps, event::Event},
    plan::Plan,
    ports::Ports,
    session::bootstrap::{self, Begin, Wish, Work},
    steps::state::State,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::{
    outside::Life,
    scene::{NAME, RUN, Scene},
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

/// Changes ports, steps or plan of a run, for planted bugs.
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
    /// What is behind the cluster is forgotten: a planted bug.
    pub forgets: bool,
    /// Name of the run if this is the first one.
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
            forgets: false,
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
        let work = match self.prepare(life).await {
            Err(error) => return End::Failed("before the first step".into(), error),
            Ok(None) => return End::Success,
            Ok(Some(work)) => work,
        };
        let (views, mut events) = unbounded_channel::<Event>();
        events.close();
        match work.go(views, CancellationToken::new()).await {
            Outcome::Success => End::Success,
            Outcome::Failed(step, error) => End::Failed(step.0, error),
            Outcome::Interrupted => End::Died,
        }
    }

    /// Everything up to the first step; none when there is nothing to do any more.
    pub async fn prepare(&self, life: &Life) -> Result<Option<Work>> {
        let ports = match &self.ports {
            Some(change) => change(life.ports()),
            None => life.ports(),
        };
        let state = State::below(&self.scene.state, &NAME.parse()?).kept_in(ports.files.clone());
        let wish = Wish {
            read: self.scene.prepared(),
            until: self.until.clone(),
            shell: None,
            dry: false,
            run: Some(self.run.clone()),
        };
        let ready = match bootstrap::ask(&ports, wish, state, None).await? {
            Begin::Nothing(_) => return Ok(None),
            Begin::Ready(ready) => ready,
        };
        let mut work = ready.set_up(Some(self.scene.image.clone())).await?;
        if let Some(change) = &self.plan {
            work.plan = change(work.plan);
        }
        if let Some(change) = &self.steps {
            work.steps = change(work.steps);
        }
        if self.forgets {
            work.behind.clear();
        }
        Ok(Some(work))
    }
}
