//! Drives the scheduler with fake steps: order, parallelism, failure, crash and resume.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    engine::{Alone, behind},
    ports::clock::Wall,
};

/// A world of facts; each step makes one fact true.
#[derive(Default)]
struct World {
    facts: Mutex<Vec<String>>,
    applied: Mutex<Vec<String>>,
    now: AtomicUsize,
    peak: AtomicUsize,
    fail: Mutex<Option<String>>,
    hang: AtomicBool,
    /// Looks that find nobody to ask.
    away: AtomicUsize,
    learned: Mutex<Vec<Value>>,
}

struct Fake {
    id: String,
    world: Arc<World>,
}

#[async_trait]
impl Step for Fake {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let away = &self.world.away;
        if away
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            return Err(Error::failed("nobody answers").passing());
        }
        Ok(if self.world.facts.lock().unwrap().contains(&self.id) {
            Observation::Done(Proof::with("there", serde_json::json!({"made": self.id})))
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

fn steps(plan: &Plan, world: &Arc<World>) -> Steps {
    plan.steps
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
        .collect()
}

async fn go_part(
    part: &Plan,
    whole: &Plan,
    world: &Arc<World>,
    journal: Journal,
    owner: Arc<dyn Owner>,
    cancel: CancellationToken,
) -> (Outcome, Vec<Event>) {
    let (tx, mut rx) = unbounded_channel();
    let learned = world.clone();
    let run = Run {
        plan: part,
        steps: &steps(part, world),
        behind: behind(whole, journal.history()),
        owner,
        clock: Arc::new(Wall),
        learn: Arc::new(move |output: &Value| {
            learned.learned.lock().unwrap().push(output.clone());
            Ok(())
        }),
    };
    let outcome = run.go(journal, tx, cancel).await;
    let mut events = Vec::new();
    while let Ok(event) = rx.try_recv() {
        events.push(event);
    }
    (outcome, events)
}

async fn go(
    plan: &Plan,
    world: &Arc<World>,
    path: &std::path::Path,
    cancel: CancellationToken,
) -> Outcome {
    let journal = Journal::open(path).unwrap();
    go_part(plan, plan, world, journal, Arc::new(Alone), cancel)
        .await
        .0
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

#[tokio::test]
async fn a_part_of_the_plan_knows_the_point_of_no_return_behind_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let whole = plan(&[("a", &[]), ("b", &["a"]), ("pivot", &["b"])]);
    let world = Arc::new(World::default());
    go(&whole, &world, &path, CancellationToken::new()).await;
    world.facts.lock().unwrap().clear();
    for until in ["a", "b", "pivot"] {
        let part = whole.until(until).unwrap();
        let journal = Journal::open(&path).unwrap();
        let (outcome, _) = go_part(
            &part,
            &whole,
            &world,
            journal,
            Arc::new(Alone),
            CancellationToken::new(),
        )
        .await;
        assert!(matches!(outcome, Outcome::Success));
    }
    assert_eq!(*world.applied.lock().unwrap(), ["a", "b", "pivot"]);
}

#[tokio::test]
async fn a_plan_that_cannot_be_finished_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let p = plan(&[("a", &[]), ("b", &["nowhere"])]);
    let world = Arc::new(World::default());
    let Outcome::Failed(_, e) = go(&p, &world, &path, CancellationToken::new()).await else {
        panic!("an unfinished plan is told as done")
    };
    assert!(e.line().contains("`b` waits for `nowhere`"), "{e}");
    assert!(!Journal::open(&path).unwrap().history().complete);
}

#[tokio::test]
async fn what_cannot_be_kept_is_told_to_the_views_all_the_same() {
    use crate::ports::files::failing::{ENOSPC, Failing, Failure};
    let p = plan(&[("a", &[]), ("b", &["a"])]);
    let journal = |n, folder: &tempfile::TempDir| {
        let files = Arc::new(Failing::at(n, Failure::Torn(ENOSPC)));
        Journal::open_in(files, &folder.path().join("j")).unwrap()
    };
    // Begin, start and end of two steps, end.
    for number in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let world = Arc::new(World::default());
        let (outcome, events) = go_part(
            &p,
            &p,
            &world,
            journal(number, &folder),
            Arc::new(Alone),
            CancellationToken::new(),
        )
        .await;
        let Outcome::Failed(_, e) = outcome else {
            panic!("write {number} failed and nobody was told")
        };
        assert!(e.has_state(), "{e}");
        assert!(
            matches!(&events.last().unwrap().body, Body::RunEnded { .. }),
            "write {number}"
        );
        // The disk has room again.
        let path = folder.path().join("j");
        assert!(matches!(
            go(&p, &world, &path, CancellationToken::new()).await,
            Outcome::Success
        ));
        assert_eq!(*world.applied.lock().unwrap(), ["a", "b"], "write {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_to_ask_is_waited_through_and_not_taken_for_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let p = plan(&[("a", &[])]);
    let world = Arc::new(World::default());
    world.facts.lock().unwrap().push("a".into());
    world.away.store(60, Ordering::SeqCst);
    assert!(matches!(
        go(&p, &world, &path, CancellationToken::new()).await,
        Outcome::Success
    ));
    assert!(world.applied.lock().unwrap().is_empty());
    world.away.store(100_000, Ordering::SeqCst);
    let outcome = go(&p, &world, &path, CancellationToken::new()).await;
    assert!(matches!(outcome, Outcome::Failed(..)));
}

#[tokio::test]
async fn who_is_not_the_owner_makes_nothing() {
    struct Nobody;
    #[async_trait]
    impl Owner for Nobody {
        async fn may_change(&self, _: &StepId) -> Result<()> {
            Err(Error::new(Kind::Locked, "another run owns the cluster"))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let p = plan(&[("a", &[]), ("b", &["a"])]);
    let world = Arc::new(World::default());
    world.facts.lock().unwrap().push("a".into());
    let journal = Journal::open(&folder.path().join("j")).unwrap();
    let (outcome, _) = go_part(
        &p,
        &p,
        &world,
        journal,
        Arc::new(Nobody),
        CancellationToken::new(),
    )
    .await;
    let Outcome::Failed(at, e) = outcome else {
        panic!("went on")
    };
    // What is there already needs no owner.
    assert_eq!((at.0.as_str(), e.kind()), ("b", Kind::Locked));
    assert!(world.applied.lock().unwrap().is_empty());
}

#[tokio::test]
async fn outputs_are_learned_as_soon_as_they_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let p = plan(&[("a", &[]), ("b", &["a"])]);
    let world = Arc::new(World::default());
    go(&p, &world, &path, CancellationToken::new()).await;
    let kept: Vec<Value> = Journal::open(&path)
        .unwrap()
        .history()
        .outputs
        .iter()
        .map(|(_, v)| v.clone())
        .collect();
    assert_eq!(
        kept,
        [
            serde_json::json!({"made": "a"}),
            serde_json::json!({"made": "b"})
        ]
    );
    assert_eq!(*world.learned.lock().unwrap(), kept);
}

#[tokio::test]
async fn another_plan_than_the_begun_one_is_refused_with_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let p = plan(&[("a", &[]), ("b", &["a"])]);
    let world = Arc::new(World::default());
    *world.fail.lock().unwrap() = Some("b".into());
    go(&p, &world, &path, CancellationToken::new()).await;
    let before = std::fs::read(&path).unwrap();
    let mut other = p.clone();
    other.images.push("example.io/new:1".into());
    let outcome = go(&other, &world, &path, CancellationToken::new()).await;
    let Outcome::Failed(_, e) = outcome else {
        panic!("went on")
    };
    assert_eq!(e.kind(), Kind::Usage);
    assert!(e.to_string().contains("new: image example.io/new:1"), "{e}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
