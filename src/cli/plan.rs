//! `mctl plan`.

use super::input::{self, Input};
use crate::{Error, Kind, Result, report::printer};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Form::Human)]
    output: Form,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Form {
    Human,
    Json,
}

/// Prints the plan.
pub fn run(args: &Args) -> Result<()> {
    let read = input::read(&args.input)?;
    let plan = read.plan;
    if matches!(args.output, Form::Json) {
        let text = serde_json::to_string_pretty(&plan)
            .map_err(|e| Error::new(Kind::Internal, "the plan cannot be written").because(&e))?;
        printer::out(&text);
        return Ok(());
    }
    printer::out(&format!(
        "management cluster {}, Kubernetes {}, provider {}",
        plan.cluster,
        plan.kubernetes_version,
        read.document.spec.provider.name()
    ));
    printer::out(&format!("plan {} by mctl {}\n", plan.hash, plan.mctl));
    for (i, step) in plan.steps.iter().enumerate() {
        let needs: Vec<&str> = step.needs.iter().map(|n| n.0.as_str()).collect();
        let mark = if step.point_of_no_return {
            "  ◀ point of no return"
        } else {
            ""
        };
        printer::out(&format!(
            "{:>2}. {:<26} {}{mark}",
            i + 1,
            step.id.0,
            step.title
        ));
        if !needs.is_empty() {
            printer::out(&format!("    {:<26} after {}", "", needs.join(", ")));
        }
        for name in &step.components {
            if let Some(c) = read.catalog.components.get(name) {
                printer::out(&format!(
                    "    {:<26} · {} {}: {}",
                    "", c.name, c.version, c.description
                ));
            }
        }
    }
    printer::out(&format!("\n{} images:", plan.images.len()));
    for image in &plan.images {
        printer::out(&format!("  {image}"));
    }
    Ok(())
}
