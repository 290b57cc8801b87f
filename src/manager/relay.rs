//! Alerts reach any replica, but the leader alone must know them: the others pass them on. Must not keep anything.

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Method, Request, header},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{alerts::Received, shared::Shared};

/// Header of a request that was passed on already; it is never passed on again.
pub const RELAYED: &str = "x-mctl-relayed";
/// Longest time for a request to the leader.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer.
const BODY: usize = 4 << 20;

/// Identity of a replica in the lease: pod name, address and port of its plain HTTP server.
pub fn identity(pod: &str, address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(a) => format!("{pod}_{a}:{port}"),
        IpAddr::V6(a) => format!("{pod}_[{a}]:{port}"),
    }
}

/// Address (`host:port`) of the leader, if that is another replica that can be asked.
pub fn leader(shared: &Shared, headers: &HeaderMap) -> Option<String> {
    if headers.contains_key(RELAYED) {
        return None;
    }
    let holder = shared.holder.borrow().clone()?;
    if holder == shared.identity {
        return None;
    }
    holder
        .rsplit_once('_')
        .map(|(_, address)| address.to_owned())
}

/// The leader's list.
pub async fn list(leader: &str) -> Result<Vec<Received>, String> {
    let body = call(leader, Method::GET, None, Bytes::new()).await?;
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}

/// Passes a message on, with what its sender showed.
pub async fn receive(
    leader: &str,
    authorization: Option<&HeaderValue>,
    message: Bytes,
) -> Result<(), String> {
    call(leader, Method::POST, authorization, message)
        .await
        .map(|_| ())
}

async fn call(
    leader: &str,
    method: Method,
    authorization: Option<&HeaderValue>,
    body: Bytes,
) -> Result<Bytes, String> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{leader}/alerts"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(RELAYED, "1");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization.clone());
    }
    let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let work = async {
        let answer = client.request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY)
            .collect()
            .await
            .map_err(|e| e.to_string())?
            .to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(format!("{leader} answered {status}"))
        }
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_| format!("{leader} did not answer within {} s", LIMIT.as_secs()))?
}
