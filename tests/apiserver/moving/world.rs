//! Two real API servers, one namespace of clusters for each case, and what must hold at any time and at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::core::{DynamicObject, GroupVersionKind};
use mctl::{
    Error, Result,
    cluster_api::{
        export::FileExports,
        journal::{FileJournal, MoveJournal, Record},
        move_objects::{self, Order, Report},
    },
    ports::{
        clock::Wall,
        files::Disk,
        kubernetes::{Cluster, gvk, kind, met},
    },
};
use serde_json::{Value, json};

use super::{
    clusters::{Maker, Size, definitions, kinds},
    tap::Tap,
};
use crate::server::ApiServer;

/// What the namespace holds that is no part of a cluster.
const FOREIGN: [(&str, &str); 2] = [("ConfigMap", "notes"), ("Secret", "someone-elses")];

/// The servers; both know the kinds of Cluster API.
pub struct World {
    source: ApiServer,
    target: ApiServer,
    /// Access that no case disturbs.
    pub admins: [Cluster; 2],
}

impl World {
    pub async fn start() -> Self {
        let (source, target) = tokio::join!(ApiServer::start(), ApiServer::start());
        let admins = [
            Cluster::new("temporary cluster", source.client().await),
            Cluster::new("management cluster", target.client().await),
        ];
        let definitions = definitions();
        tokio::join!(
            install(&admins[0], &definitions),
            install(&admins[1], &definitions)
        );
        Self {
            source,
            target,
            admins,
        }
    }

    /// A namespace of this name with clusters.
    pub async fn case(&self, namespace: &str, clusters: &[&str], size: Size) -> Case<'_> {
        let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let home: DynamicObject = serde_json::from_value(home).unwrap();
        self.admins[0].apply(&home, &()).await.unwrap();
        let maker = Maker {
            cluster: &self.admins[0],
            namespace,
        };
        for name in clusters {
            maker.cluster(name, size).await;
        }
        maker.secret("someone-elses", None).await;
        let notes = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"a": "b"}});
        maker.create(notes).await;
        let tap = Tap::default();
        let mut case = Case {
            world: self,
            namespace: namespace.to_owned(),
            source: Cluster::new(
                "temporary cluster",
                tap.client("source", self.source.client().await),
            ),
            target: Cluster::new(
                "management cluster",
                tap.client("target", self.target.client().await),
            ),
            tap,
            folder: tempfile::tempdir().unwrap(),
            before: BTreeMap::new(),
        };
        case.expect_all().await;
        case
    }
}

async fn install(cluster: &Cluster, definitions: &[DynamicObject]) {
    cluster.apply_all(definitions, &()).await.unwrap();
    for crd in definitions {
        let (kind, name) = (gvk(crd).unwrap(), crd.metadata.name.as_deref().unwrap());
        let established = |o: Option<&DynamicObject>| {
            o.map_or(Err("not there".into()), |o| met(o, "Established"))
        };
        cluster
            .wait(&kind, None, name, Duration::from_secs(60), &(), established)
            .await
            .unwrap();
    }
}

/// Objects by kind and name, without what differs between servers.
pub type Picture = BTreeMap<(String, String), Value>;

/// One move.
pub struct Case<'a> {
    world: &'a World,
    pub namespace: String,
    pub source: Cluster,
    pub target: Cluster,
    pub tap: Tap,
    folder: tempfile::TempDir,
    /// What is to be moved.
    pub before: Picture,
}

