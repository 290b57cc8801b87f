//! Between one process of mctl and one API server: counts, faults, and the answers of what stands behind an API server
//! (admission, proxies). Must not change what is stored by itself.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};

use crate::{
    fake::{Fake, Reset},
    outside::{Effect, Life, Place, RequestBug, Verdict, Watch},
};

/// One process' way to one server.
#[derive(Clone)]
pub struct Gate {
    life: Life,
    token: String,
}

type Answer = UnsyncBoxBody<Bytes, Reset>;

impl Gate {
    pub fn new(life: Life, token: String) -> Self {
        Self { life, token }
    }

    async fn pass(self, request: Request<Body>) -> Result<Response<Answer>, Reset> {
        let uri = request.uri().clone();
        let query = uri.query().unwrap_or_default().to_owned();
        let method = request.method().to_string();
        let dry = query.contains("dryRun=All");
        let changes = method != "GET" && !dry;
        let cluster = self.token.split('#').next().unwrap_or_default();
        let place = if cluster.starts_with("mctl-") {
            "temporary"
        } else {
            "management"
        };
        let mut what = format!("{method} {place} {}", uri.path());
        if query.contains("watch=true") || query.contains("watch=1") {
            what += " watch";
        }
        let Some((point, verdict)) = self.life.meet(Place::Server, what, changes) else {
            return std::future::pending().await;
        };
        self.life.wait(&point).await;
        if self.life.is_dead() {
            return std::future::pending().await;
        }
        let applied = match verdict {
            Verdict::Crash(effect) => effect != Effect::None,
            Verdict::Status { applied, .. }
            | Verdict::Reset { applied }
            | Verdict::Silence { applied } => applied,
            _ => true,
        };
        let Some(server) = self.life.world.server(&self.token) else {
            if matches!(verdict, Verdict::Crash(_)) {
                self.life.die();
                return std::future::pending().await;
            }
            return Err(Reset);
        };
        let mut answer = None;
        if applied {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Reset)?.to_bytes();
            let unsent = matches!(self.life.bug, Some(RequestBug::Unsent(part)) if changes && uri.path().contains(part));
            if unsent {
                return Ok(whole(
                    200,
                    &serde_json::from_slice(&body).unwrap_or_default(),
                    None,
                ));
            }
            answer = Some(
                match beside(&self.life, &server, &method, uri.path(), &body) {
                    Some((code, value)) => whole(code, &value, None),
                    None => {
                        let before = server.store().revision();
                        let request = Request::from_parts(parts, Body::from(small(&body)));
                        let answer = tower::Service::call(&mut server.clone(), request).await?;
                        if changes && server.store().revision() != before {
                            let key = format!("{place} {method} {}", uri.path());
                            *self.life.world.lock().writes.entry(key).or_default() += 1;
                        }
                        answer.map(|b| b.map_err(|e: Infallible| match e {}).boxed_unsync())
                    }
                },
            );
            if changes {
                self.life.done(&point);
            }
        }
        match verdict {
            Verdict::Crash(_) => {
                self.life.die();
                std::future::pending().await
            }
            Verdict::Status {
                code, retry_after, ..
            } => Ok(injected(code, retry_after)),
            Verdict::Reset { .. } => Err(Reset),
            Verdict::Silence { .. } => std::future::pending().await,
            Verdict::Watch(watch) => answer.map(|a| distort(a, watch)).ok_or(Reset),
            _ => answer.ok_or(Reset),
        }
    }
}

fn whole(code: u16, value: &Value, retry_after: Option<u32>) -> Response<Answer> {
    let mut builder = Response::builder()
        .status(code)
        .header("content-type", "application/json");
    if let Some(seconds) = retry_after {
        builder = builder.header("retry-after", seconds);
    }
    let body = Full::new(Bytes::from(value.to_string()));
    builder
        .body(body.map_err(|e: Infallible| match e {}).boxed_unsync())
        .unwrap()
}

