//! Single situations of a move: what is counted, what is refused, what others do meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mctl::{
    Kind,
    cluster_api::{
        marks,
        move_objects::{self, Order},
    },
    ports::kubernetes::Cluster,
};
use serde_json::{Value, json};

use super::world::{NAMESPACE, World, cluster, machine, object, picture, secret, writes};
use crate::fake::{Call, Fault, Store};

fn annotate(fake: &crate::fake::Fake, kind: &str, name: &str, annotation: &str, value: &str) {
    let mut o = fake.get(kind, Some(NAMESPACE), name).unwrap();
    o["metadata"]["annotations"][annotation] = json!(value);
    fake.put(o);
}

fn set(store: &mut Store, kind: &str, name: &str, change: impl Fn(&mut Value)) {
    let mut o = store.find(kind, Some(NAMESPACE), name).unwrap();
    change(&mut o);
    store.put(o);
}

/// Runs `change` once, when the first request that `when` accepts arrives at the source.
fn meanwhile(
    world: &World,
    when: impl Fn(&Call) -> bool + Send + 'static,
    change: impl Fn(&mut Store) + Send + 'static,
) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    world.source.on_request(move |call, store| {
        if when(call) && !seen.swap(true, Ordering::Relaxed) {
            change(store);
        }
        Fault::None
    });
    done
}

