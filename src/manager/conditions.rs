//! Conditions as values: merging new ones over old ones so that transition times stay right. Pure.

use jiff::Timestamp;

use crate::config::Condition;

/// Longest message kept; longer ones are cut.
const MESSAGE: usize = 600;

/// A condition just computed, without times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// CamelCase name.
    pub type_: String,
    /// `Some(true)`, `Some(false)` or unknown.
    pub status: Option<bool>,
    /// CamelCase reason.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Finding {
    /// A finding that is true.
    pub fn yes(type_: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::new(type_, Some(true), reason, message)
    }

    /// A finding that is false.
    pub fn no(type_: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::new(type_, Some(false), reason, message)
    }

    /// A finding that cannot be told yet.
    pub fn unknown(type_: &str, reason: &str, message: impl Into<String>) -> Self {
        Self::new(type_, None, reason, message)
    }

    fn new(type_: &str, status: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let mut cut: String = message.chars().take(MESSAGE).collect();
        if cut.len() < message.len() {
            cut.push('…');
        }
        Self {
            type_: type_.to_owned(),
            status,
            reason: reason.to_owned(),
            message: cut.replace('\n', " "),
        }
    }

    /// `True`, `False` or `Unknown`.
    pub fn status(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// A change of a condition's status worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The new finding.
    pub to: Finding,
    /// Status before; `None` for a new condition.
    pub from: Option<String>,
}

impl Transition {
    /// False for a condition that was never there before: nothing has changed yet.
    pub fn is_worth_an_event(&self) -> bool {
        self.from.is_some()
    }
}

/// Makes the conditions to write: sorted as given, `lastTransitionTime` kept where the status is the same.
pub fn merge(
    old: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> (Vec<Condition>, Vec<Transition>) {
    let mut transitions = Vec::new();
    let conditions = findings
        .iter()
        .map(|f| {
            let before = old.iter().find(|c| c.type_ == f.type_);
            let same = before.filter(|c| c.status == f.status());
            if same.is_none() {
                transitions.push(Transition {
                    to: f.clone(),
                    from: before.map(|c| c.status.clone()),
                });
            }
            Condition {
                type_: f.type_.clone(),
                status: f.status().to_owned(),
                reason: f.reason.clone(),
                message: f.message.clone(),
                last_transition_time: same
                    .map(|c| c.last_transition_time.clone())
                    .filter(|t| !t.is_empty())
                    .unwrap_or_else(|| now.round(jiff::Unit::Second).unwrap_or(now).to_string()),
                observed_generation: generation,
            }
        })
        .collect();
    (conditions, transitions)
}

/// `flux-giantswarm` → `FluxGiantswarm`.
pub fn camel(name: &str) -> String {
    name.split(['-', '.', '_'])
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map(|c| c.to_ascii_uppercase().to_string() + letters.as_str())
                .unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let t0: Timestamp = "2026-01-01T00:00:00.25Z".parse().unwrap();
        let (first, changes) = merge(&[], &[Finding::no("Ready", "A", "x")], Some(1), t0);
        assert_eq!(first[0].last_transition_time, "2026-01-01T00:00:00Z");
        assert_eq!(changes[0].from, None);
        let later = t0 + 1.hour();
        let (second, changes) = merge(&first, &[Finding::no("Ready", "B", "y")], Some(2), later);
        assert_eq!(second[0].last_transition_time, "2026-01-01T00:00:00Z");
        assert_eq!(second[0].reason, "B");
        assert_eq!(second[0].observed_generation, Some(2));
        assert!(changes.is_empty());
        let (third, changes) = merge(&second, &[Finding::yes("Ready", "C", "")], Some(2), later);
        assert_eq!(third[0].last_transition_time, "2026-01-01T01:00:00Z");
        assert_eq!(changes[0].from.as_deref(), Some("False"));
        let (fourth, _) = merge(&third, &[], Some(2), later);
        assert!(fourth.is_empty(), "what is not found any more is dropped");
    }

    #[test]
    fn names_become_camel_case() {
        assert_eq!(camel("flux-giantswarm"), "FluxGiantswarm");
        assert_eq!(camel("cilium"), "Cilium");
        assert_eq!(camel("kube-state-metrics"), "KubeStateMetrics");
    }

    #[test]
    fn long_messages_are_cut_at_a_letter() {
        let f = Finding::no("Ready", "A", "ä".repeat(2000));
        assert_eq!(f.message.chars().count(), MESSAGE + 1);
    }
}
