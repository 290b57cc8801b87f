//! A proxy in front of an engine's socket: containers made through it ask for an address of their own. Must pass on everything else as it is.
//!
//! Cluster API's Docker provider leaves addresses to the engine, which gives out others at every start. It runs beside the
//! provider and changes one request, the one that makes a container; see [`create`].

pub mod create;

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Mutex,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::addresses::{Fixed, taken};

/// Longest body of a request that makes a container; the provider's have some kilobytes.
const BODY: usize = 4 << 20;
/// Longest list of containers.
const LIST: usize = 64 << 20;
/// Longest time for the engine to say which containers there are.
const LIMIT: Duration = Duration::from_secs(30);

type Body = BoxBody<Bytes, hyper::Error>;

/// What the proxy is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's socket.
    pub engine: PathBuf,
    /// Network whose containers are looked after.
    pub network: String,
    /// Addresses to give out; none where the network has no subnet of its own.
    pub fixed: Option<Fixed>,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    /// Between the list of addresses in use and the engine's knowledge of the next one nobody else may choose.
    choosing: Mutex<()>,
}

/// Serves until `shutdown`.
pub async fn serve(listener: UnixListener, settings: Settings, shutdown: CancellationToken) {
    let proxy = Arc::new(Proxy {
        settings,
        choosing: Mutex::new(()),
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors as a rule; some come back soon.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let proxy = Arc::clone(&proxy);
                async move { Ok::<_, Infallible>(proxy.handle(request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

impl Proxy {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let result = if create::is_create(request.method(), request.uri().path()) {
            self.create(request).await
        } else {
            self.pass(request.map(BodyExt::boxed)).await
        };
        result.unwrap_or_else(|Refusal(status, message)| {
            tracing::warn!(%status, message, "request refused");
            // As the engine itself would say it.
            let text = json!({"message": format!("mctl engine-proxy: {message}")}).to_string();
            let mut response = Response::new(full(text.into()));
            *response.status_mut() = status;
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        })
    }

    /// Makes a container that asks for an address.
    async fn create(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (mut parts, body) = request.into_parts();
        let too_large = |e| {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Refusal(status, format!("the container's description: {e}"))
        };
        let bytes = Limited::new(body, BODY)
            .collect()
            .await
            .map_err(too_large)?
            .to_bytes();
        let network = self.settings.network.as_str();
        // What is no JSON is the engine's to refuse.
        let mut description = serde_json::from_slice::<Value>(&bytes).ok();
        let Some(body) = description.as_mut().filter(|b| b.is_object()) else {
            return self.pass(Request::from_parts(parts, full(bytes))).await;
        };
        create::set_restart(body, network);
        let guard = match self.settings.fixed {
            Some(fixed) if create::wants_address(body, network) => {
                let name = create::name(parts.uri.query())
                    .unwrap_or_default()
                    .to_owned();
                let guard = self.choosing.lock().await;
                let containers = self.containers().await?;
                let address = fixed.pick(&name, &taken(&containers, network));
                let address = address.ok_or_else(|| {
                    let why = format!("no address of {fixed} is free on network {network}");
                    Refusal(StatusCode::INSUFFICIENT_STORAGE, why)
                })?;
                create::set_address(body, network, address);
                tracing::info!(container = name, %address, "asks for an address of its own");
                Some(guard)
            }
            _ => None,
        };
        let text = body.to_string();
        // Its length is another now, and it comes in one piece.
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.headers.insert(
            header::CONTENT_LENGTH,
            header::HeaderValue::from(text.len()),
        );
        let answer = self
            .pass(Request::from_parts(parts, full(text.into())))
            .await;
        drop(guard);
        answer
    }

    /// All containers of the engine.
    async fn containers(&self) -> Result<Vec<Value>, Refusal> {
        let what = |why: String| {
            let text = format!("the engine does not say which containers there are: {why}");
            Refusal(StatusCode::BAD_GATEWAY, text)
        };
        let request = Request::builder()
            .method(Method::GET)
            .uri("/containers/json?all=true")
            .header(header::HOST, "docker")
            .body(Empty::new().map_err(|e| match e {}).boxed())
            .map_err(|e| what(e.to_string()))?;
        let work = async {
            let answer = self.pass(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LIST)
                .collect()
                .await
                .map_err(|e| what(e.to_string()))?
                .to_bytes();
            if !status.is_success() {
                return Err(what(format!("it answered {status}")));
            }
            serde_json::from_slice(&body).map_err(|e| what(e.to_string()))
        };
        timeout(LIMIT, work)
            .await
            .map_err(|_| what(format!("no answer within {} s", LIMIT.as_secs())))?
    }

    /// Passes a request on over a connection of its own, and streams in both directions if the two agree on that.
    async fn pass(&self, mut request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let engine = &self.settings.engine;
        let away = |why: String| {
            let text = format!("the engine at {}: {why}", engine.display());
            Refusal(StatusCode::BAD_GATEWAY, text)
        };
        let stream = UnixStream::connect(engine)
            .await
            .map_err(|e| away(e.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| away(e.to_string()))?;
        tokio::spawn(connection.with_upgrades());
        let client = hyper::upgrade::on(&mut request);
        let mut answer = sender
            .send_request(request)
            .await
            .map_err(|e| away(e.to_string()))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let engine = hyper::upgrade::on(&mut answer);
            tokio::spawn(async move {
                let (Ok(client), Ok(engine)) = tokio::join!(client, engine) else {
                    return;
                };
                let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
                // Either side may go away at any time.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
            });
        }
        Ok(answer.map(BodyExt::boxed))
    }
}

/// Why a request was not passed on.
struct Refusal(StatusCode, String);

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|e| match e {}).boxed()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