fn injected(code: u16, retry_after: Option<u32>) -> Response<Answer> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": "injected failure", "details": {"retryAfterSeconds": retry_after.unwrap_or(0)},
    });
    whole(code, &status, retry_after)
}

/// Definitions without their schemas: nothing here looks at them, and they are most of what is stored.
fn small(body: &Bytes) -> Bytes {
    if body.len() < 4096 || !body.windows(24).any(|w| w == b"CustomResourceDefinition") {
        return body.clone();
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
        return body.clone();
    };
    if value["kind"] != "CustomResourceDefinition" {
        return body.clone();
    }
    for version in value["spec"]["versions"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let length = version["schema"].to_string().len();
        version["schema"] = json!({"openAPIV3Schema": {"type": "object", "description": format!("{length} bytes")}});
    }
    Bytes::from(value.to_string())
}

/// What is answered by others than the API server itself.
fn beside(
    life: &Life,
    server: &Fake,
    method: &str,
    path: &str,
    body: &[u8],
) -> Option<(u16, Value)> {
    if let Some((_, rest)) = path.split_once("/services/") {
        if rest.starts_with("prometheus-k8s:web/proxy/") {
            let targets = life.world.lock().platform.targets.clone();
            let result: Vec<Value> = targets
                .iter()
                .flat_map(|(job, count)| {
                    (0..*count).map(move |n| json!({"metric": {"job": job, "instance": format!("10.0.0.{n}:1")}, "value": [0, "1"]}))
                })
                .collect();
            return Some((
                200,
                json!({"status": "success", "data": {"resultType": "vector", "result": result}}),
            ));
        }
        if rest.ends_with("/proxy/alerts") {
            return Some((
                200,
                json!([{"name": "Watchdog", "status": "firing", "lastReceived": "2026-01-01T00:00:00Z", "ageSeconds": 20, "count": 3}]),
            ));
        }
    }
    if method == "POST"
        && path.ends_with("/pods")
        && server
            .get(
                "Deployment",
                Some("kyverno"),
                "kyverno-admission-controller",
            )
            .is_some()
    {
        let pod: Value = serde_json::from_slice(body).unwrap_or_default();
        if pod.pointer("/spec/containers/0/securityContext/privileged") == Some(&Value::Bool(true))
        {
            let message = "admission webhook \"validate.kyverno.svc-fail\" denied the request: resource Pod was blocked: disallow-privileged-containers";
            return Some((
                403,
                json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403, "reason": "Forbidden", "message": message,
                }),
            ));
        }
    }
    None
}

/// A watch that is not as it should be.
fn distort(answer: Response<Answer>, watch: Watch) -> Response<Answer> {
    let (parts, body) = answer.into_parts();
    let frames = body
        .into_data_stream()
        .filter_map(|f| async move { f.ok() });
    let events: Pin<Box<dyn futures::Stream<Item = Result<Bytes, Reset>> + Send>> = match watch {
        Watch::Ends(n) => Box::pin(frames.take(n).map(Ok)),
        Watch::Breaks(n) => Box::pin(frames.take(n).map(Ok).chain(stream::iter([Err(Reset)]))),
        Watch::Silent(n) => Box::pin(frames.take(n).map(Ok).chain(stream::pending())),
        Watch::Repeats => Box::pin(frames.flat_map(|f| stream::iter([Ok(f.clone()), Ok(f)]))),
        Watch::Reorders => Box::pin(frames.ready_chunks(2).flat_map(|mut pair| {
            pair.reverse();
            stream::iter(pair.into_iter().map(Ok))
        })),
        Watch::Gone => {
            let gone = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
                "message": "too old resource version",
            }});
            Box::pin(stream::iter([Ok(Bytes::from(format!("{gone}\n")))]))
        }
    };
    let body = StreamBody::new(events.map(|e| e.map(Frame::data))).boxed_unsync();
    Response::from_parts(parts, body)
}

impl tower::Service<Request<Body>> for Gate {
    type Response = Response<Answer>;
    type Error = Reset;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Reset>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().pass(request))
    }
}
