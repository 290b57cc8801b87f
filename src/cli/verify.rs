//! `mctl verify`.

use std::time::Duration;

use crate::{
    Error, Kind, Result,
    ports::kubernetes::Cluster,
    report::printer,
    steps::state::{MANAGEMENT, State},
    verify::{self, Options},
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Management cluster
    name: String,
    /// Also probe: provoke an alert, delete and edit platform objects, scale the control plane; cleans up after itself
    #[arg(long)]
    active: bool,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Form::Human)]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Human,
    Json,
}

/// Says on standard error what is waited for.
struct Lines;

impl crate::ports::kubernetes::Progress for Lines {
    fn seen(&self, evidence: &str) {
        printer::err(&format!("… {}", printer::clean(evidence, 300)));
    }
}

/// Runs the checks and prints them.
pub async fn run(args: Args) -> Result<()> {
    let state = State::open(&args.name)?;
    let missing = || {
        Error::failed(format!("`{}` has no control plane yet", args.name))
            .fix("go on with `mctl bootstrap`")
    };
    let kubeconfig = state.kubeconfig(MANAGEMENT)?.ok_or_else(missing)?;
    let request = state.request()?.ok_or_else(missing)?;
    let cluster =
        Cluster::from_kubeconfig(format!("management cluster {}", args.name), &kubeconfig).await?;
    let options = Options {
        active: args.active,
        patience: Duration::ZERO,
    };
    let report = verify::run(&cluster, &request.document, options, &Lines).await?;
    match args.output {
        Form::Human => printer::out_raw(&report.text()),
        Form::Json => {
            let text = serde_json::to_string_pretty(&report).map_err(|e| {
                Error::new(Kind::Internal, "the report cannot be written").because(&e)
            })?;
            printer::out(&text);
        }
    }
    if report.passed() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} of {} checks failed",
        report.failed().len(),
        report.checks.len()
    ))
    .because(report.failed().join(", "))
    .fix("each failed check above says what to do"))
}
