//! `mctl status`: how a cluster is. Must not contain work.

use std::path::PathBuf;

use super::verify::{Output, cluster, show};
use crate::{Result, verify::summary};

/// Shows phase, conditions, nodes, components and drift.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the cluster.
    pub name: String,
    /// How to show the result.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub output: Output,
    /// Kubeconfig of the cluster; by default the one that the bootstrap kept.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Reads and shows.
pub async fn run(args: Args) -> Result<()> {
    let Args {
        name,
        output,
        kubeconfig,
    } = args;
    let cluster = cluster(&name, kubeconfig).await?;
    let summary = summary::summary(&cluster, &name).await?;
    show(output, &summary, || summary.text())
}
