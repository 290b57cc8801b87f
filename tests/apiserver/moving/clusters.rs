//! Clusters as `mctl` renders them and as the controllers of Cluster API go on from there. It must not move anything.

use kube::{
    api::{Patch, PatchParams, PostParams},
    core::{DynamicObject, GroupVersionKind},
};
use mctl::{
    catalog::{Catalog, Target},
    config::ManagementCluster,
    ports::kubernetes::{Cluster, gvk, kind},
    render::{self, Context},
};
use serde_json::{Value, json};

use crate::environment;

const CORE: &str = "cluster.x-k8s.io";
const INFRASTRUCTURE: &str = "infrastructure.cluster.x-k8s.io";
const BOOTSTRAP: &str = "bootstrap.cluster.x-k8s.io";
const CONTROL_PLANE: &str = "controlplane.cluster.x-k8s.io";

/// Kinds of which a namespace here has objects.
pub fn kinds() -> Vec<GroupVersionKind> {
    [
        (CORE, "Cluster"),
        (CORE, "MachineDeployment"),
        (CORE, "MachineSet"),
        (CORE, "MachineHealthCheck"),
        (CORE, "Machine"),
        (INFRASTRUCTURE, "DevCluster"),
        (INFRASTRUCTURE, "DevMachine"),
        (INFRASTRUCTURE, "DevMachineTemplate"),
        (BOOTSTRAP, "KubeadmConfig"),
        (BOOTSTRAP, "KubeadmConfigTemplate"),
        (CONTROL_PLANE, "KubeadmControlPlane"),
    ]
    .iter()
    .map(|(group, kind)| GroupVersionKind::gvk(group, "v1beta2", kind))
    .chain(["Secret", "ConfigMap"].map(|kind| GroupVersionKind::gvk("", "v1", kind)))
    .collect()
}

/// What a cluster has.
#[derive(Clone, Copy)]
pub struct Size {
    pub control_plane: u32,
    pub workers: u32,
}

fn document(name: &str, size: Size) -> ManagementCluster {
    serde_json::from_value(json!({
        "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
        "metadata": {"name": name},
        "spec": {
            "controlPlane": {"replicas": size.control_plane},
            "nodePools": [{"name": "default", "replicas": size.workers}],
        },
    }))
    .unwrap()
}

/// Stands for the certificate authority, which no move looks into.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

/// The definitions of Cluster API and its providers, without the conversion that nobody would answer here.
pub fn definitions() -> Vec<DynamicObject> {
    let (catalog, environment) = (Catalog::embedded().unwrap(), environment(AUTHORITY));
    let size = Size {
        control_plane: 1,
        workers: 1,
    };
    let document = document("golem", size);
    let context = Context {
        document: &document,
        catalog: &catalog,
        environment: &environment,
    };
    let components = catalog.enabled(&document).into_iter();
    let mut all: Vec<DynamicObject> = components
        .filter(|c| c.name.starts_with("cluster-api-"))
        .flat_map(|c| {
            let rendered = render::component(context, c, Target::Management);
            rendered.unwrap().objects
        })
        .filter(|o| kind(o) == "CustomResourceDefinition")
        .collect();
    for crd in &mut all {
        crd.data["spec"]
            .as_object_mut()
            .unwrap()
            .remove("conversion");
    }
    all
}

/// Makes clusters in one namespace.
pub struct Maker<'a> {
    pub cluster: &'a Cluster,
    pub namespace: &'a str,
}

