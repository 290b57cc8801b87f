//! What works in the clusters besides Cluster API: kubelets, workload controllers, Flux, mctl's manager. Each round looks at
//! what is there and does the next thing, as the real ones do; nothing is remembered between rounds.

use serde_json::{Value, json};

use super::{
    Inner, Platform,
    objects::{change, holds, make, names, number, observed, set_condition, text},
    token,
};
use crate::fake::Store;

const DEPLOYMENTS: &str = "deployments.apps";
const DAEMON_SETS: &str = "daemonsets.apps";
const STATEFUL_SETS: &str = "statefulsets.apps";
const NODES: &str = "nodes.";
const HELM_RELEASES: &str = "helmreleases.helm.toolkit.fluxcd.io";
const KUSTOMIZATIONS: &str = "kustomizations.kustomize.toolkit.fluxcd.io";
const OCI_REPOSITORIES: &str = "ocirepositories.source.toolkit.fluxcd.io";
const DOCUMENTS: &str = "managementclusters.mctl.giantswarm.io";
/// Far ahead, so that no clock finds the manager's lease too old.
const RENEWED: &str = "2100-01-01T00:00:00.000000Z";

pub fn round(inner: &mut Inner) {
    let up: Vec<String> = inner
        .servers
        .keys()
        .filter(|n| inner.is_up(n))
        .cloned()
        .collect();
    for name in up {
        let server = inner.servers[&name].clone();
        let targets = {
            let mut store = server.store();
            kubelets(&mut store);
            workloads(&mut store);
            manager(&mut store, &inner.platform);
            flux(&mut store, &inner.platform)
        };
        for (release, kubeconfig) in targets {
            install(inner, &name, &release, &kubeconfig);
        }
    }
}

/// True when a workload is there with every replica ready.
pub fn is_ready(store: &Store, kind: &str, namespace: &str, name: &str) -> bool {
    store.peek(kind, namespace, name).is_some_and(|o| {
        number(o, "/status/readyReplicas", 0).max(number(o, "/status/numberReady", 0)) > 0
    })
}

/// Nodes get ready with the network, which kind brings itself.
fn kubelets(store: &mut Store) {
    let network = is_ready(store, DAEMON_SETS, "kube-system", "cilium");
    for (_, name) in names(store, NODES) {
        let ready = store
            .peek(NODES, "", &name)
            .is_some_and(|n| holds(n, "Ready"));
        if network && !ready {
            change(store, NODES, "", &name, |n| {
                set_condition(n, "Ready", true, "Kubelet", "ready")
            });
        }
        if network && store.knows("ciliumnodes.cilium.io") {
            make(
                store,
                "ciliumnodes.cilium.io",
                json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": name}}),
            );
        }
    }
}

fn workloads(store: &mut Store) {
    let nodes = store.of_kind(NODES).count() as i64;
    let schedulable = store.of_kind(NODES).any(|n| holds(n, "Ready"));
    for kind in [DEPLOYMENTS, STATEFUL_SETS] {
        for (namespace, name) in names(store, kind) {
            if !schedulable && namespace != "kube-system" {
                continue;
            }
            // The manager gets ready only with the document.
            let waits = (namespace.as_str(), name.as_str()) == ("giantswarm", "mctl")
                && !store
                    .of_kind(DOCUMENTS)
                    .any(|d| !text(d, "/status/platformDigest").is_empty());
            change(store, kind, &namespace, &name, |o| {
                let want = number(o, "/spec/replicas", 1);
                observed(o);
                o["status"]["replicas"] = json!(want);
                o["status"]["updatedReplicas"] = json!(want);
                if !waits {
                    o["status"]["readyReplicas"] = json!(want);
                    o["status"]["availableReplicas"] = json!(want);
                }
            });
            pod(store, &namespace, &name, !waits);
        }
    }
    for (namespace, name) in names(store, DAEMON_SETS) {
        if nodes == 0 {
            continue;
        }
        change(store, DAEMON_SETS, &namespace, &name, |o| {
            observed(o);
            for field in [
                "desiredNumberScheduled",
                "currentNumberScheduled",
                "updatedNumberScheduled",
                "numberReady",
                "numberAvailable",
            ] {
                o["status"][field] = json!(nodes);
            }
        });
    }
}