impl Case<'_> {
    /// Looks at the source again: what it holds now is what must not be lost.
    pub async fn expect_all(&mut self) {
        self.before = self.picture(0).await;
        self.before.retain(|key, _| !is_foreign(key));
    }

    /// Undisturbed but for what the tap does; `None` when the process has died.
    pub async fn run(&self) -> Option<Result<Report>> {
        self.run_with(None).await
    }

    /// As [`Self::run`] with a journal that fails.
    pub async fn run_with(&self, fail: Option<Fail>) -> Option<Result<Report>> {
        // Each process opens the file anew.
        let file = FileJournal::open(&self.folder.path().join("move.jsonl")).unwrap();
        let journal = Stumbling { file, fail };
        let exports = FileExports::new(Arc::new(Disk), self.folder.path());
        let order = Order {
            source: Some(&self.source),
            target: &self.target,
            namespace: &self.namespace,
            journal: &journal,
            exports: Some(&exports),
            environment: json!({}),
            holder: &self.namespace,
            clock: Arc::new(Wall),
            progress: &(),
        };
        tokio::select! {
            biased;
            () = self.tap.crashed() => None,
            result = move_objects::run(&order) => Some(result),
        }
    }

    /// One object as it is.
    pub async fn get(&self, side: usize, kind: &str, name: &str) -> Option<DynamicObject> {
        let kinds = kinds();
        let gvk = kinds.iter().find(|k| k.kind == kind).unwrap();
        let found = self.world.admins[side].get(gvk, Some(&self.namespace), name);
        found.await.unwrap()
    }

    async fn all(&self, side: usize) -> Vec<DynamicObject> {
        let (kinds, cluster) = (kinds(), &self.world.admins[side]);
        let lists = kinds
            .iter()
            .map(|gvk| cluster.list(gvk, Some(&self.namespace), None));
        let lists = futures::future::try_join_all(lists).await.unwrap();
        lists.into_iter().flatten().flatten().collect()
    }

    async fn picture(&self, side: usize) -> Picture {
        let all = self.all(side).await;
        let uids: BTreeMap<String, String> = all
            .iter()
            .map(|o| {
                let (kind, name) = key(o);
                (o.metadata.uid.clone().unwrap(), format!("{kind} {name}"))
            })
            .collect();
        all.iter().map(|o| (key(o), bare(o, &uids))).collect()
    }

    /// At any time: nothing is lost, and no Cluster runs while both sides hold it.
    pub async fn check(&self, when: &str) {
        let sides = [self.all(0).await, self.all(1).await];
        let held = sides
            .each_ref()
            .map(|all| all.iter().map(|o| (key(o), o)).collect::<BTreeMap<_, _>>());
        for wanted in self.before.keys() {
            let [source, target] = held.each_ref().map(|side| side.get(wanted));
            assert!(
                source.is_some() || target.is_some(),
                "{when}: {wanted:?} is lost"
            );
            if let (Some(source), Some(target), "Cluster") = (source, target, wanted.0.as_str()) {
                for one in [source, target] {
                    assert_eq!(
                        one.data["spec"]["paused"], true,
                        "{when}: {wanted:?} runs while both hold it"
                    );
                }
            }
        }
    }

    /// At the end: the target holds all that was there before and nothing else, the source what must stay.
    pub async fn finish(&self, when: &str) {
        self.finish_but(when, &[]).await;
    }

    /// As [`Self::finish`]; these are in the source as well.
    pub async fn finish_but(&self, when: &str, too: &[(&str, &str)]) {
        let after = self.picture(1).await;
        for (key, wanted) in &self.before {
            assert_eq!(after.get(key), Some(wanted), "{when}: {key:?}");
        }
        let keys = |p: &Picture| p.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&after), keys(&self.before), "{when}: the target");
        let stays = FOREIGN.iter().chain(too);
        let stays: BTreeSet<_> = stays
            .map(|(kind, name)| ((*kind).to_owned(), (*name).to_owned()))
            .collect();
        assert_eq!(keys(&self.picture(0).await), stays, "{when}: the source");
    }
}

fn is_foreign((kind, name): &(String, String)) -> bool {
    FOREIGN.contains(&(kind.as_str(), name.as_str()))
}

fn key(object: &DynamicObject) -> (String, String) {
    let name = object.metadata.name.clone().unwrap();
    (kind(object).to_owned(), name)
}

/// Owners by name instead of UID; they must be there. Of the managed fields those that somebody applied.
fn bare(object: &DynamicObject, uids: &BTreeMap<String, String>) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value.as_object_mut().unwrap().remove("status");
    let meta = value["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        meta.remove(field);
    }
    let owners = meta
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten() {
        let uid = owner["uid"].as_str().unwrap();
        let known = uids.get(uid);
        owner["uid"] = json!(known.unwrap_or_else(|| panic!("{:?}: no owner {uid}", key(object))));
    }
    let fields = meta.get_mut("managedFields").and_then(Value::as_array_mut);
    if let Some(fields) = fields {
        fields.retain(|f| f["operation"] == "Apply");
    }
    value
}

/// Where the journal fails.
#[derive(Clone, Copy)]
pub enum Fail {
    /// At the record with this number; `true` if it is written nevertheless.
    At(usize, bool),
    /// When the commit is written.
    AfterCommit,
}

/// A journal in a file that fails.
struct Stumbling {
    file: FileJournal,
    fail: Option<Fail>,
}

impl MoveJournal for Stumbling {
    fn load(&self) -> Vec<Record> {
        self.file.load()
    }

    fn append(&self, record: &Record) -> Result<()> {
        let written = match self.fail {
            Some(Fail::At(at, written)) if self.file.load().len() == at => written,
            Some(Fail::AfterCommit) if *record == Record::Committed => true,
            _ => return self.file.append(record),
        };
        if written {
            self.file.append(record)?;
        }
        Err(Error::failed("the disk is gone"))
    }
}

/// The kind of that name.
pub fn kind_of(kind: &str) -> GroupVersionKind {
    let found = kinds().into_iter().find(|k| k.kind == kind);
    found.unwrap()
}
