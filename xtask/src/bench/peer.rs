//! The peer: the same end state by kind, kubectl and clusterctl, one after the other, polling tightly; must not be slowed on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::documents::{self, PROVIDERS, fill};
use super::registry::Registry;
use crate::{host, lab, stack, vendor};

const TEMPORARY: &str = "mctl-bench-temporary";
const TARGET: &str = "mctl-bench-target";
const POLL: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(300);

/// Namespaces of Cluster API's Deployments, in the order of `PROVIDERS`, with type and name in clusterctl's inventory.
const NAMESPACES: [(&str, &str, &str, &str); 4] = [
    ("capi-system", "CoreProvider", "cluster-api", "cluster-api"),
    (
        "capi-kubeadm-bootstrap-system",
        "BootstrapProvider",
        "kubeadm",
        "bootstrap-kubeadm",
    ),
    (
        "capi-kubeadm-control-plane-system",
        "ControlPlaneProvider",
        "kubeadm",
        "control-plane-kubeadm",
    ),
    (
        "capd-system",
        "InfrastructureProvider",
        "docker",
        "infrastructure-docker",
    ),
];

/// Runs it once; preparation and removal are not part of the time.
pub fn run(lab: &lab::Lab, engine: &stack::Engine) -> anyhow::Result<Duration> {
    println!("peer: preparing manifests, node image and registry");
    let work = tempfile::tempdir()?;
    documents::write(work.path())?;
    let mut peer = Peer {
        work: work.path().to_owned(),
        lab,
        engine,
        started: Instant::now(),
        last: Instant::now(),
    };
    peer.remove();
    let registry = Registry::start(&lab.bundle, engine, work.path())?;
    peer.documents(&registry)?;
    let result = peer.measure(registry.node_image());
    peer.remove();
    let stopped = registry.stop();
    let time = result.context("the peer did not finish")?;
    stopped?;
    Ok(time)
}

struct Peer<'a> {
    work: PathBuf,
    lab: &'a lab::Lab,
    engine: &'a stack::Engine,
    started: Instant,
    last: Instant,
}

