//! Fills the bundle by pulling its images with skopeo, where registries can be reached; must not start a container engine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::bundle::{self, PROFILE, swap};
use super::cache::{Cache, recipe_hash, write_atomic};
use super::debian::Debian;
use super::oci::{REF_NAME, artifact};
use super::pins::{Pins, Tier, data_dir};
use super::proc::Run;
use super::progress::Progress;

/// What is pulled: the lab's images under the versions that their projects publish.
pub fn references(pins: &Pins, tier: Tier) -> Result<Vec<String>> {
    let registries = &pins.registries;
    let mut names: Vec<String> = pins
        .images_of(tier)?
        .into_iter()
        .filter(|image| !registries.skip.contains(&image.name))
        .map(|image| match registries.instead.get(&image.name) {
            Some(other) => other.clone(),
            None => image.name.clone(),
        })
        .chain(registries.more.iter().cloned())
        .collect();
    names.sort();
    Ok(names)
}

/// Pulls what is missing; an interrupted run goes on where it was.
pub fn pull(
    cache: &Cache,
    pins: &Pins,
    tier: Tier,
    debian: &Debian,
    progress: &Progress,
) -> Result<PathBuf> {
    let target = bundle::path(cache, tier);
    let names = references(pins, tier)?;
    let profile = fs::read(data_dir().join(&pins.registries.profile))?;
    let stamp = recipe_hash(
        &json!({"pulled": 1, "names": names, "profile": String::from_utf8_lossy(&profile)}),
    );
    let stamp_path = bundle::stamp_path(cache, tier);
    if target.join("index.json").exists()
        && fs::read_to_string(&stamp_path).is_ok_and(|s| s == stamp)
    {
        return Ok(target);
    }
    debian.ensure_host(&pins.registries.host)?;
    let work = cache.join("pull");
    fs::create_dir_all(&work)?;
    let present = present(&work)?;
    for name in names.iter().filter(|name| !present.contains(name)) {
        progress.step(&format!("pull {name}"), || {
            Run::new("skopeo")
                .args(arguments(name, &work))
                .log(&cache.join("logs/pull.log"))
                .ok()
        })?;
    }
    let index_path = work.join("index.json");
    let index: Value = serde_json::from_slice(&fs::read(&index_path)?)?;
    let entry = artifact(&work, &pins.profile.name, PROFILE, &profile)?;
    write_atomic(
        &index_path,
        &serde_json::to_vec_pretty(&complete(index, entry))?,
    )?;
    swap(&work, &target)?;
    write_atomic(&stamp_path, stamp.as_bytes())?;
    Ok(target)
}

/// skopeo's arguments for one image.
fn arguments(name: &str, layout: &Path) -> Vec<String> {
    [
        // Its policy file is in a package of its own, and says the same; TLS is checked either way.
        "--insecure-policy",
        "copy",
        "--quiet",
        "--retry-times=3",
        "--override-os=linux",
        "--override-arch=amd64",
        &format!("docker://{name}"),
        &format!("oci:{}:{name}", layout.display()),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// References that a layout holds already.
fn present(layout: &Path) -> Result<Vec<String>> {
    let Ok(bytes) = fs::read(layout.join("index.json")) else {
        return Ok(Vec::new());
    };
    let index: Value = serde_json::from_slice(&bytes)?;
    Ok(index["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|m| m["annotations"][REF_NAME].as_str().map(str::to_owned))
        .collect())
}

/// skopeo's index as the lab writes it: sorted, each image with its platform, the profile among them.
fn complete(mut index: Value, profile: Value) -> Value {
    let mut entries: Vec<Value> = index["manifests"].as_array().cloned().unwrap_or_default();
    for entry in &mut entries {
        entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
    }
    entries.push(profile);
    entries.sort_by_key(|e| e["annotations"][REF_NAME].as_str().map(str::to_owned));
    index["manifests"] = Value::Array(entries);
    index["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_versions_stand_for_the_lab_s_own() {
        let pins = Pins::load().unwrap();
        let names = references(&pins, Tier::Main).unwrap();
        assert!(names.contains(&"registry.k8s.io/pause:3.10.2".to_owned()));
        assert!(!names.iter().any(|n| n.starts_with("lab.local/")));
        assert!(!names.iter().any(|n| n.ends_with(":v1.36.3")), "{names:?}");
        for name in pins.registries.instead.keys().chain(&pins.registries.skip) {
            assert!(pins.images.iter().any(|i| i.name == *name), "{name}");
        }
        assert!(data_dir().join(&pins.registries.profile).exists());
    }

    #[test]
    fn skopeo_writes_an_image_under_its_full_name() {
        let arguments = arguments("registry.k8s.io/pause:3.10.2", Path::new("/c/pull"));
        assert_eq!(arguments[6], "docker://registry.k8s.io/pause:3.10.2");
        assert_eq!(arguments[7], "oci:/c/pull:registry.k8s.io/pause:3.10.2");
    }

    #[test]
    fn the_index_gets_platforms_and_the_profile() {
        let entry = |name: &str| json!({"digest": "sha256:0", "annotations": {REF_NAME: name}});
        let index = json!({"schemaVersion": 2, "manifests": [entry("z.example/b:1"), entry("a.example/a:1")]});
        let done = complete(index, entry("m.example/profile:lab"));
        let names: Vec<_> = done["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["annotations"][REF_NAME].clone())
            .collect();
        assert_eq!(
            names,
            ["a.example/a:1", "m.example/profile:lab", "z.example/b:1"]
        );
        assert_eq!(done["manifests"][0]["platform"]["os"], "linux");
        assert_eq!(done["manifests"][1]["platform"], Value::Null);
    }
}
