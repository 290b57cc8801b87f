//! The world that mctl acts on, in memory: an engine, the API servers in its containers, and what works in them.
//! It outlives every process of mctl; a copy of it is what a crash leaves. Must not use anything of mctl but names.

mod cluster_api;
mod controllers;
pub mod engine;
mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};

use crate::fake::Fake;
use engine::{Container, Engine};

/// Pause between two rounds of everything that works in the clusters.
const ROUND: Duration = Duration::from_millis(250);
/// Label that kind and Cluster API put on a cluster's containers.
pub const OF_CLUSTER: &str = "io.x-k8s.kind.cluster";
/// Label that tells control-plane containers from others.
pub const ROLE: &str = "io.x-k8s.kind.role";

/// What the platform consists of: what Flux and the manager make.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// Kustomizations that the manager makes.
    pub kustomizations: Vec<String>,
    /// Kind, namespace and name of workloads that Flux makes.
    pub workloads: Vec<(String, String, String)>,
    /// Job, number of targets.
    pub targets: Vec<(String, usize)>,
    /// Definitions that every server has from the start.
    pub definitions: Vec<Value>,
    /// Deployments, by namespace and name, that must be ready for Cluster API to work.
    pub providers: Vec<(String, String)>,
}

/// Everything.
pub struct Inner {
    pub engine: Engine,
    /// API servers by cluster; the container says whether one answers.
    pub servers: BTreeMap<String, Fake>,
    /// How often a cluster of this name was made.
    pub generations: BTreeMap<String, usize>,
    pub platform: Platform,
    /// Requests of mctl that changed something, by cluster, method and path.
    pub writes: BTreeMap<String, usize>,
    /// What must never be.
    pub violations: BTreeSet<String>,
    /// State of everything in the last round, to leave out rounds in which nothing can happen.
    seen: Vec<u64>,
    /// Changes of the engine.
    pub changes: u64,
    /// Why no controller works, for tests that hold them.
    pub held: bool,
}

/// A handle; clones share everything.
#[derive(Clone)]
pub struct World(Arc<Mutex<Inner>>);

impl World {
    /// An engine with nothing in it.
    pub fn new(engine: &str, platform: Platform) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            engine: Engine::new(engine),
            servers: BTreeMap::new(),
            generations: BTreeMap::new(),
            platform,
            writes: BTreeMap::new(),
            violations: BTreeSet::new(),
            seen: Vec::new(),
            changes: 0,
            held: false,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Another world that is the same now.
    pub fn copy(&self) -> Self {
        let inner = self.lock();
        let servers = inner.servers.iter();
        Self(Arc::new(Mutex::new(Inner {
            engine: inner.engine.clone(),
            servers: servers.map(|(n, s)| (n.clone(), s.copy())).collect(),
            generations: inner.generations.clone(),
            platform: inner.platform.clone(),
            writes: inner.writes.clone(),
            violations: inner.violations.clone(),
            seen: Vec::new(),
            changes: inner.changes,
            held: false,
        })))
    }

    /// Lets everything in the clusters work until the returned guard is dropped.
    pub fn start(&self) -> Working {
        let world = self.clone();
        Working(tokio::spawn(async move {
            loop {
                tokio::time::sleep(ROUND).await;
                world.lock().round();
            }
        }))
    }

    /// The API server that a kubeconfig leads to, if it answers.
    pub fn server(&self, token: &str) -> Option<Fake> {
        let inner = self.lock();
        let (cluster, _) = token.split_once('#')?;
        let server = inner.servers.get(cluster)?;
        (server.store().name() == token && inner.is_up(cluster)).then(|| server.clone())
    }
}

