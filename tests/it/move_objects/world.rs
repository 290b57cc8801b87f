//! Two API servers, clusters in the first, and what must hold at any time and at the end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use mctl::{
    Error, Result,
    cluster_api::{
        export::{Export, Exports},
        journal::{MoveJournal, Record},
        move_objects::{self, Order, Report},
    },
    ports::{
        clock::Clock,
        kubernetes::{Cluster, Progress},
    },
};
use serde_json::{Value, json};

use super::planted::Planted;
use crate::fake::{Call, Fake, Fault, Store};

pub const NAMESPACE: &str = "org-giantswarm";

const KINDS: [(&str, &str, &str); 12] = [
    ("cluster.x-k8s.io", "Cluster", "clusters"),
    ("cluster.x-k8s.io", "ClusterClass", "clusterclasses"),
    ("cluster.x-k8s.io", "Machine", "machines"),
    ("cluster.x-k8s.io", "MachineSet", "machinesets"),
    (
        "cluster.x-k8s.io",
        "MachineDeployment",
        "machinedeployments",
    ),
    (
        "infrastructure.cluster.x-k8s.io",
        "DevCluster",
        "devclusters",
    ),
    (
        "infrastructure.cluster.x-k8s.io",
        "DevMachine",
        "devmachines",
    ),
    (
        "infrastructure.cluster.x-k8s.io",
        "DevMachineTemplate",
        "devmachinetemplates",
    ),
    (
        "bootstrap.cluster.x-k8s.io",
        "KubeadmConfig",
        "kubeadmconfigs",
    ),
    (
        "bootstrap.cluster.x-k8s.io",
        "KubeadmConfigTemplate",
        "kubeadmconfigtemplates",
    ),
    (
        "controlplane.cluster.x-k8s.io",
        "KubeadmControlPlane",
        "kubeadmcontrolplanes",
    ),
    ("external.example.org", "External", "externals"),
];

/// Makes a server know the kinds of Cluster API; without labels for the last one, which no move may see.
pub fn install(fake: &Fake) {
    for (group, kind, plural) in KINDS {
        let labels = if group.starts_with("external") {
            json!({})
        } else {
            json!({"cluster.x-k8s.io/provider": "any"})
        };
        fake.put(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}"), "labels": labels},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                "versions": [
                    {"name": "v1beta1", "served": true, "storage": false},
                    {"name": "v1beta2", "served": true, "storage": true, "subresources": {"status": {}}},
                ],
            },
        }));
    }
}

/// An object with an owner.
pub fn object(
    fake: &Fake,
    group: &str,
    kind: &str,
    name: &str,
    cluster: &str,
    owner: Option<&Value>,
    spec: Value,
) -> Value {
    let mut value = json!({
        "apiVersion": format!("{group}/v1beta2"), "kind": kind,
        "metadata": {
            "namespace": NAMESPACE, "name": name,
            "labels": {"cluster.x-k8s.io/cluster-name": cluster},
            "managedFields": [
                {"manager": "mctl", "operation": "Apply", "apiVersion": format!("{group}/v1beta2"), "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
                {"manager": "manager", "operation": "Update", "subresource": "status", "apiVersion": format!("{group}/v1beta2"), "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {}}},
            ],
        },
        "spec": spec,
        "status": {"observedGeneration": 1},
    });
    // Templates and bootstrap configurations have no finalizers.
    if !kind.contains("Template") && !kind.contains("Config") {
        let finalizer = format!("{}.cluster.x-k8s.io", kind.to_lowercase());
        value["metadata"]["finalizers"] = json!([finalizer]);
    }
    own(&mut value, owner);
    fake.put(value)
}

pub fn secret(fake: &Fake, name: &str, owner: Option<&Value>) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "data": {"value": "c2VjcmV0"},
    });
    own(&mut value, owner);
    fake.put(value)
}

