//! `mctl plan`.

use std::fmt::Write;

use super::{
    input::Input,
    verify::{Output, show},
};
use crate::{Result, prepare::Prepared};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = Output::Human)]
    output: Output,
}

/// Prints the plan.
pub fn run(args: &Args) -> Result<()> {
    let read = args.input.prepare()?;
    show(args.output, &read.plan, || text(&read))
}

fn text(read: &Prepared) -> String {
    let plan = &read.plan;
    let mut out = format!(
        "management cluster {}, Kubernetes {}, provider {}\nplan {} by mctl {}\n\n",
        plan.cluster,
        plan.kubernetes_version,
        read.document.spec.provider.name(),
        plan.hash,
        plan.mctl
    );
    for (i, step) in plan.steps.iter().enumerate() {
        let needs: Vec<&str> = step.needs.iter().map(|n| n.0.as_str()).collect();
        let mark = if step.point_of_no_return {
            "  ◀ point of no return"
        } else {
            ""
        };
        let _ = writeln!(out, "{:>2}. {:<26} {}{mark}", i + 1, step.id.0, step.title);
        if !needs.is_empty() {
            let _ = writeln!(out, "    {:<26} after {}", "", needs.join(", "));
        }
        for name in &step.components {
            if let Some(c) = read.catalog.components.get(name) {
                let _ = writeln!(
                    out,
                    "    {:<26} · {} {}: {}",
                    "", c.name, c.version, c.description
                );
            }
        }
    }
    let _ = writeln!(out, "\n{} images:", plan.images.len());
    for image in &plan.images {
        let _ = writeln!(out, "  {image}");
    }
    out
}
