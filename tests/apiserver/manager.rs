//! The manager with exactly the rights that its component gives it: what is missing there shows here as a wait that ends.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
    discovery,
};
use mctl::{
    catalog::{Catalog, Target},
    config::ManagementCluster,
    environment::Environment,
    manager::{
        Options,
        in_force::{IN_FORCE, InForce},
        kinds::{
            CLUSTER, CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, HEALTH_CHECK, KUSTOMIZATION, Known,
            LEASE, MACHINE_DEPLOYMENT, MANAGEMENT_CLUSTER, OCI_REPOSITORY, SECRET,
        },
    },
    pki::Authority,
    ports::kubernetes::{Cluster, kind},
    render::{self, Context},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{environment, server::ApiServer};

const NAME: &str = "golem";

struct World {
    admin: Client,
    cluster: Cluster,
}

impl World {
    fn api(&self, kind: Known, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.admin.clone(), namespace, &kind.resource())
    }

    async fn get(&self, kind: Known, namespace: &str, name: &str) -> Option<DynamicObject> {
        self.api(kind, namespace).get_opt(name).await.unwrap()
    }

    async fn delete(&self, kind: Known, namespace: &str, name: &str) {
        let params = DeleteParams::background();
        self.api(kind, namespace)
            .delete(name, &params)
            .await
            .unwrap();
    }

    async fn merge(&self, kind: Known, namespace: &str, name: &str, writer: &str, patch: Value) {
        let params = PatchParams {
            field_manager: Some(writer.into()),
            ..PatchParams::default()
        };
        self.api(kind, namespace)
            .patch(name, &params, &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    async fn apply_as(&self, writer: &str, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let gvk = mctl::ports::kubernetes::gvk(&object).unwrap();
        let (resource, _): (ApiResource, _) =
            discovery::pinned_kind(&self.admin, &gvk).await.unwrap();
        let namespace = object.metadata.namespace.clone().unwrap();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.admin.clone(), &namespace, &resource);
        let name = object.metadata.name.clone().unwrap();
        let params = PatchParams::apply(writer).force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .unwrap();
    }

    /// Waits until the object is as wanted; `None` is an object that is not there.
    async fn until(
        &self,
        what: &str,
        (kind, namespace, name): (Known, &str, &str),
        check: impl Fn(Option<&DynamicObject>) -> bool,
    ) {
        let begin = std::time::Instant::now();
        loop {
            let found = self.get(kind, namespace, name).await;
            if check(found.as_ref()) {
                println!("{what}: {:.1} s", begin.elapsed().as_secs_f32());
                return;
            }
            // Seconds at most on an idle machine; what never happens does not happen in this time either.
            assert!(
                begin.elapsed() < Duration::from_secs(180),
                "{what}: {found:#?}\n{:#?}",
                self.get(MANAGEMENT_CLUSTER, "giantswarm", NAME)
                    .await
                    .map(|o| o.data)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn condition(&self, what: &str, type_: &str, status: &str, reason: &str) {
        self.until(what, (MANAGEMENT_CLUSTER, "giantswarm", NAME), |o| {
            let all = o.and_then(|o| o.data.pointer("/status/conditions")?.as_array().cloned());
            all.into_iter()
                .flatten()
                .any(|c| c["type"] == type_ && c["status"] == status && c["reason"] == reason)
        })
        .await;
    }
}

fn document() -> ManagementCluster {
    serde_json::from_value(json!({
        "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
        "metadata": {"name": NAME, "namespace": "giantswarm"},
        "spec": {"controlPlane": {"replicas": 1}, "nodePools": [{"name": "default", "replicas": 1}]},
    }))
    .unwrap()
}

/// Everything that is there before a manager starts: namespaces, definitions, its rights, Cluster API objects as moved.
async fn prepare(world: &World, environment: &Environment, authority: &Authority) {
    let catalog = Catalog::embedded().unwrap();
    let document = document();
    let context = Context {
        document: &document,
        catalog: &catalog,
        environment,
    };
    let mut objects = Vec::new();
    for component in catalog.enabled(&document) {
        if component.name.ends_with("-crds") && component.name != "flux-crds" {
            continue;
        }
        let rendered = render::component(context, component, Target::Management).unwrap();
        let rights = component.name == "mctl";
        objects.extend(rendered.objects.into_iter().filter(|o| match kind(o) {
            "Namespace" | "CustomResourceDefinition" => true,
            "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" | "ServiceAccount" => {
                rights
            }
            _ => false,
        }));
    }
    for o in &mut objects {
        // Nobody answers conversion webhooks here.
        if let Some(spec) = o.data.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("conversion");
        }
    }
    world.cluster.apply_all(&objects, &()).await.unwrap();
    for crd in objects
        .iter()
        .filter(|o| kind(o) == "CustomResourceDefinition")
    {
        let gvk = mctl::ports::kubernetes::gvk(crd).unwrap();
        let name = crd.metadata.name.clone().unwrap();
        let stall = Duration::from_secs(60);
        world
            .cluster
            .wait(&gvk, None, &name, stall, &(), |o| {
                o.map_or(Err("not there".into()), |o| {
                    mctl::ports::kubernetes::met(o, "Established")
                })
            })
            .await
            .unwrap();
    }
    world
        .apply_as(
            "somebody",
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": WRONG.1, "namespace": WRONG.0}, "stringData": {"a": "b"}}),
        )
        .await;
    let moved = render::cluster(context).unwrap();
    world.cluster.apply_all(&moved, &()).await.unwrap();
    use base64::Engine as _;
    let base64 = |s: &str| base64::engine::general_purpose::STANDARD.encode(s);
    world
        .apply_as(
            "bootstrap",
            json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "mctl-environment", "namespace": "giantswarm"},
            "data": {"environment.json": serde_json::to_string(environment).unwrap()}}),
        )
        .await;
    world
        .apply_as("bootstrap", json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "mctl-ca", "namespace": "giantswarm"},
            "data": {"tls.crt": base64(&authority.certificate), "tls.key": base64(authority.key())}}))
        .await;
}

