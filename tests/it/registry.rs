//! The registry's answers, request by request, without a socket.

use std::{collections::BTreeMap, sync::Arc};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use mctl::{
    bundle::{Bundle, Digest, media},
    registry::{Artifact, Store, artifact::platform, own_image::OwnImage, router},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::bundle_fixture::{Fixture, digest_of, executable};

struct Answer {
    status: StatusCode,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| {
            panic!("{e}: {}", String::from_utf8_lossy(&self.body));
        })
    }
}

struct Registry {
    store: Arc<Store>,
    _folder: TempDir,
}

impl Registry {
    fn new(fixture: &Fixture) -> Self {
        let (folder, path) = fixture.tar_file();
        Self {
            store: Arc::new(Store::new(Some(Bundle::open(&path).unwrap()))),
            _folder: folder,
        }
    }

    fn usual() -> Self {
        Self::new(&Fixture::usual())
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router(Arc::clone(&self.store))
            .oneshot(request)
            .await
            .unwrap();
        let headers = response.headers().iter();
        Answer {
            status: response.status(),
            headers: headers
                .map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned()))
                .collect(),
            body: response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }
}

fn artifact(text: &str) -> Artifact {
    platform(&[("a.yaml".to_owned(), text.into())].into()).unwrap()
}

#[tokio::test]
async fn version_and_health() {
    let registry = Registry::usual();
    for path in ["/v2", "/v2/"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = registry.ask(method, path, &[]).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert_eq!(
                answer.header("docker-distribution-api-version"),
                "registry/2.0"
            );
        }
    }
    assert_eq!(registry.get("/healthz").await.status, StatusCode::OK);
    for path in ["/", "/v1/", "/v2x", "/v3/"] {
        let answer = registry.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.json()["errors"][0]["code"].is_string());
    }
}

