//! Artifacts and mctl's own image: their form, and that equal input gives equal digests for ever.

use std::{collections::BTreeMap, fs, io::Read};

use flate2::read::GzDecoder;
use mctl::{
    Kind,
    bundle::{Blob, Digest},
    registry::{
        Artifact, Store,
        artifact::{chart, chart_tag, platform},
        charts,
        own_image::OwnImage,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bundle_fixture::executable;

fn bytes(blob: &Blob) -> Vec<u8> {
    let mut bytes = Vec::new();
    blob.reader().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Manifest and configuration, after a check that every digest and size holds.
fn documents(artifact: &Artifact) -> (Value, Value) {
    assert_eq!(Digest::of(&artifact.manifest), artifact.digest);
    let manifest: Value = serde_json::from_slice(&artifact.manifest).unwrap();
    let told = [&manifest["config"], &manifest["layers"][0]];
    for ((digest, blob), descriptor) in artifact.blobs.iter().zip(told) {
        let content = bytes(blob);
        assert_eq!(Digest::of(&content), *digest);
        assert_eq!(descriptor["digest"], digest.as_str());
        assert_eq!(descriptor["size"], content.len());
    }
    (
        manifest.clone(),
        serde_json::from_slice(&bytes(&artifact.blobs[0].1)).unwrap(),
    )
}

/// Entries of a tar: path, mode, user, time, content.
fn unpack(tar: impl Read) -> Vec<(String, u32, u64, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (
            header.path().unwrap().display().to_string(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.mtime().unwrap(),
            content,
        )
    });
    entries.collect()
}

#[test]
fn the_platform_as_flux_takes_it() {
    let files: BTreeMap<String, Vec<u8>> = [
        ("kyverno/policies.yaml".to_owned(), b"b: 2\n".to_vec()),
        ("cilium.yaml".to_owned(), b"a: 1\n".repeat(1000)),
    ]
    .into();
    let artifact = platform(&files).unwrap();
    let (manifest, config) = documents(&artifact);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.cncf.flux.config.v1+json"
    );
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.cncf.flux.content.v1.tar+gzip"
    );
    let layer = bytes(&artifact.blobs[1].1);
    let mut tar = Vec::new();
    GzDecoder::new(layer.as_slice())
        .read_to_end(&mut tar)
        .unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], json!([Digest::of(&tar)]));
    let found = unpack(tar.as_slice());
    let expected: Vec<_> = files
        .into_iter()
        .map(|(path, content)| (path, 0o644, 0, 0, content))
        .collect();
    assert_eq!(found, expected);
    // A change here makes every platform a new revision for Flux: only on purpose.
    assert_eq!(
        artifact.digest.as_str(),
        "sha256:1ff7e747c5f410d782ff79ac1a20a50c0e0d8a13cf4a2d70e8f4001a8e397931"
    );
}

#[test]
fn paths_outside_are_no_platform() {
    for path in ["../a", "a/../../b", "/a", ""] {
        let files = [(path.to_owned(), b"x".to_vec())].into();
        assert!(platform(&files).is_err(), "{path:?}");
    }
    platform(&BTreeMap::new()).unwrap();
}

fn packaged(file: &str, content: &str) -> Vec<u8> {
    let gzip = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::none());
    let mut tar = tar::Builder::new(gzip);
    for (path, content) in [("x/values.yaml", "a: 1\n"), (file, content)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn charts_as_helm_takes_them() {
    let about =
        "apiVersion: v2\nname: x\nversion: 1.2.3+4\ndescription: An ex\nappVersion: \"5\"\n";
    let tgz = packaged("x/Chart.yaml", about);
    let artifact = chart(tgz.clone(), "x", "1.2.3+4").unwrap();
    let (manifest, config) = documents(&artifact);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.cncf.helm.config.v1+json"
    );
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    );
    assert_eq!(
        manifest["annotations"]["org.opencontainers.image.version"],
        "1.2.3+4"
    );
    assert_eq!(bytes(&artifact.blobs[1].1), tgz);
    assert_eq!(
        config,
        json!({"apiVersion": "v2", "name": "x", "version": "1.2.3+4", "description": "An ex", "appVersion": "5"})
    );
    assert_eq!(chart_tag("1.2.3+4"), "1.2.3_4");
    assert_eq!(
        artifact.digest.as_str(),
        "sha256:22c5e544821c5016b87997dd6cbf7ec2acf8c5d7cc620e7b472d752989b3dd26"
    );
}

