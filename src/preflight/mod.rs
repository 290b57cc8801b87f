//! Checks before anything is changed, as findings: all at once, each with its evidence and its fix.
//! `look` gathers facts, `judge` is pure. Must not change anything, nor decide what a command does about a finding.
//!
//! ```text
//! document, bundle ─▶ prepare ─┐
//! engine, host ─────▶ look ────┴▶ Facts ─▶ judge ─▶ findings: good │ tight │ bad │ unknown
//! ```

mod engine;
pub mod facts;
mod host;
mod inputs;
mod look;
mod network;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde::Serialize;

use crate::{Error, Kind, Result};

pub use facts::Facts;
pub use look::look;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It could not be looked at; that alone never stops anything.
    Unknown,
    /// It may work, and may not.
    Tight,
    /// It cannot work.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the check.
    pub id: &'static str,
    /// What it came to.
    pub result: Verdict,
    /// One sentence.
    pub what: String,
    /// Where: a path, an engine's address, a field of the document.
    pub place: String,
    /// What was seen; for an unknown one, why nothing was.
    pub evidence: String,
    /// What to do; empty when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// A check: its name and place, from which findings are made.
#[derive(Clone, Debug)]
struct On {
    id: &'static str,
    place: String,
}

fn on(id: &'static str, place: impl Into<String>) -> On {
    On {
        id,
        place: place.into(),
    }
}

impl On {
    fn good(self, what: impl Into<String>, evidence: impl Into<String>) -> Finding {
        self.finding(Verdict::Good, what, evidence, "")
    }

    fn tight(
        self,
        what: impl Into<String>,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        self.finding(Verdict::Tight, what, evidence, fix)
    }

    fn bad(
        self,
        what: impl Into<String>,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        self.finding(Verdict::Bad, what, evidence, fix)
    }

    /// `what` could not be looked at.
    fn unknown(self, what: &str, why: &facts::Unknown) -> Finding {
        let what = format!("{what} is not known");
        let fix = "make it visible, or see to it yourself: this alone stops nothing";
        self.finding(Verdict::Unknown, what, why.0.as_str(), fix)
    }

    fn finding(
        self,
        result: Verdict,
        what: impl Into<String>,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding {
            id: self.id,
            result,
            what: what.into(),
            place: self.place,
            evidence: evidence.into(),
            fix: fix.into(),
        }
    }
}

/// The checks, in the order in which people read them.
const CHECKS: &[fn(&Facts) -> Finding] = &[
    engine::command,
    engine::answers,
    engine::product,
    engine::version,
    engine::rootful,
    engine::user_namespaces,
    engine::system,
    engine::local,
    engine::cgroup,
    engine::storage,
    engine::kernel,
    engine::forwarding,
    engine::clock,
    engine::processors,
    engine::memory,
    engine::disk,
    engine::foreign_machines,
    engine::foreign_registry,
    host::year,
    host::memory,
    host::state_folder,
    host::state_space,
    host::cache_folder,
    host::cache_runs,
    host::inotify_instances,
    host::inotify_watches,
    host::open_files,
    host::overlay,
    host::proxy,
    network::each_other,
    network::engine,
    network::host,
    network::temporary,
    inputs::document,
    inputs::mounts,
    inputs::own_image,
    inputs::bundle_images,
    inputs::bundle_node_image,
    inputs::bundle_path,
];

/// Judges all facts; pure.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    CHECKS.iter().map(|check| check(facts)).collect()
}

/// The worst of all.
pub fn worst(findings: &[Finding]) -> Verdict {
    let all = findings.iter().map(|f| f.result);
    all.max().unwrap_or(Verdict::Good)
}

/// For people: those to keep, each with place, evidence and fix.
pub fn text(findings: &[Finding], keep: impl Fn(Verdict) -> bool) -> String {
    let mut out = String::new();
    for f in findings.iter().filter(|f| keep(f.result)) {
        let mark = match f.result {
            Verdict::Good => "✓",
            Verdict::Unknown => "?",
            Verdict::Tight => "▲",
            Verdict::Bad => "✗",
        };
        let _ = writeln!(out, "{mark} {:<24} {}", f.id, f.what);
        if f.result == Verdict::Good {
            continue;
        }
        for (name, text) in [("where", &f.place), ("why", &f.evidence), ("fix", &f.fix)] {
            if !text.is_empty() {
                let _ = writeln!(out, "    {:<6} {text}", format!("{name}:"));
            }
        }
    }
    out
}

/// How many there are of each.
pub fn counts(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|f| f.result == verdict).count();
    format!(
        "{} checks: {} good, {} tight, {} bad, {} unknown",
        findings.len(),
        count(Verdict::Good),
        count(Verdict::Tight),
        count(Verdict::Bad),
        count(Verdict::Unknown)
    )
}

/// An error when one of them is bad; it carries all that are, and the tight ones.
pub fn refuse(findings: &[Finding], again: &str) -> Result<()> {
    let bad: Vec<Finding> = findings
        .iter()
        .filter(|f| f.result == Verdict::Bad)
        .cloned()
        .collect();
    let Some(first) = bad.first() else {
        return Ok(());
    };
    let what = match bad.len() {
        1 => first.what.clone(),
        n => format!("{n} checks failed before anything was changed"),
    };
    let fix = match bad.len() {
        1 => first.fix.clone(),
        _ => "each finding names its fix".to_owned(),
    };
    Err(Error::new(Kind::Preflight, what)
        .at(first.place.clone())
        .detail(text(findings, |v| v >= Verdict::Tight))
        .fix(fix)
        .fix(format!("then again: {again}"))
        .state("nothing was changed"))
}
