//! A container engine that understands exactly the `docker` command lines that mctl issues, and refuses all others.
//! Must not know why a command is issued.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a command left.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn ok(out: impl Into<String>) -> Self {
        Self {
            out: out.into(),
            ..Self::default()
        }
    }

    pub fn refused(err: impl Into<String>) -> Self {
        Self {
            code: 1,
            err: err.into(),
            ..Self::default()
        }
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub network: String,
    pub address: String,
    pub running: bool,
    /// Who made it: `mctl`, `kind`, `cluster-api of <server>`.
    pub maker: String,
}

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub labels: BTreeMap<String, String>,
    pub subnet: String,
    /// What the engine gives out by itself; all of the subnet if it is empty.
    pub pool: String,
    pub options: Vec<String>,
}

/// The engine. Counts what was ever made and removed, by kind and name.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    pub id: String,
    pub containers: BTreeMap<String, Container>,
    pub networks: BTreeMap<String, Network>,
    /// Image ID by reference.
    pub images: BTreeMap<String, String>,
    pub volumes: BTreeMap<String, BTreeMap<String, String>>,
    /// How often each thing was made, `container x`.
    pub made: BTreeMap<String, usize>,
    /// How often each thing was removed.
    pub removed: BTreeMap<String, usize>,
    /// Files in containers, by `container:path`.
    pub files: BTreeMap<String, String>,
    next_address: u32,
}

impl Engine {
    pub fn new(id: &str) -> Self {
        let default = Network {
            labels: BTreeMap::new(),
            subnet: "172.17.0.0/16".into(),
            pool: String::new(),
            options: vec![],
        };
        Self {
            id: id.into(),
            containers: BTreeMap::new(),
            networks: [("bridge".to_owned(), default)].into(),
            images: BTreeMap::new(),
            volumes: BTreeMap::new(),
            made: BTreeMap::new(),
            removed: BTreeMap::new(),
            files: BTreeMap::new(),
            next_address: 2,
        }
    }

    pub fn count_made(&mut self, what: &str, name: &str) {
        *self.made.entry(format!("{what} {name}")).or_default() += 1;
    }

    pub fn count_removed(&mut self, what: &str, name: &str) {
        *self.removed.entry(format!("{what} {name}")).or_default() += 1;
    }

    /// Adds a container that runs; the address is the next one unless it is given.
    pub fn add_container(&mut self, name: &str, mut container: Container) {
        if container.address.is_empty() {
            loop {
                container.address = format!("172.18.0.{}", self.next_address);
                self.next_address += 1;
                if !self.has_address(&container.address) {
                    break;
                }
            }
        }
        self.count_made("container", name);
        self.containers.insert(name.to_owned(), container);
    }

    fn has_address(&self, address: &str) -> bool {
        self.containers.values().any(|c| c.address == address)
    }

    /// True for command lines that change something.
    pub fn changes(args: &[String]) -> bool {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        !matches!(
            words.as_slice(),
            [
                "info" | "version" | "ps" | "images" | "logs" | "context" | "port",
                ..
            ] | [
                "container" | "network" | "image" | "volume",
                "inspect" | "ls",
                ..
            ] | ["exec", _, "cat", ..]
                | ["inspect", ..]
        )
    }