#[test]
fn charts_that_are_none() {
    let good = "name: x\nversion: 1.2.3\n";
    for (tgz, words) in [
        (
            packaged("x/Chart.yaml", "name: z\nversion: 1.2.3\n"),
            "says it is z-1.2.3",
        ),
        (
            packaged("x/Chart.yaml", "name: x\nversion: 2.0.0\n"),
            "says it is x-2.0.0",
        ),
        (packaged("x/Chart.yaml", "name: ["), "line"),
        (packaged("x/sub/Chart.yaml", good), "no Chart.yaml"),
        (packaged("Chart.yaml", good), "no Chart.yaml"),
        (b"no chart".to_vec(), "cannot be read"),
        (
            packaged("x/Chart.yaml", good)[..60].to_vec(),
            "cannot be read",
        ),
        (Vec::new(), ""),
    ] {
        let error = chart(tgz, "x", "1.2.3").unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn every_embedded_chart_is_served() {
    let store = Store::new(None);
    charts::put_all(&store).unwrap();
    let names = store.repositories();
    for name in ["cilium", "kyverno", "kyverno-policies"] {
        assert!(names.contains(&charts::repository(name)), "{names:?}");
    }
}

#[test]
fn own_image_around_a_static_executable() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mctl");
    fs::write(&path, executable(5000)).unwrap();
    let image = OwnImage::around(&path).unwrap();
    // The open file counts, not what comes to its path later.
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"other").unwrap();
    let digest = Digest::of(&executable(5000));
    assert_eq!(
        image.tag,
        format!("{}-{}", mctl::VERSION, &digest.hex()[..12])
    );
    assert_eq!(
        image.reference(),
        format!("mctl.giantswarm.io/mctl:{}", image.tag)
    );
    let (manifest, config) = documents(&image.artifact);
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar"
    );
    assert_eq!(
        config["config"]["Entrypoint"],
        json!(["/usr/local/bin/mctl"])
    );
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([image.artifact.blobs[1].0])
    );
    let layer = bytes(&image.artifact.blobs[1].1);
    assert!(layer.len().is_multiple_of(512) && layer.ends_with(&[0; 1024]));
    let entries = unpack(layer.as_slice());
    assert!(
        entries
            .iter()
            .all(|(_, _, user, time, _)| (*user, *time) == (0, 0))
    );
    let found: Vec<_> = entries
        .iter()
        .map(|(path, mode, ..)| (path.as_str(), *mode))
        .collect();
    assert_eq!(
        found,
        [
            ("etc/", 0o755),
            ("etc/group", 0o644),
            ("etc/passwd", 0o644),
            ("tmp/", 0o1777),
            ("usr/", 0o755),
            ("usr/local/", 0o755),
            ("usr/local/bin/", 0o755),
            ("usr/local/bin/mctl", 0o755),
        ]
    );
    assert_eq!(entries[7].4, executable(5000));
    assert!(String::from_utf8_lossy(&entries[2].4).contains(":65532:65532:"));
    assert_eq!(
        image.artifact.digest.as_str(),
        "sha256:4d8fa58709901fb4a337adb70b5d1e98aeac1dfaa735b9a3098aa45be964e995"
    );
    let mut archive = Vec::new();
    assert_eq!(
        image.write_docker_archive("a/b:c", &mut archive).unwrap(),
        image.id()
    );
    let entries = unpack(archive.as_slice());
    let manifest: Value = serde_json::from_slice(&entries[0].4).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["a/b:c"]));
    assert_eq!(Digest::of(&entries[1].4).as_str(), image.id());
    assert_eq!(entries[2].4, layer);
}

#[test]
fn a_dynamic_executable_is_refused_in_one_sentence() {
    if cfg!(target_feature = "crt-static") {
        return;
    }
    let error = OwnImage::of_this_executable().unwrap_err();
    assert_eq!(error.kind(), Kind::Preflight);
    assert!(error.line().contains("dynamically linked"), "{error}");
    assert_eq!(error.line().lines().count(), 1);
    assert!(OwnImage::around(std::path::Path::new("/nonexistent")).is_err());
}