fn own(value: &mut Value, owner: Option<&Value>) {
    if let Some(owner) = owner {
        // An old version in the reference, as upgrades leave them.
        let api = owner["apiVersion"]
            .as_str()
            .unwrap()
            .replace("v1beta2", "v1beta1");
        value["metadata"]["ownerReferences"] = json!([{
            "apiVersion": api, "kind": owner["kind"], "controller": true, "blockOwnerDeletion": true,
            "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        }]);
    }
}

/// A machine with all that belongs to it; ready.
pub fn machine(fake: &Fake, cluster: &str, name: &str, owner: &Value) -> Value {
    let mut m = object(
        fake,
        "cluster.x-k8s.io",
        "Machine",
        name,
        cluster,
        Some(owner),
        json!({"clusterName": cluster, "providerID": format!("docker:////{name}")}),
    );
    m["status"] = json!({"nodeRef": {"name": name}, "phase": "Running"});
    let m = fake.put(m);
    let config = object(
        fake,
        "bootstrap.cluster.x-k8s.io",
        "KubeadmConfig",
        name,
        cluster,
        Some(&m),
        json!({}),
    );
    object(
        fake,
        "infrastructure.cluster.x-k8s.io",
        "DevMachine",
        name,
        cluster,
        Some(&m),
        json!({"providerID": format!("docker:////{name}")}),
    );
    secret(fake, name, Some(&config));
    m
}

/// One cluster with one control-plane machine: 14 objects.
pub fn cluster(fake: &Fake, name: &str) {
    let mut c = object(
        fake,
        "cluster.x-k8s.io",
        "Cluster",
        name,
        name,
        None,
        json!({
            "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": name},
            "clusterNetwork": {"pods": {"cidrBlocks": ["10.0.0.0/16"]}},
        }),
    );
    c["status"] = json!({
        "initialization": {"infrastructureProvisioned": true, "controlPlaneInitialized": true},
        "conditions": [{"type": "ControlPlaneInitialized", "status": "True", "reason": "Initialized"}],
    });
    c["metadata"]["annotations"] = json!({"a": "b"});
    let c = fake.put(c);
    object(
        fake,
        "infrastructure.cluster.x-k8s.io",
        "DevCluster",
        name,
        name,
        Some(&c),
        json!({"backend": {"docker": {}}}),
    );
    let cp = object(
        fake,
        "controlplane.cluster.x-k8s.io",
        "KubeadmControlPlane",
        name,
        name,
        Some(&c),
        json!({"replicas": 1, "version": "v1.36.3"}),
    );
    object(
        fake,
        "infrastructure.cluster.x-k8s.io",
        "DevMachineTemplate",
        name,
        name,
        Some(&c),
        json!({}),
    );
    machine(fake, name, &format!("{name}-abcde"), &cp);
    for purpose in ["ca", "etcd", "sa", "proxy", "apiserver-etcd-client"] {
        secret(fake, &format!("{name}-{purpose}"), None);
    }
    secret(fake, &format!("{name}-kubeconfig"), Some(&cp));
    fake.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": "kube-root-ca.crt"}, "data": {"ca.crt": fake.store().name().to_owned()}}));
}

/// Two servers with the kinds, a source with clusters, a target with the namespace of the source's name or none.
#[derive(Clone)]
pub struct World {
    pub source: Fake,
    pub target: Fake,
    pub journal: Arc<Journal>,
    pub exports: Arc<Kept>,
    /// True when the engine says that the source's container is gone.
    pub gone: bool,
    /// Who moves.
    pub holder: &'static str,
    /// The bug that is in the program.
    pub planted: Option<Planted>,
    pub clock: Arc<TestClock>,
    /// What was shown to the user.
    pub shown: Arc<Shown>,
    /// Every object of the source that must be in one of the two at any time, by kind and name.
    expected: Vec<(String, String)>,
}

impl World {
    pub fn new(clusters: &[&str]) -> Self {
        let (source, target) = (Fake::new("source"), Fake::new("target"));
        install(&source);
        install(&target);
        source.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}));
        for name in clusters {
            cluster(&source, name);
        }
        let mut world = Self {
            source,
            target,
            journal: Arc::default(),
            exports: Arc::default(),
            gone: false,
            holder: "run-1",
            planted: None,
            clock: Arc::new(TestClock(tokio::time::Instant::now())),
            shown: Arc::default(),
            expected: Vec::new(),
        };
        world.expect_all();
        world
    }

    /// The same with a bug in the program.
    pub fn with(clusters: &[&str], planted: Option<Planted>) -> Self {
        let mut world = Self::new(clusters);
        world.planted = planted;
        world.journal.plant(planted);
        world.exports.plant(planted);
        world
    }

    /// Another process with a state folder of its own.
    pub fn other_mover(&self, holder: &'static str) -> Self {
        Self {
            journal: Arc::default(),
            exports: Arc::default(),
            holder,
            ..self.clone()
        }
    }

    fn client(&self, fake: &Fake) -> kube::Client {
        match self.planted {
            Some(bug) => bug.client(fake),
            None => fake.client(),
        }
    }

    /// From here on the source's present objects must never be lost, and both servers collect garbage.
    pub fn expect_all(&mut self) {
        self.expected = movable(&self.source);
        self.source.collect_garbage();
        self.target.collect_garbage();
    }

    pub async fn run(&self) -> Result<Report> {
        let source = Cluster::new("temporary cluster", self.client(&self.source));
        let target = Cluster::new("management cluster", self.client(&self.target));
        let order = Order {
            source: (!self.gone).then_some(&source),
            target: &target,
            namespace: NAMESPACE,
            journal: &*self.journal,
            exports: Some(&*self.exports),
            environment: json!({"mirror": "172.18.0.2:5000"}),
            holder: self.holder,
            clock: self.clock.clone(),
            progress: &*self.shown,
        };
        Box::pin(move_objects::run(&order)).await
    }

    /// Runs until the end or a crash of [`Fault::Crash`]; `None` after a crash.
    pub async fn run_or_crash(&self) -> Option<Result<Report>> {
        tokio::select! {
            biased;
            () = self.source.crashed() => None,
            () = self.target.crashed() => None,
            result = self.run() => Some(result),
        }
    }

    /// Applies one fault to the request with this number, counted over both servers.
    pub fn fault_at(&self, at: usize, only_writes: bool, fault: Fault) {
        let count = Arc::new(AtomicUsize::new(0));
        for fake in [&self.source, &self.target] {
            let count = count.clone();
            fake.on_request(move |call: &Call, _: &mut Store| {
                if only_writes && !call.writes() {
                    return Fault::None;
                }
                if count.fetch_add(1, Ordering::Relaxed) == at {
                    fault
                } else {
                    Fault::None
                }
            });
        }
    }

    pub fn no_faults(&self) {
        self.source.no_faults();
        self.target.no_faults();
    }

    /// Nothing is lost and no Cluster has two managers.
    #[track_caller]
    pub fn check(&self, when: &str) {
        for (kind, name) in &self.expected {
            let there = |fake: &Fake| fake.get(kind, Some(NAMESPACE), name);
            let (source, target) = (there(&self.source), there(&self.target));
            assert!(
                source.is_some() || target.is_some(),
                "{when}: {kind} {name} is lost"
            );
            if let (Some(source), Some(target)) = (source, target) {
                let runs = |c: &Value| {
                    kind == "Cluster"
                        && c["spec"]["paused"] != true
                        && c["metadata"]["annotations"]
                            .get("cluster.x-k8s.io/paused")
                            .is_none()
                };
                assert!(
                    !(runs(&source) || runs(&target)),
                    "{when}: Cluster {name} runs while both clusters hold it"
                );
            }
        }
    }

    /// The end state: all moved objects of the target with owners by name, and what is left in the source.
    pub fn end(&self) -> (BTreeMap<String, Value>, Vec<(String, String)>) {
        (picture(&self.target), movable(&self.source))
    }

    /// The end that an undisturbed move of these clusters reaches.
    pub async fn clean(clusters: &[&str]) -> (BTreeMap<String, Value>, Vec<(String, String)>) {
        let world = Self::new(clusters);
        let before = picture(&world.source);
        world.run().await.unwrap();
        let end = world.end();
        assert_eq!(
            end.0, before,
            "the copy is equal to what the source held before"
        );
        assert!(end.1.is_empty(), "the source is empty: {:?}", end.1);
        end
    }
}

