//! Drives the scheduler with fake steps: order, parallelism, failure, crash and resume.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::*;

/// A world of facts; each step makes one fact true.
#[derive(Default)]
struct World {
    facts: Mutex<Vec<String>>,
    applied: Mutex<Vec<String>>,
    now: AtomicUsize,
    peak: AtomicUsize,
    fail: Mutex<Option<String>>,
    hang: AtomicBool,
}

struct Fake {
    id: String,
    world: Arc<World>,
}

#[async_trait]
impl Step for Fake {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        Ok(if self.world.facts.lock().unwrap().contains(&self.id) {
            Observation::Done("there".into())
        } else {
            Observation::Missing("not there".into())
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let now = self.world.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.world.peak.fetch_max(now, Ordering::SeqCst);
        progress.seen("working");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        if self.world.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.world.now.fetch_sub(1, Ordering::SeqCst);
        if self.world.fail.lock().unwrap().as_deref() == Some(&self.id) {
            return Err(Error::failed("planted"));
        }
        self.world.applied.lock().unwrap().push(self.id.clone());
        self.world.facts.lock().unwrap().push(self.id.clone());
        Ok(())
    }
}

fn plan(steps: &[(&str, &[&str])]) -> Plan {
    Plan {
        cluster: "demo".into(),
        mctl: "0".into(),
        hash: "h".into(),
        kubernetes_version: "v1".into(),
        images: vec![],
        steps: steps
            .iter()
            .map(|(id, needs)| StepSpec {
                id: (*id).into(),
                title: (*id).into(),
                needs: needs.iter().map(|n| StepId::from(*n)).collect(),
                components: vec![],
                point_of_no_return: *id == "pivot",
            })
            .collect(),
    }
}

async fn go(
    plan: &Plan,
    world: &Arc<World>,
    path: &std::path::Path,
    cancel: CancellationToken,
) -> Outcome {
    let steps: Steps = plan
        .steps
        .iter()
        .map(|s| {
            (
                s.id.clone(),
                Arc::new(Fake {
                    id: s.id.0.clone(),
                    world: world.clone(),
                }) as Arc<dyn Step>,
            )
        })
        .collect();
    let (tx, _rx) = unbounded_channel();
    run(plan, &steps, Journal::open(path).unwrap(), tx, cancel)
        .await
        .unwrap()
}

#[tokio::test]
async fn runs_in_order_and_in_parallel() {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let p = plan(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]);
    assert!(matches!(
        go(
            &p,
            &world,
            &folder.path().join("j"),
            CancellationToken::new()
        )
        .await,
        Outcome::Success
    ));
    let applied = world.applied.lock().unwrap().clone();
    assert_eq!(
        (
            applied.first().unwrap().as_str(),
            applied.last().unwrap().as_str()
        ),
        ("a", "d")
    );
    assert_eq!(world.peak.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_failure_at_each_step_resumes_without_doing_anything_twice() {
    let p = plan(&[
        ("a", &[]),
        ("b", &["a"]),
        ("pivot", &["b"]),
        ("d", &["pivot"]),
    ]);
    for id in ["a", "b", "pivot", "d"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let world = Arc::new(World::default());
        *world.fail.lock().unwrap() = Some(id.into());
        let Outcome::Failed(at, _) = go(&p, &world, &path, CancellationToken::new()).await else {
            panic!("{id} did not fail")
        };
        assert_eq!(at.0, id);
        *world.fail.lock().unwrap() = None;
        assert!(matches!(
            go(&p, &world, &path, CancellationToken::new()).await,
            Outcome::Success
        ));
        assert_eq!(*world.applied.lock().unwrap(), ["a", "b", "pivot", "d"]);
        assert!(Journal::open(&path).unwrap().history().complete);
    }
}

#[tokio::test]
async fn what_led_to_the_pivot_is_not_made_again_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let p = plan(&[("a", &[]), ("pivot", &["a"]), ("d", &["pivot"])]);
    let world = Arc::new(World::default());
    *world.fail.lock().unwrap() = Some("d".into());
    go(&p, &world, &path, CancellationToken::new()).await;
    // The temporary cluster is gone by now.
    world.facts.lock().unwrap().retain(|f| f != "a");
    *world.fail.lock().unwrap() = None;
    assert!(matches!(
        go(&p, &world, &path, CancellationToken::new()).await,
        Outcome::Success
    ));
    assert_eq!(*world.applied.lock().unwrap(), ["a", "pivot", "d"]);
}

#[tokio::test]
async fn cancelling_ends_the_run_and_the_journal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let p = plan(&[("a", &[])]);
    let world = Arc::new(World::default());
    world.hang.store(true, Ordering::SeqCst);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        stop.cancel();
    });
    assert!(matches!(
        go(&p, &world, &path, cancel).await,
        Outcome::Interrupted
    ));
    let last = Journal::read(&path).unwrap().pop().unwrap();
    assert_eq!(
        last.body,
        Body::RunEnded {
            outcome: "interrupted".into()
        }
    );
}
