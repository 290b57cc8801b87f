//! One Kubernetes API server: reading, server-side apply with retries, deletes with preconditions, waits. Must not know which objects matter.

mod board;
mod exact;
pub mod hold;
pub mod lease;
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

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client, Config,
    api::{ApiResource, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{DynamicObject, GroupVersionKind},
    discovery::Scope,
};

use crate::{Error, FIELD_MANAGER, Kind, Result};

pub use board::{Board, Slot};
pub use exact::Exact;
pub use wait::{Pending, condition, poll, replicas_ready};

/// Requests in flight to one API server.
const PARALLEL: usize = 16;
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
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|e| fail(&e))?;
        config.connect_timeout = Some(Duration::from_secs(5));
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

    /// One object, or `None`.
    pub async fn get(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>> {
        let result = async { self.api(gvk, namespace).await?.get_opt(name).await }.await;
        result.map_err(|e| self.error("read", &gvk.kind, namespace, name, &e))
    }

    /// All objects of a kind; `None` when the server does not know the kind.
    pub async fn list(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Option<Vec<DynamicObject>>> {
        let api = match self.api(gvk, namespace).await {
            Ok(api) => api,
            Err(e) if is_unknown_kind(&e) => return Ok(None),
            Err(e) => return Err(self.error("list", &gvk.kind, namespace, "", &e)),
        };
        let mut params = ListParams::default().limit(500);
        params.label_selector = selector.map(str::to_owned);
        let mut all = Vec::new();
        loop {
            let page = api
                .list(&params)
                .await
                .map_err(|e| self.error("list", &gvk.kind, namespace, "", &e))?;
            all.extend(page.items.into_iter().map(|o| typed(o, gvk)));
            match page.metadata.continue_.filter(|c| !c.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(Some(all)),
            }
        }
    }

    /// Server-side apply under mctl's field manager, taking over fields that others own. Passing errors
    /// (webhook or CRD not there yet, server busy or away) are retried and shown.
    pub async fn apply(
        &self,
        object: &DynamicObject,
        progress: &dyn Progress,
    ) -> Result<DynamicObject> {
        let gvk = gvk(object)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.as_deref();
        let params = PatchParams::apply(self.field_manager).force();
        self.retrying("apply", &gvk, namespace, &name, progress, || async {
            self.api(&gvk, namespace)
                .await?
                .patch(&name, &params, &Patch::Apply(object))
                .await
        })
        .await
    }

    /// Applies a set: namespaces, then CRDs, then the rest in parallel. Objects of a kind that is not served yet are tried
    /// again until it is; a CRD that says it is established would not spare that, for discovery follows later.
    pub async fn apply_all(
        &self,
        objects: &[DynamicObject],
        progress: &dyn Progress,
    ) -> Result<Vec<DynamicObject>> {
        let (first, rest): (Vec<_>, Vec<_>) = objects.iter().partition(|o| kind(o) == "Namespace");
        let (crds, rest): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|o| kind(o) == "CustomResourceDefinition");
        let mut done = Vec::with_capacity(objects.len());
        for group in [first, crds, rest] {
            let work: Vec<_> = group.into_iter().map(|o| self.apply(o, progress)).collect();
            let results: Vec<DynamicObject> = stream::iter(work)
                .buffer_unordered(PARALLEL)
                .try_collect()
                .await?;
            done.extend(results);
        }
        Ok(done)
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
        let begin = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let why = match tokio::time::timeout(ATTEMPT_LIMIT, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(e)) if is_transient(&e) => short(&e),
                Ok(Err(e)) => return Err(self.error(verb, &gvk.kind, namespace, name, &e)),
                Err(_) => format!("no answer within {} s", ATTEMPT_LIMIT.as_secs()),
            };
            if begin.elapsed() > TRANSIENT_LIMIT {
                return Err(Error::new(
                    Kind::Stalled,
                    format!("cannot {verb} {}", self.place(&gvk.kind, namespace, name)),
                )
                .because(why)
                .fix("run the same command again when the API server answers"));
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
            _ => Error::failed(what).because(short(e)),
        }
    }
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

/// Kind of an object; empty if it has none.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |t| t.kind.as_str())
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
