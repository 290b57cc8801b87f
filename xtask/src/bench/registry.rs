//! Serves a bundle's images to the peer's nodes, and makes the node image that asks for them here; must not write to the bundle.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{host, stack};

const NETWORK: &str = "kind";
/// The bundle's node image on the engine, and what is made of it.
const LOADED: &str = "mctl-bench/node:bundle";
const IMAGE: &str = "mctl-bench/node:peer";
const CONTAINER: &str = "mctl-bench-node";
const NODE: &str = "docker.io/kindest/node";
/// Cluster API asks the engine for it by its upstream name, so that it cannot have another.
const BALANCER: &str = "docker.io/kindest/haproxy";
const REF: &str = "org.opencontainers.image.ref.name";

/// An OCI image layout in a folder.
struct Layout {
    folder: PathBuf,
    index: Value,
}

impl Layout {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("index.json");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            index: serde_json::from_slice(&bytes)?,
        })
    }

    /// Descriptor of an image by its full name.
    fn find(&self, name: &str) -> Option<&Value> {
        self.index["manifests"]
            .as_array()?
            .iter()
            .find(|entry| entry["annotations"][REF] == name)
    }

    /// Full name of the one image of a repository.
    fn one(&self, repository: &str) -> anyhow::Result<&str> {
        let entries = self.index["manifests"].as_array().into_iter().flatten();
        let mut names = entries.filter_map(|entry| entry["annotations"][REF].as_str());
        let of = |name: &&str| {
            name.strip_prefix(repository)
                .is_some_and(|tag| tag.starts_with(':'))
        };
        names
            .find(of)
            .with_context(|| format!("the bundle has no {repository}"))
    }

    fn blob(&self, digest: &str) -> Option<PathBuf> {
        let (algorithm, hex) = digest.split_once(':')?;
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain(algorithm) && plain(hex))
            .then(|| self.folder.join("blobs").join(algorithm).join(hex))
    }

    fn json(&self, descriptor: &Value) -> anyhow::Result<Value> {
        let digest = descriptor["digest"]
            .as_str()
            .context("a descriptor without digest")?;
        let path = self.blob(digest).context("a digest of an unknown form")?;
        Ok(serde_json::from_slice(&fs::read(&path).with_context(
            || format!("cannot read {}", path.display()),
        )?)?)
    }
}

/// What the peer pulls from, until it is stopped.
pub struct Registry<'a> {
    engine: &'a stack::Engine,
    made_network: bool,
    loaded_balancer: Option<String>,
    version: String,
}