#[tokio::test(start_paused = true)]
async fn five_requests_for_an_object() {
    for clusters in [&["golem"][..], &["golem", "gauss", "galaxy"][..]] {
        let world = World::new(clusters);
        let report = world.run().await.unwrap();
        let sent = world.source.log().len() + world.target.log().len();
        assert_eq!(report.objects, 14 * clusters.len());
        assert_eq!(report.requests, sent as u64, "all requests are reported");
        let each = (report.requests - report.fixed) as f64 / report.objects as f64;
        println!(
            "{} objects: {each:.2} requests each and {} lists",
            report.objects, report.fixed
        );
        assert!(each <= 5.0, "{each}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_namespace_keeps_its_labels() {
    let world = World::new(&["golem"]);
    world.run().await.unwrap();
    let namespace = world.target.get("Namespace", None, NAMESPACE).unwrap();
    assert_eq!(
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
}

/// Also when the process dies and the journal is lost on the way; and a pause alone never says that anything moves.
#[tokio::test(start_paused = true)]
async fn user_paused_stays_paused() {
    for at in [None, Some(10), Some(60), Some(130)] {
        let mut world = World::new(&["golem", "gauss", "galaxy"]);
        set(&mut world.source.store(), "Cluster", "gauss", |c| {
            c["spec"]["paused"] = json!(true);
        });
        let by_annotation = "cluster.x-k8s.io/paused";
        annotate(&world.source, "Cluster", "galaxy", by_annotation, "");
        set(&mut world.source.store(), "Cluster", "golem", |c| {
            c["spec"].as_object_mut().unwrap().shift_remove("paused");
        });
        world.expect_all();
        let before = picture(&world.source);
        if let Some(at) = at {
            world.fault_at(at, true, Fault::Crash { applied: true });
            assert!(world.run_or_crash().await.is_none(), "write {at}");
            world.journal.lose();
            world.no_faults();
        }
        world.run().await.unwrap();
        assert_eq!(picture(&world.target), before, "{at:?}");
        for cluster in world.target.all("Cluster") {
            let cluster = serde_json::from_value(cluster).unwrap();
            assert!(!marks::is_moving(&cluster), "{at:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_pausing_at_the_last_moment_stays_paused() {
    let world = World::new(&["golem"]);
    let seen = meanwhile(
        &world,
        |call| call.method == "PATCH",
        |store| {
            set(store, "Cluster", "golem", |c| {
                c["spec"]["paused"] = json!(true)
            })
        },
    );
    world.run().await.unwrap();
    assert!(seen.load(Ordering::Relaxed));
    let moved = world
        .target
        .get("Cluster", Some(NAMESPACE), "golem")
        .unwrap();
    assert_eq!(moved["spec"]["paused"], true);
}

/// A Machine made between the first list and the pause is not lost; not being a node yet, it holds up the move.
#[tokio::test(start_paused = true)]
async fn a_machine_made_before_the_pause() {
    let world = World::new(&["golem"]);
    let source = world.source.clone();
    let born = Arc::new(AtomicBool::new(false));
    let seen = born.clone();
    world.source.on_request(move |call, store| {
        if call.method == "PATCH" && !seen.swap(true, Ordering::Relaxed) {
            let cp = store.find("KubeadmControlPlane", Some(NAMESPACE), "golem").unwrap();
            store.put(json!({
                "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
                "metadata": {"namespace": NAMESPACE, "name": "late", "ownerReferences": [{
                    "apiVersion": cp["apiVersion"], "kind": cp["kind"], "name": "golem", "uid": cp["metadata"]["uid"],
                }]},
                "spec": {}, "status": {"phase": "Provisioning"},
            }));
        }
        Fault::None
    });
    let run = world.run();
    let grow = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            let running = source
                .get("Cluster", Some(NAMESPACE), "golem")
                .is_some_and(|c| c["spec"]["paused"] != true);
            if born.load(Ordering::Relaxed)
                && running
                && source.get("Machine", Some(NAMESPACE), "late").is_some()
            {
                set(&mut source.store(), "Machine", "late", |m| {
                    m["status"] = json!({"nodeRef": {"name": "late"}})
                });
                return;
            }
        }
    };
    let (report, ()) = tokio::join!(run, grow);
    assert_eq!(report.unwrap().objects, 15);
    assert!(
        world
            .target
            .get("Machine", Some(NAMESPACE), "late")
            .is_some()
    );
    assert!(world.end().1.is_empty());
}

/// Something that the source's controllers write after the copy: the copy is mended before the commit.
#[tokio::test(start_paused = true)]
async fn a_change_during_the_copy() {
    let world = World::new(&["golem"]);
    let patches = Arc::new(AtomicBool::new(false));
    let source = world.source.clone();
    let seen = patches.clone();
    world.target.on_request(move |call, _| {
        if call.method == "POST"
            && call.path.ends_with("/machines")
            && !seen.swap(true, Ordering::Relaxed)
        {
            let mut store = source.store();
            set(&mut store, "KubeadmControlPlane", "golem", |k| {
                k["spec"]["version"] = json!("v1.36.4")
            });
            store.remove("Secret", Some(NAMESPACE), "golem-proxy");
            drop(store);
            secret(
                &source,
                "golem-new",
                source.get("Cluster", Some(NAMESPACE), "golem").as_ref(),
            );
        }
        Fault::None
    });
    world.run().await.unwrap();
    assert!(patches.load(Ordering::Relaxed));
    let get = |kind, name| world.target.get(kind, Some(NAMESPACE), name);
    assert_eq!(
        get("KubeadmControlPlane", "golem").unwrap()["spec"]["version"],
        "v1.36.4"
    );
    assert!(get("Secret", "golem-new").is_some());
    assert!(
        get("Secret", "golem-proxy").is_none(),
        "what the source lost is not revived"
    );
    assert!(world.end().1.is_empty());
}

/// Controllers that take their time: the copy waits for the condition `Paused` and for block-move.
#[tokio::test(start_paused = true)]
async fn waits_for_controllers() {
    let world = World::new(&["golem"]);
    for (kind, name) in [
        ("KubeadmControlPlane", "golem"),
        ("DevMachine", "golem-abcde"),
    ] {
        set(&mut world.source.store(), kind, name, |o| {
            o["status"]["conditions"] =
                json!([{"type": "Paused", "status": "False", "reason": "NotPaused"}]);
        });
    }
    annotate(
        &world.source,
        "DevCluster",
        "golem",
        "clusterctl.cluster.x-k8s.io/block-move",
        "true",
    );
    let source = world.source.clone();
    let target = world.target.clone();
    let controllers = async {
        let nap = || tokio::time::sleep(std::time::Duration::from_secs(20));
        nap().await;
        assert!(target.all("Cluster").is_empty());
        for (kind, name) in [
            ("KubeadmControlPlane", "golem"),
            ("DevMachine", "golem-abcde"),
        ] {
            set(&mut source.store(), kind, name, |o| {
                o["status"]["conditions"][0]["status"] = json!("True")
            });
            nap().await;
            assert!(target.all("Cluster").is_empty());
        }
        set(&mut source.store(), "DevCluster", "golem", |o| {
            o["metadata"]["annotations"] = json!({});
        });
    };
    let (report, ()) = tokio::join!(world.run(), controllers);
    report.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_never_stops() {
    let world = World::new(&["golem"]);
    set(
        &mut world.source.store(),
        "DevMachine",
        "golem-abcde",
        |o| {
            o["status"]["conditions"] = json!([{"type": "Paused", "status": "False"}]);
        },
    );
    let e = world.run().await.unwrap_err();
    assert_eq!(e.kind(), Kind::Stalled);
    assert!(e.to_string().contains("DevMachine golem-abcde"), "{e}");
    assert!(
        e.to_string().contains("the source is complete and paused"),
        "{e}"
    );
}

#[tokio::test(start_paused = true)]
async fn not_ready() {
    let world = World::new(&["golem"]);
    set(&mut world.source.store(), "Cluster", "golem", |c| {
        c["status"] = json!({})
    });
    set(&mut world.source.store(), "Machine", "golem-abcde", |c| {
        c["status"] = json!({"phase": "Pending"})
    });
    let e = world.run().await.unwrap_err();
    assert_eq!(e.kind(), Kind::Preflight);
    for text in [
        "Cluster golem: its infrastructure is not provisioned",
        "Machine golem-abcde: no node yet (Pending)",
        "nothing was changed",
    ] {
        assert!(e.to_string().contains(text), "{e}");
    }
    assert!(writes(&world.source).is_empty());
}

#[tokio::test(start_paused = true)]
async fn owners_that_do_not_move() {
    let world = World::new(&["golem"]);
    let foreign = object(
        &world.source,
        "external.example.org",
        "External",
        "ext",
        "golem",
        None,
        json!({}),
    );
    secret(&world.source, "tied", Some(&foreign));
    let mut tied = world
        .source
        .get("DevCluster", Some(NAMESPACE), "golem")
        .unwrap();
    let owners = tied["metadata"]["ownerReferences"].as_array_mut().unwrap();
    owners.push(json!({"apiVersion": "external.example.org/v1beta2", "kind": "External", "name": "ext", "uid": foreign["metadata"]["uid"]}));
    world.source.put(tied);
    let e = world.run().await.unwrap_err();
    assert!(
        e.to_string()
            .contains("DevCluster golem is owned by External ext"),
        "{e}"
    );
    assert!(e.to_string().contains("nothing was changed"), "{e}");
    assert!(writes(&world.source).is_empty() && writes(&world.target).is_empty());
}

#[tokio::test(start_paused = true)]
async fn owners_in_a_circle() {
    let world = World::new(&["golem"]);
    let machine = world
        .source
        .get("Machine", Some(NAMESPACE), "golem-abcde")
        .unwrap();
    let infra = world
        .source
        .get("DevMachine", Some(NAMESPACE), "golem-abcde")
        .unwrap();
    let mut round = machine.clone();
    round["metadata"]["ownerReferences"].as_array_mut().unwrap().push(json!({
        "apiVersion": infra["apiVersion"], "kind": "DevMachine", "name": "golem-abcde", "uid": infra["metadata"]["uid"],
    }));
    world.source.put(round);
    let e = world.run().await.unwrap_err();
    assert!(
        e.to_string()
            .contains("circle: Machine golem-abcde is owned by DevMachine golem-abcde"),
        "{e}"
    );
}

#[tokio::test(start_paused = true)]
async fn something_of_others_in_the_way() {
    let world = World::new(&["golem"]);
    world
        .target
        .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
    cluster(&world.target, "golem");
    set(&mut world.target.store(), "DevCluster", "golem", |c| {
        c["spec"]["backend"] = json!({"inMemory": {}})
    });
    let e = world.run().await.unwrap_err();
    assert!(
        e.to_string()
            .contains("DevCluster golem is there already and differs at spec.backend.docker"),
        "{e}"
    );
    assert!(e.to_string().contains("nothing was changed"), "{e}");
    assert!(writes(&world.target).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_target_without_the_kinds() {
    let world = World::new(&["golem"]);
    world.target.store().remove(
        "CustomResourceDefinition",
        None,
        "devclusters.infrastructure.cluster.x-k8s.io",
    );
    let e = world.run().await.unwrap_err();
    assert!(e.to_string().contains("it has no kind DevCluster"), "{e}");
    let mut crd = world
        .target
        .get(
            "CustomResourceDefinition",
            None,
            "machines.cluster.x-k8s.io",
        )
        .unwrap();
    crd["spec"]["versions"] = json!([{"name": "v1beta1", "served": true, "storage": true}]);
    world.target.put(crd);
    let e = world.run().await.unwrap_err();
    assert!(
        e.to_string()
            .contains("does not serve Machine in version v1beta2, only in v1beta1"),
        "{e}"
    );
}

#[tokio::test(start_paused = true)]
async fn onto_itself() {
    let world = World::new(&["golem"]);
    let one = Cluster::new("one", world.source.client());
    let two = Cluster::new("two", world.source.client());
    let order = Order {
        source: Some(&one),
        target: &two,
        namespace: NAMESPACE,
        journal: &*world.journal,
        exports: None,
        environment: json!(null),
        holder: "run",
        clock: world.clock.clone(),
        progress: &(),
    };
    let e = move_objects::run(&order).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Usage);
}

#[tokio::test(start_paused = true)]
async fn an_empty_namespace() {
    let world = World::new(&[]);
    let e = world.run().await.unwrap_err();
    assert!(
        e.to_string()
            .contains("there is nothing to move in namespace org-giantswarm"),
        "{e}"
    );
}

#[tokio::test(start_paused = true)]
async fn paused_for_another_move() {
    let world = World::new(&["golem"]);
    annotate(
        &world.source,
        "Cluster",
        "golem",
        "mctl.giantswarm.io/paused-for-move",
        "elsewhere",
    );
    let e = world.run().await.unwrap_err();
    assert_eq!(e.kind(), Kind::Locked);
    assert!(e.to_string().contains("elsewhere"), "{e}");
}

#[tokio::test(start_paused = true)]
async fn complete_and_asked_for_again_and_back() {
    let world = World::new(&["golem"]);
    let before = picture(&world.source);
    let first = world.run().await.unwrap();
    let again = world.run().await.unwrap();
    assert_eq!(again.objects, first.objects);
    assert!(again.requests <= 4, "{again:?}");
    // New clusters in the source: a new move with the same journal.
    cluster(&world.source, "gauss");
    assert_eq!(world.run().await.unwrap().objects, 14);
    // The target's controllers would give these.
    for (kind, name) in [
        ("Cluster", "golem"),
        ("Cluster", "gauss"),
        ("Machine", "golem-abcde"),
        ("Machine", "gauss-abcde"),
    ] {
        set(&mut world.target.store(), kind, name, |o| {
            o["status"] = json!({
                "nodeRef": {"name": "n"},
                "initialization": {"infrastructureProvisioned": true, "controlPlaneInitialized": true},
                "conditions": [{"type": "ControlPlaneInitialized", "status": "True"}],
            })
        });
    }
    let mut back = world.clone();
    std::mem::swap(&mut back.source, &mut back.target);
    assert_eq!(back.run().await.unwrap().objects, 28);
    let mut after = picture(&world.source);
    after.retain(|name, _| !name.contains("gauss"));
    assert_eq!(after, before);
}

/// After the commit somebody edits the source: it is not deleted before both agree again.
#[tokio::test(start_paused = true)]
async fn an_edit_after_the_commit() {
    let world = World::new(&["golem"]);
    meanwhile(
        &world,
        |call| call.method == "DELETE",
        |store| {
            set(store, "KubeadmControlPlane", "golem", |k| {
                k["spec"]["replicas"] = json!(3)
            })
        },
    );
    let e = world.run().await.unwrap_err();
    assert_eq!(e.kind(), Kind::Differs);
    assert!(e.to_string().contains("spec.replicas"), "{e}");
    world.check("edited");
    world.source.no_faults();
    assert!(world.run().await.is_err(), "it does not go away by itself");
    set(
        &mut world.target.store(),
        "KubeadmControlPlane",
        "golem",
        |k| k["spec"]["replicas"] = json!(3),
    );
    world.run().await.unwrap();
    assert!(world.end().1.is_empty());
}

/// Deleted by its controller and made again under the same name while its finalizers are taken off: the new one is nobody's copy.
#[tokio::test(start_paused = true)]
async fn made_anew_while_the_source_is_cleared() {
    let world = World::new(&["golem"]);
    let seen = Arc::new(AtomicBool::new(false));
    let done = seen.clone();
    world.source.on_request(move |call, store| {
        let machine = store.find("Machine", Some(NAMESPACE), "golem-abcde");
        let deleted = machine.filter(|m| m["metadata"].get("deletionTimestamp").is_some());
        if call.method == "PATCH"
            && let Some(mut machine) = deleted
            && !done.swap(true, Ordering::Relaxed)
        {
            store.remove("Machine", Some(NAMESPACE), "golem-abcde");
            machine["metadata"] =
                json!({"namespace": NAMESPACE, "name": "golem-abcde", "finalizers": ["new"]});
            store.put(machine);
        }
        Fault::None
    });
    world.run().await.unwrap();
    assert!(seen.load(Ordering::Relaxed));
    let machine = ("Machine".to_owned(), "golem-abcde".to_owned());
    assert_eq!(world.end().1, [machine]);
    let (new, moved) = (&world.source, &world.target);
    let new = new.get("Machine", Some(NAMESPACE), "golem-abcde").unwrap();
    assert_eq!(new["metadata"]["finalizers"], json!(["new"]));
    assert!(new["metadata"].get("deletionTimestamp").is_none());
    assert!(
        moved
            .get("Machine", Some(NAMESPACE), "golem-abcde")
            .is_some()
    );
}

/// Controllers of the source put finalizers back at once, as they do before they look at the pause.
#[tokio::test(start_paused = true)]
async fn finalizers_that_come_back() {
    let world = World::new(&["golem"]);
    world.source.on_request(|_, store| {
        for machine in store.all("Machine") {
            if machine["metadata"]
                .get("finalizers")
                .is_none_or(|f| f == &json!([]))
                && machine["metadata"].get("deletionTimestamp").is_none()
            {
                set(
                    store,
                    "Machine",
                    machine["metadata"]["name"].as_str().unwrap(),
                    |m| m["metadata"]["finalizers"] = json!(["again"]),
                );
            }
        }
        Fault::None
    });
    world.run().await.unwrap();
    assert!(world.end().1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn deletions_are_marked() {
    let world = World::new(&["golem"]);
    let source = world.source.clone();
    source.on_request(|call, store| {
        if call.method == "DELETE" {
            let name = call.path.rsplit('/').next().unwrap();
            for o in store.all("").iter().filter(|o| {
                o["metadata"]["name"] == name && o["metadata"]["namespace"] == NAMESPACE
            }) {
                let place = format!("/{}s/", o["kind"].as_str().unwrap().to_lowercase());
                // Nobody looks after Secrets, so nobody has to be told.
                if o["kind"] != "Secret" && call.path.contains(&place) {
                    assert_eq!(
                        o["metadata"]["annotations"]["clusterctl.cluster.x-k8s.io/delete-for-move"],
                        "",
                        "{o}"
                    );
                    assert!(
                        o["kind"] != "Cluster" || o["metadata"]["annotations"]["a"] == "b",
                        "other annotations stay"
                    );
                }
            }
        }
        Fault::None
    });
    world.run().await.unwrap();
    for (name, o) in picture(&world.target) {
        assert!(
            o["metadata"]["annotations"]
                .get("clusterctl.cluster.x-k8s.io/delete-for-move")
                .is_none(),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn shared_class_keeps_running_in_the_source() {
    let mut world = World::new(&["golem"]);
    let class = object(
        &world.source,
        "cluster.x-k8s.io",
        "ClusterClass",
        "class",
        "",
        None,
        json!({}),
    );
    object(
        &world.source,
        "infrastructure.cluster.x-k8s.io",
        "DevMachineTemplate",
        "class",
        "",
        Some(&class),
        json!({}),
    );
    set(&mut world.source.store(), "Cluster", "golem", |c| {
        c["spec"]["topology"] = json!({"classRef": {"name": "class"}})
    });
    world
        .source
        .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}));
    world.source.put(json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"namespace": "other", "name": "user"},
        "spec": {"topology": {"classRef": {"name": "class", "namespace": NAMESPACE}}},
    }));
    world.expect_all();
    world.run().await.unwrap();
    let paused = |fake: &crate::fake::Fake| {
        fake.get("ClusterClass", Some(NAMESPACE), "class").unwrap()["metadata"]["annotations"]
            .clone()
    };
    assert!(
        paused(&world.source)
            .get("cluster.x-k8s.io/paused")
            .is_none(),
        "{}",
        paused(&world.source)
    );
    assert!(
        paused(&world.target)
            .get("cluster.x-k8s.io/paused")
            .is_none(),
        "{}",
        paused(&world.target)
    );
    let left: Vec<String> = world
        .end()
        .1
        .into_iter()
        .map(|(k, n)| format!("{k} {n}"))
        .collect();
    assert_eq!(left, ["ClusterClass class", "DevMachineTemplate class"]);
}

#[tokio::test(start_paused = true)]
async fn many_objects_in_pages() {
    let mut world = World::new(&["golem"]);
    let cp = world
        .source
        .get("KubeadmControlPlane", Some(NAMESPACE), "golem")
        .unwrap();
    world.source.store().page = 25;
    world.target.store().page = 25;
    for n in 0..50 {
        machine(&world.source, "golem", &format!("golem-{n:04}"), &cp);
    }
    world.expect_all();
    let report = world.run().await.unwrap();
    assert_eq!(report.objects, 14 + 4 * 50);
    let each = (report.requests - report.fixed) as f64 / report.objects as f64;
    assert!(each <= 5.0, "{each}");
    assert!(world.end().1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn preview_tells_all_and_changes_nothing() {
    let world = World::new(&["golem"]);
    secret(&world.source, "loose", None);
    set(&mut world.source.store(), "Machine", "golem-abcde", |m| {
        m["status"] = json!({})
    });
    let source = Cluster::new("source", world.source.client());
    let target = Cluster::new("target", world.target.client());
    let preview = move_objects::preview(&source, &target, NAMESPACE, &())
        .await
        .unwrap();
    assert_eq!(preview.plan.objects().count(), 14);
    assert_eq!(
        preview.problems,
        ["Machine golem-abcde: no node yet (no phase)"]
    );
    assert!(
        world
            .source
            .log()
            .iter()
            .chain(&world.target.log())
            .all(|c| !c.writes())
    );
}

/// The engine's steps run on any thread.
#[test]
fn the_future_can_be_sent() {
    fn send<T: Send>(_: T) {}
    let _ = |a: &'static Cluster, order: &'static Order<'static>| {
        send(move_objects::run(order));
        send(mctl::cluster_api::wait_ready(
            a,
            "",
            std::time::Duration::ZERO,
            &(),
        ));
    };
}
