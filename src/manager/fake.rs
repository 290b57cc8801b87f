//! An API server that answers from a function, for tests of the manager's parts. Must not keep state of its own.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::{Client, client::Body, core::ApiResource, discovery::Scope};
use serde_json::{Value, json};

use super::kinds::{CONFIG_MAP, Known, MANAGEMENT_CLUSTER, SECRET};
use crate::ports::kubernetes::Cluster;

/// What is answered to one request.
pub enum Answer {
    /// 200 with this object.
    Ok(Value),
    /// A status with code and reason.
    Refused(u16, String, String),
    /// Nothing, ever.
    Silence,
}

impl Answer {
    /// A failure.
    pub fn refused(code: u16, reason: &str) -> Self {
        Self::Refused(code, reason.into(), String::new())
    }

    /// There is no such object.
    pub fn missing(kind: &str) -> Self {
        Self::Refused(404, "NotFound".into(), kind.into())
    }
}

/// Every request: method and path, and its body.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<(String, String, Value)>>>);

impl Seen {
    /// Path and body of the requests of one method.
    pub fn of(&self, method: &str) -> Vec<(String, Value)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|(m, _, _)| m == method)
            .map(|(_, path, body)| (path.clone(), body.clone()))
            .collect()
    }
}

/// A client whose requests the function answers.
pub fn client(
    answer: impl Fn(&str, &str, Value) -> Answer + Send + Sync + 'static,
) -> (Client, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (noted, answer) = (noted.clone(), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body
                .collect()
                .await
                .map(|b| b.to_bytes())
                .unwrap_or_default();
            let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let (method, path) = (parts.method.as_str(), parts.uri.path());
            noted
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((method.to_owned(), path.to_owned(), body.clone()));
            let (code, value) = match answer(method, path, body) {
                Answer::Silence => std::future::pending().await,
                Answer::Ok(value) => (200, value),
                Answer::Refused(code, reason, kind) => {
                    let name = path.rsplit('/').next().unwrap_or_default();
                    let value = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "code": code, "reason": reason, "message": format!("{reason}: {path}"),
                        "details": {"name": name, "kind": kind}});
                    (code, value)
                }
            };
            Response::builder()
                .status(code)
                .body(Body::from(value.to_string().into_bytes()))
        }
    });
    (Client::new(service, "default"), seen)
}

/// The same as a cluster that knows the kinds which the manager writes.
pub fn cluster(
    answer: impl Fn(&str, &str, Value) -> Answer + Send + Sync + 'static,
) -> (Cluster, Seen) {
    let (client, seen) = client(answer);
    let cluster = Cluster::new("test cluster", client);
    for kind in [SECRET, CONFIG_MAP, MANAGEMENT_CLUSTER] {
        cluster.know(resource(kind), Scope::Namespaced);
    }
    (cluster, seen)
}

fn resource(kind: Known) -> ApiResource {
    kind.resource()
}