impl<'a> Registry<'a> {
    /// Serves the bundle on the network's gateway and makes a node image that pulls from there.
    pub fn start(bundle: &Path, engine: &'a stack::Engine, work: &Path) -> anyhow::Result<Self> {
        let layout = Arc::new(Layout::open(bundle)?);
        let node = layout.one(NODE)?.to_owned();
        let version = node
            .rsplit_once(':')
            .map(|(_, tag)| tag.to_owned())
            .unwrap_or_default();
        let made_network = docker(engine, &["network", "inspect", NETWORK]).is_err();
        if made_network {
            docker(engine, &["network", "create", NETWORK])?;
        }
        let balancer = layout.one(BALANCER)?.to_owned();
        let short = balancer.trim_start_matches("docker.io/").to_owned();
        let mut registry = Self {
            engine,
            made_network,
            loaded_balancer: None,
            version,
        };
        if docker(engine, &["image", "inspect", &short]).is_err() {
            load(&layout, &balancer, &short, engine)?;
            registry.loaded_balancer = Some(short);
        }
        let gateway = docker(
            engine,
            &[
                "network",
                "inspect",
                NETWORK,
                "-f",
                "{{range .IPAM.Config}}{{.Gateway}} {{end}}",
            ],
        )?;
        let gateway = gateway
            .split_whitespace()
            .find(|address| address.contains('.'))
            .context("the kind network has no IPv4 gateway")?;
        let listener = TcpListener::bind((gateway, 0))
            .with_context(|| format!("cannot listen on {gateway}"))?;
        let address = listener.local_addr()?;
        let served = Arc::clone(&layout);
        // Ends with the process; a benchmark serves one bundle.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let layout = Arc::clone(&served);
                std::thread::spawn(move || drop(answer(&layout, &stream)));
            }
        });
        load(&layout, &node, LOADED, engine)?;
        registry.derive(work, &format!("http://{address}"))?;
        Ok(registry)
    }

    /// Name of the node image.
    pub fn node_image(&self) -> &str {
        IMAGE
    }

    /// Its Kubernetes version.
    pub fn node_version(&self) -> &str {
        &self.version
    }

    /// The bundle's node image with this registry as the mirror of every other.
    fn derive(&self, work: &Path, address: &str) -> anyhow::Result<()> {
        drop(docker(self.engine, &["rm", "-f", CONTAINER]));
        docker(self.engine, &["create", "--name", CONTAINER, LOADED])?;
        let config = work.join("config.toml");
        let local = config.display().to_string();
        docker(
            self.engine,
            &[
                "cp",
                &format!("{CONTAINER}:/etc/containerd/config.toml"),
                &local,
            ],
        )?;
        let mut text = fs::read_to_string(&config)?;
        if !text.contains("config_path") {
            text += "\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";
        }
        fs::write(&config, text)?;
        docker(
            self.engine,
            &[
                "cp",
                &local,
                &format!("{CONTAINER}:/etc/containerd/config.toml"),
            ],
        )?;
        let hosts = work.join("certs.d/_default");
        fs::create_dir_all(&hosts)?;
        fs::write(
            hosts.join("hosts.toml"),
            format!("[host.\"{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"),
        )?;
        docker(
            self.engine,
            &[
                "cp",
                &work.join("certs.d").display().to_string(),
                &format!("{CONTAINER}:/etc/containerd/"),
            ],
        )?;
        docker(self.engine, &["commit", CONTAINER, IMAGE])?;
        docker(self.engine, &["rm", "-f", CONTAINER])?;
        Ok(())
    }

    /// Removes what was made on the engine.
    pub fn stop(self) -> anyhow::Result<()> {
        docker(self.engine, &["rmi", "-f", IMAGE, LOADED])?;
        if let Some(balancer) = &self.loaded_balancer {
            docker(self.engine, &["rmi", "-f", balancer])?;
        }
        if self.made_network {
            docker(self.engine, &["network", "rm", NETWORK])?;
        }
        Ok(())
    }
}

