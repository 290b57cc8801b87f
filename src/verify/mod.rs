//! Acceptance checks with evidence, on any day. Without `active` nothing is changed; must not repair anything.

mod active;
mod checks;
mod facts;
mod jobs;
mod report;
pub mod summary;

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    Error, Result,
    config::ManagementCluster,
    manager::kinds::{MANAGEMENT_CLUSTER, NAMESPACE},
    ports::kubernetes::{Cluster, Progress},
};

pub use active::clean_up;
pub use report::{Check, Outcome, Report};

/// Pause before failed checks are looked at again.
const AGAIN: Duration = Duration::from_secs(3);

/// How to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Also probe: provoke an alert, delete and edit platform objects, scale the control plane; cleans up after itself.
    pub active: bool,
    /// Failed checks are looked at again for this long.
    pub patience: Duration,
}

/// Checks a cluster against its document.
pub async fn run(
    cluster: &Cluster,
    document: &ManagementCluster,
    options: Options,
    progress: &dyn Progress,
) -> Result<Report> {
    let begin = Instant::now();
    let catalog = facts::catalog(cluster).await?;
    let mut checks = loop {
        let facts = facts::gather(cluster, document).await;
        let checks = checks::all(&checks::Context {
            document,
            catalog: &catalog,
            facts: &facts,
        });
        let failed: Vec<String> = checks
            .iter()
            .filter(|c| c.result == Outcome::Fail)
            .map(|c| format!("{}: {}", c.name, c.evidence))
            .collect();
        if failed.is_empty() || begin.elapsed() >= options.patience {
            break checks;
        }
        progress.seen(&failed.join("; "));
        tokio::time::sleep(AGAIN).await;
    };
    if options.active {
        let broken = checks.iter().any(|c| c.result == Outcome::Fail);
        checks.extend(active::probe(cluster, document, &catalog, broken, progress).await);
    }
    Ok(Report {
        version: 1,
        cluster: document.metadata.name.clone().unwrap_or_default(),
        time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        seconds: begin.elapsed().as_secs_f64(),
        checks,
    })
}

/// The document as the cluster has it.
pub async fn document(cluster: &Cluster, name: &str) -> Result<ManagementCluster> {
    let found = cluster
        .get(&MANAGEMENT_CLUSTER.gvk(), Some(NAMESPACE), name)
        .await?;
    let Some(found) = found else {
        return Err(Error::failed(format!(
            "there is no ManagementCluster {NAMESPACE}/{name} in the {}",
            cluster.name
        ))
        .because("the bootstrap has not come to the handover")
        .fix("run the bootstrap again: it goes on where it stopped"));
    };
    serde_json::to_value(found)
        .and_then(serde_json::from_value)
        .map_err(|e| {
            Error::failed(format!(
                "ManagementCluster {NAMESPACE}/{name} cannot be read"
            ))
            .because(&e)
        })
}