/// A certificate's Secret that somebody made with another type.
const WRONG: (&str, &str) = (
    "capi-kubeadm-bootstrap-system",
    "capi-kubeadm-bootstrap-webhook-service-cert",
);

#[tokio::test]
async fn keeps_the_cluster_as_its_document_says() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(std::env::var("MCTL_LOG").unwrap_or("warn".into()))
        .try_init();
    let server = ApiServer::start().await;
    let admin = server.client().await;
    let world = World {
        cluster: Cluster::new("test cluster", admin.clone()),
        admin,
    };
    let authority = Authority::new("mctl golem").unwrap();
    let environment = environment(&authority.certificate);
    prepare(&world, &environment, &authority).await;
    println!("prepared");

    let port = |n: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, n));
    let client = server.service_account("giantswarm", "mctl").await;
    let stop = CancellationToken::new();
    let options = Options {
        namespace: "giantswarm".into(),
        name: NAME.into(),
        listen_registry: port(0),
        listen: port(0),
    };
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let manager = mctl::manager::run_with(options, client, address, stop.clone());
    let script = async {
        story(&world).await;
        stop.cancel();
        std::time::Instant::now()
    };
    let (ended, stopped) = tokio::join!(manager, script);
    ended.unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(15), "ends in time");
    let released = world.get(LEASE, "giantswarm", "mctl").await.unwrap();
    assert_eq!(released.data["spec"]["holderIdentity"], "");
}

