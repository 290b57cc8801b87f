//! The pull side of the OCI distribution specification. Must not change what it serves: stored bytes go out as they are.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    response::Response,
    routing::{any, get},
};
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::{
    body,
    request::{self, Range, Target},
    store::Store,
};
use crate::bundle::{Digest, media};

const DIGEST: &str = "docker-content-digest";
const VERSION: &str = "docker-distribution-api-version";

/// The registry's routes, and `/healthz`.
pub fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v2", any(version))
        .route("/v2/", any(version))
        .route("/v2/{*path}", any(answer))
        .fallback(|| async { Problem::PAGE.into_response() })
        .with_state(store)
}

/// What a client may ask with.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    ns: Option<String>,
    n: Option<String>,
    last: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
}

/// An error as the specification words it.
struct Problem(StatusCode, &'static str, &'static str);

impl Problem {
    const PAGE: Self = Self(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such page");
    const METHOD: Self = Self(
        StatusCode::METHOD_NOT_ALLOWED,
        "UNSUPPORTED",
        "this registry is read-only",
    );
    const NAME: Self = Self(
        StatusCode::BAD_REQUEST,
        "NAME_INVALID",
        "invalid repository name",
    );
    const REPOSITORY: Self = Self(
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
        "repository name not known to registry",
    );
    const MANIFEST: Self = Self(
        StatusCode::NOT_FOUND,
        "MANIFEST_UNKNOWN",
        "manifest unknown to registry",
    );
    const BLOB: Self = Self(
        StatusCode::NOT_FOUND,
        "BLOB_UNKNOWN",
        "blob unknown to registry",
    );
    const DIGEST: Self = Self(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "invalid digest");
    const NUMBER: Self = Self(
        StatusCode::BAD_REQUEST,
        "PAGINATION_NUMBER_INVALID",
        "invalid number of results requested",
    );
    const RANGE: Self = Self(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "BLOB_UNKNOWN",
        "no such range",
    );
    const INTERNAL: Self = Self(
        StatusCode::INTERNAL_SERVER_ERROR,
        "UNKNOWN",
        "the content cannot be read; see the registry's log",
    );

    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        let errors = json!({"errors": [{"code": code, "message": message, "detail": null}]});
        let mut response = body_of("application/json", errors.to_string().into_bytes());
        *response.status_mut() = status;
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

fn body_of(media_type: &str, bytes: impl Into<bytes::Bytes>) -> Response {
    let bytes = bytes.into();
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    *response.body_mut() = Body::from(bytes);
    response
}

/// Sets a header; text that no header can hold (it would come from a bundle) is left out.
fn set(headers: &mut HeaderMap, name: impl header::IntoHeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        headers.insert(name, value);
    }
}

async fn version(method: Method) -> Response {
    let mut response = if reads(&method) {
        body_of("application/json", "{}")
    } else {
        Problem::METHOD.into_response()
    };
    set(response.headers_mut(), VERSION, "registry/2.0");
    headless(&method, response)
}

async fn answer(
    State(store): State<Arc<Store>>,
    method: Method,
    Path(path): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let mut response = if reads(&method) {
        find(store, &method, &path, &parameters, &headers)
            .await
            .unwrap_or_else(Problem::into_response)
    } else {
        Problem::METHOD.into_response()
    };
    tracing::debug!(%method, path, ns = parameters.ns, status = response.status().as_u16());
    set(response.headers_mut(), VERSION, "registry/2.0");
    headless(&method, response)
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// HEAD answers with all headers and no content.
fn headless(method: &Method, mut response: Response) -> Response {
    if *method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn find(
    store: Arc<Store>,
    method: &Method,
    path: &str,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let target = Target::parse(path).ok_or(Problem::PAGE)?;
    if target == Target::Catalog {
        return page("repositories", None, path, store.repositories(), parameters);
    }
    let names =
        request::repositories(target.name(), parameters.ns.as_deref()).ok_or(Problem::NAME)?;
    match target {
        Target::Catalog => Err(Problem::PAGE),
        Target::Manifest { reference, .. } => {
            let document = store.manifest(&names, reference).ok_or(Problem::MANIFEST)?;
            let mut response = body_of(&document.media_type, document.bytes);
            set(response.headers_mut(), DIGEST, document.digest.as_str());
            Ok(response)
        }
        Target::Blob { digest, .. } => {
            let digest = known(digest)?;
            blob(store, digest, method, headers).await
        }
        Target::Tags { name } => {
            let tags = store.tags(&names).ok_or(Problem::REPOSITORY)?;
            page("tags", Some(name), path, tags, parameters)
        }
        Target::Referrers { digest, .. } => {
            if request::digest(digest) == Err(false) {
                return Err(Problem::DIGEST);
            }
            let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": []});
            let mut response = body_of(media::INDEX, index.to_string());
            if parameters.artifact_type.is_some() {
                set(
                    response.headers_mut(),
                    "oci-filters-applied",
                    "artifactType",
                );
            }
            Ok(response)
        }
    }
}

fn known(digest: &str) -> Result<Digest, Problem> {
    request::digest(digest).map_err(|foreign| {
        if foreign {
            Problem::BLOB
        } else {
            Problem::DIGEST
        }
    })
}

async fn blob(
    store: Arc<Store>,
    digest: Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let wanted = digest.clone();
    let found = tokio::task::spawn_blocking(move || store.blob(&wanted)).await;
    let blob = match found {
        Ok(Ok(found)) => found.ok_or(Problem::BLOB)?,
        Ok(Err(error)) => {
            tracing::error!(%digest, error = error.line(), "cannot read a blob");
            return Err(Problem::INTERNAL);
        }
        Err(_) => return Err(Problem::INTERNAL),
    };
    let size = blob.size();
    let asked = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let range = asked.map_or(Range::Whole, |header| request::range(header, size));
    let mut response = Response::new(Body::empty());
    let (from, to) = match range {
        Range::Whole => (0, size),
        Range::Part(from, to) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let content_range = format!("bytes {from}-{}/{size}", to - 1);
            set(
                response.headers_mut(),
                header::CONTENT_RANGE,
                &content_range,
            );
            (from, to)
        }
        Range::Unsatisfiable => {
            response = Problem::RANGE.into_response();
            set(
                response.headers_mut(),
                header::CONTENT_RANGE,
                &format!("bytes */{size}"),
            );
            return Ok(response);
        }
    };
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, "application/octet-stream");
    set(headers, header::ACCEPT_RANGES, "bytes");
    set(headers, DIGEST, digest.as_str());
    headers.insert(header::CONTENT_LENGTH, (to - from).into());
    if *method == Method::GET {
        *response.body_mut() = body::stream(blob, from, to);
    }
    Ok(response)
}

/// A sorted list, from after `last`, at most `n` long, with a link to the rest.
fn page(
    key: &str,
    name: Option<&str>,
    path: &str,
    all: BTreeSet<String>,
    parameters: &Parameters,
) -> Result<Response, Problem> {
    let limit = match &parameters.n {
        None => usize::MAX,
        Some(n) => n.parse().map_err(|_| Problem::NUMBER)?,
    };
    let after = parameters.last.as_deref().unwrap_or_default();
    let mut rest = all.into_iter().filter(|item| item.as_str() > after);
    let items: Vec<String> = rest.by_ref().take(limit).collect();
    let mut document = serde_json::Map::new();
    if let Some(name) = name {
        document.insert("name".to_owned(), name.into());
    }
    let next = rest.next().and(items.last().cloned());
    document.insert(key.to_owned(), items.into());
    let document = serde_json::Value::Object(document);
    let mut response = body_of("application/json", document.to_string());
    if let Some(last) = next {
        let ns = parameters
            .ns
            .as_ref()
            .map_or_else(String::new, |ns| format!("&ns={ns}"));
        let link = format!("</v2/{path}?n={limit}&last={last}{ns}>; rel=\"next\"");
        set(response.headers_mut(), header::LINK, &link);
    }
    Ok(response)
}
