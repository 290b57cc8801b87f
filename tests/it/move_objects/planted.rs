//! Bugs planted into the move, by bending what it sends and keeps: each must be caught by what is asserted of a sound one. Nothing
//! of the product knows of them.

use futures::FutureExt;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tower::Service;

use super::{
    tally::{PLANTED, through},
    world::{NAMESPACE, World, picture},
};
use crate::fake::{Fake, Fault, Store};

const PAUSED_FOR_MOVE: &str = "/metadata/annotations/mctl.giantswarm.io~1paused-for-move";
const SOURCE_UID: &str = "/metadata/annotations/mctl.giantswarm.io~1source-uid";
const DELETE_FOR_MOVE: &str = "/metadata/annotations/clusterctl.cluster.x-k8s.io~1delete-for-move";

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The source is marked, but not paused.
    DoesNotPause,
    /// The target is not unpaused.
    DoesNotUnpause,
    /// Deletes whatever has the name by now.
    DeletesWithoutPrecondition,
    /// Pauses whatever the Cluster looks like by now.
    PausesWithoutPrecondition,
    /// The journal is not on disk when the move relies on it.
    NoFsync,
    /// The commit is not written down before the first delete.
    DeletesBeforeTheCommit,
    /// Neither looks at the Lease nor writes it.
    NoLease,
    /// Copies carry no marks.
    NoMarks,
    /// Marks are never taken off.
    MarksStay,
    /// The export is kept after the pause only.
    ExportsAfterThePause,
    /// Nobody is told that a deletion is none.
    DeletionsAreNotMarked,
    /// The managed fields are not carried over.
    FieldsAreLost,
    /// Copies lose their owners.
    OwnersAreLost,
    /// Copies lose their finalizers.
    FinalizersAreLost,
    /// What is held by finalizers is taken for deleted.
    LeavesWhatFinalizersHold,
    /// The namespace is made without its labels.
    NamespaceLosesItsLabels,
}

const ALL: [Planted; 16] = [
    Planted::DoesNotPause,
    Planted::DoesNotUnpause,
    Planted::DeletesWithoutPrecondition,
    Planted::PausesWithoutPrecondition,
    Planted::NoFsync,
    Planted::DeletesBeforeTheCommit,
    Planted::NoLease,
    Planted::NoMarks,
    Planted::MarksStay,
    Planted::ExportsAfterThePause,
    Planted::DeletionsAreNotMarked,
    Planted::FieldsAreLost,
    Planted::OwnersAreLost,
    Planted::FinalizersAreLost,
    Planted::LeavesWhatFinalizersHold,
    Planted::NamespaceLosesItsLabels,
];

/// What becomes of a bent request.
enum Sent {
    /// It goes out.
    Yes,
    /// It does not, but the program believes that it did.
    No,
}

