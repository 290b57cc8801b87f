//! What every section begins with: one document, the catalog, the plan, a bundle, and one run of `mctl bootstrap` on a world.

use std::{path::PathBuf, sync::Arc};

use mctl::{
    bundle::Bundle,
    catalog::{Catalog, Target},
    config::ManagementCluster,
    plan::{self, Plan},
    prepare::Prepared,
    registry::own_image::OwnImage,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    bundle_fixture::{self, Fixture},
    outside::Home,
    world::{Platform, World},
};

/// Name of the cluster.
pub const NAME: &str = "golem";
/// Suffix of the temporary cluster's name.
pub const RUN: &str = "1a2b3c";
/// What does not change while sections run.
pub struct Scene {
    pub document: ManagementCluster,
    pub catalog: Catalog,
    pub plan: Plan,
    pub bundle: (PathBuf, Bundle),
    /// Where every home keeps its state: files are in memory, but the bundle that a cluster keeps is on the disk.
    pub state: PathBuf,
    pub image: OwnImage,
    pub platform: Platform,
    _folders: Vec<TempDir>,
}

impl Scene {
    /// One control-plane machine and one worker, the catalog as it is.
    pub fn usual() -> Arc<Self> {
        Self::new(
            json!({"controlPlane": {"replicas": 1}, "nodePools": [{"name": "default", "replicas": 1}]}),
            |_| {},
        )
    }

    /// The same plan and steps, but the big upstream definitions are in every server from the start, and small workloads stand
    /// for Cluster API's: reading megabytes of YAML anew in each of a thousand runs would take hours.
    pub fn small() -> Arc<Self> {
        let spec = json!({"controlPlane": {"replicas": 1}, "nodePools": [{"name": "default", "replicas": 1}]});
        let small = |catalog: &mut Catalog| {
            for (component, stands_for) in [
                ("cluster-api-core", Some("kube-state-metrics")),
                ("cluster-api-infrastructure-docker", Some("node-exporter")),
                ("cluster-api-bootstrap-kubeadm", None),
                ("cluster-api-control-plane-kubeadm", None),
                ("flux-crds", None),
                ("cilium-crds", None),
            ] {
                let other = stands_for.map(|name| catalog.components[name].clone());
                let component = catalog.components.get_mut(component).unwrap();
                component.manifests.clear();
                component.patches.clear();
                component.variables.clear();
                component.omit.clear();
                component.ready.clear();
                if let Some(other) = other {
                    let own = |m: &String| m.replacen("own:", &format!("own:/{}/", other.name), 1);
                    component.manifests = other.manifests.iter().map(own).collect();
                    component.images.clone_from(&other.images);
                    component.namespace.clone_from(&other.namespace);
                    component.ready.clone_from(&other.ready);
                }
            }
        };
        let mut scene = Self::new(spec, small);
        let real = Catalog::embedded().unwrap_or_else(|e| panic!("{e}"));
        let workloads = platform(&scene.document, &real).workloads;
        let platform = &mut Arc::get_mut(&mut scene).unwrap().platform;
        platform.definitions = definitions();
        // Acceptance checks know the real catalog alone.
        platform.workloads = workloads;
        platform.providers = vec![("monitoring".into(), "kube-state-metrics".into())];
        scene
    }

    /// From a spec, with changes of the catalog.
    pub fn new(spec: Value, change: impl FnOnce(&mut Catalog)) -> Arc<Self> {
        let document: ManagementCluster = serde_json::from_value(json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster", "metadata": {"name": NAME}, "spec": spec,
        }))
        .unwrap();
        let mut catalog = Catalog::embedded().unwrap_or_else(|e| panic!("{e}"));
        change(&mut catalog);
        let plan = plan::bootstrap(&document, &catalog).unwrap_or_else(|e| panic!("{e}"));
        let mut fixture = Fixture::new();
        let provider = catalog.provider(&document).unwrap().clone();
        let node = catalog.node_image(&document).unwrap();
        let mut images = vec![node];
        images.extend(
            provider
                .images
                .iter()
                .filter(|i| !i.contains("{version}"))
                .cloned(),
        );
        for image in images {
            let descriptor = fixture.image(&[image.as_bytes()]);
            fixture.root(&image, descriptor);
        }
        let (bundle_folder, path) = fixture.folder();
        let bundle = Bundle::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let (program_folder, program) = bundle_fixture::file(&bundle_fixture::executable(512));
        let image = OwnImage::around(&program).unwrap_or_else(|e| panic!("{e}"));
        let state_folder = TempDir::new().unwrap();
        let state = state_folder.path().join("mctl");
        mctl::launchpad::bundle::own(&mctl::ports::files::Disk, &state.join(NAME), &path)
            .unwrap_or_else(|e| panic!("{e}"));
        Arc::new(Self {
            platform: platform(&document, &catalog),
            document,
            catalog,
            plan,
            bundle: (path, bundle),
            state,
            image,
            _folders: vec![bundle_folder, program_folder, state_folder],
        })
    }

    /// An engine with nothing in it.
    pub fn world(&self) -> World {
        World::new("engine-1", self.platform.clone())
    }

    /// A home without any state.
    pub fn home(&self) -> Home {
        let home = Home::default();
        let above = self.state.ancestors().skip(1).map(PathBuf::from);
        home.lock().folders.extend(above);
        home
    }

    /// What the command line would have read.
    pub fn prepared(&self) -> Prepared {
        Prepared {
            name: NAME.parse().unwrap_or_else(|e| panic!("{e}")),
            document: self.document.clone(),
            bundle: Some(self.bundle.clone()),
            catalog: self.catalog.clone(),
            plan: self.plan.clone(),
        }
    }
}

