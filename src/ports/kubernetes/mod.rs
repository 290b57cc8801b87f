//! One Kubernetes API server: reading, server-side apply with retries, deletes with preconditions, waits; no request without a
//! limit. Must not know which objects matter.

mod apply;
mod board;
mod exact;
pub mod hold;
pub mod kinds;
pub mod lease;
mod look;
pub mod names;
pub mod objects;
mod wait;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use kube::{
    Api, Client, Config,
    api::ApiResource,
    config::{KubeConfigOptions, Kubeconfig},
    core::{DynamicObject, GroupVersionKind},
    discovery::Scope,
};

use crate::{Error, FIELD_MANAGER, Kind, Result};

pub use board::{Board, Slot};
pub use exact::Exact;
pub use kinds::kind;
pub use wait::{Pending, Wait, Waiting, met, poll, replicas_ready};

/// How long a request that fails for a passing reason is repeated before it counts as stalled.
const TRANSIENT_LIMIT: Duration = Duration::from_secs(120);
/// How long one request may take; longer than a webhook's own limit.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(40);

/// Receives what a wait last saw; shown to the user.
pub trait Progress: Send + Sync {
    /// The last real evidence: a condition, an event, an error that is being retried.
    fn seen(&self, evidence: &str);
}

/// Discards progress.
impl Progress for () {
    fn seen(&self, _: &str) {}
}

/// Connects to Kubernetes API servers: the one place where clients are made.
#[async_trait]
pub trait Clusters: Send + Sync {
    /// A cluster from the text of a kubeconfig; talks to nobody yet. The name is for messages.
    async fn connect(&self, name: &str, kubeconfig: &str) -> Result<Cluster>;
}

/// Real API servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

#[async_trait]
impl Clusters for Real {
    async fn connect(&self, name: &str, kubeconfig: &str) -> Result<Cluster> {
        Cluster::from_kubeconfig(name, kubeconfig).await
    }
}

/// A cluster to talk to.
#[derive(Clone)]
pub struct Cluster {
    /// Name for messages: `temporary cluster`, `management cluster golem`.
    pub name: String,
    client: Client,
    field_manager: &'static str,
    kinds: Arc<Mutex<HashMap<GroupVersionKind, (ApiResource, Scope)>>>,
    attempts: Arc<AtomicU64>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster behind a client made elsewhere (in-cluster, tests).
    pub fn new(name: impl Into<String>, client: Client) -> Self {
        Self {
            name: name.into(),
            client,
            field_manager: FIELD_MANAGER,
            kinds: Arc::default(),
            attempts: Arc::default(),
        }
    }

    /// The same cluster, with everything written under another field manager.
    #[must_use]
    pub fn acting_as(&self, field_manager: &'static str) -> Self {
        Self {
            field_manager,
            ..self.clone()
        }
    }