impl Planted {
    /// A client of a server for a program with this bug.
    pub fn client(self, fake: &Fake) -> kube::Client {
        let fake = fake.clone();
        let side = fake.store().name().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (mut fake, side) = (fake.clone(), side.clone());
            async move {
                let (mut parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let mut json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let path = parts.uri.path().to_owned();
                match self.bend(&side, &parts.method, &path, &mut json) {
                    Sent::Yes if bytes.is_empty() => {}
                    Sent::Yes => {
                        let body = Body::from(serde_json::to_vec(&json).unwrap());
                        return fake.call(Request::from_parts(parts, body)).await;
                    }
                    Sent::No if path.contains("/leases") => return Ok(echo(&parts.method, json)),
                    Sent::No => {
                        // As if it had been done: the object as it is.
                        parts.method = Method::GET;
                        parts.uri = path.parse().unwrap();
                    }
                }
                fake.call(Request::from_parts(parts, Body::empty())).await
            }
        });
        kube::Client::new(service, "default")
    }

    fn bend(self, side: &str, method: &Method, path: &str, json: &mut Value) -> Sent {
        let patch = method == Method::PATCH;
        let unmarks = json.pointer(SOURCE_UID) == Some(&Value::Null);
        let pauses = patch && json.pointer("/spec/paused") == Some(&json!(true));
        let remove = |json: &mut Value, at: &str, field: &str| {
            let map = json.pointer_mut(at).and_then(Value::as_object_mut);
            map.is_some_and(|m| m.shift_remove(field).is_some())
        };
        match self {
            Self::DoesNotPause if pauses => {
                remove(json, "", "spec");
            }
            Self::DoesNotUnpause
                if patch && json.pointer(PAUSED_FOR_MOVE) == Some(&Value::Null) =>
            {
                remove(json, "", "spec");
            }
            Self::DeletesWithoutPrecondition if method == Method::DELETE => {
                remove(json, "", "preconditions");
            }
            Self::PausesWithoutPrecondition if pauses => {
                remove(json, "/metadata", "resourceVersion");
            }
            Self::NoLease if path.contains("/leases") => return Sent::No,
            Self::NoMarks if side == "target" && json.pointer(SOURCE_UID).is_some() => {
                for mark in ["source-uid", "source-cluster"] {
                    let mark = format!("mctl.giantswarm.io/{mark}");
                    remove(json, "/metadata/annotations", &mark);
                }
            }
            Self::MarksStay if patch && unmarks && json.get("spec").is_none() => return Sent::No,
            Self::DeletionsAreNotMarked if patch && json.pointer(DELETE_FOR_MOVE).is_some() => {
                return Sent::No;
            }
            Self::FieldsAreLost if patch && json.pointer("/metadata/managedFields").is_some() => {
                return Sent::No;
            }
            Self::OwnersAreLost if side == "target" && method == Method::POST => {
                remove(json, "/metadata", "ownerReferences");
            }
            Self::FinalizersAreLost if side == "target" && method == Method::POST => {
                remove(json, "/metadata", "finalizers");
            }
            Self::LeavesWhatFinalizersHold
                if patch && json.pointer("/metadata/finalizers") == Some(&Value::Null) =>
            {
                return Sent::No;
            }
            Self::NamespaceLosesItsLabels if path.ends_with("/namespaces") => {
                remove(json, "/metadata", "labels");
            }
            _ => {}
        }
        Sent::Yes
    }
}

type Answer =
    Response<http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::convert::Infallible>>;

/// A Lease that nobody keeps.
fn echo(method: &Method, mut lease: Value) -> Answer {
    let (code, answer) = match *method {
        Method::GET => (
            404,
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "none",
                "details": {"name": "mctl-move", "kind": "leases"}}),
        ),
        Method::DELETE => (
            200,
            json!({"kind": "Status", "status": "Success", "code": 200}),
        ),
        _ => {
            lease["metadata"]["resourceVersion"] = json!("1");
            lease["metadata"]["uid"] = json!("none");
            (200, lease)
        }
    };
    let body = http_body_util::Full::new(answer.to_string().into()).boxed_unsync();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

/// All that is asserted of a move, in short; panics where a bug shows.
async fn trial(bug: Option<Planted>) {
    let clean = World::clean(&["golem"]).await;
    Box::pin(whole(bug, &clean)).await;
    Box::pin(dies_and_goes_on(bug, &clean)).await;
    Box::pin(loses_its_source(bug, &clean)).await;
    Box::pin(others_interfere(bug)).await;
    Box::pin(two_movers(bug)).await;
}

type End = (
    std::collections::BTreeMap<String, Value>,
    Vec<(String, String)>,
);

async fn whole(bug: Option<Planted>, clean: &End) {
    let world = World::with(&["golem"], bug);
    world.source.on_request(|call, store: &mut Store| {
        if call.method == "DELETE" && call.path.contains("cluster.x-k8s.io") {
            let name = call.path.rsplit('/').next().unwrap();
            let told = store.all("").into_iter().filter(|o| {
                let kind = o["kind"].as_str().unwrap().to_lowercase();
                o["metadata"]["name"] == name && call.path.contains(&format!("/{kind}s/"))
            });
            for o in told {
                assert!(o.pointer(DELETE_FOR_MOVE).is_some(), "{name} is not marked");
            }
        }
        Fault::None
    });
    world.run().await.unwrap();
    assert_eq!(&world.end(), clean);
    let namespace = world.target.get("Namespace", None, NAMESPACE).unwrap();
    let label = "pod-security.kubernetes.io/enforce";
    assert_eq!(namespace["metadata"]["labels"][label], "restricted");
}

