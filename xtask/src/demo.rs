//! `cargo xtask demo`: from a fresh machine to a running management cluster, and back; must not know how mctl does it.

use std::process::Command;

use anyhow::Context;

use crate::{host, lab, release, stack, vendor};

/// Name in `xtask/demo.yaml`.
const CLUSTER: &str = "demo";

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Removes the cluster, and the engine if the lab started it.
    #[arg(long, conflicts_with_all = ["from_registries", "from_source"])]
    down: bool,
    /// Pulls the images instead of finding out whether they can be pulled.
    #[arg(long, conflicts_with = "from_source")]
    from_registries: bool,
    /// Builds the images from source even where they could be pulled.
    #[arg(long)]
    from_source: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.down {
        return down();
    }
    vendor::run(vendor::Args::default())?;
    let source = match (args.from_registries, args.from_source) {
        (true, _) => stack::Source::Registries,
        (_, true) => stack::Source::Built,
        _ => stack::Source::Auto,
    };
    let lab = stack::lab(source)?;
    let mctl = release::build()?;
    let engine = stack::engine()?;
    let mut command = Command::new(&mctl);
    command
        .arg("bootstrap")
        .arg("--config")
        .arg(host::root().join("xtask/demo.yaml"));
    command.arg("--bundle").arg(&lab.bundle).arg("--yes");
    engine.use_in(&mut command)?;
    host::run("demo", &mut command).context(
        "the demo stopped; run the same command again to go on, or `cargo xtask demo --down`",
    )?;
    println!(
        "\n{}",
        tour(
            &mctl.display().to_string(),
            engine.host(),
            std::env::var("DOCKER_HOST").ok().as_deref()
        )
    );
    Ok(())
}

fn down() -> anyhow::Result<()> {
    vendor::run(vendor::Args::default())?;
    let mctl = release::build()?;
    let engine = stack::engine()?;
    let mut command = Command::new(&mctl);
    command.args(["destroy", CLUSTER, "--confirm", CLUSTER]);
    engine.use_in(&mut command)?;
    host::run("demo", &mut command)?;
    if lab::stop_engine()? {
        println!(
            "demo: stopped the engine that the lab started and put the kernel's settings back"
        );
    }
    println!("demo: these caches stay, so that the next run is quick; remove them when you like:");
    for (path, what) in lab::caches()? {
        println!("  {}  ({what})", path.display());
    }
    println!("  {}  (Rust builds)", host::target().display());
    println!(
        "  {}  (upstream files)",
        host::root().join("assets/vendor").display()
    );
    println!("  {}  (tools)", host::cache()?.join("tools").display());
    Ok(())
}

/// What to type to look around.
fn tour(mctl: &str, host: &str, shell_host: Option<&str>) -> String {
    let mut text =
        format!("The management cluster `{CLUSTER}` is up and manages itself. Look around:\n");
    if shell_host.unwrap_or("unix:///var/run/docker.sock") != host {
        text += &format!("  export DOCKER_HOST={host}\n");
    }
    text += &format!(
        "  {mctl} status {CLUSTER}\n  {mctl} verify {CLUSTER}\n  {mctl} kubeconfig {CLUSTER} > {CLUSTER}.kubeconfig\n  \
         kubectl --kubeconfig {CLUSTER}.kubeconfig get clusters,machines,helmreleases,kustomizations -A\n\
         When you have seen enough:\n  cargo xtask demo --down\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tour_names_the_engine_only_when_the_shell_would_use_another() {
        assert!(!tour("mctl", "unix:///var/run/docker.sock", None).contains("DOCKER_HOST"));
        assert!(!tour("mctl", "unix:///x.sock", Some("unix:///x.sock")).contains("DOCKER_HOST"));
        assert!(
            tour("mctl", "unix:///x.sock", None).contains("export DOCKER_HOST=unix:///x.sock\n")
        );
    }

    #[test]
    fn the_document_carries_the_name() {
        assert!(include_str!("../demo.yaml").contains(&format!("name: {CLUSTER}\n")));
    }
}
