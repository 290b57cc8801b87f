//! The HTTP port, and two replicas of which one leads.

use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tower::ServiceExt;

use super::*;
use crate::manager::{conditions::Finding, inputs::Inputs, relay::identity, token::Token};

struct Replica {
    shared: Arc<Shared>,
    _inputs: watch::Sender<Inputs>,
    holder: watch::Sender<Option<String>>,
    answered: watch::Sender<Option<Instant>>,
}

fn replica(me: &str) -> Replica {
    let inputs = watch::Sender::new(Inputs::default());
    let holder = watch::Sender::new(None);
    let answered = watch::Sender::new(None);
    Replica {
        shared: Arc::new(Shared::new(
            "giantswarm",
            "golem",
            me,
            inputs.subscribe(),
            holder.subscribe(),
            answered.subscribe(),
        )),
        _inputs: inputs,
        holder,
        answered,
    }
}

async fn send(shared: &Arc<Shared>, method: &str, path: &str, body: &str) -> (u16, String) {
    send_as(shared, method, path, body, &format!("Bearer {TOKEN}")).await
}

async fn send_as(
    shared: &Arc<Shared>,
    method: &str,
    path: &str,
    body: &str,
    authorization: &str,
) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, authorization)
        .body(Body::from(body.to_owned()))
        .unwrap();
    let answer = router(shared.clone()).oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn token() -> Option<Token> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let secret =
        serde_json::json!({"metadata": {"name": "t"}, "data": {"token": STANDARD.encode(TOKEN)}});
    Token::of(&serde_json::from_value(secret).unwrap())
}

#[tokio::test]
async fn only_alertmanager_is_believed() {
    let r = replica("a_127.0.0.1:1");
    let (status, body) = send(&r.shared, "POST", "/alerts", WATCHDOG).await;
    assert_eq!(status, 503, "Alertmanager must repeat it: {body}");
    r.shared.set_token(token());
    for bad in ["", "Bearer", "Bearer 0123", "Basic eDp5", TOKEN] {
        let (status, _) = send_as(&r.shared, "POST", "/alerts", WATCHDOG, bad).await;
        assert_eq!(status, 401, "{bad:?}");
    }
    assert!(r.shared.inbox.heartbeat().is_none());
    assert_eq!(send(&r.shared, "POST", "/alerts", WATCHDOG).await.0, 200);
    assert!(r.shared.inbox.heartbeat().is_some());
}

const WATCHDOG: &str =
    r#"{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"Watchdog"}}]}"#;

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let r = replica("a_127.0.0.1:1");
    let (status, body) = send(&r.shared, "GET", "/readyz", "").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("ManagementCluster golem does not exist yet"),
        "{body}"
    );
    assert!(body.contains("API server has not answered"), "{body}");
    assert_eq!(send(&r.shared, "GET", "/healthz", "").await.0, 200);
    r.answered.send_replace(Some(Instant::now()));
    r.shared.published.send_modify(|p| {
        p.verdict = Some(Finding::no("DocumentAccepted", "Invalid", "spec.x: bad"));
    });
    let (_, body) = send(&r.shared, "GET", "/readyz", "").await;
    assert!(body.contains("no platform artifact: spec.x: bad"), "{body}");
    assert!(!body.contains("API server"), "{body}");
}

#[tokio::test]
async fn alerts_are_kept_by_the_leader_whoever_receives_them() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let name = identity("a", address.ip(), address.port());
    let leader = replica(&name);
    let other = replica("b_127.0.0.1:1");
    for r in [&leader, &other] {
        r.holder.send_replace(Some(name.clone()));
        r.shared.set_token(token());
    }
    let app = router(leader.shared.clone());
    let server = tokio::spawn(async move { axum::serve(socket, app).await });
    assert_eq!(
        send(&other.shared, "POST", "/alerts", "nonsense").await.0,
        400
    );
    assert_eq!(
        send(&other.shared, "POST", "/alerts", WATCHDOG).await.0,
        200
    );
    assert!(other.shared.inbox.heartbeat().is_none());
    assert!(leader.shared.inbox.heartbeat().is_some());
    for r in [&leader, &other] {
        let (status, body) = send(&r.shared, "GET", "/alerts", "").await;
        assert_eq!(status, 200);
        assert!(body.contains(r#""name":"Watchdog""#), "{body}");
    }
    let (_, metrics) = send(&leader.shared, "GET", "/metrics", "").await;
    assert!(metrics.contains("mctl_alert_messages_total 1"), "{metrics}");
    server.abort();
    let _ = server.await;
    let (status, body) = send(&other.shared, "POST", "/alerts", WATCHDOG).await;
    assert_eq!(status, 503, "Alertmanager must repeat it: {body}");
}
