//! The proxy over real sockets, before an engine that is made up.

use std::{convert::Infallible, path::Path, sync::Mutex as Shared};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// An engine that keeps what it is asked for and makes containers.
#[derive(Default)]
struct Engine {
    asked: Shared<Vec<(String, Bytes)>>,
    containers: Shared<Vec<Value>>,
}

impl Engine {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().to_string();
        if request.headers().contains_key(header::UPGRADE) {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                said.make_ascii_uppercase();
                stream.write_all(&said).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for (name, value) in [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")] {
                let value = header::HeaderValue::from_static(value);
                response.headers_mut().insert(name, value);
            }
            return response;
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.asked
            .lock()
            .unwrap()
            .push((path.clone(), body.clone()));
        if path.starts_with("/containers/json") {
            let all = Value::from(self.containers.lock().unwrap().clone());
            return Response::new(full(all.to_string().into()));
        }
        if path.contains("/containers/create") {
            let made: Value = serde_json::from_slice(&body).unwrap_or_default();
            let networks = made["NetworkingConfig"]["EndpointsConfig"].clone();
            // It takes a moment, in which another could choose the same address.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let made = json!({"NetworkSettings": {"Networks": networks}});
            self.containers.lock().unwrap().push(made);
            let mut response = Response::new(full(r#"{"Id":"1"}"#.into()));
            *response.status_mut() = StatusCode::CREATED;
            return response;
        }
        Response::new(full(body))
    }

    fn created(&self) -> Vec<(String, Bytes)> {
        let asked = self.asked.lock().unwrap();
        let create = |(path, _): &&(String, Bytes)| path.contains("/create");
        asked.iter().filter(create).cloned().collect()
    }
}

struct World {
    engine: Arc<Engine>,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

fn world(fixed: Option<&str>) -> World {
    let folder = tempfile::tempdir().unwrap();
    let (below, above) = (
        folder.path().join("engine.sock"),
        folder.path().join("proxy.sock"),
    );
    let engine = Arc::new(Engine::default());
    let listener = UnixListener::bind(&below).unwrap();
    let answering = Arc::clone(&engine);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let engine = Arc::clone(&answering);
            let service = hyper::service::service_fn(move |request| {
                let engine = Arc::clone(&engine);
                async move { Ok::<_, Infallible>(engine.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    let settings = Settings {
        engine: below,
        network: "kind".into(),
        fixed: fixed.map(|f| f.parse().unwrap()),
    };
    let listener = UnixListener::bind(&above).unwrap();
    tokio::spawn(serve(listener, settings, CancellationToken::new()));
    World {
        engine,
        socket: above,
        _folder: folder,
    }
}

/// Sends raw text and reads until the other side closes.
async fn say(socket: &Path, text: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(text).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn post(socket: &Path, path: &str, body: &str) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    say(socket, format!("{head}{body}").as_bytes()).await
}

fn machine(network: &str) -> String {
    json!({"Image": "node", "HostConfig": {"NetworkMode": network, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1}}})
        .to_string()
}

fn address(body: &Bytes) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["NetworkingConfig"]["EndpointsConfig"]["kind"]["IPAMConfig"]["IPv4Address"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn machines_made_at_once_ask_for_different_addresses() {
    let world = world(Some("172.18.128.0/28"));
    let socket = world.socket.as_path();
    let path = |i: i32| format!("/v1.44/containers/create?name=m{i}");
    let paths: Vec<String> = (0..13).map(path).collect();
    let body = machine("kind");
    let answers = futures::future::join_all(paths.iter().map(|p| post(socket, p, &body))).await;
    assert!(
        answers.iter().all(|a| a.starts_with("HTTP/1.1 201")),
        "{answers:?}"
    );
    let made = world.engine.created();
    let mut addresses: Vec<String> = made.iter().map(|(_, body)| address(body)).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 13, "{addresses:?}");
    assert!(
        made.iter()
            .any(|(p, _)| p == "/v1.44/containers/create?name=m3")
    );
    let last: Value = serde_json::from_slice(&made[0].1).unwrap();
    assert_eq!(last["HostConfig"]["RestartPolicy"]["Name"], "always");
    let full = post(socket, "/containers/create?name=one-more", &body).await;
    assert!(
        full.starts_with("HTTP/1.1 507") && full.contains("172.18.128.0/28"),
        "{full}"
    );
}

#[tokio::test]
async fn a_body_in_chunks_is_changed_too() {
    let world = world(Some("172.18.128.0/17"));
    let body = machine("kind");
    let (a, b) = body.split_at(20);
    let text = format!(
        "POST /containers/create?name=lb HTTP/1.1\r\nHost: d\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    let answer = say(&world.socket, text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(address(&world.engine.created()[0].1).starts_with("172.18."));
}

#[tokio::test]
async fn other_networks_other_requests_and_rubbish_pass_as_they_are() {
    let world = world(Some("172.18.128.0/17"));
    let socket = world.socket.as_path();
    let bridge = machine("bridge");
    for body in [bridge.as_str(), "no JSON", "[1]"] {
        post(socket, "/containers/create", body).await;
    }
    let made = world.engine.created();
    let seen: Vec<Value> = made
        .iter()
        .map(|(_, b)| serde_json::from_slice(b).unwrap_or_default())
        .collect();
    assert_eq!(seen[0], serde_json::from_str::<Value>(&bridge).unwrap());
    assert_eq!(
        (&made[1].1[..], &made[2].1[..]),
        (&b"no JSON"[..], &b"[1]"[..])
    );
    let large = "x".repeat(9 << 20);
    let answer = post(socket, "/images/load", &large).await;
    assert!(
        answer.len() > large.len(),
        "{} bytes came back",
        answer.len()
    );
}

#[tokio::test]
async fn without_addresses_only_the_restart_is_changed() {
    let world = world(None);
    post(&world.socket, "/containers/create?name=m", &machine("kind")).await;
    let made = world.engine.created();
    assert_eq!(address(&made[0].1), "");
    assert!(String::from_utf8_lossy(&made[0].1).contains("always"));
}

#[tokio::test]
async fn an_endless_description_is_refused() {
    let world = world(Some("172.18.128.0/17"));
    let body = format!("\"{}\"", "x".repeat(BODY));
    let answer = post(&world.socket, "/containers/create", &body).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(world.engine.created().is_empty());
}

#[tokio::test]
async fn a_stream_goes_through_with_its_end_in_both_directions() {
    let world = world(Some("172.18.128.0/17"));
    let mut stream = UnixStream::connect(&world.socket).await.unwrap();
    let head = "POST /exec/1/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let data = "standard input ".repeat(100_000);
    let (mut reading, mut writing) = stream.into_split();
    let write = async {
        writing.write_all(data.as_bytes()).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let mut said = String::new();
    let read = reading.read_to_string(&mut said);
    let (_, read) = tokio::join!(write, read);
    read.unwrap();
    assert_eq!(said, data.to_uppercase());
}

#[tokio::test]
async fn an_engine_that_is_gone_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let above = folder.path().join("proxy.sock");
    let settings = Settings {
        engine: folder.path().join("nobody.sock"),
        network: "kind".into(),
        fixed: None,
    };
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(
        UnixListener::bind(&above).unwrap(),
        settings,
        shutdown.clone(),
    ));
    let answer = say(
        &above,
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("nobody.sock"),
        "{answer}"
    );
    shutdown.cancel();
    serving.await.unwrap();
}
