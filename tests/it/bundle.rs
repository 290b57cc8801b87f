//! What a whole bundle gives, from a folder and from a tar.

use std::{
    io::Read,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use mctl::bundle::{Bundle, Digest, media};
use serde_json::{Value, json};

use crate::bundle_fixture::{Fixture, blob_path, digest_of, entry, file, record};

const PAUSE: &str = "registry.k8s.io/pause:3.10";
const NGINX: &str = "docker.io/library/nginx:1.2";

/// Runs a check on both forms of a bundle.
fn both(fixture: &Fixture, check: impl Fn(&Path)) {
    let (_folder, path) = fixture.folder();
    check(&path);
    let (_folder, path) = fixture.tar_file();
    check(&path);
}

#[test]
fn names_profile_and_sizes() {
    both(&Fixture::usual(), |path| {
        let bundle = Bundle::open(path).unwrap();
        assert_eq!(bundle.references(), [NGINX, PAUSE]);
        let profile = bundle.profile().unwrap().unwrap();
        assert_eq!(profile.name, "lab");
        assert_eq!(profile.kubernetes_version.as_deref(), Some("v1.36.3"));
        assert_eq!(profile.without, ["notification-controller"]);
        assert_eq!(
            profile.values["cilium"],
            json!({"envoy": {"enabled": false}})
        );
        assert!(
            bundle.size() > 3000 && bundle.size() < 6000,
            "{}",
            bundle.size()
        );
    });
    both(&Fixture::new(), |path| {
        let bundle = Bundle::open(path).unwrap();
        assert!(bundle.references().is_empty());
        assert_eq!(bundle.profile().unwrap(), None);
    });
}

#[test]
fn references_resolve_in_every_form() {
    both(&Fixture::usual(), |path| {
        let bundle = Bundle::open(path).unwrap();
        let (index, bytes) = bundle.resolve("nginx:1.2").unwrap();
        assert_eq!(index.media_type, media::INDEX);
        assert_eq!(Digest::of(bytes), index.digest);
        let by_digest = bundle.resolve(index.digest.as_str()).unwrap();
        assert_eq!(by_digest.1, bytes);
        for text in ["docker.io/nginx:1.2", "index.docker.io/library/nginx:1.2"] {
            assert_eq!(bundle.resolve(text).unwrap().1, bytes, "{text}");
        }
        let pinned = format!("docker.io/library/nginx:1.2@{}", index.digest);
        assert_eq!(bundle.resolve(&pinned).unwrap().1, bytes);
        for text in [
            "nginx",
            "nginx:1.3",
            "quay.io/library/nginx:1.2",
            "no reference",
            "",
        ] {
            assert!(bundle.resolve(text).is_none(), "{text}");
        }
        let absent = Digest::of(b"absent");
        assert!(bundle.resolve(absent.as_str()).is_none());
        assert!(bundle.blob(&absent).unwrap().is_none());
    });
}

#[test]
fn content_is_read_at_any_place() {
    let fixture = Fixture::usual();
    let layer = Digest::of(&[7; 3000]);
    both(&fixture, |path| {
        let blob = Bundle::open(path).unwrap().blob(&layer).unwrap().unwrap();
        assert_eq!(blob.size(), 3000);
        for (offset, length, expected) in [
            (0, 3000, 3000),
            (0, 10, 10),
            (2990, 100, 10),
            (3000, 1, 0),
            (9999, 1, 0),
            (0, 0, 0),
        ] {
            let mut buffer = vec![0; length];
            assert_eq!(blob.read_at(offset, &mut buffer).unwrap(), expected);
            assert!(buffer[..expected].iter().all(|byte| *byte == 7));
        }
        let mut all = Vec::new();
        blob.reader().read_to_end(&mut all).unwrap();
        assert_eq!(all, [7; 3000]);
    });
}

#[test]
fn verification_covers_everything_and_tells_progress() {
    let fixture = Fixture::usual();
    both(&fixture, |path| {
        let bundle = Bundle::open(path).unwrap();
        let most = AtomicU64::new(0);
        let done = bundle
            .verify(&|progress| {
                assert!(progress.bytes <= progress.total);
                most.fetch_max(progress.bytes, Ordering::Relaxed);
            })
            .unwrap();
        assert_eq!(
            done.blobs,
            bundle
                .digests()
                .iter()
                .filter(|d| bundle.blob(d).unwrap().is_some())
                .count()
        );
        assert_eq!((done.bytes, done.total), (bundle.size(), bundle.size()));
        assert_eq!(most.into_inner(), done.total);
    });
}

#[test]
fn one_flipped_bit_anywhere_in_a_layer_is_found_and_named() {
    let digest = Digest::of(&[7; 3000]);
    for place in [0, 1, 1500, 2998, 2999] {
        let mut fixture = Fixture::usual();
        fixture.files.get_mut(&blob_path(&digest)).unwrap()[place] ^= 1;
        both(&fixture, |path| {
            let bundle = Bundle::open(path).unwrap();
            let error = bundle.verify(&|_| {}).unwrap_err().to_string();
            assert!(error.contains(digest.as_str()), "{error}");
            assert!(error.contains(PAUSE) && error.contains(NGINX), "{error}");
            let mut archive = Vec::new();
            let error = bundle
                .write_docker_archive(PAUSE, "a:b", &mut archive)
                .unwrap_err();
            assert!(error.to_string().contains(digest.as_str()), "{error}");
            assert!(!archive.ends_with(&[0; 1024]), "the archive looks whole");
        });
    }
}

#[test]
fn a_layer_that_shrinks_later_is_an_error_not_a_short_archive() {
    let digest = Digest::of(&[7; 3000]);
    let (_folder, path) = Fixture::usual().folder();
    let bundle = Bundle::open(&path).unwrap();
    std::fs::write(path.join(blob_path(&digest)), [7; 100]).unwrap();
    let error = bundle
        .write_docker_archive(PAUSE, "a:b", &mut Vec::new())
        .unwrap_err();
    assert!(error.to_string().contains(digest.as_str()), "{error}");
    assert!(bundle.verify(&|_| {}).is_err());
    std::fs::remove_file(path.join(blob_path(&digest))).unwrap();
    assert!(
        bundle
            .write_docker_archive(PAUSE, "a:b", &mut Vec::new())
            .is_err()
    );
    assert!(
        bundle
            .verify(&|_| {})
            .unwrap_err()
            .to_string()
            .contains("missing")
    );
}

#[test]
fn docker_archives_hold_one_platform_and_each_layer_once() {
    let mut fixture = Fixture::usual();
    let twice = fixture.image(&[b"same", b"same", b"other"]);
    fixture.root("a.b/c:d", twice);
    both(&fixture, |path| {
        let bundle = Bundle::open(path).unwrap();
        for (reference, layers) in [
            (PAUSE, [&[7; 3000][..], b"pause"].to_vec()),
            (NGINX, [&[7; 3000][..], b"nginx"].to_vec()),
            ("a.b/c:d", [&b"same"[..], b"same", b"other"].to_vec()),
        ] {
            let mut bytes = Vec::new();
            let id = bundle
                .write_docker_archive(reference, "mctl.local/x:y", &mut bytes)
                .unwrap();
            assert_eq!(id, bundle.image_id(reference).unwrap());
            let mut found = std::collections::BTreeMap::new();
            let mut first = None;
            let mut archive = tar::Archive::new(bytes.as_slice());
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                first.get_or_insert(name.clone());
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                assert!(
                    found.insert(name, content).is_none(),
                    "an entry is there twice"
                );
            }
            assert_eq!(first.as_deref(), Some("manifest.json"));
            let manifest: Value = serde_json::from_slice(&found["manifest.json"]).unwrap();
            assert_eq!(manifest[0]["RepoTags"], json!(["mctl.local/x:y"]));
            let config = &found[manifest[0]["Config"].as_str().unwrap()];
            assert_eq!(Digest::of(config).as_str(), id);
            let named: Vec<_> = manifest[0]["Layers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| found[l.as_str().unwrap()].as_slice())
                .collect();
            assert_eq!(named, layers);
        }
        let error = bundle.image_id("a.b/absent:1").unwrap_err().to_string();
        assert!(error.contains("a.b/absent:1"), "{error}");
    });
}

#[test]
fn an_image_of_other_platforms_only_is_named_as_such() {
    let mut fixture = Fixture::new();
    let mut foreign = fixture.image(&[b"x"]);
    foreign["platform"] = json!({"os": "windows", "architecture": "amd64"});
    let index = json!({"schemaVersion": 2, "manifests": [foreign]});
    let index = fixture.document(media::INDEX, &index);
    fixture.root("a.b/c:d", index);
    both(&fixture, |path| {
        let error = Bundle::open(path).unwrap().image_id("a.b/c:d").unwrap_err();
        assert!(error.to_string().contains("platform"), "{error}");
    });
}

#[test]
fn tars_of_other_writers_are_read() {
    let fixture = Fixture::usual();
    let end = [0; 1024];
    let files = fixture.all();
    // GNU tar of a folder: `./` in front, folders as entries, long padding.
    let mut dotted = entry("./", b'5', 0, b"");
    dotted.extend(entry("./blobs/", b'5', 0, b""));
    // PAX with times and comments, sizes there only; names by GNU's long form.
    let mut extended = entry(
        "pax_global_header",
        b'g',
        15,
        record("comment", "abc").as_bytes(),
    );
    for (path, content) in &files {
        dotted.extend(entry(
            &format!("./{path}"),
            0,
            content.len() as u64,
            content,
        ));
        let records = record("mtime", "1.5") + &record("size", &content.len().to_string());
        extended.extend(entry("x", b'x', records.len() as u64, records.as_bytes()));
        let long = format!("{path}\0");
        extended.extend(entry(
            "././@LongLink",
            b'L',
            long.len() as u64,
            long.as_bytes(),
        ));
        extended.extend(entry("short", b'0', 0, content));
    }
    dotted.extend([0; 10_240]);
    extended.extend(end);
    // The tar crate's own writer.
    let mut built = tar::Builder::new(Vec::new());
    for (path, content) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        built
            .append_data(&mut header, path, content.as_slice())
            .unwrap();
    }
    for (name, bytes) in [
        ("dotted", dotted),
        ("extended", extended),
        ("built", built.into_inner().unwrap()),
    ] {
        let (_folder, path) = file(&bytes);
        let bundle = Bundle::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(bundle.references(), [NGINX, PAUSE], "{name}");
        bundle.verify(&|_| {}).unwrap();
    }
}

#[test]
fn both_digest_algorithms_and_content_that_is_empty() {
    use sha2::{Digest as _, Sha512};
    let mut fixture = Fixture::new();
    let layer = b"layer";
    let digest = Digest::parse(&format!("sha512:{}", hex::encode(Sha512::digest(layer)))).unwrap();
    let mut manifest = fixture.manifest(&[b""]);
    fixture.files.insert(blob_path(&digest), layer.to_vec());
    let long = json!({"mediaType": media::LAYER, "digest": digest, "size": layer.len()});
    manifest["layers"].as_array_mut().unwrap().push(long);
    let image = fixture.document(media::MANIFEST, &manifest);
    let root = digest_of(&image);
    fixture.root("a.b/c:d", image);
    let (_folder, path) = fixture.folder();
    let bundle = Bundle::open(&path).unwrap();
    bundle.verify(&|_| {}).unwrap();
    assert_eq!(bundle.image_size(&root), bundle.size());
    bundle
        .write_docker_archive("a.b/c:d", "x:y", &mut Vec::new())
        .unwrap();
}