async fn dies_and_goes_on(bug: Option<Planted>, clean: &End) {
    for at in (1..).step_by(4) {
        let world = World::with(&["golem"], bug);
        world.fault_at(at, true, Fault::Crash { applied: true });
        if world.run_or_crash().await.is_some() {
            return;
        }
        world.check("died");
        world.no_faults();
        world.journal.power_cut();
        if at % 3 == 0 {
            world.journal.lose();
        }
        world.run().await.unwrap();
        world.check("gone on");
        assert_eq!(&world.end(), clean);
    }
}

/// The source dies right after its first pause.
async fn loses_its_source(bug: Option<Planted>, clean: &End) {
    let mut world = World::with(&["golem"], bug);
    world
        .source
        .on_request(|call, _| match call.method.as_str() {
            "PATCH" => Fault::Crash { applied: true },
            _ => Fault::None,
        });
    assert!(world.run_or_crash().await.is_none());
    world.no_faults();
    world.gone = true;
    world.run().await.unwrap();
    assert_eq!(picture(&world.target), clean.0);
}

/// A person pauses at the last moment; a Machine is made anew while the source is cleared.
async fn others_interfere(bug: Option<Planted>) {
    let world = World::with(&["golem"], bug);
    let mut paused = false;
    world.source.on_request(move |call, store: &mut Store| {
        if call.method == "PATCH" && !paused {
            paused = true;
            let mut c = store.find("Cluster", Some(NAMESPACE), "golem").unwrap();
            c["spec"]["paused"] = json!(true);
            store.put(c);
        }
        Fault::None
    });
    world.run().await.unwrap();
    let moved = world.target.get("Cluster", Some(NAMESPACE), "golem");
    assert_eq!(moved.unwrap()["spec"]["paused"], true, "a person's pause");

    let world = World::with(&["golem"], bug);
    let mut anew = false;
    world.source.on_request(move |call, store: &mut Store| {
        if call.method == "DELETE" && call.path.contains("/machines/") && !anew {
            anew = true;
            let mut m = store
                .find("Machine", Some(NAMESPACE), "golem-abcde")
                .unwrap();
            store.remove("Machine", Some(NAMESPACE), "golem-abcde");
            m["metadata"] =
                json!({"namespace": NAMESPACE, "name": "golem-abcde", "labels": {"new": "yes"}});
            store.put(m);
        }
        Fault::None
    });
    world.run().await.unwrap();
    let left = world.source.get("Machine", Some(NAMESPACE), "golem-abcde");
    assert!(left.is_some(), "what was made anew is left alone");
}

async fn two_movers(bug: Option<Planted>) {
    let world = World::with(&["golem"], bug);
    // A block that nobody takes off holds the first one up.
    let mut infra = world
        .source
        .get("DevCluster", Some(NAMESPACE), "golem")
        .unwrap();
    infra["metadata"]["annotations"] = json!({"clusterctl.cluster.x-k8s.io/block-move": ""});
    world.source.put(infra);
    let second = world.other_mover("run-2");
    let refused = async {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        second.run().await.unwrap_err()
    };
    tokio::select! {
        result = world.run() => panic!("{result:?}"),
        e = refused => assert_eq!(e.kind(), mctl::Kind::Locked, "{e}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_is_caught() {
    Box::pin(trial(None)).await;
    let mut missed = Vec::new();
    for bug in ALL {
        let caught = std::panic::AssertUnwindSafe(Box::pin(trial(Some(bug))))
            .catch_unwind()
            .await;
        match caught {
            Err(why) => {
                let why = why
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| why.downcast_ref::<&str>().copied())
                    .unwrap_or_default();
                let why: String = why.lines().take(2).collect::<Vec<_>>().join(" ");
                println!("{bug:?}: {}", why.chars().take(160).collect::<String>());
            }
            Ok(()) => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
    through(&PLANTED, ALL.len());
}
