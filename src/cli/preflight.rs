//! `mctl preflight`: every check before a bootstrap, with evidence and fix. Must not contain the checks.

use serde::Serialize;

use super::{
    input::Input,
    verify::{Output, show},
};
use crate::{
    Error, Kind, Result,
    config::ClusterName,
    env,
    ports::{Ports, docker::Docker},
    preflight::{self, Finding, Verdict},
    report::printer,
    steps::state::State,
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Human)]
    output: Output,
}

/// The result of all checks.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Version of this form.
    version: u32,
    cluster: ClusterName,
    /// The worst of all.
    result: Verdict,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(cluster: &ClusterName, findings: Vec<Finding>) -> Self {
        Self {
            version: 1,
            cluster: cluster.clone(),
            result: preflight::worst(&findings),
            findings,
        }
    }
}

/// Looks at everything and shows it; an error when something is bad.
pub async fn run(args: Args) -> Result<()> {
    let prepared = args.input.prepare()?;
    let state = State::at(&prepared.name)?;
    let earlier = state.request()?;
    // The recorded engine wins, as it does in a bootstrap.
    let recorded = earlier.as_ref().and_then(|r| r.engine.clone());
    let engine = recorded.or_else(|| env::get("DOCKER_HOST"));
    let ports = Ports::real();
    let docker = Docker::new(ports.processes.clone(), engine);
    let findings = prepared
        .findings(&ports, &docker, &state, earlier.as_ref())
        .await?;
    let report = Report::new(&prepared.name, findings);
    show(args.output, &report, || {
        let all = preflight::text(&report.findings, |_| true);
        format!("{all}\n{}\n", preflight::counts(&report.findings))
    })?;
    // They are shown in full above.
    let bad = report.findings.iter().filter(|f| f.result == Verdict::Bad);
    let bad: Vec<&str> = bad.map(|f| f.id).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(
        Error::new(Kind::Preflight, format!("{} checks failed", bad.len()))
            .at("this host and its surroundings")
            .because(bad.join(", "))
            .fix("each of these findings names its fix")
            .fix(format!(
                "then look again: {}",
                args.input.again("preflight")
            ))
            .state("nothing was changed"),
    )
}

/// What may not work is told before a bootstrap goes on all the same.
pub(super) fn tell_tight(findings: &[Finding]) {
    let tight = preflight::text(findings, |v| v == Verdict::Tight);
    if !tight.is_empty() {
        printer::err(tight.trim_end());
    }
}
