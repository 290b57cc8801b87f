//! Elections with paused time against a small API server that knows one Lease.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// One Lease behind optimistic concurrency; can be cut off (requests hang) or broken (500).
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    hangs: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

impl Server {
    fn api(&self) -> Api<Lease> {
        let server = self.clone();
        let service = tower::service_fn(move |r| server.clone().answer(r));
        Api::namespaced(kube::Client::new(service, "giantswarm"), "giantswarm")
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (code, answer) = if self.broken.load(Ordering::SeqCst) {
            (500, status(500, "etcdserver: request timed out"))
        } else {
            self.handle(&method, body)
        };
        Ok(Response::builder()
            .status(StatusCode::from_u16(code).unwrap())
            .body(Body::from(serde_json::to_vec(&answer).unwrap()))
            .unwrap())
    }

    fn handle(&self, method: &Method, mut body: Value) -> (u16, Value) {
        let mut lease = self.lease.lock().unwrap();
        let version = |l: &Value| l["metadata"]["resourceVersion"].clone();
        let next = |l: Option<&Value>| {
            let n: u64 = l.map_or(0, |l| version(l).as_str().unwrap().parse().unwrap());
            json!((n + 1).to_string())
        };
        match (method.as_str(), lease.as_ref()) {
            ("GET", None) | ("PUT", None) => (404, status(404, "not found")),
            ("GET", Some(l)) => (200, l.clone()),
            ("POST", Some(_)) => (409, status(409, "exists")),
            ("PUT" | "PATCH", Some(l)) if version(l) != version(&body) => {
                (409, status(409, "changed"))
            }
            ("PATCH", Some(l)) => {
                let mut l = l.clone();
                l["spec"]["holderIdentity"] = body["spec"]["holderIdentity"].clone();
                l["metadata"]["resourceVersion"] = next(lease.as_ref());
                *lease = Some(l.clone());
                (200, l)
            }
            (_, old) => {
                body["metadata"]["resourceVersion"] = next(old);
                *lease = Some(body.clone());
                (200, body)
            }
        }
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock().unwrap();
        lease
            .as_ref()
            .map(|l| l["spec"]["holderIdentity"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    }

    fn transitions(&self) -> i64 {
        self.lease.lock().unwrap().as_ref().unwrap()["spec"]["leaseTransitions"]
            .as_i64()
            .unwrap()
    }
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": reason})
}

fn candidate(server: &Server, identity: &str) -> Candidate {
    let clock = Arc::new(crate::ports::clock::Wall);
    Candidate::new(server.api(), "mctl", identity, Timing::default(), clock)
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_second_waits_until_it_is_released() {
    let server = Server::default();
    let (a, b) = (candidate(&server, "a"), candidate(&server, "b"));
    let mut leads = a.acquire().await;
    assert_eq!(server.holder(), "a");
    tokio::select! {
        _ = b.acquire() => panic!("two leaders"),
        e = leads.keep() => panic!("{e}"),
        () = tokio::time::sleep(Duration::from_secs(600)) => {}
    }
    assert_eq!(b.holder().borrow().as_deref(), Some("a"));
    leads.release().await;
    assert_eq!(server.holder(), "");
    let begin = Instant::now();
    let _leads = b.acquire().await;
    assert!(begin.elapsed() <= Timing::default().retry);
    assert_eq!((server.holder().as_str(), server.transitions()), ("b", 1));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_has_lost_before_anyone_takes_over() {
    for hangs in [true, false] {
        let server = Server::default();
        let (a, b) = (candidate(&server, "a"), candidate(&server, "b"));
        let mut leads = a.acquire().await;
        let begin = Instant::now();
        if hangs {
            server.hangs.store(true, Ordering::SeqCst);
        } else {
            server.broken.store(true, Ordering::SeqCst);
        }
        let lost = leads.keep().await;
        assert!(begin.elapsed() < Timing::default().duration, "{lost}");
        assert!(begin.elapsed() > Timing::default().renew);
        server.hangs.store(false, Ordering::SeqCst);
        server.broken.store(false, Ordering::SeqCst);
        // A candidate that sees the record for the first time waits its whole duration.
        let seen = Instant::now();
        let _leads = b.acquire().await;
        assert!(seen.elapsed() >= Timing::default().duration);
        assert_eq!(server.holder(), "b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_survived() {
    let server = Server::default();
    let a = candidate(&server, "a");
    let mut leads = a.acquire().await;
    let cut = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(17)).await;
            server.broken.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(8)).await;
            server.broken.store(false, Ordering::SeqCst);
        }
    };
    tokio::select! {
        e = leads.keep() => panic!("{e}"),
        () = cut => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_force_is_lost_and_a_deleted_one_is_made_again() {
    let server = Server::default();
    let a = candidate(&server, "a");
    let mut leads = a.acquire().await;
    *server.lease.lock().unwrap() = None;
    tokio::select! {
        e = leads.keep() => panic!("{e}"),
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    assert_eq!(server.holder(), "a");
    {
        let mut lease = server.lease.lock().unwrap();
        let l = lease.as_mut().unwrap();
        l["spec"]["holderIdentity"] = json!("other");
        l["metadata"]["resourceVersion"] = json!("99");
    }
    let begin = Instant::now();
    let lost = leads.keep().await;
    assert!(begin.elapsed() <= Timing::default().renew + Timing::default().retry);
    assert!(lost.line().contains("another process"), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_of_the_same_name_goes_on_at_once() {
    let server = Server::default();
    let first = candidate(&server, "a");
    drop(first.acquire().await);
    let begin = Instant::now();
    let again = candidate(&server, "a");
    let _leads = again.acquire().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(server.transitions(), 0);
}