async fn story(world: &World) {
    // It leads before there is a document, and waits for it.
    let lease = (LEASE, "giantswarm", "mctl");
    let held = |o: Option<&DynamicObject>| {
        o.is_some_and(|o| {
            o.data["spec"]["holderIdentity"]
                .as_str()
                .is_some_and(|h| !h.is_empty())
        })
    };
    world.until("lease held", lease, held).await;
    world
        .apply_as("bootstrap", serde_json::to_value(document()).unwrap())
        .await;
    world
        .condition("document accepted", "DocumentAccepted", "True", "Valid")
        .await;
    world
        .condition("cluster applied", "ClusterApplied", "True", "Applied")
        .await;
    world
        .condition("Flux seeded", "SeedApplied", "True", "Applied")
        .await;
    world
        .condition("certificates", "CertificatesCurrent", "True", "Current")
        .await;
    let mc = world
        .get(MANAGEMENT_CLUSTER, "giantswarm", NAME)
        .await
        .unwrap();
    assert_eq!(mc.data["status"]["observedGeneration"], 1);
    assert_eq!(mc.data["status"]["phase"], "Bootstrapping");
    assert!(
        mc.data["status"]["platformDigest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    // Every kind could be read.
    let unseen: Vec<_> = mc.data["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["reason"] == "NotSeen")
        .collect();
    assert!(unseen.is_empty(), "{unseen:#?}");
    let there = |o: Option<&DynamicObject>| o.is_some();
    let secret = (SECRET, "capi-system", "capi-webhook-service-cert");
    world.until("certificate", secret, there).await;
    let wrong = (SECRET, WRONG.0, WRONG.1);
    world
        .until("one of another type is made anew", wrong, |o| {
            o.is_some_and(|o| o.data["type"] == "kubernetes.io/tls")
        })
        .await;

    // Flux comes back when it is deleted, and what it hangs on.
    for (kind, name) in [
        (DEPLOYMENT, "source-controller"),
        (OCI_REPOSITORY, "platform"),
    ] {
        let target = (kind, "flux-giantswarm", name);
        world.until("seed", target, there).await;
        world.delete(kind, "flux-giantswarm", name).await;
        world.until("deleted seed is back", target, there).await;
    }

    // The document decides about machines.
    let scale = |n: u32| json!({"spec": {"controlPlane": {"replicas": n}}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", scale(3))
        .await;
    let plane = (CONTROL_PLANE, "org-giantswarm", NAME);
    let three = |o: Option<&DynamicObject>| o.is_some_and(|o| o.data["spec"]["replicas"] == 3);
    world.until("scaled to three", plane, three).await;
    let pools = json!({"spec": {"nodePools": [
        {"name": "default", "replicas": 1}, {"name": "more", "replicas": 1}]}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", pools)
        .await;
    let more = (MACHINE_DEPLOYMENT, "org-giantswarm", "golem-more-1");
    world.until("pool added", more, there).await;
    let pools = json!({"spec": {"nodePools": [{"name": "default", "replicas": 1}]}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", pools)
        .await;
    world.until("pool removed", more, |o| o.is_none()).await;
    let default = (MACHINE_DEPLOYMENT, "org-giantswarm", "golem-default-1");
    world.until("the other pool stays", default, there).await;

    // A document that makes no sense is refused, and nothing happens.
    let wrong = json!({"spec": {"kubernetesVersion": "v1.2.3"}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", wrong)
        .await;
    world
        .condition("refused", "DocumentAccepted", "False", "Invalid")
        .await;
    let right = json!({"spec": {"kubernetesVersion": null}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", right)
        .await;
    world
        .condition("accepted again", "DocumentAccepted", "True", "Valid")
        .await;

    drift(world).await;
    upgrade(world).await;
    holds_while_paused(world).await;
    missing_rights(world).await;
    memory(world).await;
}

/// The machines' image follows the document's version, and what no machine needs any more goes.
async fn upgrade(world: &World) {
    let plane = (CONTROL_PLANE, "org-giantswarm", NAME);
    let template = |o: &DynamicObject| {
        let at = "/spec/machineTemplate/spec/infrastructureRef/name";
        o.data
            .pointer(at)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let before = world.get(plane.0, plane.1, plane.2).await.unwrap();
    let old = template(&before).unwrap();
    let version = json!({"spec": {"kubernetesVersion": "v1.36.2"}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", version)
        .await;
    world
        .until("version follows", plane, |o| {
            o.is_some_and(|o| o.data["spec"]["version"] == "v1.36.2")
        })
        .await;
    let after = world.get(plane.0, plane.1, plane.2).await.unwrap();
    let new = template(&after).unwrap();
    assert_ne!(old, new);
    let machines = Known {
        group: "infrastructure.cluster.x-k8s.io",
        version: "v1beta2",
        kind: "DevMachineTemplate",
        plural: "devmachinetemplates",
    };
    let image = |o: Option<&DynamicObject>| {
        let at = "/spec/template/spec/backend/docker/customImage";
        o.and_then(|o| Some(o.data.pointer(at)?.as_str()?.ends_with(":v1.36.2")))
    };
    let target = (machines, "org-giantswarm", new.as_str());
    world
        .until("image follows", target, |o| image(o) == Some(true))
        .await;
    let gone = (machines, "org-giantswarm", old.as_str());
    world
        .until("old template goes", gone, |o| o.is_none())
        .await;
    let check = (HEALTH_CHECK, "org-giantswarm", "golem-default");
    world
        .until("health check stays", check, |o| o.is_some())
        .await;
    let removed = (HEALTH_CHECK, "org-giantswarm", "golem-more");
    world
        .until("that of the removed pool goes", removed, |o| o.is_none())
        .await;
}

/// A Cluster that somebody moves is left alone.
async fn holds_while_paused(world: &World) {
    let pause = |paused: bool| json!({"spec": {"paused": paused}});
    world
        .merge(CLUSTER, "org-giantswarm", NAME, "mover", pause(true))
        .await;
    world
        .condition("paused", "ClusterApplied", "False", "Paused")
        .await;
    let check = (HEALTH_CHECK, "org-giantswarm", "golem-default");
    world.delete(check.0, check.1, check.2).await;
    let scale = json!({"spec": {"controlPlane": {"replicas": 1}}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", scale)
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(world.get(check.0, check.1, check.2).await.is_none());
    world
        .merge(CLUSTER, "org-giantswarm", NAME, "mover", pause(false))
        .await;
    world
        .until("made again when free", check, |o| o.is_some())
        .await;
    let scale = json!({"spec": {"controlPlane": {"replicas": 3}}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", scale)
        .await;
    let plane = (CONTROL_PLANE, "org-giantswarm", NAME);
    let three = |o: Option<&DynamicObject>| o.is_some_and(|o| o.data["spec"]["replicas"] == 3);
    world.until("three again", plane, three).await;
}

/// A right that is missing is named in the document's status, and nothing else stops.
async fn missing_rights(world: &World) {
    let role = Known {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        kind: "Role",
        plural: "roles",
    };
    let whole = world.get(role, "giantswarm", "mctl").await.unwrap();
    let mut rules = whole.data["rules"].as_array().unwrap().clone();
    rules.retain(|r| r["resourceNames"] != json!([IN_FORCE]));
    world
        .merge(role, "giantswarm", "mctl", "user", json!({"rules": rules}))
        .await;
    let pools = |n: u32| json!({"spec": {"nodePools": [{"name": "default", "replicas": n}]}});
    world
        .merge(MANAGEMENT_CLUSTER, "giantswarm", NAME, "user", pools(2))
        .await;
    world
        .condition("a missing right is told", "InForceKept", "False", "Failed")
        .await;
    let mc = world
        .get(MANAGEMENT_CLUSTER, "giantswarm", NAME)
        .await
        .unwrap();
    let text = mc.data["status"].to_string();
    assert!(
        text.contains("forbidden") && text.contains(IN_FORCE),
        "{text}"
    );
    let pool = (MACHINE_DEPLOYMENT, "org-giantswarm", "golem-default-2");
    world
        .until("machines all the same", pool, |o| o.is_some())
        .await;
    let rules = whole.data["rules"].clone();
    world
        .merge(role, "giantswarm", "mctl", "user", json!({"rules": rules}))
        .await;
    world
        .condition("and is mended", "InForceKept", "True", "Kept")
        .await;
}

/// What is in force is kept in the cluster, and comes back from there with nothing of day 2 undone.
async fn memory(world: &World) {
    let secret = (SECRET, "giantswarm", IN_FORCE);
    let holds_three = |o: Option<&DynamicObject>| {
        o.and_then(|o| InForce::from_secret(o, NAME).ok())
            .is_some_and(|k| {
                k.spec.control_plane.replicas == 3 && k.spec.node_pools[0].replicas == 2
            })
    };
    world.until("in force is kept", secret, holds_three).await;
    let token = (SECRET, "monitoring", "mctl-alerts");
    world
        .until("Alertmanager's token", token, |o| o.is_some())
        .await;

    let document = (MANAGEMENT_CLUSTER, "giantswarm", NAME);
    let first = world.get(document.0, document.1, document.2).await.unwrap();
    world.delete(document.0, document.1, document.2).await;
    world
        .until("a deleted document is back", document, |o| {
            o.is_some_and(|o| {
                o.metadata.uid != first.metadata.uid
                    && o.data["spec"] == first.data["spec"]
                    && o.data["status"]["phase"].is_string()
            })
        })
        .await;
    let environment = (CONFIG_MAP, "giantswarm", "mctl-environment");
    let before = world
        .get(environment.0, environment.1, environment.2)
        .await
        .unwrap();
    world
        .delete(environment.0, environment.1, environment.2)
        .await;
    world
        .until("a deleted environment is back", environment, |o| {
            o.is_some_and(|o| environment_of(o) == environment_of(&before))
        })
        .await;
    for (what, target) in [
        ("the control plane", (CONTROL_PLANE, "org-giantswarm", NAME)),
        (
            "the pool",
            (MACHINE_DEPLOYMENT, "org-giantswarm", "golem-default-2"),
        ),
    ] {
        let o = world.get(target.0, target.1, target.2).await;
        let o = o.unwrap_or_else(|| panic!("{what} is gone"));
        let expected = if what == "the pool" { 1 } else { 3 };
        assert_eq!(o.data["spec"]["replicas"], expected, "{what}");
    }

    // An environment of somebody else is not acted upon.
    let other = Environment {
        ca_certificate: Authority::new("other").unwrap().certificate,
        ..environment_of(&before)
    };
    world
        .apply_as(
            "somebody",
            json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "mctl-environment", "namespace": "giantswarm"},
            "data": {"environment.json": serde_json::to_string(&other).unwrap()}}),
        )
        .await;
    world
        .condition("refused", "DocumentAccepted", "False", "EnvironmentRefused")
        .await;
}

fn environment_of(map: &DynamicObject) -> Environment {
    serde_json::from_str(map.data["data"]["environment.json"].as_str().unwrap()).unwrap()
}

/// Flux is asked to look when one of its Deployments is edited or deleted by someone else, and only then.
async fn drift(world: &World) {
    let asked = |o: Option<&DynamicObject>| {
        o.and_then(|o| {
            o.metadata
                .annotations
                .as_ref()?
                .get("reconcile.fluxcd.io/requestedAt")
                .cloned()
        })
    };
    world
        .apply_as("kustomize-controller", json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "monitoring", "namespace": "flux-giantswarm"},
            "spec": {"interval": "1m", "prune": true, "path": "./", "sourceRef": {"kind": "OCIRepository", "name": "platform"}}}))
        .await;
    let deployment = |replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "ksm", "namespace": "monitoring", "labels": {
                "kustomize.toolkit.fluxcd.io/name": "monitoring",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-giantswarm"}},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "ksm"}}, "template": {
                "metadata": {"labels": {"app": "ksm"}},
                "spec": {"containers": [{"name": "c", "image": "ksm:1"}]}}}})
    };
    let owner = (KUSTOMIZATION, "flux-giantswarm", "monitoring");
    world.apply_as("kustomize-controller", deployment(1)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.apply_as("kustomize-controller", deployment(2)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let quiet = world.get(owner.0, owner.1, owner.2).await;
    assert_eq!(asked(quiet.as_ref()), None, "Flux's own change is no drift");
    let edit = json!({"spec": {"replicas": 0}});
    world
        .merge(DEPLOYMENT, "monitoring", "ksm", "kubectl-edit", edit)
        .await;
    world
        .until("an edit is told to Flux", owner, |o| asked(o).is_some())
        .await;
    let first = asked(world.get(owner.0, owner.1, owner.2).await.as_ref());
    world.delete(DEPLOYMENT, "monitoring", "ksm").await;
    world
        .until("a deletion is told to Flux", owner, |o| asked(o) != first)
        .await;
}
