//! Cluster API with its Docker provider in every cluster that has it: from a Cluster to containers and Nodes. Each round does
//! the next thing for each Cluster that is not paused. Must not touch paused ones.

use serde_json::{Value, json};

use super::{
    Inner, OF_CLUSTER, Platform, ROLE,
    controllers::is_ready,
    kubeconfig,
    objects::{self, change, holds, make, names, number, owner, set_condition, text},
};
use crate::fake::Store;

const CLUSTERS: &str = "clusters.cluster.x-k8s.io";
const MACHINES: &str = "machines.cluster.x-k8s.io";
const MACHINE_SETS: &str = "machinesets.cluster.x-k8s.io";
const MACHINE_DEPLOYMENTS: &str = "machinedeployments.cluster.x-k8s.io";
const CONTROL_PLANES: &str = "kubeadmcontrolplanes.controlplane.cluster.x-k8s.io";
const CONFIGS: &str = "kubeadmconfigs.bootstrap.cluster.x-k8s.io";
const CONFIG_TEMPLATES: &str = "kubeadmconfigtemplates.bootstrap.cluster.x-k8s.io";
const DEV_CLUSTERS: &str = "devclusters.infrastructure.cluster.x-k8s.io";
const DEV_MACHINES: &str = "devmachines.infrastructure.cluster.x-k8s.io";
const DEV_TEMPLATES: &str = "devmachinetemplates.infrastructure.cluster.x-k8s.io";
const SECRETS: &str = "secrets.";

/// True when Cluster API leaves it alone.
pub fn is_paused(cluster: &Value) -> bool {
    cluster["spec"]["paused"] == true
        || cluster["metadata"]["annotations"]
            .get("cluster.x-k8s.io/paused")
            .is_some()
}

/// Clusters that this server's Cluster API works on.
pub fn managed(store: &Store, platform: &Platform) -> Vec<String> {
    if !works(store, platform) {
        return Vec::new();
    }
    store
        .of_kind(CLUSTERS)
        .filter(|c| !is_paused(c))
        .map(|c| text(c, "/metadata/name").to_owned())
        .collect()
}

fn works(store: &Store, platform: &Platform) -> bool {
    let mut providers = platform.providers.iter();
    providers.all(|(namespace, name)| is_ready(store, "deployments.apps", namespace, name))
}

pub fn round(inner: &mut Inner) {
    let up: Vec<String> = inner
        .servers
        .keys()
        .filter(|n| inner.is_up(n))
        .cloned()
        .collect();
    for server in up {
        let clusters: Vec<(String, String)> = {
            let fake = inner.servers[&server].clone();
            let store = fake.store();
            if !works(&store, &inner.platform) {
                continue;
            }
            drop(store);
            let mut store = fake.store();
            // Who is paused says so, and nothing more.
            for (namespace, name) in names(&store, CLUSTERS) {
                change(&mut store, CLUSTERS, &namespace, &name, |c| {
                    if is_paused(c) {
                        set_condition(c, "Paused", true, "Paused", "");
                    }
                });
            }
            let free = store.of_kind(CLUSTERS).filter(|c| !is_paused(c));
            free.map(|c| {
                (
                    text(c, "/metadata/namespace").to_owned(),
                    text(c, "/metadata/name").to_owned(),
                )
            })
            .collect()
        };
        for (namespace, name) in clusters {
            work(inner, &server, &namespace, &name);
        }
    }
}