/// Only the manager's pod is looked at by anybody.
fn pod(store: &mut Store, namespace: &str, name: &str, ready: bool) {
    if (namespace, name) != ("giantswarm", "mctl") {
        return;
    }
    let pod = "mctl-0";
    make(
        store,
        "pods.",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": namespace, "labels": {"app.kubernetes.io/name": "mctl"}},
            "spec": {"containers": [{"name": "mctl"}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "mctl", "ready": false, "state": {"waiting": {"reason": "ContainerCreating"}}}]},
        }),
    );
    let old = store
        .peek("pods.", namespace, pod)
        .is_some_and(|p| number(p, "/status/rounds", 0) > 0);
    change(store, "pods.", namespace, pod, |p| {
        p["status"]["rounds"] = json!(1);
        if old {
            p["status"]["phase"] = json!("Running");
            p["status"]["containerStatuses"] = json!([{"name": "mctl", "ready": ready, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]);
            set_condition(p, "Ready", ready, "Containers", "");
        }
    });
}

/// The manager in the cluster: serves the platform once it has the document, and tells of the cluster.
fn manager(store: &mut Store, platform: &Platform) {
    let runs = store
        .peek("pods.", "giantswarm", "mctl-0")
        .is_some_and(|p| {
            p.pointer("/status/containerStatuses/0/state/running")
                .is_some()
        });
    let environment = store
        .peek("configmaps.", "giantswarm", "mctl-environment")
        .is_some();
    if !runs || !environment {
        return;
    }
    make(
        store,
        "leases.coordination.k8s.io",
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "mctl", "namespace": "giantswarm"},
            "spec": {"holderIdentity": "mctl-0", "renewTime": RENEWED, "leaseDurationSeconds": 15},
        }),
    );
    let documents = names(store, DOCUMENTS);
    let Some((namespace, name)) = documents.first().cloned() else {
        return;
    };
    let accepted = store
        .peek(DOCUMENTS, &namespace, &name)
        .is_some_and(|d| holds(d, "DocumentAccepted"));
    if !accepted {
        change(store, DOCUMENTS, &namespace, &name, |d| {
            set_condition(d, "DocumentAccepted", true, "Accepted", "");
            d["status"]["phase"] = json!("Bootstrapping");
        });
        return;
    }
    let cluster = store.peek("clusters.cluster.x-k8s.io", "org-giantswarm", &name);
    let free = cluster.is_some_and(|c| !super::cluster_api::is_paused(c) && holds(c, "Available"));
    let all_ready = names(store, KUSTOMIZATIONS).len() >= platform.kustomizations.len()
        && store.of_kind(KUSTOMIZATIONS).all(|k| holds(k, "Ready"));
    change(store, DOCUMENTS, &namespace, &name, |d| {
        observed(d);
        d["status"]["platformDigest"] = json!("sha256:0123");
        let ready = free && all_ready;
        d["status"]["phase"] = json!(if ready { "Ready" } else { "Bootstrapping" });
        set_condition(
            d,
            "Ready",
            ready,
            if ready { "AllReady" } else { "NotAllReady" },
            "",
        );
    });
    if store.knows(KUSTOMIZATIONS) && store.knows(OCI_REPOSITORIES) {
        make(
            store,
            OCI_REPOSITORIES,
            json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "OCIRepository",
                "metadata": {"name": "platform", "namespace": "flux-giantswarm"}, "spec": {"url": "oci://mctl"}}),
        );
        make(store, KUSTOMIZATIONS, kustomization("platform"));
    }
}

fn kustomization(name: &str) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": name, "namespace": "flux-giantswarm"}, "spec": {"path": format!("./components/{name}")},
    })
}