/// Loads an image of the bundle into the engine.
fn load(layout: &Layout, name: &str, tag: &str, engine: &stack::Engine) -> anyhow::Result<()> {
    let descriptor = layout.find(name).context("an image left the bundle")?;
    let mut manifest = layout.json(descriptor)?;
    if let Some(first) = manifest["manifests"].as_array().and_then(|list| {
        list.iter()
            .find(|entry| entry["platform"]["architecture"] == "amd64")
    }) {
        manifest = layout.json(first)?;
    }
    let digest = |descriptor: &Value| {
        descriptor["digest"]
            .as_str()
            .map(str::to_owned)
            .context("a descriptor without digest")
    };
    let layers = manifest["layers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(digest)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let config = digest(&manifest["config"])?;
    let member = |digest: &String| digest.replace(':', "-");
    let list = serde_json::json!([{ "Config": member(&config), "RepoTags": [tag], "Layers": layers.iter().map(member).collect::<Vec<_>>() }]);

    let mut command = Command::new("docker");
    command
        .args(["load", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    engine.use_in(&mut command)?;
    let mut child = command.spawn().context("cannot run docker")?;
    let mut archive = tar::Builder::new(child.stdin.take().context("docker load takes no input")?);
    let text = list.to_string();
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "manifest.json", text.as_bytes())?;
    for blob in layers.iter().chain([&config]) {
        let path = layout.blob(blob).context("a digest of an unknown form")?;
        archive.append_file(
            member(blob),
            &mut File::open(&path).with_context(|| format!("cannot read {}", path.display()))?,
        )?;
    }
    drop(archive.into_inner()?);
    ensure!(child.wait()?.success(), "docker could not load {name}");
    Ok(())
}

fn docker(engine: &stack::Engine, words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("docker");
    engine.use_in(command.args(words))?;
    Ok(String::from_utf8_lossy(&host::output(&mut command)?).into_owned())
}

/// One request, one answer: containerd asks for manifests by tag or digest and for blobs.
fn answer(layout: &Layout, stream: &TcpStream) -> anyhow::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().context("nothing was asked")??;
    // The rest of the head; nothing in it matters.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut output = stream;
    let mut words = request.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let Some((kind, digest)) = resolve(layout, target) else {
        output.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )?;
        return Ok(());
    };
    let mut file = File::open(
        layout
            .blob(&digest)
            .context("a digest of an unknown form")?,
    )?;
    let length = file.metadata()?.len();
    write!(
        output,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nDocker-Content-Digest: {digest}\r\nConnection: close\r\n\r\n"
    )?;
    if method == "GET" {
        std::io::copy(&mut file, &mut output)?;
    }
    Ok(())
}

/// Media type and digest of what a path names.
fn resolve(layout: &Layout, target: &str) -> Option<(String, String)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix("/v2/")?;
    if let Some((_, digest)) = path.split_once("/blobs/") {
        return layout
            .blob(digest)?
            .is_file()
            .then(|| ("application/octet-stream".to_owned(), digest.to_owned()));
    }
    let (repository, reference) = path.split_once("/manifests/")?;
    if reference.contains(':') {
        let bytes = fs::read(layout.blob(reference)?).ok()?;
        let kind = serde_json::from_slice::<Value>(&bytes).ok()?["mediaType"]
            .as_str()?
            .to_owned();
        return Some((kind, reference.to_owned()));
    }
    let registry = query.split('&').find_map(|pair| pair.strip_prefix("ns="))?;
    let found = layout.find(&format!("{registry}/{repository}:{reference}"))?;
    Some((
        found["mediaType"].as_str()?.to_owned(),
        found["digest"].as_str()?.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn layout(folder: &Path) -> Layout {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(
            blobs.join("aa"),
            r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
        )
        .unwrap();
        let index = serde_json::json!({"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:aa", "annotations": {REF: "docker.io/kindest/node:v1"}}]});
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        Layout::open(folder).unwrap()
    }

    #[test]
    fn names_resolve_with_the_registry_they_were_meant_for() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        assert_eq!(layout.one(NODE).unwrap(), "docker.io/kindest/node:v1");
        assert_eq!(
            resolve(&layout, "/v2/kindest/node/manifests/v1?ns=docker.io")
                .unwrap()
                .1,
            "sha256:aa"
        );
        assert_eq!(
            resolve(&layout, "/v2/kindest/node/manifests/sha256:aa")
                .unwrap()
                .1,
            "sha256:aa"
        );
        assert_eq!(
            resolve(&layout, "/v2/x/blobs/sha256:aa").unwrap().0,
            "application/octet-stream"
        );
        for other in [
            "/v2/kindest/node/manifests/v1?ns=quay.io",
            "/v2/x/blobs/sha256:bb",
            "/v2/x/blobs/sha256:../../index",
            "/",
        ] {
            assert!(resolve(&layout, other).is_none(), "{other}");
        }
    }

    #[test]
    fn an_answer_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .write_all(b"GET /v2/x/blobs/sha256:aa HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        answer(&layout, &listener.accept().unwrap().0).unwrap();
        let text = client.join().unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("manifest.v1+json\"}"),
            "{text}"
        );
    }
}