fn work(inner: &mut Inner, server: &str, namespace: &str, name: &str) {
    let fake = inner.servers[server].clone();
    let mut store = fake.store();
    let Some(cluster) = store.peek(CLUSTERS, namespace, name).cloned() else {
        return;
    };
    if cluster["metadata"].get("deletionTimestamp").is_some() {
        inner.violations.insert(format!(
            "Cluster {name} is deleted in {server}, and its machines with it"
        ));
        return;
    }
    let control_plane = text(&cluster, "/spec/controlPlaneRef/name").to_owned();
    let infrastructure = text(&cluster, "/spec/infrastructureRef/name").to_owned();
    if cluster["metadata"]["finalizers"]
        .as_array()
        .is_none_or(Vec::is_empty)
    {
        adopt(&mut store, namespace, name, &cluster);
        return;
    }
    if store
        .peek(CONTROL_PLANES, namespace, &control_plane)
        .is_none()
        || store
            .peek(DEV_CLUSTERS, namespace, &infrastructure)
            .is_none()
    {
        return;
    }
    adopt(&mut store, namespace, name, &cluster);
    // The load balancer comes first.
    let balancer = format!("{name}-lb");
    if !inner.engine.containers.contains_key(&balancer) {
        container(
            inner,
            server,
            name,
            &balancer,
            "external-load-balancer",
            "haproxy",
        );
        return;
    }
    let address = inner.engine.containers[&balancer].address.clone();
    if text(&cluster, "/spec/controlPlaneEndpoint/host").is_empty() {
        change(&mut store, DEV_CLUSTERS, namespace, &infrastructure, |c| {
            c["spec"]["controlPlaneEndpoint"] = json!({"host": address, "port": 6443});
            c["status"]["initialization"] = json!({"provisioned": true});
            set_condition(c, "Ready", true, "Ready", "");
        });
        change(&mut store, CLUSTERS, namespace, name, |c| {
            c["spec"]["controlPlaneEndpoint"] = json!({"host": address, "port": 6443});
            c["status"]["initialization"] = json!({"infrastructureProvisioned": true});
            c["status"]["phase"] = json!("Provisioned");
            set_condition(c, "InfrastructureReady", true, "Ready", "");
            set_condition(c, "Paused", false, "NotPaused", "");
            set_condition(
                c,
                "ControlPlaneInitialized",
                false,
                "NotInitialized",
                "waiting for the first machine",
            );
            set_condition(c, "Available", false, "NotAvailable", "");
        });
        return;
    }
    // Nothing below works without its API server, whose state is in the target after the move.
    let plane = store
        .peek(CONTROL_PLANES, namespace, &control_plane)
        .cloned()
        .unwrap();
    secrets(&mut store, inner, namespace, name, &plane, &address);
    let wanted = number(&plane, "/spec/replicas", 1);
    machines(
        &mut store,
        inner,
        server,
        (namespace, name),
        &plane,
        wanted,
        true,
    );
    if holds(&cluster, "ControlPlaneInitialized") {
        for (_, deployment) in names(&store, MACHINE_DEPLOYMENTS) {
            let Some(d) = store
                .peek(MACHINE_DEPLOYMENTS, namespace, &deployment)
                .cloned()
            else {
                continue;
            };
            let set = format!("{deployment}-set");
            make(
                &mut store,
                MACHINE_SETS,
                json!({
                    "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineSet",
                    "metadata": {"name": set, "namespace": namespace, "labels": {"cluster.x-k8s.io/cluster-name": name},
                        "ownerReferences": owner(&d), "finalizers": ["cluster.x-k8s.io/machineset"]},
                    "spec": {"clusterName": name, "replicas": number(&d, "/spec/replicas", 1)},
                }),
            );
            let Some(s) = store.peek(MACHINE_SETS, namespace, &set).cloned() else {
                continue;
            };
            let wanted = number(&d, "/spec/replicas", 1);
            machines(
                &mut store,
                inner,
                server,
                (namespace, name),
                &s,
                wanted,
                false,
            );
            let kinds = [
                (MACHINE_SETS, set.as_str()),
                (MACHINE_DEPLOYMENTS, deployment.as_str()),
            ];
            for (kind, owner) in kinds {
                count(&mut store, kind, namespace, owner, &deployment);
            }
        }
    }
    drop(store);
    nodes(inner, name);
    let mut store = fake.store();
    seen(&mut store, inner, namespace, name);
    count(
        &mut store,
        CONTROL_PLANES,
        namespace,
        &control_plane,
        &control_plane,
    );
    let all: Vec<&Value> = store.of_kind(MACHINES).collect();
    let initialized = all
        .iter()
        .any(|m| m.pointer("/status/nodeRef/name").is_some());
    let available = !all.is_empty() && all.iter().all(|m| holds(m, "Ready"));
    change(&mut store, CLUSTERS, namespace, name, |c| {
        set_condition(c, "Paused", false, "NotPaused", "");
        c["status"]["initialization"]["infrastructureProvisioned"] = json!(true);
        c["status"]["phase"] = json!("Provisioned");
        set_condition(c, "InfrastructureReady", true, "Ready", "");
        if initialized {
            c["status"]["initialization"]["controlPlaneInitialized"] = json!(true);
            set_condition(c, "ControlPlaneInitialized", true, "Initialized", "");
        }
        set_condition(c, "Available", available, "Available", "");
    });
}