    /// A cluster from the text of a kubeconfig.
    pub async fn from_kubeconfig(name: impl Into<String>, text: &str) -> Result<Self> {
        let name = name.into();
        let fail = |e: &dyn std::error::Error| {
            Error::failed(format!("the kubeconfig of the {name} cannot be used"))
                .because(e.to_string())
        };
        let kubeconfig = Kubeconfig::from_yaml(text).map_err(|e| fail(&e))?;
        let proxied = kubeconfig
            .clusters
            .iter()
            .flat_map(|c| &c.cluster)
            .any(|c| c.proxy_url.is_some());
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|e| fail(&e))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        // The environment's proxy leads out of the house, not to machines on this host.
        if !proxied {
            config.proxy_url = None;
        }
        let client = Client::try_from(config).map_err(|e| fail(&e))?;
        Ok(Self::new(name, client))
    }

    /// The client, for typed access and watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Requests sent with retries so far, each attempt counted.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// The API of one kind; `namespace` is ignored for cluster-scoped kinds.
    pub async fn api(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>, kube::Error> {
        let known = self
            .kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(gvk)
            .cloned();
        let (resource, scope) = match known {
            Some(k) => k,
            None => {
                let (resource, capabilities) =
                    kube::discovery::pinned_kind(&self.client, gvk).await?;
                let entry = (resource, capabilities.scope);
                self.kinds
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(gvk.clone(), entry.clone());
                entry
            }
        };
        Ok(match (scope, namespace) {
            (Scope::Namespaced, Some(ns)) => {
                Api::namespaced_with(self.client.clone(), ns, &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        })
    }

    /// Deletes one object if it is still the one meant (by UID, if it has one); gone or another one already is fine.
    pub async fn delete(&self, object: &DynamicObject, progress: &dyn Progress) -> Result<()> {
        let mut meant = DynamicObject {
            types: object.types.clone(),
            metadata: object.metadata.clone(),
            data: serde_json::Value::Null,
        };
        meant.metadata.resource_version = None;
        self.delete_exact(&meant, progress).await.map(|_| ())
    }

    /// JSON merge patch of one object, which must be there.
    pub async fn merge(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
        patch: &serde_json::Value,
        progress: &dyn Progress,
    ) -> Result<DynamicObject> {
        let why = match self
            .merge_exact(gvk, namespace, name, patch, progress)
            .await?
        {
            Exact::Done(object) => return Ok(object),
            Exact::Gone => "it is not there",
            Exact::Changed => "it has changed meanwhile",
        };
        let place = self.place(&gvk.kind, namespace, name);
        Err(Error::failed(format!("cannot patch {place}")).because(why))
    }

    async fn retrying<T, F: Future<Output = Result<T, kube::Error>> + Send>(
        &self,
        verb: &str,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
        progress: &dyn Progress,
        attempt: impl Fn() -> F,
    ) -> Result<T> {
        let to = Request {
            verb,
            gvk,
            namespace,
            name,
        };
        self.repeat(&to, ATTEMPT_LIMIT, TRANSIENT_LIMIT, progress, attempt)
            .await
    }

    /// Tries again what fails for a passing reason until `limit` is over; each attempt has `each`.
    async fn repeat<T, F: Future<Output = Result<T, kube::Error>> + Send>(
        &self,
        to: &Request<'_>,
        each: Duration,
        limit: Duration,
        progress: &dyn Progress,
        attempt: impl Fn() -> F,
    ) -> Result<T> {
        let Request {
            verb,
            gvk,
            namespace,
            name,
        } = *to;
        let begin = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let why = match tokio::time::timeout(each, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(e)) if is_transient(&e) => short(&e),
                Ok(Err(e)) => return Err(self.error(verb, &gvk.kind, namespace, name, &e)),
                Err(_) => format!("no answer within {} s", each.as_secs()),
            };
            if begin.elapsed() + pause > limit {
                return Err(Error::new(
                    Kind::Stalled,
                    format!("cannot {verb} {}", self.place(&gvk.kind, namespace, name)),
                )
                .because(why)
                .fix("run the same command again when the API server answers")
                .passing());
            }
            progress.seen(&format!("{verb} {}/{name}: {why}", gvk.kind));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(1500));
        }
    }

    fn place(&self, kind: &str, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(ns) if name.is_empty() => {
                format!("{kind} in namespace {ns} of the {}", self.name)
            }
            Some(ns) => format!("{kind} {ns}/{name} in the {}", self.name),
            None => format!("{kind} {name} in the {}", self.name),
        }
    }

    fn error(
        &self,
        verb: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        e: &kube::Error,
    ) -> Error {
        let code = match e {
            kube::Error::Api(s) => s.code,
            _ => 0,
        };
        let what = format!("cannot {verb} {}", self.place(kind, namespace, name));
        match code {
            401 => Error::new(Kind::Authentication, what).because(short(e)),
            _ if is_transient(e) => Error::failed(what).because(short(e)).passing(),
            _ => Error::failed(what).because(short(e)),
        }
    }
}

/// What a request is about, for messages.
#[derive(Clone, Copy)]
struct Request<'a> {
    verb: &'a str,
    gvk: &'a GroupVersionKind,
    namespace: Option<&'a str>,
    name: &'a str,
}

/// Group, version and kind of an object.
pub fn gvk(object: &DynamicObject) -> Result<GroupVersionKind> {
    object
        .types
        .as_ref()
        .and_then(|t| GroupVersionKind::try_from(t).ok())
        .ok_or_else(|| {
            Error::new(Kind::Internal, "an object has no apiVersion or kind")
                .at(format!("{:?}", object.metadata.name))
        })
}

/// Items of a list come without their kind; this puts it back.
fn typed(mut object: DynamicObject, gvk: &GroupVersionKind) -> DynamicObject {
    object.types.get_or_insert_with(|| kube::core::TypeMeta {
        api_version: gvk.api_version(),
        kind: gvk.kind.clone(),
    });
    object
}

fn is_unknown_kind(e: &kube::Error) -> bool {
    match e {
        kube::Error::Discovery(_) => true,
        kube::Error::Api(s) => s.code == 404,
        _ => false,
    }
}

/// True for failures that pass by themselves: server away or busy, kind or webhook not there yet, conflict.
pub fn is_transient(e: &kube::Error) -> bool {
    match e {
        kube::Error::Api(s) => match s.code {
            404 => s
                .details
                .as_ref()
                .is_none_or(|d| d.name.is_empty() || d.kind == "namespaces"),
            409 | 429 | 500..=599 => true,
            // A namespace that is being made or a token that is not known yet is not told apart by code.
            403 => s.message.contains("not yet") || s.message.contains("being terminated"),
            _ => false,
        },
        kube::Error::Discovery(_)
        | kube::Error::HyperError(_)
        | kube::Error::Service(_)
        | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// The message of an API error without its debug form.
pub fn short(e: &kube::Error) -> String {
    match e {
        kube::Error::Api(s) if !s.message.is_empty() => s.message.clone(),
        kube::Error::Api(s) => format!("{} {}", s.code, s.reason),
        kube::Error::Service(e) => {
            let mut text = e.to_string();
            let mut next = e.source();
            while let Some(s) = next {
                text = s.to_string();
                next = s.source();
            }
            text
        }
        e => e.to_string(),
    }
}
