//! Moves a namespace's Cluster API objects from one management cluster to another so that a kill at any point loses nothing.
//!
//! Before the commit record the source is whole and the target a growing copy, after it the target is proven and the
//! source is cleared; both sides stay paused in between. Must not know who asks for it.

mod copy;
mod pause;
mod remove;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use kube::{api::ApiResource, core::GroupVersionKind, discovery::Scope};

use super::{
    compare::same_content,
    inventory::{self, MoveKind, View},
    journal::{FORMAT, MoveJournal, Planned, Record, State},
    object::{CORE, Key, Object, PAUSED_FOR_MOVE},
    plan::{self, Plan},
    ready::wait_ready,
};
use crate::{
    Error, Kind, Result,
    ports::kubernetes::{Cluster, Progress},
};

/// Writes in flight to one API server.
const WRITES: usize = 32;
/// How often the copy begins again because the source changed.
const ROUNDS: usize = 10;
/// How long the source's controllers may take to stop, and its clusters to get ready, without any change.
const STALL: Duration = Duration::from_secs(180);

/// What a move did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Objects that stand in the target now.
    pub objects: usize,
    /// Requests sent to both API servers, lists and retries included.
    pub requests: u64,
    /// Those of them that do not grow with the number of objects: lists and identities.
    pub fixed: u64,
    /// How long it took.
    pub seconds: f64,
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

/// Moves everything of `namespace` from `source` to `target`. After a kill at any point the same call goes on from
/// the journal and ends in the same state.
pub async fn run(
    source: &Cluster,
    target: &Cluster,
    namespace: &str,
    journal: &dyn MoveJournal,
    progress: &dyn Progress,
) -> Result<Report> {
    let begin = Instant::now();
    let before = source.attempts() + target.attempts();
    let mut work = Move {
        source,
        target,
        namespace,
        journal,
        progress,
        state: State::of(journal.load()),
        target_uid: String::new(),
        kinds: BTreeMap::new(),
        listed: 0,
    };
    let objects = match work.all().await {
        Ok(objects) => objects,
        Err(e) => return Err(work.explain(e)),
    };
    Ok(Report {
        objects,
        requests: source.attempts() + target.attempts() - before,
        fixed: work.listed,
        seconds: begin.elapsed().as_secs_f64(),
    })
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
    source: &'a Cluster,
    target: &'a Cluster,
    namespace: &'a str,
    journal: &'a dyn MoveJournal,
    progress: &'a dyn Progress,
    state: State,
    target_uid: String,
    kinds: BTreeMap<(String, String), MoveKind>,
    listed: u64,
}

impl Move<'_> {
    async fn all(&mut self) -> Result<usize> {
        self.begin().await?;
        if let Some(objects) = self.state.done {
            return Ok(objects);
        }
        let sent = self.sent();
        self.kinds = inventory::kinds(self.source, self.progress).await?;
        let known = inventory::kinds(self.target, self.progress).await?;
        self.listed += self.sent() - sent;
        let proven = match self.state.committed {
            true => None,
            false => Some(self.bring_over(&known).await?),
        };
        self.clear_source(proven).await?;
        self.unpause_target().await?;
        let objects = self.state.planned.len();
        self.record(Record::Done { objects })?;
        Ok(objects)
    }

    /// Which clusters these are, and whether the journal is about them.
    async fn begin(&mut self) -> Result<()> {
        let source = self.identity(self.source).await?;
        let target = self.identity(self.target).await?;
        self.target_uid.clone_from(&target);
        if source == target {
            return Err(Error::new(
                Kind::Usage,
                "source and target of the move are the same cluster",
            )
            .because(format!(
                "namespace kube-system has the UID {source} in both"
            ))
            .fix("name two different clusters"));
        }
        let wanted = (source.clone(), target.clone(), self.namespace.to_owned());
        match &self.state.started {
            Some(started) if *started == wanted && self.state.done.is_none() => return Ok(()),
            Some(started) if *started == wanted => {
                // Complete; unless new clusters have come, there is nothing to do again.
                let gvk = GroupVersionKind::gvk(CORE, "v1beta2", "Cluster");
                let clusters = self
                    .source
                    .list_map(&gvk, Some(self.namespace), None, self.progress, Some)
                    .await?;
                self.listed += 1;
                if clusters.unwrap_or_default().is_empty() {
                    return Ok(());
                }
            }
            Some(_) if self.state.done.is_none() => {
                return Err(Error::new(
                    Kind::Usage,
                    "the journal belongs to another move that is not complete",
                )
                .because(format!(
                    "it tells of {:?}, asked for is {wanted:?}",
                    self.state.started
                ))
                .fix("name another journal, or complete that move first"));
            }
            _ => {}
        }
        self.record(Record::Started {
            format: FORMAT,
            source,
            target,
            namespace: self.namespace.to_owned(),
        })
    }

    async fn identity(&mut self, cluster: &Cluster) -> Result<String> {
        let gvk = GroupVersionKind::gvk("", "v1", "Namespace");
        cluster.know(ApiResource::from_gvk(&gvk), Scope::Cluster);
        self.listed += 1;
        let found = cluster
            .read(&gvk, None, "kube-system", self.progress)
            .await?;
        found.and_then(|n| n.metadata.uid).ok_or_else(|| {
            Error::failed(format!(
                "the {} has no namespace kube-system, so it cannot be told from others",
                cluster.name
            ))
        })
    }

    /// Everything up to the commit record: afterwards each object is proven in the target. Returns the source as proven.
    async fn bring_over(&mut self, known: &BTreeMap<(String, String), MoveKind>) -> Result<View> {
        let mut view = self.view_source().await?;
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
            self.pause_source(&view, &plan).await?;
            view = self.fence().await?;
            let plan = self.plan(&view)?;
            if !unready(&view, &plan).is_empty() {
                continue;
            }
            self.record(Record::Planned {
                objects: planned(&view, &plan),
            })?;
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
                vec![format!("the {} has no Cluster in it", self.source.name)],
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
        if !view.objects.iter().any(|o| self.is_ours(o)) {
            return Err(refusal("the clusters are not ready to move", missing)
                .fix("wait until they are provisioned, then run the same command again"));
        }
        self.progress.seen(&format!(
            "not ready after all, so it runs again: {}",
            missing.join("; ")
        ));
        self.release_source(view, plan).await?;
        wait_ready(self.source, self.namespace, STALL, self.progress).await
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
        self.source.attempts() + self.target.attempts()
    }

    async fn view_source(&mut self) -> Result<View> {
        let sent = self.sent();
        let view = inventory::view(
            self.source,
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
        if self.state.committed {
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