/// Finalizers and owners, as the controllers put them.
fn adopt(store: &mut Store, namespace: &str, name: &str, cluster: &Value) {
    change(store, CLUSTERS, namespace, name, |c| {
        c["metadata"]["finalizers"] = json!(["cluster.cluster.x-k8s.io"]);
    });
    for (kind, finalizer) in [
        (
            DEV_CLUSTERS,
            Some("devcluster.infrastructure.cluster.x-k8s.io"),
        ),
        (
            CONTROL_PLANES,
            Some("kubeadm.controlplane.cluster.x-k8s.io"),
        ),
        (DEV_TEMPLATES, None),
        (CONFIG_TEMPLATES, None),
        (
            MACHINE_DEPLOYMENTS,
            Some("cluster.x-k8s.io/machinedeployment"),
        ),
    ] {
        for (_, object) in names(store, kind) {
            change(store, kind, namespace, &object, |o| {
                if o["metadata"].get("ownerReferences").is_none() {
                    o["metadata"]["ownerReferences"] = owner(cluster);
                }
                if let Some(finalizer) = finalizer {
                    o["metadata"]["finalizers"] = json!([finalizer]);
                }
            });
        }
    }
}

fn secrets(
    store: &mut Store,
    inner: &Inner,
    namespace: &str,
    name: &str,
    plane: &Value,
    address: &str,
) {
    use base64::Engine as _;
    let generation = inner.generations.get(name).copied().unwrap_or(0).max(1);
    let config = kubeconfig(name, &format!("{name}#{generation}"), address);
    for (purpose, value) in [
        ("ca", "ca".to_owned()),
        ("etcd", "etcd".to_owned()),
        ("sa", "sa".to_owned()),
        ("proxy", "proxy".to_owned()),
        ("kubeconfig", config),
    ] {
        let value = base64::engine::general_purpose::STANDARD.encode(value);
        make(
            store,
            SECRETS,
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
                "metadata": {"name": format!("{name}-{purpose}"), "namespace": namespace,
                    "labels": {"cluster.x-k8s.io/cluster-name": name}, "ownerReferences": owner(plane)},
                "data": {"value": value},
            }),
        );
    }
}

/// One more machine, or what the newest one lacks.
fn machines(
    store: &mut Store,
    inner: &mut Inner,
    server: &str,
    (namespace, cluster): (&str, &str),
    of: &Value,
    wanted: i64,
    plane: bool,
) {
    let uid = text(of, "/metadata/uid");
    let own: Vec<Value> = store
        .of_kind(MACHINES)
        .filter(|m| text(m, "/metadata/ownerReferences/0/uid") == uid)
        .cloned()
        .collect();
    for m in &own {
        let machine = text(m, "/metadata/name").to_owned();
        belongings(store, namespace, cluster, m);
        if !inner.engine.containers.contains_key(&machine) {
            let role = if plane { "control-plane" } else { "worker" };
            container(inner, server, cluster, &machine, role, "node");
            return;
        }
    }
    // One after the other, each when the one before has its Node.
    let waits = own
        .iter()
        .any(|m| m.pointer("/status/nodeRef/name").is_none());
    if own.len() as i64 >= wanted || waits {
        return;
    }
    // No two servers give the same name, as no two real ones would.
    let name = format!(
        "{}-{:05x}",
        text(of, "/metadata/name"),
        tag(server, own.len())
    );
    let mut labels = json!({"cluster.x-k8s.io/cluster-name": cluster});
    if plane {
        labels["cluster.x-k8s.io/control-plane"] = json!("");
    }
    make(
        store,
        MACHINES,
        json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner(of),
                "finalizers": ["machine.cluster.x-k8s.io"]},
            "spec": {"clusterName": cluster, "version": of["spec"]["version"],
                "bootstrap": {"configRef": {"kind": "KubeadmConfig", "name": name, "apiGroup": "bootstrap.cluster.x-k8s.io"}},
                "infrastructureRef": {"kind": "DevMachine", "name": name, "apiGroup": "infrastructure.cluster.x-k8s.io"}},
            "status": {"phase": "Provisioning", "conditions": [{"type": "Ready", "status": "False", "reason": "NotReady", "message": "waiting for its container"}]},
        }),
    );
}

fn tag(server: &str, number: usize) -> u32 {
    let hash = server
        .bytes()
        .fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    (hash.wrapping_add(number as u32)) & 0xf_ffff
}

fn belongings(store: &mut Store, namespace: &str, cluster: &str, machine: &Value) {
    let name = text(machine, "/metadata/name");
    let labels = &machine["metadata"]["labels"];
    make(
        store,
        CONFIGS,
        json!({"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfig",
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner(machine)}, "spec": {}}),
    );
    make(
        store,
        DEV_MACHINES,
        json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "DevMachine",
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner(machine),
                "finalizers": ["devmachine.infrastructure.cluster.x-k8s.io"]},
            "spec": {"providerID": format!("docker:////{name}")}}),
    );
    if let Some(config) = store.peek(CONFIGS, namespace, name).cloned() {
        make(
            store,
            SECRETS,
            json!({"apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
                "metadata": {"name": name, "namespace": namespace, "labels": {"cluster.x-k8s.io/cluster-name": cluster},
                    "ownerReferences": owner(&config)},
                "data": {"value": "Y2xvdWQtY29uZmln"}}),
        );
    }
}