#[tokio::test]
async fn manifests_by_every_name() {
    let registry = Registry::usual();
    let fixture = Fixture::usual();
    let (pause, nginx) = (&fixture.roots[0], &fixture.roots[1]);
    for (path, expected) in [
        ("registry.k8s.io/pause/manifests/3.10", pause),
        ("pause/manifests/3.10?ns=registry.k8s.io", pause),
        (
            "registry.k8s.io/pause/manifests/3.10?ns=registry.k8s.io",
            pause,
        ),
        ("library/nginx/manifests/1.2?ns=docker.io", nginx),
        ("docker.io/library/nginx/manifests/1.2", nginx),
        ("docker.io/nginx/manifests/1.2", nginx),
        ("library/nginx/manifests/1.2", nginx),
        ("nginx/manifests/1.2", nginx),
        ("nginx/manifests/1.2?ns=", nginx),
        ("library/nginx/manifests/1.2?ns=registry-1.docker.io", nginx),
    ] {
        let digest = digest_of(expected);
        let by_digest = format!("any/name/manifests/{digest}");
        let encoded = by_digest.replace(':', "%3A");
        for path in [path, &by_digest, &encoded] {
            let answer = registry.get(&format!("/v2/{path}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert_eq!(Digest::of(&answer.body), digest, "{path}");
            assert_eq!(answer.header("docker-content-digest"), digest.as_str());
            assert_eq!(
                answer.header("content-type"),
                expected["mediaType"].as_str().unwrap()
            );
            assert_eq!(
                answer.header("content-length"),
                answer.body.len().to_string()
            );
            let head = registry
                .ask(Method::HEAD, &format!("/v2/{path}"), &[])
                .await;
            assert_eq!(
                (head.status, &head.headers),
                (StatusCode::OK, &answer.headers),
                "{path}"
            );
            assert!(head.body.is_empty());
        }
    }
}

#[tokio::test]
async fn errors_have_a_code_and_a_body() {
    let registry = Registry::usual();
    let absent = Digest::of(b"absent");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for (path, status, code) in [
        ("registry.k8s.io/pause/manifests/9", 404, "MANIFEST_UNKNOWN"),
        ("pause/manifests/3.10", 404, "MANIFEST_UNKNOWN"),
        ("pause/manifests/3.10?ns=quay.io", 404, "MANIFEST_UNKNOWN"),
        ("quay.io/pause/manifests/3.10", 404, "MANIFEST_UNKNOWN"),
        ("absent/manifests/1", 404, "MANIFEST_UNKNOWN"),
        (
            &format!("nginx/manifests/{absent}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("nginx/manifests/.INVALID", 404, "MANIFEST_UNKNOWN"),
        ("NGINX/manifests/1.2", 400, "NAME_INVALID"),
        ("a/../b/manifests/1.2", 400, "NAME_INVALID"),
        ("a//b/manifests/1.2", 400, "NAME_INVALID"),
        ("a/%2e%2e/b/manifests/1.2", 400, "NAME_INVALID"),
        (&format!("nginx/blobs/{absent}"), 404, "BLOB_UNKNOWN"),
        (&format!("nginx/blobs/{sha512}"), 404, "BLOB_UNKNOWN"),
        ("nginx/blobs/sha3:abc", 404, "BLOB_UNKNOWN"),
        ("nginx/blobs/sha256:abc", 400, "DIGEST_INVALID"),
        ("nginx/blobs/latest", 400, "DIGEST_INVALID"),
        ("nginx/blobs/sha256:..%2f..%2fetc", 404, "UNSUPPORTED"),
        ("nginx/referrers/latest", 400, "DIGEST_INVALID"),
        ("absent/tags/list", 404, "NAME_UNKNOWN"),
        ("nginx/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"),
        ("nginx/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
        ("nginx/tags/other", 404, "UNSUPPORTED"),
        ("nginx", 404, "UNSUPPORTED"),
        ("nginx/uploads/x", 404, "UNSUPPORTED"),
    ] {
        let answer = registry.get(&format!("/v2/{path}")).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.json()["errors"][0]["code"], code, "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        let head = registry
            .ask(Method::HEAD, &format!("/v2/{path}"), &[])
            .await;
        assert_eq!(head.status.as_u16(), status, "{path}");
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn writing_is_refused_everywhere() {
    let registry = Registry::usual();
    let blob = format!("/v2/nginx/blobs/{}", Digest::of(&[7; 3000]));
    for method in [
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        for path in [
            "/v2/",
            "/v2/nginx/blobs/uploads/",
            "/v2/nginx/manifests/1.2",
            &blob,
        ] {
            let answer = registry.ask(method.clone(), path, &[]).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
            assert_eq!(answer.json()["errors"][0]["code"], "UNSUPPORTED");
            assert_eq!(answer.header("allow"), "GET, HEAD");
        }
    }
}

#[tokio::test]
async fn blobs_whole_and_in_ranges() {
    let mut fixture = Fixture::usual();
    let content: Vec<u8> = (0..3_500_000_u32).map(|i| (i % 251) as u8).collect();
    let image = fixture.image(&[&content, b""]);
    fixture.root("a.b/c:d", image);
    let registry = Registry::new(&fixture);
    let digest = Digest::of(&content);
    let path = format!("/v2/a.b/c/blobs/{digest}");
    let size = content.len();
    let whole = registry.get(&path).await;
    assert_eq!(
        (whole.status, whole.body == content),
        (StatusCode::OK, true)
    );
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("docker-content-digest"), digest.as_str());
    assert_eq!(whole.header("content-length"), size.to_string());
    let head = registry.ask(Method::HEAD, &path, &[]).await;
    assert_eq!(
        (head.status, &head.headers),
        (StatusCode::OK, &whole.headers)
    );
    assert!(head.body.is_empty());
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=500-1499", 500, 1500),
        ("bytes=1048570-1048580", 1_048_570, 1_048_581),
        ("bytes=500-", 500, size),
        ("bytes=-500", size - 500, size),
        ("bytes=-99999999", 0, size),
        ("bytes=0-99999999", 0, size),
    ] {
        let part = registry.ask(Method::GET, &path, &[("range", range)]).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert!(part.body == content[from..to], "{range}");
        assert_eq!(
            part.header("content-range"),
            format!("bytes {from}-{}/{size}", to - 1)
        );
        assert_eq!(part.header("content-length"), (to - from).to_string());
        let head = registry.ask(Method::HEAD, &path, &[("range", range)]).await;
        assert_eq!(
            (head.status, &head.headers),
            (part.status, &part.headers),
            "{range}"
        );
    }
    for range in [
        "bytes=3500000-",
        "bytes=500-0",
        "bytes=-0",
        "bytes=9999999-99999999",
    ] {
        let none = registry.ask(Method::GET, &path, &[("range", range)]).await;
        assert_eq!(none.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(none.header("content-range"), format!("bytes */{size}"));
    }
    for range in ["bytes=0-1,3-4", "lines=1-2", "rubbish"] {
        let all = registry.ask(Method::GET, &path, &[("range", range)]).await;
        assert_eq!(
            (all.status, all.body.len()),
            (StatusCode::OK, size),
            "{range}"
        );
    }
    let empty = registry
        .get(&format!("/v2/a.b/c/blobs/{}", Digest::of(b"")))
        .await;
    assert_eq!((empty.status, empty.body.len()), (StatusCode::OK, 0));
    assert_eq!(empty.header("content-length"), "0");
}

#[tokio::test]
async fn only_what_the_bundle_is_about_is_served() {
    let mut fixture = Fixture::usual();
    let stray = fixture.blob(media::LAYER, b"stray");
    let answer = Registry::new(&fixture)
        .get(&format!("/v2/a.b/c/blobs/{}", digest_of(&stray)))
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tags_page_by_page() {
    let mut fixture = Fixture::usual();
    let image = fixture.image(&[b"x"]);
    for tag in ["b", "a", "d", "c"] {
        fixture.root(&format!("quay.io/x/y:{tag}"), image.clone());
    }
    let registry = Registry::new(&fixture);
    registry
        .store
        .put_artifact("quay.io/x/y", "e", artifact("a: 1"))
        .unwrap();
    let mut path = "/v2/quay.io/x/y/tags/list".to_owned();
    let all = registry.get(&path).await;
    assert_eq!(
        all.json(),
        json!({"name": "quay.io/x/y", "tags": ["a", "b", "c", "d", "e"]})
    );
    assert_eq!(all.header("link"), "");
    for (query, tags) in [
        ("n=0", json!([])),
        ("n=2", json!(["a", "b"])),
        ("n=5", json!(["a", "b", "c", "d", "e"])),
        ("n=9", json!(["a", "b", "c", "d", "e"])),
        ("last=b", json!(["c", "d", "e"])),
        ("n=1&last=b", json!(["c"])),
        ("last=bb", json!(["c", "d", "e"])),
        ("last=z", json!([])),
    ] {
        assert_eq!(
            registry.get(&format!("{path}?{query}")).await.json()["tags"],
            tags,
            "{query}"
        );
    }
    // Following the links gives everything once.
    path = "/v2/x/y/tags/list?n=2&ns=quay.io".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = registry.get(&path).await;
        seen.extend(page.json()["tags"].as_array().unwrap().clone());
        let link = page.header("link");
        let Some(next) = link
            .strip_prefix('<')
            .and_then(|l| l.strip_suffix(">; rel=\"next\""))
        else {
            break;
        };
        path = next.to_owned();
    }
    assert_eq!(json!(seen), json!(["a", "b", "c", "d", "e"]));
    let catalog = registry.get("/v2/_catalog?n=2").await;
    assert_eq!(
        catalog.json(),
        json!({"repositories": ["docker.io/library/nginx", "mctl.giantswarm.io/profile"]})
    );
    assert!(
        catalog
            .header("link")
            .contains("last=mctl.giantswarm.io/profile")
    );
}

#[tokio::test]
async fn referrers_are_an_empty_index() {
    let registry = Registry::usual();
    let path = format!("/v2/a.b/c/referrers/{}", Digest::of(b"x"));
    let answer = registry.get(&path).await;
    assert_eq!(answer.header("content-type"), media::INDEX);
    assert_eq!(
        answer.json(),
        json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": []})
    );
    assert_eq!(answer.header("oci-filters-applied"), "");
    let answer = registry.get(&format!("{path}?artifactType=a/b")).await;
    assert_eq!(answer.header("oci-filters-applied"), "artifactType");
}

#[tokio::test]
async fn artifacts_are_replaced_while_their_readers_go_on() {
    let registry = Registry {
        store: Arc::new(Store::new(None)),
        _folder: TempDir::new().unwrap(),
    };
    let path = "/v2/mctl.giantswarm.io/platform/demo/manifests/latest";
    assert_eq!(registry.get(path).await.status, StatusCode::NOT_FOUND);
    let name = "mctl.giantswarm.io/platform/demo";
    let mut old = Vec::new();
    for round in 0..10 {
        let artifact = artifact(&format!("round: {round}"));
        // Twice: equal content must not push older generations out.
        registry
            .store
            .put_artifact(name, "latest", artifact.clone())
            .unwrap();
        registry
            .store
            .put_artifact(name, "latest", artifact.clone())
            .unwrap();
        let answer = registry.get(path).await;
        assert_eq!(
            answer.header("docker-content-digest"),
            artifact.digest.as_str()
        );
        assert_eq!(answer.body, artifact.manifest);
        for (digest, blob) in &artifact.blobs {
            let answer = registry.get(&format!("/v2/{name}/blobs/{digest}")).await;
            assert_eq!(answer.body.len() as u64, blob.size());
            assert_eq!(Digest::of(&answer.body), *digest);
        }
        old.push(artifact);
    }
    for (age, artifact) in old.iter().rev().enumerate() {
        let answer = registry
            .get(&format!("/v2/{name}/manifests/{}", artifact.digest))
            .await;
        assert_eq!(answer.status.is_success(), age < 4, "{age}");
    }
    for (name, tag) in [("A/b", "x"), ("a.b/c", ""), ("a.b/c", "a b"), ("", "x")] {
        assert!(
            registry
                .store
                .put_artifact(name, tag, artifact(""))
                .is_err(),
            "{name}:{tag}"
        );
    }
}

#[tokio::test]
async fn a_file_that_vanishes_is_an_error_of_ours() {
    let (folder, path) = Fixture::usual().folder();
    let store = Arc::new(Store::new(Some(Bundle::open(&path).unwrap())));
    let registry = Registry {
        store,
        _folder: folder,
    };
    let digest = Digest::of(&[7; 3000]);
    let file = path.join(crate::bundle_fixture::blob_path(&digest));
    std::fs::remove_file(&file).unwrap();
    let request = format!("/v2/a.b/c/blobs/{digest}");
    assert_eq!(registry.get(&request).await.status, StatusCode::NOT_FOUND);
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let answer = registry.get(&request).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["errors"][0]["code"], "UNKNOWN");
}

#[tokio::test]
async fn own_image_goes_out_as_one_piece() {
    let registry = Registry {
        store: Arc::new(Store::new(None)),
        _folder: TempDir::new().unwrap(),
    };
    let file = registry._folder.path().join("mctl");
    std::fs::write(&file, executable(700_001)).unwrap();
    let own = OwnImage::around(&file).unwrap();
    registry
        .store
        .put_artifact(&OwnImage::repository(), &own.tag, own.artifact.clone())
        .unwrap();
    let manifest = registry
        .get(&format!(
            "/v2/mctl/manifests/{}?ns=mctl.giantswarm.io",
            own.tag
        ))
        .await;
    assert_eq!(manifest.body, own.artifact.manifest);
    let digest = &own.artifact.blobs[1].0;
    let path = format!("/v2/mctl/blobs/{digest}?ns=mctl.giantswarm.io");
    let layer = registry.get(&path).await.body;
    assert_eq!(Digest::of(&layer), *digest);
    // Headers, executable and end lie in different places.
    let start = layer.windows(4).position(|w| w == b"\x7fELF").unwrap();
    for (from, to) in [
        (0, 10),
        (start - 5, start + 5),
        (start, start + 700_001),
        (start + 700_000, layer.len() - 1),
        (layer.len() - 1, layer.len() - 1),
    ] {
        let range = format!("bytes={from}-{to}");
        let part = registry.ask(Method::GET, &path, &[("range", &range)]).await;
        assert!(part.body == layer[from..=to], "{range}");
    }
}