fn movable(fake: &Fake) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    fake.all("")
        .iter()
        .filter(|o| o["metadata"]["namespace"] == NAMESPACE && o["kind"] != "ConfigMap")
        .map(|o| (text(&o["kind"]), text(&o["metadata"]["name"])))
        .collect()
}

/// Objects without what differs between servers; owners by name, and they must be there.
pub fn picture(fake: &Fake) -> BTreeMap<String, Value> {
    let all = fake.all("");
    let uids: BTreeMap<&str, String> = all
        .iter()
        .map(|o| {
            (
                o["metadata"]["uid"].as_str().unwrap(),
                format!(
                    "{} {} {}",
                    o["apiVersion"], o["kind"], o["metadata"]["name"]
                ),
            )
        })
        .collect();
    let mut picture = BTreeMap::new();
    for o in &all {
        if o["metadata"]["namespace"] != NAMESPACE || o["kind"] == "ConfigMap" {
            continue;
        }
        let mut o = o.clone();
        o.as_object_mut().unwrap().shift_remove("status");
        let meta = o["metadata"].as_object_mut().unwrap();
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
            meta.shift_remove(field);
        }
        if let Some(owners) = meta
            .get_mut("ownerReferences")
            .and_then(Value::as_array_mut)
        {
            for owner in owners {
                owner.as_object_mut().unwrap().shift_remove("apiVersion");
                owner["uid"] = json!(
                    uids.get(owner["uid"].as_str().unwrap())
                        .expect("an owner that is there")
                );
            }
        }
        // Who applied counts; who updated does not.
        if let Some(fields) = meta.get_mut("managedFields").and_then(Value::as_array_mut) {
            fields.retain(|f| f["operation"] == "Apply");
        }
        if meta.get("managedFields").is_some_and(|f| f == &json!([])) {
            meta.shift_remove("managedFields");
        }
        for empty in ["annotations", "labels"] {
            if meta.get(empty).is_some_and(|m| m == &json!({})) {
                meta.shift_remove(empty);
            }
        }
        picture.insert(format!("{} {}", o["kind"], o["metadata"]["name"]), o);
    }
    picture
}