impl Maker<'_> {
    /// A cluster with all its machines running.
    pub async fn cluster(&self, name: &str, size: Size) {
        let (catalog, environment, document) = (
            Catalog::embedded().unwrap(),
            environment(AUTHORITY),
            document(name, size),
        );
        let mut objects = render::cluster(Context {
            document: &document,
            catalog: &catalog,
            environment: &environment,
        })
        .unwrap();
        for o in &mut objects {
            o.metadata.namespace = Some(self.namespace.to_owned());
        }
        let applied = self.cluster.apply_all(&objects, &()).await.unwrap();
        let of = |wanted: &'static str| applied.iter().filter(move |o| kind(o) == wanted);
        let owner = of("Cluster").next().unwrap();
        let plane = of("KubeadmControlPlane").next().unwrap();
        for o in &applied {
            let mut metadata = json!({});
            if kind(o) != "Cluster" {
                // Only the objects that it works with are controlled; templates are merely owned.
                metadata["ownerReferences"] =
                    json!([reference(owner, !kind(o).ends_with("Template"))]);
            }
            if let Some(finalizer) = finalizer(kind(o)) {
                metadata["finalizers"] = json!([finalizer]);
            }
            self.merge(o, false, json!({"metadata": metadata})).await;
        }
        self.merge(owner, true, json!({"status": {
            "initialization": {"infrastructureProvisioned": true, "controlPlaneInitialized": true},
            "conditions": [{"type": "ControlPlaneInitialized", "status": "True", "reason": "Initialized",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }}))
        .await;
        for purpose in ["ca", "etcd", "sa", "proxy", "kubeconfig"] {
            let name = format!("{name}-{purpose}");
            self.secret(&name, Some(plane)).await;
        }
        // Found by its name only.
        self.secret(&format!("{name}-apiserver-etcd-client"), None)
            .await;
        // Found by a reference to it only.
        self.secret(&format!("{name}-files"), None).await;
        for i in 0..size.control_plane {
            let machine = format!("{name}-cp{i}");
            self.machine(name, &machine, plane, true).await;
        }
        for deployment in of("MachineDeployment") {
            let mut spec = deployment.data["spec"].clone();
            let keep = ["clusterName", "replicas", "selector", "template"];
            spec.as_object_mut()
                .unwrap()
                .retain(|field, _| keep.contains(&field.as_str()));
            let set = format!("{}-x7k2p", name_of(deployment));
            let set = self
                .object(CORE, "MachineSet", &set, name, Some(deployment), true, spec)
                .await;
            // As older versions and other tools leave them: without the label.
            let machine = format!("{}-abcde", name_of(&set));
            self.machine(name, &machine, &set, false).await;
        }
    }

    async fn machine(&self, cluster: &str, name: &str, owner: &DynamicObject, labels: bool) {
        let refer =
            |group: &str, kind: &str| json!({"apiGroup": group, "kind": kind, "name": name});
        let spec = json!({
            "clusterName": cluster, "version": "v1.36.3", "providerID": format!("docker:////{name}"),
            "bootstrap": {"configRef": refer(BOOTSTRAP, "KubeadmConfig"), "dataSecretName": name},
            "infrastructureRef": refer(INFRASTRUCTURE, "DevMachine"),
        });
        let machine = self
            .object(CORE, "Machine", name, cluster, Some(owner), labels, spec)
            .await;
        let running = json!({"status": {"nodeRef": {"name": name}, "phase": "Running"}});
        self.merge(&machine, true, running).await;
        let files = format!("{cluster}-files");
        let spec = json!({
            "files": [{"path": "/etc/file", "contentFrom": {"secret": {"name": files, "key": "value"}}}],
            "joinConfiguration": {"nodeRegistration": {"name": name}},
        });
        let config = self
            .object(
                BOOTSTRAP,
                "KubeadmConfig",
                name,
                cluster,
                Some(&machine),
                labels,
                spec,
            )
            .await;
        let spec = json!({"backend": {"docker": {"customImage": "mctl.giantswarm.io/node:v1.36.3"}}, "providerID": format!("docker:////{name}")});
        self.object(
            INFRASTRUCTURE,
            "DevMachine",
            name,
            cluster,
            Some(&machine),
            labels,
            spec,
        )
        .await;
        self.secret(name, Some(&config)).await;
    }

    #[allow(clippy::too_many_arguments)]
    async fn object(
        &self,
        group: &str,
        kind: &str,
        name: &str,
        cluster: &str,
        owner: Option<&DynamicObject>,
        labels: bool,
        spec: Value,
    ) -> DynamicObject {
        let mut metadata = json!({"name": name});
        if labels {
            metadata["labels"] = json!({"cluster.x-k8s.io/cluster-name": cluster});
        }
        if let Some(owner) = owner {
            metadata["ownerReferences"] = json!([reference(owner, true)]);
        }
        if let Some(finalizer) = finalizer(kind) {
            metadata["finalizers"] = json!([finalizer]);
        }
        self.create(json!({"apiVersion": format!("{group}/v1beta2"), "kind": kind, "metadata": metadata, "spec": spec}))
            .await
    }

    /// A Secret of Cluster API, without labels.
    pub async fn secret(&self, name: &str, owner: Option<&DynamicObject>) {
        let mut metadata = json!({"name": name});
        if let Some(owner) = owner {
            metadata["ownerReferences"] = json!([reference(owner, true)]);
        }
        self.create(
            json!({"apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
            "metadata": metadata, "data": {"value": "c2VjcmV0"}}),
        )
        .await;
    }

    /// Creates an object as a controller does.
    pub async fn create(&self, object: Value) -> DynamicObject {
        let mut object: DynamicObject = serde_json::from_value(object).unwrap();
        object.metadata.namespace = Some(self.namespace.to_owned());
        let kind = gvk(&object).unwrap();
        let api = self.cluster.api(&kind, Some(self.namespace)).await.unwrap();
        let params = PostParams {
            field_manager: Some("manager".into()),
            ..PostParams::default()
        };
        let new = api.create(&params, &object).await;
        new.unwrap_or_else(|e| panic!("{} {}: {e}", kind.kind, name_of(&object)))
    }

    /// Changes an object or its status as a controller does.
    pub async fn merge(&self, object: &DynamicObject, status: bool, patch: Value) {
        let kind = gvk(object).unwrap();
        let api = self.cluster.api(&kind, Some(self.namespace)).await.unwrap();
        let params = PatchParams {
            field_manager: Some("manager".into()),
            ..PatchParams::default()
        };
        let (name, patch) = (name_of(object), Patch::Merge(&patch));
        let done = match status {
            true => api.patch_status(name, &params, &patch).await,
            false => api.patch(name, &params, &patch).await,
        };
        done.unwrap_or_else(|e| panic!("{} {name}: {e}", kind.kind));
    }
}

fn name_of(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap()
}

fn reference(owner: &DynamicObject, controller: bool) -> Value {
    let types = owner.types.as_ref().unwrap();
    let mut reference = json!({"apiVersion": types.api_version, "kind": types.kind,
        "name": owner.metadata.name, "uid": owner.metadata.uid});
    if controller {
        reference["controller"] = json!(true);
        reference["blockOwnerDeletion"] = json!(true);
    }
    reference
}

fn finalizer(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Cluster" => "cluster.cluster.x-k8s.io",
        "KubeadmControlPlane" => "kubeadm.controlplane.cluster.x-k8s.io",
        "DevCluster" => "devcluster.infrastructure.cluster.x-k8s.io",
        "DevMachine" => "devmachine.infrastructure.cluster.x-k8s.io",
        "MachineDeployment" => "cluster.x-k8s.io/machinedeployment",
        "MachineSet" => "cluster.x-k8s.io/machineset",
        "Machine" => "machine.cluster.x-k8s.io",
        _ => return None,
    })
}