/// Ends the work in the clusters when dropped.
pub struct Working(tokio::task::JoinHandle<()>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    /// True when a control-plane container of the cluster runs.
    pub fn is_up(&self, cluster: &str) -> bool {
        self.engine.containers.values().any(|c| {
            c.running
                && c.labels.get(OF_CLUSTER).is_some_and(|l| l == cluster)
                && c.labels.get(ROLE).is_some_and(|r| r == "control-plane")
        })
    }

    /// A new API server with the namespaces and the Node that kubeadm leaves.
    pub fn new_server(&mut self, cluster: &str) -> Fake {
        let generation = self.generations.entry(cluster.to_owned()).or_default();
        *generation += 1;
        let server = Fake::new(&format!("{cluster}#{generation}"));
        objects::define(&server);
        for definition in &self.platform.definitions {
            server.put(definition.clone());
        }
        for namespace in ["kube-public", "kube-node-lease", "monitoring"] {
            server.put(
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            );
        }
        server.collect_garbage();
        self.servers.insert(cluster.to_owned(), server.clone());
        server
    }

    /// What `kind create cluster` does up to its end, or up to half of it.
    pub fn kind_create(
        &mut self,
        name: &str,
        image: &str,
        whole: bool,
    ) -> Result<Option<String>, String> {
        let of = |c: &Container| c.labels.get(OF_CLUSTER).is_some_and(|l| l == name);
        if self.engine.containers.values().any(of) {
            return Err(format!(
                "ERROR: failed to create cluster: node(s) already exist for a cluster with the name \"{name}\""
            ));
        }
        if !self.engine.images.contains_key(image) {
            return Err(format!(
                "ERROR: failed to create cluster: failed to pull image \"{image}\""
            ));
        }
        if !self.engine.networks.contains_key("kind") {
            let networks = self
                .engine
                .docker(&["network", "create", "kind"].map(str::to_owned));
            assert_eq!(networks.code, 0, "{}", networks.err);
        }
        self.changes += 1;
        let node = format!("{name}-control-plane");
        self.engine.add_container(
            &node,
            Container {
                image: image.to_owned(),
                labels: [
                    (OF_CLUSTER.to_owned(), name.to_owned()),
                    (ROLE.to_owned(), "control-plane".to_owned()),
                ]
                .into(),
                network: "kind".into(),
                address: String::new(),
                running: true,
                maker: "kind".into(),
            },
        );
        if !whole {
            self.servers.remove(name);
            return Ok(None);
        }
        let server = self.new_server(name);
        server.put(objects::node(&node, true, true));
        let address = self.engine.containers[&node].address.clone();
        let config = kubeconfig(name, server.store().name(), &address);
        self.engine
            .files
            .insert(format!("{node}:/etc/kubernetes/admin.conf"), config.clone());
        Ok(Some(config))
    }

    /// One round of everything that works in the clusters.
    pub fn round(&mut self) {
        if self.held {
            return;
        }
        let revisions = self.servers.values().map(|s| s.store().revision());
        let state: Vec<u64> = revisions.chain([self.changes]).collect();
        if state == self.seen {
            return;
        }
        self.seen = state;
        controllers::round(self);
        cluster_api::round(self);
        self.check();
    }

    fn check(&mut self) {
        let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, server) in &self.servers {
            if !self.is_up(name) {
                continue;
            }
            for cluster in cluster_api::managed(&server.store(), &self.platform) {
                owners.entry(cluster).or_default().push(name.clone());
            }
        }
        for (cluster, owners) in owners {
            if owners.len() > 1 {
                let what = format!(
                    "Cluster {cluster} has {} owners: {}",
                    owners.len(),
                    owners.join(", ")
                );
                self.violations.insert(what);
            }
        }
    }
}

/// A kubeconfig of a server.
pub fn kubeconfig(cluster: &str, token: &str, address: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": cluster,
        "clusters": [{"name": cluster, "cluster": {
            "server": format!("https://{address}:6443"),
            "certificate-authority-data": "Y2E=",
        }}],
        "users": [{"name": cluster, "user": {"token": token}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
    })
    .to_string()
}

/// The server that a kubeconfig is for.
pub fn token(kubeconfig: &str) -> Option<String> {
    let value: Value = serde_json::from_str(kubeconfig).ok()?;
    value["users"][0]["user"]["token"]
        .as_str()
        .map(str::to_owned)
}
