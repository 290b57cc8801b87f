//! Reading and waiting through an API server that answers late, wrongly or not at all.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::core::GroupVersionKind;
use mctl::{
    Kind,
    ports::{
        Seen,
        kubernetes::{Cluster, Progress, met},
    },
};
use serde_json::json;
use tokio::time::Instant;

use crate::fake::{Fake, Fault};

fn config_map() -> GroupVersionKind {
    GroupVersionKind::gvk("", "v1", "ConfigMap")
}

fn server() -> (Fake, Cluster) {
    let fake = Fake::new("one");
    fake.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}}));
    let cluster = Cluster::new("cluster under test", fake.client());
    (fake, cluster)
}

/// The first `n` requests meet a fault.
fn at_first(fake: &Fake, n: usize, fault: Fault) {
    fake.clear_log();
    fake.on_request(move |call, _| if call.index < n { fault } else { Fault::None });
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn seen(&self, evidence: &str) {
        self.0.lock().unwrap().push(evidence.to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_tells_absent_from_unknown() {
    let (fake, cluster) = server();
    let gvk = config_map();
    let look = async |name: &str| cluster.look(&gvk, Some("default"), name).await;
    assert!(matches!(look("x").await, Seen::Is(o) if o.metadata.name.as_deref() == Some("x")));
    assert!(matches!(look("y").await, Seen::Absent));
    let nobody = GroupVersionKind::gvk("nobody.example.io", "v1", "Nobody");
    assert!(matches!(
        cluster.look(&nobody, None, "x").await,
        Seen::Absent
    ));
    assert!(matches!(
        cluster.look_at_all(&nobody, None, None).await,
        Seen::Absent
    ));
    for fault in [
        Fault::Status {
            code: 500,
            applied: false,
        },
        Fault::Status {
            code: 429,
            applied: false,
        },
        Fault::Hang { applied: false },
        Fault::Reset { applied: false },
    ] {
        at_first(&fake, 1, fault);
        let begin = Instant::now();
        let seen = cluster.look_at_all(&gvk, None, None).await;
        let Seen::Unknown(e) = seen else {
            panic!("{fault:?}: {seen:?}")
        };
        assert!(e.is_passing(), "{fault:?}: {e}");
        assert!(begin.elapsed() <= Duration::from_secs(10), "{fault:?}");
        assert_eq!(fake.log().len(), 1, "a look is one request: {fault:?}");
    }
    // What is refused does not pass.
    at_first(
        &fake,
        1,
        Fault::Status {
            code: 401,
            applied: false,
        },
    );
    let Seen::Unknown(e) = look("x").await else {
        panic!("401 is no answer about the object")
    };
    assert_eq!((e.kind(), e.is_passing()), (Kind::Authentication, false));
}

#[tokio::test(start_paused = true)]
async fn reading_rides_out_a_blip_and_ends_without_an_answer() {
    let (fake, cluster) = server();
    let gvk = config_map();
    let busy = Fault::Status {
        code: 503,
        applied: false,
    };
    at_first(&fake, 3, busy);
    let found = cluster.get(&gvk, Some("default"), "x").await.unwrap();
    assert!(found.is_some());
    at_first(&fake, 1, Fault::Hang { applied: false });
    let found = cluster.list(&gvk, Some("default"), None).await.unwrap();
    assert_eq!(found.map(|f| f.len()), Some(1));
    at_first(&fake, usize::MAX, Fault::Hang { applied: false });
    let begin = Instant::now();
    let e = cluster.get(&gvk, Some("default"), "x").await.unwrap_err();
    assert!(e.is_passing(), "{e}");
    assert!(
        begin.elapsed() < Duration::from_secs(40),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_sees_what_a_silent_watch_does_not_tell() {
    let (fake, cluster) = server();
    let told = Arc::new(Told::default());
    // Every watch is deaf: what changes is found by the next look only.
    fake.on_request(|call, _| {
        if call.query.contains("watch") {
            Fault::Hang { applied: false }
        } else {
            Fault::None
        }
    });
    let begin = Instant::now();
    let change = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        fake.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
    };
    let gvk = config_map();
    let stall = Duration::from_secs(300);
    let wait = cluster.wait(&gvk, Some("default"), "x", stall, told.as_ref(), |o| {
        o.map_or(Err("not there".into()), |o| met(o, "Ready"))
    });
    let (result, ()) = tokio::join!(wait, change);
    result.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(120),
        "{:?}",
        begin.elapsed()
    );
    assert!(told.0.lock().unwrap()[0].contains("no condition Ready"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlasts_an_api_server_that_is_away_for_minutes() {
    let (fake, cluster) = server();
    let told = Told::default();
    fake.on_request(|_, _| Fault::Reset { applied: false });
    let back = async {
        tokio::time::sleep(Duration::from_secs(200)).await;
        fake.no_faults();
    };
    let gvk = config_map();
    let stall = Duration::from_secs(300);
    let wait = cluster.wait(&gvk, Some("default"), "x", stall, &told, |o| {
        o.map(drop).ok_or("not there".into())
    });
    let (result, ()) = tokio::join!(wait, back);
    result.unwrap();
    assert!(told.0.lock().unwrap()[0].contains("connection reset"));
    // And one that never comes back ends it, with its name.
    fake.on_request(|_, _| Fault::Reset { applied: false });
    let other = Cluster::new("cluster under test", fake.client());
    let e = other
        .wait(&gvk, Some("default"), "x", stall, &(), |o| {
            o.map(drop).ok_or("not there".into())
        })
        .await
        .unwrap_err();
    assert_eq!(e.kind(), Kind::Stalled);
    assert!(e.to_string().contains("connection reset"), "{e}");
}