/// A journal in memory that can fail before or after one record.
#[derive(Default)]
pub struct Journal {
    records: Mutex<Vec<Record>>,
    fail: Mutex<Option<(usize, bool)>>,
    planted: Mutex<Option<Planted>>,
}

impl Journal {
    /// The record with this number fails, written or not.
    pub fn fail_at(&self, at: usize, written: bool) {
        *self.fail.lock().unwrap() = Some((at, written));
    }

    pub fn no_faults(&self) {
        *self.fail.lock().unwrap() = None;
    }

    fn plant(&self, planted: Option<Planted>) {
        *self.planted.lock().unwrap() = planted;
    }

    /// True after the point of no return.
    pub fn committed(&self) -> bool {
        self.records.lock().unwrap().contains(&Record::Committed)
    }

    /// As if the file had been deleted.
    pub fn lose(&self) {
        self.records.lock().unwrap().clear();
    }

    /// What a power cut leaves of it.
    pub fn power_cut(&self) {
        if *self.planted.lock().unwrap() == Some(Planted::NoFsync) {
            let mut records = self.records.lock().unwrap();
            let left = records.len().saturating_sub(6);
            records.truncate(left);
        }
    }
}

impl MoveJournal for Journal {
    fn load(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    fn append(&self, record: &Record) -> Result<()> {
        let mut records = self.records.lock().unwrap();
        let fail = *self.fail.lock().unwrap();
        if let Some((at, written)) = fail
            && records.len() == at
        {
            if written {
                records.push(record.clone());
            }
            return Err(Error::failed("the disk is gone"));
        }
        let early = *self.planted.lock().unwrap() == Some(Planted::DeletesBeforeTheCommit);
        if early && *record == Record::Committed {
            return Ok(());
        }
        // What a file would make of it.
        let line = serde_json::to_string(record).unwrap();
        records.push(serde_json::from_str(&line).unwrap());
        Ok(())
    }
}

/// An export in memory.
#[derive(Default)]
pub struct Kept {
    export: Mutex<Option<String>>,
    calls: AtomicUsize,
    late: Mutex<bool>,
}

impl Kept {
    fn plant(&self, planted: Option<Planted>) {
        *self.late.lock().unwrap() = planted == Some(Planted::ExportsAfterThePause);
    }

    pub fn is_there(&self) -> bool {
        self.export.lock().unwrap().is_some()
    }

    pub fn discard(&self) {
        *self.export.lock().unwrap() = None;
    }
}

impl Exports for Kept {
    fn keep(&self, export: &Export) -> Result<()> {
        let first = self.calls.fetch_add(1, Ordering::Relaxed) == 0;
        if !(first && *self.late.lock().unwrap()) {
            *self.export.lock().unwrap() = Some(serde_json::to_string(export).unwrap());
        }
        Ok(())
    }

    fn load(&self) -> Result<Option<Export>> {
        let export = self.export.lock().unwrap();
        Ok(export.as_ref().map(|e| serde_json::from_str(e).unwrap()))
    }
}

/// The wall clock goes with the paused one.
pub struct TestClock(tokio::time::Instant);

impl TestClock {
    pub fn begin(&self) -> tokio::time::Instant {
        self.0
    }
}

#[async_trait::async_trait]
impl Clock for TestClock {
    fn now(&self) -> jiff::Timestamp {
        let begin: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        begin + jiff::SignedDuration::try_from(self.0.elapsed()).unwrap()
    }

    fn instant(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    async fn sleep(&self, time: std::time::Duration) {
        tokio::time::sleep(time).await;
    }
}

/// What was shown.
#[derive(Default)]
pub struct Shown(pub Mutex<Vec<String>>);

impl Progress for Shown {
    fn seen(&self, evidence: &str) {
        self.0.lock().unwrap().push(evidence.to_owned());
    }
}

/// Requests that change something, Leases left out: they come and go with every move.
pub fn writes(fake: &Fake) -> Vec<Call> {
    let log = fake.log().into_iter();
    log.filter(|c| c.writes() && !c.path.contains("/leases"))
        .collect()
}
