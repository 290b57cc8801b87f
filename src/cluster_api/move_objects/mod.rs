//! Moves a namespace's Cluster API objects from one management cluster to another so that a kill at any point loses nothing.
//!
//! Before the commit record the source is whole and the target a growing copy, after it the target is proven and the
//! source is cleared; both sides stay paused in between. What is known of it stands three times: in the journal, as marks on
//! the copies (a lost journal is made anew from them), and until the commit in a sealed export (a lost source is replaced by
//! it). Must not know who asks for it.

mod begin;
mod copy;
mod find;
mod finish;
mod pause;
mod remove;
mod restore;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{
    compare::same_content,
    export::Exports,
    inventory::{self, MoveKind, View},
    journal::{MoveJournal, Planned, Record, State},
    marks::PAUSED_FOR_MOVE,
    object::{Key, Object},
    plan::{self, Plan},
    ready::wait_ready,
};
use crate::{
    Error, Kind, Result,
    ports::{
        clock::Clock,
        kubernetes::{Cluster, Progress},
    },
};
use begin::Begun;
use find::Found;

pub use begin::LEASE;
pub use restore::{Restored, restore};

/// Writes in flight to one API server.
const WRITES: usize = 32;
/// How often the copy begins again because the source changed.
const ROUNDS: usize = 10;
/// How long the source's controllers may take to stop, and its clusters to get ready, without any change.
const STALL: Duration = Duration::from_secs(180);

/// One move: from where, to where, and with what.
pub struct Order<'a> {
    /// Holds the objects; `None` when it is proven to be gone.
    pub source: Option<&'a Cluster>,
    /// Takes them.
    pub target: &'a Cluster,
    /// The namespace that moves.
    pub namespace: &'a str,
    /// What has been done so far.
    pub journal: &'a dyn MoveJournal,
    /// Where everything is kept before the first pause; `None`: nowhere, and a source that dies takes the objects along.
    pub exports: Option<&'a dyn Exports>,
    /// Kept with the objects: what is known of the cluster besides them.
    pub environment: Value,
    /// Who moves; the same after a crash, so that the move can go on at once.
    pub holder: &'a str,
    /// Times in the Leases.
    pub clock: Arc<dyn Clock>,
    /// Told what is seen.
    pub progress: &'a dyn Progress,
}

/// What a move did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Objects that stand in the target now.
    pub objects: usize,
    /// Requests sent to both API servers, lists and retries included.
    pub requests: u64,
    /// Those of them that do not grow with the number of objects: lists, identities and Leases.
    pub fixed: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Moves everything of a namespace. After a kill at any point the same call goes on from the journal, or without one from
