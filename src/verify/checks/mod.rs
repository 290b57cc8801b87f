//! The read-only checks: each looks at facts that were read and says what it found. Pure.

mod cluster;
mod flux;
mod monitoring;
mod platform;

use super::{facts::Facts, report::Check};
use crate::{catalog::Catalog, config::ManagementCluster};

pub use cluster::{is_control_plane, is_ready};

/// What the checks look at.
pub struct Context<'a> {
    /// What the cluster should be.
    pub document: &'a ManagementCluster,
    /// What can be installed.
    pub catalog: &'a Catalog,
    /// What was read.
    pub facts: &'a Facts,
}

type Look = fn(&Context<'_>) -> Checked;

/// All checks in their order.
pub fn all(c: &Context<'_>) -> Vec<Check> {
    let checks: [(&str, Look); 11] = [
        ("nodes", cluster::nodes),
        ("cluster-api", cluster::cluster_api),
        ("flux-controllers", flux::controllers),
        ("flux-objects", flux::objects),
        ("network", cluster::network),
        ("workloads", platform::workloads),
        ("policy", platform::policy),
        ("targets", monitoring::targets),
        ("heartbeat", monitoring::heartbeat),
        ("manager", platform::manager),
        ("document", platform::document),
    ];
    checks
        .into_iter()
        .map(|(name, check)| match check(c) {
            Ok(Found::Good(evidence)) => Check::pass(name, evidence),
            Ok(Found::LeftOut(why)) => Check::skip(name, why),
            Err(Bad { evidence, fix }) => Check::fail(name, evidence, fix),
        })
        .collect()
}

enum Found {
    Good(String),
    LeftOut(String),
}

struct Bad {
    evidence: String,
    fix: String,
}

type Checked = Result<Found, Bad>;

fn bad(evidence: impl Into<String>, fix: impl Into<String>) -> Bad {
    Bad {
        evidence: evidence.into(),
        fix: fix.into(),
    }
}

/// The facts, or that they could not be read.
fn read<'a, T>(fact: &'a Result<T, String>, what: &str) -> Result<&'a T, Bad> {
    fact.as_ref().map_err(|e| {
        bad(
            format!("{what} cannot be read: {e}"),
            "see whether the API server answers and what it says: kubectl get --raw /readyz",
        )
    })
}

impl Context<'_> {
    fn cluster(&self) -> &str {
        self.document.metadata.name.as_deref().unwrap_or_default()
    }

    fn enabled(&self, component: &str) -> bool {
        self.catalog
            .components
            .get(component)
            .is_some_and(|c| self.catalog.is_enabled(self.document, c))
    }
}

/// A few names, then how many more.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names[..names.len().min(SHOWN)].join("; ");
    if names.len() > SHOWN {
        text.push_str(&format!("; and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests;
