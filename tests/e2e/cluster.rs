//! Reads the management cluster itself, past mctl's own checks.

use kube::core::{DynamicObject, GroupVersionKind};
use mctl::ports::kubernetes::{
    Cluster,
    objects::{name, secret_text, text},
};

/// A connection from the kubeconfig that mctl printed.
pub struct Reader {
    runtime: tokio::runtime::Runtime,
    cluster: Cluster,
}

impl Reader {
    pub fn new(kubeconfig: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let cluster = runtime
            .block_on(Cluster::from_kubeconfig("cluster under test", kubeconfig))
            .unwrap();
        Self { runtime, cluster }
    }

    fn list(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        namespace: &str,
        selector: Option<&str>,
    ) -> Vec<DynamicObject> {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        self.runtime
            .block_on(self.cluster.list(&gvk, Some(namespace), selector))
            .unwrap()
            .unwrap_or_else(|| panic!("the cluster does not know {kind}"))
    }

    /// Private key of the cluster's CA (PEM).
    pub fn authority_key(&self) -> String {
        let secrets = self.list("", "v1", "Secret", "giantswarm", None);
        let secret = secrets.iter().find(|s| name(s) == "mctl-ca");
        secret
            .and_then(|s| secret_text(s, "tls.key"))
            .expect("the cluster keeps its CA")
    }

    /// Machines of the cluster itself, by name and UID.
    pub fn machines(&self) -> Vec<String> {
        self.list(
            "cluster.x-k8s.io",
            "v1beta2",
            "Machine",
            "org-giantswarm",
            None,
        )
        .iter()
        .map(|m| {
            let uid = m.metadata.uid.as_deref().unwrap_or_default();
            format!("machine {} {uid}", name(m))
        })
        .collect()
    }

    /// Cilium was installed by the temporary cluster's Flux and is kept by this cluster's own. The takeover changed no pod
    /// template, so no pod was replaced, and made at most one revision of the release.
    pub fn cilium_was_adopted_without_a_restart(&self) {
        let releases = self.list(
            "helm.toolkit.fluxcd.io",
            "v2",
            "HelmRelease",
            "flux-giantswarm",
            None,
        );
        let adopted = releases
            .iter()
            .find(|r| name(r) == "cilium")
            .expect("this cluster's Flux keeps Cilium");
        assert_ne!(
            text(adopted, "/status/history/0/chartVersion"),
            "",
            "{adopted:?}"
        );

        let revisions = self.list(
            "",
            "v1",
            "Secret",
            "kube-system",
            Some("owner=helm,name=cilium"),
        );
        let revisions: Vec<&str> = revisions.iter().map(name).collect();
        assert!(
            (1..=2).contains(&revisions.len()),
            "revisions of the release: {revisions:?}"
        );

        let templates = self.list(
            "apps",
            "v1",
            "ControllerRevision",
            "kube-system",
            Some("k8s-app=cilium"),
        );
        assert_eq!(templates.len(), 1, "pod templates of DaemonSet cilium");
        let sets = self.list(
            "apps",
            "v1",
            "ReplicaSet",
            "kube-system",
            Some("name=cilium-operator"),
        );
        assert_eq!(sets.len(), 1, "pod templates of Deployment cilium-operator");

        let taken = created(adopted);
        let agents = self.list("", "v1", "Pod", "kube-system", Some("k8s-app=cilium"));
        let first = agents.iter().map(created).min().expect("Cilium has pods");
        assert!(
            first < taken,
            "the oldest agent is of {first}, Flux took over at {taken}"
        );
        println!(
            "cilium: release revisions {revisions:?}, oldest agent {first}, taken over {taken}"
        );
    }
}

fn created(object: &DynamicObject) -> jiff::Timestamp {
    object
        .metadata
        .creation_timestamp
        .as_ref()
        .expect("created")
        .0
}