impl Peer<'_> {
    fn documents(&self, registry: &Registry) -> anyhow::Result<()> {
        let values = [
            (
                "SOCKET",
                self.engine
                    .host()
                    .strip_prefix("unix://")
                    .context("the benchmark needs an engine on this machine")?,
            ),
            ("CLUSTER", TARGET),
            ("NODE_IMAGE", registry.node_image()),
            ("KUBERNETES", registry.node_version()),
        ];
        fs::write(
            self.work.join("kind.yaml"),
            fill(include_str!("../../bench/kind.yaml"), &values),
        )?;
        fs::write(
            self.work.join("cluster.yaml"),
            fill(include_str!("../../bench/cluster.yaml"), &values),
        )?;
        fs::write(
            self.work.join("inventory.yaml"),
            include_str!("../../bench/inventory.yaml"),
        )?;
        fs::write(
            self.work.join("providers.yaml"),
            inventory(&vendor::version("cluster-api")?),
        )?;
        Ok(())
    }

    fn measure(&mut self, image: &str) -> anyhow::Result<Duration> {
        self.started = Instant::now();
        self.last = self.started;
        self.done(self.command(&self.kind()).args([
            "create",
            "cluster",
            "--name",
            TEMPORARY,
            "--image",
            image,
            "--config",
            "kind.yaml",
            "--wait",
            "3m",
            "-q",
        ]))?;
        self.lap("kind");
        self.cluster_api("temporary")?;
        self.lap("Cluster API, temporary");
        self.until("temporary", "apply -f cluster.yaml")?;
        self.until_prints("temporary", "get kubeadmcontrolplane NAME -o jsonpath={.status.initialization.controlPlaneInitialized}", "true")?;
        self.lap("control plane");
        let config = self.kubectl(
            "temporary",
            "get secret NAME-kubeconfig -o go-template={{.data.value|base64decode}}",
        )?;
        fs::write(self.work.join("target.kubeconfig"), config)?;
        self.until("target", "apply -f cilium.yaml")?;
        self.until(
            "target",
            "wait node --all --for=condition=Ready --timeout=180s",
        )?;
        self.lap("Cilium");
        self.cluster_api("target")?;
        self.lap("Cluster API, target");
        for cluster in ["temporary", "target"] {
            self.inventory(cluster)?;
        }
        self.until("target", "apply --dry-run=server -f cluster.yaml")?;
        let clusterctl = self.lab.bin.join("clusterctl");
        self.done(self.command(&clusterctl).args([
            "move",
            "--kubeconfig",
            "temporary.kubeconfig",
            "--to-kubeconfig",
            "target.kubeconfig",
            "-n",
            "default",
        ]))?;
        self.lap("move");
        self.done(
            self.command(&self.kind())
                .args(["delete", "cluster", "--name", TEMPORARY, "-q"]),
        )?;
        self.lap("kind delete");
        self.platform()?;
        self.until_prints(
            "target",
            r#"get cluster NAME -o jsonpath={.status.conditions[?(@.type=="Available")].status}"#,
            "True",
        )?;
        self.lap("available");
        Ok(self.started.elapsed())
    }

    fn cluster_api(&self, cluster: &str) -> anyhow::Result<()> {
        for provider in PROVIDERS {
            self.kubectl(cluster, &format!("apply --server-side -f {provider}.yaml"))?;
        }
        for (namespace, ..) in NAMESPACES {
            self.kubectl(
                cluster,
                &format!("-n {namespace} rollout status deployment --timeout=180s"),
            )?;
        }
        Ok(())
    }

    /// What clusterctl wants to find before it moves: its own inventory and labelled definitions.
    fn inventory(&self, cluster: &str) -> anyhow::Result<()> {
        self.kubectl(cluster, "apply --server-side -f inventory.yaml")?;
        self.until(cluster, "apply --server-side -f providers.yaml")?;
        let names = self.kubectl(cluster, "get crd -o name")?;
        let names = names
            .lines()
            .filter(|name| name.contains("cluster.x-k8s.io"))
            .collect::<Vec<_>>()
            .join(" ");
        self.kubectl(
            cluster,
            &format!("label {names} clusterctl.cluster.x-k8s.io= --overwrite"),
        )?;
        Ok(())
    }

    fn platform(&mut self) -> anyhow::Result<()> {
        let vendored = host::root().join("assets/vendor/manifests");
        let vendored = vendored.display();
        for controller in ["source", "kustomize", "helm"] {
            self.kubectl(
                "target",
                &format!(
                    "apply --server-side -f {vendored}/flux/{controller}-controller.crds.yaml"
                ),
            )?;
        }
        for namespace in ["flux-system", "flux-giantswarm"] {
            self.kubectl("target", &format!("create namespace {namespace}"))?;
            self.kubectl("target", &format!("apply -f {namespace}.yaml"))?;
        }
        for namespace in ["flux-system", "flux-giantswarm"] {
            self.kubectl(
                "target",
                &format!("-n {namespace} rollout status deployment --timeout=180s"),
            )?;
        }
        self.lap("Flux twice");
        self.kubectl(
            "target",
            &format!("apply --server-side -f {vendored}/kyverno/crds.yaml"),
        )?;
        self.kubectl("target", "create namespace kyverno")?;
        self.kubectl("target", "apply --server-side -f kyverno.yaml")?;
        self.kubectl(
            "target",
            "-n kyverno rollout status deployment --timeout=180s",
        )?;
        self.lap("Kyverno");
        self.kubectl("target", "create namespace monitoring")?;
        self.kubectl(
            "target",
            &format!("apply --server-side -f {vendored}/prometheus-operator/crds.yaml"),
        )?;
        self.kubectl("target", "apply --server-side -f operator.yaml")?;
        self.kubectl(
            "target",
            "-n monitoring rollout status deployment --timeout=180s",
        )?;
        self.until("target", "apply -f monitoring.yaml")?;
        for name in ["prometheus-k8s", "alertmanager-main"] {
            self.until(
                "target",
                &format!("-n monitoring rollout status statefulset/{name} --timeout=180s"),
            )?;
        }
        self.lap("monitoring");
        Ok(())
    }

    fn lap(&mut self, name: &str) {
        let now = Instant::now();
        println!(
            "peer: {name:<24} {:>6.1} s  {:>6.1} s",
            (now - self.last).as_secs_f64(),
            (now - self.started).as_secs_f64()
        );
        self.last = now;
    }

    /// kubectl's output; words are separated by blanks, NAME is the cluster's.
    fn kubectl(&self, cluster: &str, words: &str) -> anyhow::Result<String> {
        let mut command = self.command(&self.lab.bin.join("kubectl"));
        command.args(["--kubeconfig", &format!("{cluster}.kubeconfig")]);
        command.args(words.split(' ').map(|word| {
            if word == "NAME" || word == "NAME-kubeconfig" {
                word.replace("NAME", TARGET)
            } else {
                word.to_owned()
            }
        }));
        Ok(String::from_utf8_lossy(&host::output(&mut command)?).into_owned())
    }

    fn until(&self, cluster: &str, words: &str) -> anyhow::Result<()> {
        self.patiently(words, || self.kubectl(cluster, words).map(|_| true))
    }

    fn until_prints(&self, cluster: &str, words: &str, wanted: &str) -> anyhow::Result<()> {
        self.patiently(words, || Ok(self.kubectl(cluster, words)?.trim() == wanted))
    }

    fn patiently(
        &self,
        what: &str,
        attempt: impl Fn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            match attempt() {
                Ok(true) => return Ok(()),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Ok(false) if started.elapsed() > PATIENCE => {
                    bail!("kubectl {what}: not so after {} s", PATIENCE.as_secs())
                }
                _ => thread::sleep(POLL),
            }
        }
    }

    fn done(&self, command: &mut Command) -> anyhow::Result<()> {
        host::output(command).map(drop)
    }

    fn kind(&self) -> PathBuf {
        host::root().join("assets/vendor/bin/kind")
    }

    /// A program in the work folder; nothing of the user's is read or written.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.work)
            .env("KUBECONFIG", self.work.join("temporary.kubeconfig"));
        command
            .env("KUBECACHEDIR", self.work.join("cache"))
            .env("XDG_CONFIG_HOME", self.work.join("config"));
        // Only the search for a docker command can fail, and running the program then says so.
        drop(self.engine.use_in(&mut command));
        command
    }

    /// Removes both clusters; what is not there is no error.
    fn remove(&self) {
        for cluster in [TEMPORARY, TARGET] {
            // kind deletes every container that carries the cluster's label; Cluster API's machines do as well.
            drop(host::output(
                self.command(&self.kind())
                    .args(["delete", "cluster", "--name", cluster, "-q"]),
            ));
        }
    }
}

/// clusterctl's inventory: one object for each provider.
fn inventory(version: &str) -> String {
    let mut text = String::new();
    for (namespace, kind, provider, name) in NAMESPACES {
        text += &format!(
            "---\napiVersion: clusterctl.cluster.x-k8s.io/v1alpha3\nkind: Provider\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
             labels: {{cluster.x-k8s.io/provider: {name}, clusterctl.cluster.x-k8s.io: \"\", clusterctl.cluster.x-k8s.io/core: inventory}}\n\
             providerName: {provider}\ntype: {kind}\nversion: {version}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inventory_names_all_four_providers() {
        let text = inventory("v1.14.2");
        assert_eq!(text.matches("kind: Provider\n").count(), 4);
        assert!(text.contains("  name: control-plane-kubeadm\n  namespace: capi-kubeadm-control-plane-system\n  labels:"));
        assert!(
            text.contains("providerName: docker\ntype: InfrastructureProvider\nversion: v1.14.2\n")
        );
    }
}
