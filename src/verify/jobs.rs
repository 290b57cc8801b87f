//! The jobs whose targets must be up, as data. Names are those that the monitoring components give.

/// How many targets a job has at least.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    /// One per control-plane node.
    ControlPlane,
    /// So many per node.
    PerNode(usize),
    /// One per Flux controller.
    FluxControllers,
    /// This many.
    Fixed(usize),
}

impl Count {
    /// The number for a cluster of this size.
    pub fn resolve(self, control_plane: usize, nodes: usize, flux: usize) -> usize {
        match self {
            Self::ControlPlane => control_plane,
            Self::PerNode(n) => n * nodes,
            Self::FluxControllers => flux,
            Self::Fixed(n) => n,
        }
    }
}

/// A job that must have targets.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Job label.
    pub name: &'static str,
    /// Component that it measures; no component, no job.
    pub component: &'static str,
    /// Targets at least.
    pub count: Count,
}

const fn job(name: &'static str, component: &'static str, count: Count) -> Job {
    Job {
        name,
        component,
        count,
    }
}

/// All of them.
pub const REQUIRED: &[Job] = &[
    job("apiserver", "monitoring", Count::ControlPlane),
    job("etcd", "monitoring", Count::ControlPlane),
    job("kube-controller-manager", "monitoring", Count::ControlPlane),
    job("kube-scheduler", "monitoring", Count::ControlPlane),
    // Its own metrics and those of its containers.
    job("kubelet", "monitoring", Count::PerNode(2)),
    job("coredns", "monitoring", Count::Fixed(1)),
    job("cilium-agent", "cilium", Count::PerNode(1)),
    job("cilium-operator", "cilium", Count::Fixed(1)),
    job("hubble", "cilium", Count::PerNode(1)),
    job("node-exporter", "node-exporter", Count::PerNode(1)),
    job("kube-state-metrics", "kube-state-metrics", Count::Fixed(1)),
    job("flux", "monitoring", Count::FluxControllers),
    job("cluster-api", "monitoring", Count::Fixed(4)),
    job("kyverno", "kyverno", Count::Fixed(4)),
    job("mctl", "monitoring", Count::Fixed(1)),
    job("prometheus-k8s", "monitoring", Count::Fixed(1)),
    job("alertmanager-main", "monitoring", Count::Fixed(1)),
    job(
        "prometheus-operator",
        "prometheus-operator",
        Count::Fixed(1),
    ),
];