fn platform(document: &ManagementCluster, catalog: &Catalog) -> Platform {
    let components = plan::enabled(document, catalog);
    let managed = components
        .iter()
        .filter(|c| c.clusters.contains(&Target::Management));
    let mut workloads = Vec::new();
    let mut kustomizations = Vec::new();
    for component in managed {
        kustomizations.push(component.name.clone());
        for ready in component.workloads() {
            workloads.push((ready.kind, ready.namespace.unwrap_or_default(), ready.name));
        }
    }
    // Enough of each, and of more jobs than are looked for.
    let targets = [
        "apiserver",
        "etcd",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "coredns",
        "cilium-agent",
        "cilium-operator",
        "hubble",
        "node-exporter",
        "kube-state-metrics",
        "flux",
        "cluster-api",
        "kyverno",
        "mctl",
        "prometheus-k8s",
        "alertmanager-main",
        "prometheus-operator",
    ];
    Platform {
        kustomizations,
        workloads,
        targets: targets.map(|job| (job.to_owned(), 20)).to_vec(),
        definitions: Vec::new(),
        providers: [
            ("capi-system", "capi-controller-manager"),
            ("capd-system", "capd-controller-manager"),
            (
                "capi-kubeadm-bootstrap-system",
                "capi-kubeadm-bootstrap-controller-manager",
            ),
            (
                "capi-kubeadm-control-plane-system",
                "capi-kubeadm-control-plane-controller-manager",
            ),
        ]
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
        .to_vec(),
    }
}

/// Definitions of the kinds that steps and moves look at, without schemas.
fn definitions() -> Vec<Value> {
    let provider = |group: &str| match group.split('.').next() {
        Some("infrastructure") => "infrastructure-docker",
        Some("bootstrap") => "bootstrap-kubeadm",
        Some("controlplane") => "control-plane-kubeadm",
        _ => "cluster-api",
    };
    [
        ("cluster.x-k8s.io", "v1beta2", "Cluster", "clusters"),
        ("cluster.x-k8s.io", "v1beta2", "ClusterClass", "clusterclasses"),
        ("cluster.x-k8s.io", "v1beta2", "Machine", "machines"),
        ("cluster.x-k8s.io", "v1beta2", "MachineSet", "machinesets"),
        ("cluster.x-k8s.io", "v1beta2", "MachineDeployment", "machinedeployments"),
        ("cluster.x-k8s.io", "v1beta2", "MachineHealthCheck", "machinehealthchecks"),
        ("infrastructure.cluster.x-k8s.io", "v1beta2", "DevCluster", "devclusters"),
        ("infrastructure.cluster.x-k8s.io", "v1beta2", "DevMachine", "devmachines"),
        ("infrastructure.cluster.x-k8s.io", "v1beta2", "DevMachineTemplate", "devmachinetemplates"),
        ("bootstrap.cluster.x-k8s.io", "v1beta2", "KubeadmConfig", "kubeadmconfigs"),
        ("bootstrap.cluster.x-k8s.io", "v1beta2", "KubeadmConfigTemplate", "kubeadmconfigtemplates"),
        ("controlplane.cluster.x-k8s.io", "v1beta2", "KubeadmControlPlane", "kubeadmcontrolplanes"),
        ("source.toolkit.fluxcd.io", "v1", "OCIRepository", "ocirepositories"),
        ("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories"),
        ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
        ("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"),
        ("cilium.io", "v2", "CiliumNode", "ciliumnodes"),
    ]
    .into_iter()
    .map(|(group, version, kind, plural)| {
        let labels = if group.ends_with("x-k8s.io") {
            json!({"cluster.x-k8s.io/provider": provider(group), "clusterctl.cluster.x-k8s.io": ""})
        } else {
            json!({})
        };
        let scope = if kind == "CiliumNode" { "Cluster" } else { "Namespaced" };
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}"), "labels": labels},
            "spec": {
                "group": group, "scope": scope, "names": {"kind": kind, "plural": plural},
                "versions": [{"name": version, "served": true, "storage": true, "subresources": {"status": {}}}],
            },
        })
    })
    .collect()
}
