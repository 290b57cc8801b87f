//! Who owns a management cluster: asked of engine and clusters, never of a file alone. Deciding is pure and must not look;
//! looking must not decide.
//!
//! ```text
//! engine ──────────┐
//! temporary cluster ├─ look ─▶ Facts ─ of ─▶ Fresh │ Building │ Moving │ Pivoted │ Foreign │ Unknown ─▶ may it be changed?
//! new cluster ─────┘
//! ```

pub mod facts;
pub mod look;
pub mod marks;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

use std::collections::BTreeSet;

use facts::{Containers, Facts, Known, Object, Side};

use crate::{
    Error, Kind, Result,
    plan::{Plan, StepId, id},
};

/// Who owns a management cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Nothing of it is anywhere.
    Fresh,
    /// This run builds it; the temporary cluster owns it.
    Building {
        /// The run.
        run: String,
    },
    /// This run moves it; nobody acts on it meanwhile.
    Moving {
        /// The run.
        run: String,
    },
    /// It manages itself, and this run made it so.
    Pivoted {
        /// The run.
        run: String,
    },
    /// Somebody else owns it, or nobody who could be asked.
    Foreign {
        /// Who: `run 5f`, `a kind cluster`.
        who: String,
        /// The run, if it is one.
        run: Option<String>,
        /// What says so.
        why: String,
    },
    /// It cannot be told.
    Unknown {
        /// What would have to answer.
        missing: String,
    },
}

/// Where a step stands to the pivot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It leads to the pivot: only for a cluster that the temporary one owns.
    Before,
    /// It is the pivot, or goes on beside it.
    Beside,
    /// It needs the pivot: only for a cluster that manages itself.
    After,
}

impl Stage {
    /// Stage of a step in the whole plan, which has a pivot.
    pub fn of(whole: &Plan, step: &StepId) -> Self {
        let pivot = StepId::from(id::PIVOT);
        if whole.ancestors(&pivot).contains(step) {
            Self::Before
        } else if whole.ancestors(step).contains(&pivot) {
            Self::After
        } else {
            Self::Beside
        }
    }
}

impl Ownership {
    /// Decides. Whoever has left a mark must be the run that asks; whatever is not known is no permission.
    pub fn of(facts: &Facts) -> Self {
        let containers = match &facts.engine {
            Known::Is(containers) => containers,
            Known::Absent => return unknown("the engine"),
            Known::Unknown(why) => return unknown(&format!("the engine: {why}")),
        };
        if let Some(stranger) = containers.strangers.first() {
            return Self::Foreign {
                who: "somebody other than mctl".into(),
                run: None,
                why: format!("container {stranger} is not mctl's"),
            };
        }
        let claims = facts.claims();
        if let Some((run, place)) = claims.iter().find(|(run, _)| *run != facts.mine) {
            return Self::Foreign {
                who: match run.as_str() {
                    "" => "a run that left no mark".into(),
                    run => format!("run {run}"),
                },
                run: Some(run.clone()).filter(|r| !r.is_empty()),
                why: format!("{place} is of it"),
            };
        }
        let owner = facts.owner(containers);
        // Whoever begins something must have left a mark, or what is there is not its own.
        match owner {
            Self::Foreign { .. } | Self::Unknown { .. } | Self::Fresh => owner,
            _ if claims.is_empty() => Self::Foreign {
                who: "a run that left no mark".into(),
                run: None,
                why: "there are machines, and neither engine nor cluster says whose".into(),
            },
            Self::Building { .. } if facts.pivot_remembered && !containers.has_machines() => {
                nobody("the journal tells of a pivot, and no machine is left")
            }
            owner => owner,
        }
    }

    /// The run that owns the cluster, as far as it is known.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Building { run } | Self::Moving { run } | Self::Pivoted { run } => Some(run),
            Self::Foreign { run, .. } => run.as_deref(),
            Self::Fresh | Self::Unknown { .. } => None,
        }
    }

    /// True when a step of this stage may change something.
    pub fn permits(&self, stage: Stage) -> bool {
        match self {
            Self::Fresh | Self::Building { .. } => stage != Stage::After,
            Self::Moving { .. } => stage == Stage::Beside,
            Self::Pivoted { .. } => stage != Stage::Before,
            Self::Foreign { .. } | Self::Unknown { .. } => false,
        }
    }

    /// Steps of the whole plan that must be neither looked at nor run any more: what they made is gone on purpose, or
    /// belongs to the cluster itself now.
    pub fn behind(&self, whole: &Plan) -> BTreeSet<StepId> {
        match self {
            Self::Moving { .. } | Self::Pivoted { .. } => whole.ancestors(&id::PIVOT.into()),
            _ => BTreeSet::new(),
        }
    }

    /// Nothing may be changed by this run; the error says who stands in the way and what can be done.
    pub fn check(&self, cluster: &str, engine: &str) -> Result<()> {
        let error = match self {
            Self::Foreign { who, run, why } => {
                let error = Error::new(
                    Kind::Preflight,
                    format!("management cluster `{cluster}` belongs to {who}, not to this run"),
                )
                .at(format!("engine {engine}"))
                .because(why.clone());
                match run {
                    Some(run) => error
                        .fix("go on where that run was begun: same user, host and XDG_STATE_HOME")
                        .fix(format!(
                            "or remove what it made: mctl destroy --run {run} {cluster}"
                        )),
                    None if who == NOBODY => error.fix(format!("mctl destroy {cluster}")),
                    None => error.fix("choose another metadata.name, or remove what is there"),
                }
            }
            Self::Unknown { missing } => Error::new(
                Kind::Preflight,
                format!("it cannot be told who owns management cluster `{cluster}`"),
            )
            .at(format!("engine {engine}"))
            .because(format!("no answer from {missing}"))
            .fix("have it answer, then run the same command again")
            .fix(format!("or remove everything: mctl destroy {cluster}")),
            _ => return Ok(()),
        };
        Err(error.state("nothing was changed"))
    }
}

