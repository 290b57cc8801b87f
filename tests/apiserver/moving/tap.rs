//! A client whose requests are noted, can be preceded by what others do, and can be where the process dies. It must not know what is requested.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::{Client, client::Body};
use tokio::sync::Notify;

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `source` or `target`.
    pub side: &'static str,
    pub method: String,
    pub path: String,
    /// Status code; 0 before the answer.
    pub status: u16,
}

type Before = dyn Fn(&Call) -> Option<BoxFuture<'static, ()>> + Send + Sync;

/// Stands before both servers. Clones share everything.
#[derive(Clone, Default)]
pub struct Tap(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: Mutex<Vec<Call>>,
    writes: AtomicUsize,
    crash: Mutex<Option<(usize, bool)>>,
    crashed: Notify,
    before: Mutex<Option<Arc<Before>>>,
}

impl Tap {
    /// A client that goes through here.
    pub fn client(&self, side: &'static str, inner: Client) -> Client {
        let tap = self.clone();
        let service =
            tower::service_fn(move |request| tap.clone().send(side, inner.clone(), request));
        Client::new(service, "default")
    }

    /// The process dies at this write, counted from 0 and from now, before or after it took effect.
    pub fn crash_at(&self, write: usize, applied: bool) {
        self.0.writes.store(0, Ordering::Relaxed);
        *self.0.crash.lock().unwrap() = Some((write, applied));
    }

    /// No more crashes.
    pub fn no_crash(&self) {
        *self.0.crash.lock().unwrap() = None;
    }

    /// Resolves when the process has died.
    pub async fn crashed(&self) {
        self.0.crashed.notified().await;
    }

    /// What others do before a request is sent.
    pub fn before(
        &self,
        hook: impl Fn(&Call) -> Option<BoxFuture<'static, ()>> + Send + Sync + 'static,
    ) {
        *self.0.before.lock().unwrap() = Some(Arc::new(hook));
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.calls.lock().unwrap().clone()
    }

    async fn send(
        self,
        side: &'static str,
        inner: Client,
        request: Request<Body>,
    ) -> Result<Response<Body>, kube::Error> {
        let mut call = Call {
            side,
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            status: 0,
        };
        let before = self.0.before.lock().unwrap().clone();
        if let Some(work) = before.and_then(|b| b(&call)) {
            work.await;
        }
        let index = {
            let mut calls = self.0.calls.lock().unwrap();
            calls.push(call.clone());
            calls.len() - 1
        };
        let number = match call.method.as_str() {
            "GET" => None,
            _ => Some(self.0.writes.fetch_add(1, Ordering::Relaxed)),
        };
        let crash = *self.0.crash.lock().unwrap();
        let crash = crash.filter(|(at, _)| number == Some(*at));
        if let Some((_, false)) = crash {
            self.die().await;
        }
        let answer = inner.send(request).await;
        if crash.is_some() {
            self.die().await;
        }
        call.status = answer.as_ref().map_or(0, |a| a.status().as_u16());
        self.0.calls.lock().unwrap()[index] = call;
        answer
    }

    async fn die(&self) {
        self.0.crashed.notify_one();
        std::future::pending::<()>().await;
    }
}
