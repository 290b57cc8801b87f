//! A Kubernetes API server in memory for tests: enough of the REST API for mctl, with faults at chosen requests.
//!
//! It keeps UIDs, resource versions, generations, finalizers, preconditions, the status subresource, selectors, paging,
//! watches and (simplified) server-side apply, and can play the garbage collector. No admission, no schemas, no roles.
//! Include it with `#[path = "../support/kubernetes/mod.rs"] mod fake;`. It must not use anything of mctl.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod patch;
mod route;
mod store;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;

#[allow(unused_imports)]
pub use store::{Key, KindInfo, Store};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing special.
    None,
    /// It is answered with this status code; `applied` says whether it took effect before.
    Status { code: u16, applied: bool },
    /// It is never answered.
    Hang { applied: bool },
    /// The connection breaks.
    Reset { applied: bool },
    /// It is never answered, and [`Fake::crashed`] resolves: the client's process dies here.
    Crash { applied: bool },
}

/// One request, for fault hooks and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Number of the request at this server, from 0.
    pub index: usize,
    /// HTTP method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Query.
    pub query: String,
}

impl Call {
    /// True for requests that change something.
    pub fn writes(&self) -> bool {
        self.method != "GET"
    }
}

type Hook = Box<dyn FnMut(&Call, &mut Store) -> Fault + Send>;

/// The server. Clones share everything.
#[derive(Clone)]
pub struct Fake {
    store: Arc<Mutex<Store>>,
    hook: Arc<Mutex<Option<Hook>>>,
    log: Arc<Mutex<Vec<Call>>>,
    crash: Arc<Notify>,
}

impl Fake {
    /// An empty cluster with the namespaces `default` and `kube-system`; `name` is part of every UID.
    pub fn new(name: &str) -> Self {
        let fake = Self {
            store: Arc::new(Mutex::new(Store::new(name))),
            hook: Arc::default(),
            log: Arc::default(),
            crash: Arc::default(),
        };
        for namespace in ["default", "kube-system"] {
            fake.put(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            );
        }
        fake
    }

    /// Another server that holds the same, and shares nothing with this one.
    pub fn copy(&self) -> Self {
        Self {
            store: Arc::new(Mutex::new(self.store().copy())),
            hook: Arc::default(),
            log: Arc::default(),
            crash: Arc::default(),
        }
    }

    /// A client of this server.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Direct access to what is stored.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    /// Creates or replaces an object with its status, without a request. Returns what is stored.
    pub fn put(&self, object: Value) -> Value {
        self.store().put(object)
    }

    /// One object.
    pub fn get(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
        self.store().find(kind, namespace, name)
    }

    /// All objects of a kind, or of every kind with `""`.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        self.store().all(kind)
    }

    /// Makes the server know a kind; a CRD object does the same.
    pub fn define(&self, kind: KindInfo) {
        self.store().define(kind);
    }

    /// Dependents whose owners are all gone disappear after every change from now on.
    pub fn collect_garbage(&self) {
        self.store().collect_garbage(true);
    }

    /// Decides about every request before it is handled. The hook may also change what is stored, as other clients would.
    pub fn on_request(&self, hook: impl FnMut(&Call, &mut Store) -> Fault + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// No more faults.
    pub fn no_faults(&self) {
        *self.hook.lock().unwrap() = None;
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Call> {
        self.log.lock().unwrap().clone()
    }

    /// Forgets the requests so far; numbers begin at 0 again.
    pub fn clear_log(&self) {
        self.log.lock().unwrap().clear();
    }

    /// Resolves when a [`Fault::Crash`] was met.
    pub async fn crashed(&self) {
        self.crash.notified().await;
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<ResponseBody>, Reset> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Reset)?.to_bytes();
        let call = {
            let mut log = self.log.lock().unwrap();
            let call = Call {
                index: log.len(),
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
            };
            log.push(call.clone());
            call
        };
        let fault = match self.hook.lock().unwrap().as_mut() {
            Some(hook) => hook(&call, &mut self.store()),
            None => Fault::None,
        };
        let handle = || route::handle(&mut self.store(), &parts, &call, &body);
        let apply = |applied| {
            if applied {
                handle();
            }
        };
        match fault {
            Fault::None => Ok(handle().into_response()),
            Fault::Status { code, applied } => {
                apply(applied);
                Ok(route::Answer::injected(code).into_response())
            }
            Fault::Reset { applied } => {
                apply(applied);
                Err(Reset)
            }
            Fault::Hang { applied } => {
                apply(applied);
                std::future::pending().await
            }
            Fault::Crash { applied } => {
                apply(applied);
                self.crash.notify_one();
                std::future::pending().await
            }
        }
    }
}

type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

impl route::Answer {
    fn into_response(self) -> Response<ResponseBody> {
        let builder = |code| {
            Response::builder()
                .status(code)
                .header("content-type", "application/json")
        };
        match self {
            Self::Json(code, value) => builder(code)
                .body(http_body_util::Full::new(value.to_string().into()).boxed_unsync())
                .unwrap(),
            Self::Watch(events) => builder(200)
                .body(
                    StreamBody::new(
                        events.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n"))))),
                    )
                    .boxed_unsync(),
                )
                .unwrap(),
        }
    }
}

/// The connection broke.
#[derive(Debug)]
pub struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection reset by peer")
    }
}

impl std::error::Error for Reset {}

impl tower::Service<Request<Body>> for Fake {
    type Response = Response<ResponseBody>;
    type Error = Reset;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Reset>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}