/// the marks, and ends in the same state. A second mover is refused while the first one lives.
pub async fn run(order: &Order<'_>) -> Result<Report> {
    let begin = Instant::now();
    let mut work = Move {
        source: order.source,
        target: order.target,
        namespace: order.namespace,
        journal: order.journal,
        exports: order.exports,
        environment: &order.environment,
        progress: order.progress,
        state: State::of(order.journal.load()),
        source_uid: String::new(),
        target_uid: String::new(),
        kinds: BTreeMap::new(),
        namespaces: BTreeMap::new(),
        listed: 0,
    };
    let attempts = || order.source.map_or(0, Cluster::attempts) + order.target.attempts();
    let before = attempts();
    let objects = match Box::pin(work.all(order)).await {
        Ok(objects) => objects,
        Err(e) => return Err(work.explain(e)),
    };
    Ok(Report {
        objects,
        requests: attempts() - before,
        fixed: work.listed,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// What a move would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What the namespace holds.
    pub view: View,
    /// The plan; empty when there are problems.
    pub plan: Plan,
    /// Why it cannot be done now.
    pub problems: Vec<String>,
}

/// Finds out what [`run`] would do; changes nothing.
pub async fn preview(
    source: &Cluster,
    target: &Cluster,
    namespace: &str,
    progress: &dyn Progress,
) -> Result<Preview> {
    let kinds = inventory::kinds(source, progress).await?;
    let known = inventory::kinds(target, progress).await?;
    let view = inventory::view(source, kinds.values(), namespace, progress).await?;
    let (plan, mut problems) = match plan::plan(&view.objects, &view.shared_classes) {
        Ok(plan) => (plan, Vec::new()),
        Err(problems) => (Plan::default(), problems),
    };
    problems.extend(unready(&view, &plan));
    problems.extend(unknown_kinds(&view, &plan, &known));
    let kinds = used(&view, &plan, &kinds);
    let copies = inventory::view(target, &kinds, namespace, progress).await?;
    problems.extend(copy::conflicts(&view, &plan, &copies, &BTreeSet::new()));
    Ok(Preview {
        view,
        plan,
        problems,
    })
}

/// One move under way.
struct Move<'a> {
    /// `None` when it is gone.
    source: Option<&'a Cluster>,
    target: &'a Cluster,
    namespace: &'a str,
    journal: &'a dyn MoveJournal,
    exports: Option<&'a dyn Exports>,
    environment: &'a Value,
    progress: &'a dyn Progress,
    state: State,
    source_uid: String,
    target_uid: String,
    kinds: BTreeMap<(String, String), MoveKind>,
    /// Namespaces of the objects as they are in the source.
    namespaces: BTreeMap<String, ObjectMeta>,
    listed: u64,
}

impl Move<'_> {
    async fn all(&mut self, order: &Order<'_>) -> Result<usize> {
        let fresh = match self.begin().await? {
            Begun::Complete(objects) => return Ok(objects),
            Begun::Open { fresh } => fresh,
        };
        let sent = self.sent();
        let mut leases = self.take_leases(order).await?;
        self.listed += self.sent() - sent;
        // On the heap: the states of all its phases are too much for the stack of a thread.
        let result = leases.during(Box::pin(self.work(fresh))).await;
        let sent = self.sent();
        leases.release().await;
        self.listed += self.sent() - sent;
        result
    }

    /// All that needs the Leases.
    async fn work(&mut self, fresh: bool) -> Result<usize> {
        let sent = self.sent();
        if let Some(source) = self.source {
            self.kinds = inventory::kinds(source, self.progress).await?;
        }
        let known = inventory::kinds(self.target, self.progress).await?;
        if self.source.is_none() {
            self.kinds.clone_from(&known);
        }
        self.listed += self.sent() - sent;
        let view = match fresh {
            true => match self.find(&known).await? {
                Found::Complete => return Ok(0),
                Found::Open(view) => view,
            },
            false => None,
        };
        let proven = match (self.state.committed, self.source) {
            (true, _) => None,
            (false, Some(_)) => Some(Box::pin(self.bring_over(&known, view)).await?),
            (false, None) => {
                Box::pin(self.restore_over(&known)).await?;
                None
            }
        };
        self.clear_source(proven).await?;
        self.finish().await?;
        let objects = self.state.planned.len();
        self.record(Record::Done { objects })?;
        Ok(objects)
    }

    /// The source, where there must be one.
    fn source(&self) -> Result<&Cluster> {
        self.source.ok_or_else(|| {
            Error::new(
                Kind::Internal,
                "a move without a source looks for its source",
            )
        })
    }

    /// Everything up to the commit record: afterwards each object is proven in the target. Returns the source as proven.
    async fn bring_over(
        &mut self,
        known: &BTreeMap<(String, String), MoveKind>,
        seen: Option<View>,
    ) -> Result<View> {
        let mut view = match seen {
            Some(view) => view,
            None => self.view_source().await?,
        };
        for _ in 0..ROUNDS {
            let plan = self.plan(&view)?;
            let missing = unready(&view, &plan);
            if !missing.is_empty() {
                self.wait_for_ready(&view, &plan, missing).await?;
                view = self.view_source().await?;
                continue;
            }
            let unknown = unknown_kinds(&view, &plan, known);
            if !unknown.is_empty() {
                return Err(
                    refusal("the target cannot hold what is to be moved", unknown)
                        .fix("install the same providers, at least as new, in the target"),
                );
            }
            let copies = self.view_target(&view, &plan).await?;
            let may_be_ours = self.state.ever_planned.iter().map(Key::of).collect();
            let conflicts = copy::conflicts(&view, &plan, &copies, &may_be_ours);
            if !conflicts.is_empty() {
                return Err(refusal("objects in the target are in the way", conflicts)
                    .fix("delete them there or move under another name"));
            }
            self.read_namespaces(&view, &plan).await?;
            self.export(&view, &plan)?;
            self.pause_source(&view, &plan).await?;
            view = self.fence().await?;
            let plan = self.plan(&view)?;
            if !unready(&view, &plan).is_empty() {
                continue;
            }
            self.read_namespaces(&view, &plan).await?;
            // Again, now that nothing moves any more: what is copied is what is kept.
            self.export(&view, &plan)?;
            self.record_plan(&view, &plan)?;
            let identities = self.copy(&view, &plan, &copies).await?;
            self.drop_stale_copies(&view, &plan, &copies).await?;
            self.prove(&view, &plan, &identities).await?;
            let again = self.view_source().await?;
            let plan_again = self.plan(&again)?;
            if unchanged((&view, &plan), (&again, &plan_again)) {
                self.record(Record::Committed)?;
                return Ok(again);
            }
            self.progress
                .seen("the source changed while it was copied: copying again what differs");
            view = again;
        }
        Err(Error::new(
            Kind::Stalled,
            format!("the source changed during each of {ROUNDS} attempts to copy it"),
        )
        .fix("find out who writes to its paused Cluster API objects, stop them, then run the same command again"))
    }

    fn plan(&self, view: &View) -> Result<Plan> {
        let plan = plan::plan(&view.objects, &view.shared_classes)
            .map_err(|problems| refusal("the objects cannot be moved as they are", problems))?;
        if plan.layers.is_empty() {
            return Err(refusal(
                &format!("there is nothing to move in namespace {}", self.namespace),
                vec![format!(
                    "the {} has no Cluster in it",
                    self.source.map_or("export", |s| s.name.as_str())
                )],
            )
            .fix("check the name of the namespace and which cluster is the source"));
        }
        Ok(plan)
    }

    /// Not ready. If this move has paused them already, they run again until they are.
    async fn wait_for_ready(
        &mut self,
        view: &View,
        plan: &Plan,
        missing: Vec<String>,
    ) -> Result<()> {
        // With a part of it gone the source must not run again: its controllers would make anew what is missing.
        if !self.state.kept.is_empty() || !view.objects.iter().any(|o| self.is_ours(o)) {
            return Err(refusal("the clusters are not ready to move", missing)
                .fix("wait until they are provisioned, then run the same command again"));
        }
        self.progress.seen(&format!(
            "not ready after all, so it runs again: {}",
            missing.join("; ")
        ));
        self.release_source(view, plan).await?;
        wait_ready(self.source()?, self.namespace, STALL, self.progress).await
    }

    fn is_ours(&self, object: &Object) -> bool {
        object.annotation(PAUSED_FOR_MOVE) == Some(self.target_uid.as_str())
    }

    fn record(&mut self, record: Record) -> Result<()> {
        self.journal.append(&record)?;
        self.state.add(record);
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.source.map_or(0, Cluster::attempts) + self.target.attempts()
    }

    /// Writes down what is about to be copied, with what must be kept.
    fn record_plan(&mut self, view: &View, plan: &Plan) -> Result<()> {
        let mut objects = planned(view, plan);
        objects.extend(self.state.kept.iter().cloned());
        self.record(Record::Planned { objects })
    }

    async fn view_source(&mut self) -> Result<View> {
        let sent = self.sent();
        let view = inventory::view(
            self.source()?,
            self.kinds.values(),
            self.namespace,
            self.progress,
        )
        .await?;
        self.listed += self.sent() - sent;
        Ok(view)
    }

    async fn view_target(&mut self, view: &View, plan: &Plan) -> Result<View> {
        let kinds = used(view, plan, &self.kinds);
        self.view_kinds(self.target, kinds).await
    }

    async fn view_kinds(&mut self, cluster: &Cluster, kinds: Vec<MoveKind>) -> Result<View> {
        let sent = self.sent();
        let view = inventory::view(cluster, &kinds, self.namespace, self.progress).await?;
        self.listed += self.sent() - sent;
        Ok(view)
    }

    /// Adds what state things are in.
    fn explain(&self, e: Error) -> Error {
        if e.has_state() {
            return e;
        }
        if self.source.is_none() && !self.state.committed {
            e.state("the source is gone; the target may hold paused copies, the export holds everything. Run the same command again: it goes on from here")
        } else if self.state.committed {
            e.state("everything is proven in the target and still paused there; the source is being cleared. Run the same command again: it goes on from here")
        } else if self.state.was_paused.is_empty() && self.state.planned.is_empty() {
            e.state("nothing was changed")
        } else {
            e.state("the source is complete and paused; the target may hold paused copies. Run the same command again: it goes on from here")
        }
    }
}

