//! Results of checks and how they are shown. Must not check anything.

use serde::{Deserialize, Serialize};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is as it should be.
    Pass,
    /// It is not.
    Fail,
    /// It was not looked at; the evidence says why.
    Skip,
}

/// One check with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Stable name.
    pub name: String,
    /// What it found.
    pub result: Outcome,
    /// What was seen.
    pub evidence: String,
    /// What to do, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    /// A check that passed.
    pub fn pass(name: &str, evidence: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            result: Outcome::Pass,
            evidence: evidence.into(),
            fix: None,
        }
    }

    /// A check that failed.
    pub fn fail(name: &str, evidence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            result: Outcome::Fail,
            evidence: evidence.into(),
            fix: Some(fix.into()),
        }
    }

    /// A check that was left out.
    pub fn skip(name: &str, why: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            result: Outcome::Skip,
            evidence: why.into(),
            fix: None,
        }
    }
}

/// All checks of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// When it was made (RFC 3339).
    pub time: String,
    /// How long it took.
    pub seconds: f64,
    /// The checks, in a fixed order.
    pub checks: Vec<Check>,
}

impl Report {
    /// True when nothing failed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|c| c.result != Outcome::Fail)
    }

    /// Names of the checks that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.checks
            .iter()
            .filter(|c| c.result == Outcome::Fail)
            .map(|c| c.name.as_str())
            .collect()
    }

    /// For people: one line per check, its fix below when it failed, a sentence at the end.
    pub fn text(&self) -> String {
        let width = self.checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for c in &self.checks {
            let mark = match c.result {
                Outcome::Pass => "✓",
                Outcome::Fail => "✗",
                Outcome::Skip => "-",
            };
            text.push_str(&format!("{mark} {:<width$}  {}\n", c.name, c.evidence));
            if let Some(fix) = &c.fix {
                text.push_str(&format!("  {:<width$}  fix: {fix}\n", ""));
            }
        }
        let failed = self.failed();
        text.push_str(&if failed.is_empty() {
            let passed = self
                .checks
                .iter()
                .filter(|c| c.result == Outcome::Pass)
                .count();
            format!(
                "\n{} is as it should be: {passed} checks passed in {:.1} s\n",
                self.cluster, self.seconds
            )
        } else {
            format!(
                "\n{} of {} checks failed: {}\n",
                failed.len(),
                self.checks.len(),
                failed.join(", ")
            )
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_marks_evidence_and_fixes() {
        let mut report = Report {
            version: 1,
            cluster: "golem".into(),
            time: "2026-01-01T00:00:00Z".into(),
            seconds: 1.25,
            checks: vec![
                Check::pass("nodes", "2 of 2 Ready"),
                Check::skip("heartbeat", "monitoring is switched off"),
                Check::fail("flux", "Kustomization cilium: no", "look at it"),
            ],
        };
        assert!(!report.passed());
        assert_eq!(
            report.text(),
            "✓ nodes      2 of 2 Ready\n- heartbeat  monitoring is switched off\n✗ flux       Kustomization cilium: no\n             fix: look at it\n\n1 of 3 checks failed: flux\n"
        );
        report.checks.pop();
        assert!(report.passed());
        assert!(
            report
                .text()
                .ends_with("golem is as it should be: 1 checks passed in 1.2 s\n")
        );
    }
}
