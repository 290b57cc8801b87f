//! The kinds that mctl reads and writes itself, with their plural names, so that no discovery is needed. Must not do anything.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

/// Kind of an object; empty if it has none.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |t| t.kind.as_str())
}

/// A kind of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Known {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural name in addresses.
    pub plural: &'static str,
}

impl Known {
    const fn new(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            kind,
            plural,
        }
    }

    /// For [`kube::Api`] of dynamic objects.
    pub fn resource(&self) -> ApiResource {
        ApiResource::from_gvk_with_plural(&self.gvk(), self.plural)
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::gvk(self.group, self.version, self.kind)
    }
}

/// Node.
pub const NODE: Known = Known::new("", "v1", "Node", "nodes");
/// Pod.
pub const POD: Known = Known::new("", "v1", "Pod", "pods");
/// Secret.
pub const SECRET: Known = Known::new("", "v1", "Secret", "secrets");
/// ConfigMap.
pub const CONFIG_MAP: Known = Known::new("", "v1", "ConfigMap", "configmaps");
/// Deployment.
pub const DEPLOYMENT: Known = Known::new("apps", "v1", "Deployment", "deployments");
/// DaemonSet.
pub const DAEMON_SET: Known = Known::new("apps", "v1", "DaemonSet", "daemonsets");
/// StatefulSet.
pub const STATEFUL_SET: Known = Known::new("apps", "v1", "StatefulSet", "statefulsets");
/// Lease.
pub const LEASE: Known = Known::new("coordination.k8s.io", "v1", "Lease", "leases");
/// The document.
pub const MANAGEMENT_CLUSTER: Known = Known::new(
    crate::GROUP,
    "v1alpha1",
    "ManagementCluster",
    "managementclusters",
);
/// Flux Kustomization.
pub const KUSTOMIZATION: Known = Known::new(
    "kustomize.toolkit.fluxcd.io",
    "v1",
    "Kustomization",
    "kustomizations",
);
/// Flux HelmRelease.
pub const HELM_RELEASE: Known = Known::new(
    "helm.toolkit.fluxcd.io",
    "v2",
    "HelmRelease",
    "helmreleases",
);
/// Flux OCIRepository.
pub const OCI_REPOSITORY: Known = Known::new(
    "source.toolkit.fluxcd.io",
    "v1",
    "OCIRepository",
    "ocirepositories",
);
/// Flux GitRepository.
pub const GIT_REPOSITORY: Known = Known::new(
    "source.toolkit.fluxcd.io",
    "v1",
    "GitRepository",
    "gitrepositories",
);
/// Cluster API Cluster.
pub const CLUSTER: Known = Known::new("cluster.x-k8s.io", "v1beta2", "Cluster", "clusters");
/// Cluster API Machine.
pub const MACHINE: Known = Known::new("cluster.x-k8s.io", "v1beta2", "Machine", "machines");
/// Cluster API MachineDeployment.
pub const MACHINE_DEPLOYMENT: Known = Known::new(
    "cluster.x-k8s.io",
    "v1beta2",
    "MachineDeployment",
    "machinedeployments",
);
/// Cluster API MachineSet.
pub const MACHINE_SET: Known =
    Known::new("cluster.x-k8s.io", "v1beta2", "MachineSet", "machinesets");
/// Cluster API MachineHealthCheck.
pub const HEALTH_CHECK: Known = Known::new(
    "cluster.x-k8s.io",
    "v1beta2",
    "MachineHealthCheck",
    "machinehealthchecks",
);
/// Cluster API KubeadmConfigTemplate.
pub const CONFIG_TEMPLATE: Known = Known::new(
    "bootstrap.cluster.x-k8s.io",
    "v1beta2",
    "KubeadmConfigTemplate",
    "kubeadmconfigtemplates",
);
/// Cluster API KubeadmControlPlane.
pub const CONTROL_PLANE: Known = Known::new(
    "controlplane.cluster.x-k8s.io",
    "v1beta2",
    "KubeadmControlPlane",
    "kubeadmcontrolplanes",
);
/// Kyverno ClusterPolicy (older kind).
pub const CLUSTER_POLICY: Known =
    Known::new("kyverno.io", "v1", "ClusterPolicy", "clusterpolicies");
/// Kyverno ValidatingPolicy (CEL).
pub const VALIDATING_POLICY: Known = Known::new(
    "policies.kyverno.io",
    "v1",
    "ValidatingPolicy",
    "validatingpolicies",
);
/// Cilium's record of a node.
pub const CILIUM_NODE: Known = Known::new("cilium.io", "v2", "CiliumNode", "ciliumnodes");
/// Rules of the Prometheus operator.
pub const PROMETHEUS_RULE: Known = Known::new(
    "monitoring.coreos.com",
    "v1",
    "PrometheusRule",
    "prometheusrules",
);

/// Kinds on which drift is looked for.
pub const DRIFTING: &[Known] = &[
    DEPLOYMENT,
    DAEMON_SET,
    STATEFUL_SET,
    CLUSTER_POLICY,
    VALIDATING_POLICY,
    KUSTOMIZATION,
    HELM_RELEASE,
];
