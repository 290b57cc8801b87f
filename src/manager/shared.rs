//! What the manager's tasks tell each other. Must not do any work itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    alerts::Inbox, conditions::Finding, in_force::InForce, inputs::Inputs, metrics::Metrics,
    rendering::Rendering, token::Token,
};

/// Without an answer of the API server for this long a replica is not ready.
const SILENCE: Duration = Duration::from_secs(60);

/// What came of the newest inputs.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The last good rendering.
    pub rendering: Option<Arc<Rendering>>,
    /// What it was made of.
    pub in_force: Option<Arc<InForce>>,
    /// Digest of the platform artifact being served.
    pub digest: Option<String>,
    /// What became of the document; absent before the first look.
    pub verdict: Option<Finding>,
}

/// State shared by all tasks of one replica.
pub struct Shared {
    /// Namespace and name of the document.
    pub namespace: String,
    /// Name of the cluster and its document.
    pub name: String,
    /// Alerts received.
    pub inbox: Inbox,
    /// Metrics.
    pub metrics: Metrics,
    /// Document, environment, CA.
    pub inputs: watch::Receiver<Inputs>,
    /// What was made of them.
    pub published: watch::Sender<Published>,
    /// Who holds the lease.
    pub holder: watch::Receiver<Option<String>>,
    /// When the API server last answered.
    pub answered: watch::Receiver<Option<Instant>>,
    /// This process, as in the lease.
    pub identity: String,
    /// The registry accepts connections.
    pub serving: AtomicBool,
    /// Shutting down.
    pub ending: AtomicBool,
    /// Asks for a new status.
    pub look: Notify,
    /// Asks for a look at Flux's own objects.
    pub seed: Notify,
    /// Asks for a look at the Cluster API objects.
    pub cluster: Notify,
    work: Mutex<BTreeMap<&'static str, Finding>>,
    acted: Mutex<Option<i64>>,
    token: Mutex<Option<Token>>,
}

impl Shared {
    /// State of a replica that has just started.
    pub fn new(
        namespace: &str,
        name: &str,
        identity: &str,
        inputs: watch::Receiver<Inputs>,
        holder: watch::Receiver<Option<String>>,
        answered: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            inbox: Inbox::default(),
            metrics: Metrics::default(),
            inputs,
            published: watch::Sender::default(),
            holder,
            answered,
            identity: identity.to_owned(),
            serving: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            look: Notify::new(),
            seed: Notify::new(),
            cluster: Notify::new(),
            work: Mutex::default(),
            acted: Mutex::default(),
            token: Mutex::default(),
        }
    }

    /// Notes the generation of the document that was acted upon.
    pub fn acted(&self, generation: Option<i64>) {
        let mut acted = self.acted.lock().unwrap_or_else(PoisonError::into_inner);
        if *acted != generation {
            *acted = generation;
            self.look.notify_one();
        }
    }

    /// The generation of the document that was acted upon last, if any.
    pub fn last_acted(&self) -> Option<i64> {
        *self.acted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what came of a round of work; asks for a new status if that differs from before.
    pub fn note(&self, finding: Finding, name: &'static str) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let before = work.insert(name, finding.clone());
        drop(work);
        if before.as_ref() != Some(&finding) {
            if finding.status != Some(true) {
                tracing::warn!(condition = %finding.type_, reason = %finding.reason, "{}", finding.message);
            }
            self.look.notify_one();
        }
    }

    /// Forgets work that is not to be done any more.
    pub fn forget(&self, name: &'static str) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.remove(name).is_some() {
            self.look.notify_one();
        }
    }

    /// Notes the token that messages of Alertmanager carry, or that there is none.
    pub fn set_token(&self, token: Option<Token>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The token that messages of Alertmanager must carry, once it is known.
    pub fn token(&self) -> Option<Token> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone()
    }

    /// What came of the last round of each work, by name.
    pub fn findings(&self) -> Vec<Finding> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.values().cloned().collect()
    }

    /// Why this replica is not ready; empty when it is.
    pub fn not_ready(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.ending.load(Ordering::SeqCst) {
            all.push("shutting down".to_owned());
        }
        all.extend(self.inputs.borrow().missing(&self.name));
        if !self.serving.load(Ordering::SeqCst) {
            all.push("the registry does not serve yet".to_owned());
        }
        let published = self.published.borrow();
        if published.digest.is_none() {
            all.push(match &published.verdict {
                Some(f) if f.status == Some(false) => {
                    format!("no platform artifact: {}", f.message)
                }
                _ => "no platform artifact yet".to_owned(),
            });
        }
        match *self.answered.borrow() {
            None => all.push("the API server has not answered yet".to_owned()),
            Some(t) if t.elapsed() > SILENCE => all.push(format!(
                "the API server has not answered for {} s",
                t.elapsed().as_secs()
            )),
            Some(_) => {}
        }
        all
    }
}
