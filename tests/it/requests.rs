//! Requests of the Kubernetes port against an API server in memory: who is named as the writer, what a conflict and a missing object mean.

use kube::core::{DynamicObject, GroupVersionKind};
use mctl::ports::kubernetes::{Cluster, Exact};
use serde_json::{Value, json};

use crate::fake::{Fake, Fault};

const NAME: &str = "one";

fn world() -> (Fake, Cluster, GroupVersionKind) {
    let fake = Fake::new("cluster");
    let cluster = Cluster::new("cluster", fake.client());
    (fake, cluster, GroupVersionKind::gvk("", "v1", "ConfigMap"))
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": "default"}, "data": {"value": value}}))
    .unwrap()
}

fn config(fake: &Fake) -> DynamicObject {
    let found = fake.get("ConfigMap", Some("default"), NAME);
    serde_json::from_value(found.unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_write_names_its_manager() {
    let (fake, cluster, gvk) = world();
    let cluster = cluster.acting_as("someone");
    let patch = json!({"data": {"value": "3"}});
    cluster.create(&object(&json!("1")), &()).await.unwrap();
    cluster.apply(&object(&json!("2")), &()).await.unwrap();
    cluster
        .merge(&gvk, Some("default"), NAME, &patch, &())
        .await
        .unwrap();
    let mut new = config(&fake);
    new.data["data"]["value"] = json!("4");
    new.metadata.managed_fields = None;
    let done = cluster.replace(&new, &()).await.unwrap();
    assert!(matches!(done, Exact::Done(_)));
    let log = fake.log();
    let writes: Vec<_> = log.iter().filter(|c| c.writes()).collect();
    assert_eq!(writes.len(), 4);
    for call in writes {
        assert!(call.query.contains("fieldManager=someone"), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_object_that_is_meant_is_deleted() {
    let (fake, cluster, gvk) = world();
    cluster.apply(&object(&json!("1")), &()).await.unwrap();
    let first = config(&fake);
    fake.store().remove("ConfigMap", Some("default"), NAME);
    cluster.apply(&object(&json!("1")), &()).await.unwrap();
    let before = fake.log().len();
    cluster.delete(&first, &()).await.unwrap();
    assert_eq!(fake.log().len(), before + 1, "it is not tried again");
    let second = config(&fake);
    // A change since it was read does not matter; that is what the exact request is for.
    let patch = json!({"data": {"value": "2"}});
    let merged = cluster.merge(&gvk, Some("default"), NAME, &patch, &());
    merged.await.unwrap();
    let exact = cluster.delete_exact(&second, &()).await.unwrap();
    assert_eq!(exact, Exact::Changed);
    cluster.delete(&second, &()).await.unwrap();
    assert!(fake.get("ConfigMap", Some("default"), NAME).is_none());
    cluster.delete(&second, &()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_patch_without_precondition_gets_over_conflicts() {
    let (fake, cluster, gvk) = world();
    let patch = json!({"data": {"value": "2"}});
    let merge = async || {
        let done = cluster.merge(&gvk, Some("default"), NAME, &patch, &());
        done.await
    };
    let e = merge().await.unwrap_err().to_string();
    assert!(
        e.contains("cannot patch ConfigMap default/one") && e.contains("not there"),
        "{e}"
    );
    cluster.apply(&object(&json!("1")), &()).await.unwrap();
    fake.clear_log();
    fake.on_request(|call, _| match call.index {
        0 | 1 => Fault::Status {
            code: 409,
            applied: false,
        },
        _ => Fault::None,
    });
    assert_eq!(merge().await.unwrap().data["data"]["value"], "2");
    assert_eq!(fake.log().len(), 3);
    let other = json!({"metadata": {"uid": "another"}, "data": {"value": "3"}});
    let exact = cluster.merge_exact(&gvk, Some("default"), NAME, &other, &());
    assert_eq!(exact.await.unwrap(), Exact::Changed);
    assert_eq!(config(&fake).data["data"]["value"], "2");
}