fn container(inner: &mut Inner, server: &str, cluster: &str, name: &str, role: &str, image: &str) {
    // As the engine would pull it: only what is there can run.
    let image = inner
        .engine
        .images
        .keys()
        .find(|i| i.contains(&format!("/{image}:")))
        .cloned();
    let Some(image) = image else { return };
    inner.changes += 1;
    inner.engine.add_container(
        name,
        super::Container {
            image,
            labels: [
                (OF_CLUSTER.to_owned(), cluster.to_owned()),
                (ROLE.to_owned(), role.to_owned()),
            ]
            .into(),
            network: "kind".into(),
            address: String::new(),
            running: true,
            maker: format!("cluster-api of {server}"),
        },
    );
}

/// kubeadm and kubelets in the containers: an API server in the first, a Node for each.
fn nodes(inner: &mut Inner, cluster: &str) {
    let containers: Vec<(String, bool)> = inner
        .engine
        .containers
        .iter()
        .filter(|(_, c)| c.labels.get(OF_CLUSTER).is_some_and(|l| l == cluster) && c.running)
        .filter_map(|(name, c)| match c.labels.get(ROLE).map(String::as_str) {
            Some("control-plane") => Some((name.clone(), true)),
            Some("worker") => Some((name.clone(), false)),
            _ => None,
        })
        .collect();
    if !containers.iter().any(|(_, plane)| *plane) {
        return;
    }
    if !inner.servers.contains_key(cluster) {
        inner.new_server(cluster);
        return;
    }
    let server = inner.servers[cluster].clone();
    let mut store = server.store();
    for (name, plane) in containers {
        if plane {
            let config = kubeconfig(
                cluster,
                store.name(),
                &inner.engine.containers[&name].address,
            );
            inner
                .engine
                .files
                .insert(format!("{name}:/etc/kubernetes/admin.conf"), config);
        }
        make(&mut store, "nodes.", objects::node(&name, plane, false));
    }
}

/// Machines learn of their Nodes.
fn seen(store: &mut Store, inner: &Inner, namespace: &str, cluster: &str) {
    let Some(server) = inner.servers.get(cluster) else {
        return;
    };
    // Its own server is the one that is locked already, once it manages itself.
    let own = store.name()
        == format!(
            "{cluster}#{}",
            inner.generations.get(cluster).copied().unwrap_or(0)
        );
    let other = (!own).then(|| server.store());
    for (_, machine) in names(store, MACHINES) {
        let node = match &other {
            Some(other) => other.peek("nodes.", "", &machine).cloned(),
            None => store.peek("nodes.", "", &machine).cloned(),
        };
        let Some(node) = node else { continue };
        let ready = holds(&node, "Ready");
        change(store, MACHINES, namespace, &machine, |m| {
            m["spec"]["providerID"] = json!(format!("docker:////{machine}"));
            m["status"]["nodeRef"] = json!({"name": machine});
            m["status"]["phase"] = json!("Running");
            set_condition(
                m,
                "Ready",
                ready,
                "NodeReady",
                if ready { "" } else { "the Node is not ready" },
            );
        });
        change(store, DEV_MACHINES, namespace, &machine, |m| {
            m["status"]["initialization"] = json!({"provisioned": true});
        });
    }
}

/// Replicas of whatever owns machines.
fn count(store: &mut Store, kind: &str, namespace: &str, name: &str, prefix: &str) {
    let mine: Vec<bool> = store
        .of_kind(MACHINES)
        .filter(|m| text(m, "/metadata/ownerReferences/0/name").starts_with(prefix))
        .map(|m| holds(m, "Ready"))
        .collect();
    let (all, ready) = (mine.len(), mine.iter().filter(|r| **r).count());
    change(store, kind, namespace, name, |o| {
        objects::observed(o);
        o["status"]["replicas"] = json!(all);
        o["status"]["upToDateReplicas"] = json!(all);
        o["status"]["readyReplicas"] = json!(ready);
        o["status"]["availableReplicas"] = json!(ready);
        set_condition(o, "Available", ready > 0 && ready == all, "Available", "");
    });
}