fn refusal(what: &str, problems: Vec<String>) -> Error {
    problems
        .into_iter()
        .fold(Error::new(Kind::Preflight, what), |e, p| e.because(p))
}

/// What of the plan is not ready to move.
fn unready(view: &View, plan: &Plan) -> Vec<String> {
    plan.objects()
        .filter_map(|i| view.objects[i].pending.clone())
        .collect()
}

/// The kinds of which the plan has objects.
fn used(view: &View, plan: &Plan, kinds: &BTreeMap<(String, String), MoveKind>) -> Vec<MoveKind> {
    let used: BTreeSet<(String, String)> = plan
        .objects()
        .map(|i| {
            let gvk = &view.objects[i].gvk;
            (gvk.group.clone(), gvk.kind.clone())
        })
        .collect();
    used.iter().filter_map(|k| kinds.get(k).cloned()).collect()
}

fn unknown_kinds(
    view: &View,
    plan: &Plan,
    known: &BTreeMap<(String, String), MoveKind>,
) -> Vec<String> {
    let mut problems = BTreeSet::new();
    for gvk in plan.objects().map(|i| &view.objects[i].gvk) {
        match known.get(&(gvk.group.clone(), gvk.kind.clone())) {
            None => {
                problems.insert(format!("it has no kind {} ({})", gvk.kind, gvk.group));
            }
            Some(kind) if !kind.served.contains(&gvk.version) => {
                problems.insert(format!(
                    "it does not serve {} in version {}, only in {}",
                    gvk.kind,
                    gvk.version,
                    kind.served.join(", ")
                ));
            }
            Some(_) => {}
        }
    }
    problems.into_iter().collect()
}

fn planned(view: &View, plan: &Plan) -> Vec<Planned> {
    let mut all = Vec::new();
    for (layer, objects) in plan.layers.iter().enumerate() {
        all.extend(objects.iter().map(|&i| Planned {
            object: view.objects[i].reference(),
            layer,
            stays: plan.stays(i),
        }));
    }
    all
}

/// True when the same objects would be moved with the same content.
fn unchanged(a: (&View, &Plan), b: (&View, &Plan)) -> bool {
    if planned(a.0, a.1) != planned(b.0, b.1) {
        return false;
    }
    let mut pairs = a.1.objects().zip(b.1.objects());
    pairs.all(|(i, j)| same_content(&a.0.objects[i], &b.0.objects[j]))
}

/// Objects by place.
fn by_key(view: &View) -> HashMap<Key, &Object> {
    view.objects.iter().map(|o| (o.key(), o)).collect()
}
