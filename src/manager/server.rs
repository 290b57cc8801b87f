//! The manager's plain HTTP port: health, readiness, metrics, alerts. Must not change anything in the cluster.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;

use super::{
    alerts::{Message, Received},
    relay::{self, RELAYED},
    shared::Shared,
};

/// Longest body of a message from Alertmanager.
const BODY: usize = 1 << 20;

/// The routes.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/alerts", get(list).post(receive))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(shared)
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let why = shared.not_ready();
    if why.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, why.join("\n") + "\n").into_response()
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

async fn list(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Some(leader) = relay::leader(&shared, &headers) {
        return match relay::list(&leader).await {
            Ok(all) => Json(all).into_response(),
            Err(e) => unavailable(&format!("the leading replica does not answer: {e}")),
        };
    }
    let all: Vec<Received> = shared.inbox.list(Timestamp::now());
    Json(all).into_response()
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    // Anybody in the cluster reaches this port; a forged heartbeat would hide that monitoring is dead.
    let Some(token) = shared.token() else {
        return unavailable("the token of Alertmanager is not known yet");
    };
    let authorization = headers.get(header::AUTHORIZATION);
    if !authorization.is_some_and(|a| a.to_str().is_ok_and(|a| token.is(a))) {
        return (StatusCode::UNAUTHORIZED, "Alertmanager's token is needed\n").into_response();
    }
    let message: Message = match serde_json::from_slice(&body) {
        Ok(message) => message,
        Err(e) => return (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response(),
    };
    if let Some(leader) = relay::leader(&shared, &headers) {
        // Alertmanager repeats what is refused.
        return match relay::receive(&leader, authorization, body).await {
            Ok(()) => StatusCode::OK.into_response(),
            Err(e) => unavailable(&format!("the leading replica does not answer: {e}")),
        };
    }
    shared.inbox.receive(&message, Timestamp::now());
    shared.metrics.alerted(shared.inbox.heartbeat());
    shared.look.notify_one();
    StatusCode::OK.into_response()
}

fn unavailable(why: &str) -> Response {
    let text = format!("{why}\n");
    (StatusCode::SERVICE_UNAVAILABLE, [(RELAYED, "failed")], text).into_response()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