    /// Runs `docker` with these arguments.
    pub fn docker(&mut self, args: &[String]) -> Answer {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["info", "--format", "{{json .}}"] => Answer::ok(self.info().to_string()),
            ["info", "--format", "{{.ID}}"] => Answer::ok(format!("{}\n", self.id)),
            ["context", "inspect", "--format", _] => {
                Answer::ok("unix:///var/run/docker.sock\n".to_owned())
            }
            [
                kind @ ("container" | "network" | "image" | "volume"),
                "inspect",
                names @ ..,
            ] if !names.is_empty() && names.iter().all(|n| !n.starts_with('-')) => {
                self.inspect(kind, names)
            }
            ["ps", "--all", "--no-trunc", "--format", "{{json .}}"] => self.list_json(),
            ["ps", "-a", rest @ ..] => self.list("container", rest),
            ["exec", name, "cat", path] => match self.containers.get(*name) {
                None => Answer::refused(format!(
                    "Error response from daemon: No such container: {name}"
                )),
                Some(c) if !c.running => Answer::refused(format!(
                    "Error response from daemon: container {name} is not running"
                )),
                Some(_) => match self.files.get(&format!("{name}:{path}")) {
                    Some(text) => Answer::ok(text.clone()),
                    None => Answer::refused(format!("cat: {path}: No such file or directory")),
                },
            },
            [kind @ ("network" | "volume"), "ls", rest @ ..] => self.list(kind, rest),
            [
                "images",
                "--filter",
                filter,
                "--format",
                "{{.Repository}}:{{.Tag}}",
            ] => {
                let Some(pattern) = filter.strip_prefix("reference=") else {
                    return unknown(args);
                };
                let found = self
                    .images
                    .keys()
                    .filter(|r| matches_reference(pattern, r))
                    .fold(String::new(), |all, r| all + r + "\n");
                Answer::ok(found)
            }
            ["network", "create", rest @ ..] => self.create_network(rest, args),
            ["rm", "-f", "-v", names @ ..] => self.remove("container", names),
            ["rmi", "-f", names @ ..] => self.remove("image", names),
            [kind @ ("network" | "volume"), "rm", names @ ..] => self.remove(kind, names),
            ["run", "--detach", rest @ ..] => self.run(rest, args),
            ["logs", "--tail", _, name] => {
                if self.containers.contains_key(*name) {
                    Answer::ok("")
                } else {
                    Answer::refused(format!(
                        "Error response from daemon: No such container: {name}"
                    ))
                }
            }
            ["start", names @ ..] => self.set_running(names, true),
            ["stop", "--time", _, names @ ..] | ["stop", names @ ..] => {
                self.set_running(names, false)
            }
            _ => unknown(args),
        }
    }

    fn info(&self) -> Value {
        json!({
            "ID": self.id, "ServerVersion": "26.1.5", "SecurityOptions": ["name=seccomp,profile=builtin"],
            "DockerRootDir": "/var/lib/docker", "MemTotal": 34_359_738_368_u64, "NCPU": 8, "OSType": "linux",
            "Architecture": "x86_64", "Containers": self.containers.len(),
        })
    }

    fn inspect(&self, kind: &str, names: &[&str]) -> Answer {
        let mut found = Vec::new();
        let mut err = String::new();
        for name in names {
            let name = &name.strip_prefix("id-of-").unwrap_or(name);
            let one = match kind {
                "container" => self.containers.get(*name).map(|c| self.container_json(name, c)),
                "network" => self.networks.get(*name).map(|n| self.network_json(name, n)),
                "image" => self.images.get(*name).map(|id| {
                    json!({"Id": id, "RepoTags": [name], "Architecture": "amd64", "Os": "linux"})
                }),
                _ => self
                    .volumes
                    .get(*name)
                    .map(|labels| json!({"Name": name, "Labels": labels})),
            };
            match one {
                Some(value) => found.push(value),
                None if kind == "network" => {
                    err += &format!("Error response from daemon: network {name} not found\n");
                }
                None => err += &format!("Error response from daemon: No such {kind}: {name}\n"),
            }
        }
        Answer {
            code: i32::from(!err.is_empty()),
            out: Value::from(found).to_string(),
            err,
        }
    }

    fn container_json(&self, name: &str, c: &Container) -> Value {
        json!({
            "Id": format!("id-of-{name}"), "Name": format!("/{name}"), "Created": "2026-01-01T00:00:00Z",
            "Image": self.images.get(&c.image).cloned().unwrap_or_default(),
            "Config": {"Labels": c.labels, "Image": c.image},
            "State": {"Running": c.running, "Status": if c.running { "running" } else { "exited" }},
            "NetworkSettings": {"Networks": {&c.network: {
                "IPAddress": if c.running { c.address.as_str() } else { "" },
                "IPAMConfig": {"IPv4Address": c.address},
                "NetworkID": format!("id-of-{}", c.network),
            }}},
            "Mounts": [],
        })
    }

    fn network_json(&self, name: &str, n: &Network) -> Value {
        let inside: serde_json::Map<String, Value> = self
            .containers
            .iter()
            .filter(|(_, c)| c.network == name && c.running)
            .map(|(container, c)| {
                (
                    format!("id-of-{container}"),
                    json!({"Name": container, "IPv4Address": format!("{}/16", c.address)}),
                )
            })
            .collect();
        let gateway = n
            .subnet
            .split('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches('0')
            .to_owned()
            + "1";
        json!({
            "Name": name, "Id": format!("id-of-{name}"), "Driver": "bridge", "Labels": n.labels,
            "Options": n.options.iter().filter_map(|o| o.split_once('=')).collect::<BTreeMap<_, _>>(),
            "IPAM": {"Config": [{"Subnet": n.subnet, "IPRange": n.pool, "Gateway": gateway}]},
            "Containers": inside,
        })
    }

    fn list(&self, kind: &str, rest: &[&str]) -> Answer {
        let mut filters = Vec::new();
        let mut format = "";
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            match (*word, words.next()) {
                ("--filter", Some(f)) => filters.push(*f),
                ("--format", Some(f)) => format = f,
                _ => return unknown(&rest.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()),
            }
        }
        let all: Vec<(&String, &BTreeMap<String, String>, Option<&Container>)> = match kind {
            "container" => self
                .containers
                .iter()
                .map(|(n, c)| (n, &c.labels, Some(c)))
                .collect(),
            "network" => self
                .networks
                .iter()
                .map(|(n, w)| (n, &w.labels, None))
                .collect(),
            _ => self.volumes.iter().map(|(n, l)| (n, l, None)).collect(),
        };
        let mut out = String::new();
        for (name, labels, container) in all {
            let fits = filters.iter().all(|f| {
                if let Some(label) = f.strip_prefix("label=") {
                    match label.split_once('=') {
                        Some((k, v)) => labels.get(k).is_some_and(|found| found == v),
                        None => labels.contains_key(label),
                    }
                } else if let Some(part) = f.strip_prefix("name=") {
                    let exact = part.trim_start_matches('^').trim_end_matches('$');
                    if exact == part {
                        name.contains(part)
                    } else {
                        name == exact
                    }
                } else if let Some(network) = f.strip_prefix("network=") {
                    container.is_some_and(|c| c.network == network)
                } else {
                    false
                }
            });
            if !fits {
                continue;
            }
            match format {
                "{{.Names}}" | "{{.Name}}" => out += &format!("{name}\n"),
                "{{json .}}" => {
                    out += &format!("{}\n", json!({"Names": name, "Name": name}));
                }
                _ => {
                    return Answer::refused(format!(
                        "the fake engine does not know the format {format}"
                    ));
                }
            }
        }
        Answer::ok(out)
    }

    fn list_json(&self) -> Answer {
        let lines = self.containers.iter().map(|(name, c)| {
            let labels: Vec<String> = c.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let state = if c.running { "running" } else { "exited" };
            json!({"Names": name, "Labels": labels.join(","), "State": state, "Image": c.image})
                .to_string()
                + "\n"
        });
        Answer::ok(lines.collect::<String>())
    }

    fn create_network(&mut self, rest: &[&str], all: &[String]) -> Answer {
        let mut network = Network {
            labels: BTreeMap::new(),
            subnet: "172.18.0.0/16".into(),
            pool: String::new(),
            options: Vec::new(),
        };
        let mut name = "";
        for word in rest {
            if let Some(label) = word.strip_prefix("--label=") {
                let (k, v) = label.split_once('=').unwrap_or((label, ""));
                network.labels.insert(k.into(), v.into());
            } else if let Some(subnet) = word.strip_prefix("--subnet=") {
                network.subnet = subnet.into();
            } else if let Some(pool) = word.strip_prefix("--ip-range=") {
                network.pool = pool.into();
            } else if let Some(option) = word.strip_prefix("--opt=") {
                network.options.push(option.into());
            } else if word.starts_with("--driver=")
                || word.starts_with("--gateway=")
                || *word == "--ipv6"
            {
                // Nothing here depends on it.
            } else if word.starts_with('-') || !name.is_empty() {
                return unknown(all);
            } else {
                name = word;
            }
        }
        if self.networks.contains_key(name) {
            return Answer::refused(format!(
                "Error response from daemon: network with name {name} already exists"
            ));
        }
        self.count_made("network", name);
        self.networks.insert(name.to_owned(), network);
        Answer::ok("id\n")
    }

    fn run(&mut self, rest: &[&str], all: &[String]) -> Answer {
        let mut name = String::new();
        let mut container = Container {
            image: String::new(),
            labels: BTreeMap::new(),
            network: "bridge".into(),
            address: String::new(),
            running: true,
            maker: "mctl".into(),
        };
        let mut words = rest.iter();
        for word in words.by_ref() {
            if let Some(n) = word.strip_prefix("--name=") {
                name = n.to_owned();
            } else if let Some(n) = word.strip_prefix("--network=") {
                container.network = n.to_owned();
            } else if let Some(ip) = word.strip_prefix("--ip=") {
                container.address = ip.to_owned();
            } else if let Some(label) = word.strip_prefix("--label=") {
                let (k, v) = label.split_once('=').unwrap_or((label, ""));
                container.labels.insert(k.into(), v.into());
            } else if word.starts_with("--") {
                const KNOWN: [&str; 13] = [
                    "--hostname",
                    "--restart",
                    "--read-only",
                    "--cap-drop",
                    "--cap-add",
                    "--user",
                    "--volume",
                    "--mount",
                    "--publish",
                    "--env",
                    "--tmpfs",
                    "--security-opt",
                    "--init",
                ];
                let option = word.split('=').next().unwrap_or_default();
                if !KNOWN.contains(&option) {
                    return unknown(all);
                }
            } else {
                container.image = (*word).to_owned();
                break;
            }
        }
        if self.containers.contains_key(&name) {
            return Answer {
                code: 125,
                err: format!(
                    "docker: Error response from daemon: Conflict. The container name \"/{name}\" is already in use by container \"id-of-{name}\"."
                ),
                ..Answer::default()
            };
        }
        if !self.images.contains_key(&container.image) {
            return Answer {
                code: 125,
                err: format!(
                    "docker: Error response from daemon: No such image: {}",
                    container.image
                ),
                ..Answer::default()
            };
        }
        if !self.networks.contains_key(&container.network) {
            return Answer {
                code: 125,
                err: format!(
                    "docker: Error response from daemon: network {} not found.",
                    container.network
                ),
                ..Answer::default()
            };
        }
        if !container.address.is_empty() && self.has_address(&container.address) {
            return Answer {
                code: 125,
                err: "docker: Error response from daemon: Address already in use.".into(),
                ..Answer::default()
            };
        }
        self.add_container(&name, container);
        Answer::ok("id\n")
    }

    fn remove(&mut self, kind: &str, names: &[&str]) -> Answer {
        let mut err = String::new();
        for name in names {
            let name = &name.strip_prefix("id-of-").unwrap_or(name);
            let there = match kind {
                "container" => self.containers.remove(*name).is_some(),
                "image" => self.images.remove(*name).is_some(),
                "network" => {
                    if self.containers.values().any(|c| c.network == **name) {
                        err += &format!(
                            "Error response from daemon: error while removing network: network {name} has active endpoints\n"
                        );
                        continue;
                    }
                    self.networks.remove(*name).is_some()
                }
                _ => self.volumes.remove(*name).is_some(),
            };
            if there {
                self.count_removed(kind, name);
            } else if kind == "network" {
                err += &format!("Error response from daemon: network {name} not found\n");
            } else if kind == "container" {
                // `rm -f` says so and succeeds.
                continue;
            } else {
                err += &format!("Error response from daemon: No such {kind}: {name}\n");
            }
        }
        Answer {
            code: i32::from(!err.is_empty()),
            err,
            ..Answer::default()
        }
    }

    fn set_running(&mut self, names: &[&str], running: bool) -> Answer {
        for name in names {
            let Some(c) = self.containers.get_mut(*name) else {
                return Answer::refused(format!(
                    "Error response from daemon: No such container: {name}"
                ));
            };
            c.running = running;
        }
        Answer::ok("")
    }

    /// `docker load`: what the archive says of itself.
    pub fn load(&mut self, archive: &[u8]) -> Answer {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut tar = tar::Archive::new(archive);
        let Ok(entries) = tar.entries() else {
            return Answer::refused("invalid tar header");
        };
        for entry in entries {
            let Ok(mut entry) = entry else {
                return Answer::refused("unexpected EOF");
            };
            let path = entry
                .path()
                .map(|p| p.display().to_string())
                .unwrap_or_default();
            let mut bytes = Vec::new();
            if std::io::Read::read_to_end(&mut entry, &mut bytes).is_err() {
                return Answer::refused("unexpected EOF");
            }
            files.insert(path, bytes);
        }
        if !archive.ends_with(&[0; 1024]) {
            return Answer::refused("unexpected EOF");
        }
        let manifest: Value = files
            .get("manifest.json")
            .and_then(|m| serde_json::from_slice(m).ok())
            .unwrap_or_default();
        let mut out = String::new();
        for image in manifest.as_array().into_iter().flatten() {
            let config = image["Config"].as_str().unwrap_or_default();
            let Some(config) = files.get(config) else {
                return Answer::refused("the archive has no configuration");
            };
            let id = mctl::bundle::Digest::of(config).to_string();
            for tag in image["RepoTags"].as_array().into_iter().flatten() {
                let tag = tag.as_str().unwrap_or_default();
                self.count_made("image", tag);
                self.images.insert(tag.to_owned(), id.clone());
                out += &format!("Loaded image: {tag}\n");
            }
        }
        Answer::ok(out)
    }
}

fn unknown(args: &[String]) -> Answer {
    Answer {
        code: 125,
        err: format!("the fake engine does not know `docker {}`", args.join(" ")),
        ..Answer::default()
    }
}

/// `reference=` of `docker images`: a pattern with `*` per path element, with or without a tag.
fn matches_reference(pattern: &str, reference: &str) -> bool {
    let repository = reference.rsplit_once(':').map_or(reference, |(r, _)| r);
    let glob = |pattern: &str, text: &str| {
        let (p, t): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), text.split('/').collect());
        p.len() == t.len()
            && p.iter().zip(&t).all(|(p, t)| match p.split_once('*') {
                Some((a, b)) => t.len() >= a.len() + b.len() && t.starts_with(a) && t.ends_with(b),
                None => p == t,
            })
    };
    glob(pattern, repository) || glob(pattern, reference)
}