/// Sources, Kustomizations and their workloads; returns the releases that go into another cluster.
fn flux(store: &mut Store, platform: &Platform) -> Vec<(String, Option<String>)> {
    let controls = |name: &str| is_ready(store, DEPLOYMENTS, "flux-giantswarm", name);
    let (sources, kustomize, helm) = (
        controls("source-controller"),
        controls("kustomize-controller"),
        controls("helm-controller"),
    );
    if sources {
        for (namespace, name) in names(store, OCI_REPOSITORIES) {
            change(store, OCI_REPOSITORIES, &namespace, &name, |o| {
                observed(o);
                set_condition(o, "Ready", true, "Succeeded", "stored artifact");
            });
        }
    }
    if kustomize && sources {
        let root = store
            .peek(KUSTOMIZATIONS, "flux-giantswarm", "platform")
            .is_some_and(|k| holds(k, "Ready"));
        if root {
            for name in &platform.kustomizations {
                make(store, KUSTOMIZATIONS, kustomization(name));
            }
            for (kind, namespace, name) in &platform.workloads {
                let plural = match kind.as_str() {
                    "Deployment" => DEPLOYMENTS,
                    "DaemonSet" => DAEMON_SETS,
                    _ => STATEFUL_SETS,
                };
                make(
                    store,
                    "namespaces.",
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
                );
                make(
                    store,
                    plural,
                    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": 1}}),
                );
            }
        }
        for (namespace, name) in names(store, KUSTOMIZATIONS) {
            let seen = store
                .peek(KUSTOMIZATIONS, &namespace, &name)
                .is_some_and(|k| k["status"]["conditions"].is_array());
            change(store, KUSTOMIZATIONS, &namespace, &name, |k| {
                if seen {
                    observed(k);
                    k["status"]["lastAppliedRevision"] = json!("latest@sha256:0123");
                    k["status"]["lastAttemptedRevision"] = json!("latest@sha256:0123");
                    set_condition(k, "Ready", true, "ReconciliationSucceeded", "applied");
                } else {
                    set_condition(k, "Ready", false, "Progressing", "in progress");
                }
            });
        }
    }
    let mut releases = Vec::new();
    if helm {
        for (namespace, name) in names(store, HELM_RELEASES) {
            let Some(release) = store.peek(HELM_RELEASES, &namespace, &name) else {
                continue;
            };
            if release["spec"]["suspend"] == true || holds(release, "Ready") {
                continue;
            }
            let secret = text(release, "/spec/kubeConfig/secretRef/name");
            let kubeconfig = if secret.is_empty() {
                None
            } else {
                let found = store
                    .peek("secrets.", &namespace, secret)
                    .map(|s| text(s, "/data/value").to_owned());
                let Some(found) = found else { continue };
                Some(found)
            };
            releases.push((name, kubeconfig));
        }
    }
    releases
}

/// helm-controller installs a release, here or where its kubeconfig leads to.
fn install(inner: &mut Inner, here: &str, release: &str, kubeconfig: &Option<String>) {
    use base64::Engine as _;
    let target = match kubeconfig {
        None => Some(here.to_owned()),
        Some(encoded) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .ok()
            .and_then(|b| String::from_utf8(b).ok())
            .and_then(|t| token(&t))
            .and_then(|t| t.split_once('#').map(|(cluster, _)| cluster.to_owned())),
    };
    let up = target.filter(|t| inner.is_up(t) && inner.servers.contains_key(t));
    let home = inner.servers[here].clone();
    let Some(target) = up else {
        let mut store = home.store();
        change(&mut store, HELM_RELEASES, "flux-giantswarm", release, |r| {
            set_condition(
                r,
                "Ready",
                false,
                "InstallFailed",
                "the cluster does not answer",
            );
        });
        return;
    };
    if release == "cilium" {
        let mut store = inner.servers[&target].store();
        for (plural, kind, name) in [
            (DAEMON_SETS, "DaemonSet", "cilium"),
            (DEPLOYMENTS, "Deployment", "cilium-operator"),
        ] {
            make(
                &mut store,
                plural,
                json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "kube-system"}, "spec": {"replicas": 1}}),
            );
        }
    }
    let mut store = home.store();
    change(&mut store, HELM_RELEASES, "flux-giantswarm", release, |r| {
        observed(r);
        set_condition(r, "Ready", true, "InstallSucceeded", "installed");
    });
}