impl std::fmt::Display for Ownership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fresh => f.write_str("nobody has begun it"),
            Self::Building { run } => write!(f, "run {run} builds it"),
            Self::Moving { run } => write!(f, "run {run} moves it"),
            Self::Pivoted { .. } => f.write_str("it manages itself"),
            Self::Foreign { who, why, .. } => write!(f, "it belongs to {who}: {why}"),
            Self::Unknown { missing } => write!(f, "no answer from {missing}"),
        }
    }
}

/// Who owns machines that no cluster knows.
const NOBODY: &str = "nobody";

fn nobody(why: &str) -> Ownership {
    Ownership::Foreign {
        who: NOBODY.into(),
        run: None,
        why: why.into(),
    }
}

fn unknown(missing: &str) -> Ownership {
    Ownership::Unknown {
        missing: missing.into(),
    }
}

impl Facts {
    /// Runs that have left a mark anywhere, with where.
    pub fn claims(&self) -> Vec<(String, String)> {
        let mut claims = match &self.engine {
            Known::Is(containers) => containers.runs(),
            _ => Vec::new(),
        };
        let sides = [
            ("the temporary cluster", &self.temporary),
            ("the new cluster", &self.management),
        ];
        for (place, side) in sides {
            if let Known::Is(Side { run: Some(run), .. }) = side {
                claims.push((run.clone(), format!("the Lease in {place}")));
            }
        }
        claims
    }

    /// Decides between the clusters; the run is taken to be the one that asks.
    fn owner(&self, containers: &Containers) -> Ownership {
        let run = || self.mine.clone();
        let building = || Ownership::Building { run: run() };
        let moving = || Ownership::Moving { run: run() };
        let pivoted = || Ownership::Pivoted { run: run() };
        let object = |side: &Known<Side>| match side {
            Known::Is(side) => Known::Is(side.object),
            Known::Absent => Known::Absent,
            Known::Unknown(why) => Known::Unknown(why.clone()),
        };
        use Known::{Absent, Is, Unknown};
        let management = match object(&self.management) {
            Absent if containers.has_machines() => Unknown("its machines were not asked".into()),
            seen => seen,
        };
        match (management, object(&self.temporary)) {
            (Is(Object::Acting), Is(Object::Acting)) => Ownership::Foreign {
                who: "two clusters at once".into(),
                run: None,
                why: "its Cluster object is at work in the temporary and in the new cluster".into(),
            },
            (Is(Object::Acting), _) => pivoted(),
            // A move pauses its source before anything else, and never touches it again before its own end.
            (Is(Object::Moving), _) => moving(),
            (_, Is(Object::Moving)) => moving(),
            (Is(Object::Paused), Is(Object::Paused | Object::Acting)) => moving(),
            // A person paused a cluster that manages itself.
            (Is(Object::Paused), Is(Object::None) | Absent) => pivoted(),
            (Is(Object::Paused), Unknown(why)) => unknown(&format!("the temporary cluster: {why}")),
            (Is(Object::None), Is(Object::Acting | Object::Paused)) => building(),
            // The source died after its pause and before its Cluster was copied. That permits the pivot alone, which goes on
            // from what was exported of this very source, or says that nothing was.
            (Is(Object::None), Absent) if self.pivot_remembered => moving(),
            (Is(Object::None), Is(Object::None) | Absent) => nobody(
                "there are machines, and no cluster has the Cluster object that they belong to",
            ),
            (Is(Object::None), Unknown(why)) => unknown(&format!("the temporary cluster: {why}")),
            // As long as the source is at work nothing has been moved.
            (Unknown(_), Is(Object::Acting)) => building(),
            (Unknown(why), _) => unknown(&format!("the new cluster: {why}")),
            // A creation that was interrupted: without machines nothing can be lost.
            (Absent, Is(_) | Unknown(_)) => building(),
            (Absent, Absent) if containers.is_empty() => Ownership::Fresh,
            (Absent, Absent) => building(),
        }
    }
}
