//! `cargo xtask bench`: measurements against a peer in the same run; must not be part of the tests.

mod documents;
mod peer;
mod registry;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{host, release, stack, vendor};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// `mctl bootstrap` of one control plane against kind, kubectl and clusterctl one after the other.
    Bootstrap(Bootstrap),
}

#[derive(clap::Args)]
struct Bootstrap {
    /// Fails when mctl takes more than this share of the peer's time.
    #[arg(long, default_value_t = 1.0)]
    at_most: f64,
    /// How often each side runs; the median counts.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Measures only one side.
    #[arg(long)]
    only: Option<Side>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    Peer,
    Mctl,
}

/// Name in `xtask/bench/document.yaml`.
const CLUSTER: &str = "bench";

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let What::Bootstrap(args) = args.what;
    vendor::run(vendor::Args::default())?;
    let lab = stack::whole_lab(stack::Source::Auto)?;
    let mctl = (args.only != Some(Side::Peer))
        .then(release::build)
        .transpose()?;
    let engine = stack::engine()?;
    let result = (|| {
        let (mut peer, mut own) = (Vec::new(), Vec::new());
        for run in 1..=args.runs.max(1) {
            println!("\n=== run {run}");
            if args.only != Some(Side::Mctl) {
                peer.push(peer::run(&lab, &engine)?);
            }
            if let Some(mctl) = &mctl {
                own.push(bootstrap(mctl, &lab.bundle, &engine)?);
            }
        }
        report(&mut peer, &mut own, args.at_most)
    })();
    engine.release()?;
    result
}

/// One bootstrap by mctl, timed from command to end, and its removal, which is not. As for the peer, the node image is in the
/// engine and the registry is up when the time begins.
fn bootstrap(
    mctl: &std::path::Path,
    bundle: &std::path::Path,
    engine: &stack::Engine,
) -> anyhow::Result<Duration> {
    let bootstrap = |more: &[&str]| -> anyhow::Result<()> {
        let mut command = Command::new(mctl);
        command
            .arg("bootstrap")
            .arg("--config")
            .arg(host::root().join("xtask/bench/document.yaml"))
            .arg("--bundle")
            .arg(bundle)
            .args(["--yes", "--output", "lines"])
            .args(more);
        engine.use_in(&mut command)?;
        host::run("bench", &mut command)
    };
    let prepared = bootstrap(&["--until", "load-balancer-image"])
        .and_then(|()| bootstrap(&["--until", "registry"]));
    let started = Instant::now();
    let result = prepared.and_then(|()| bootstrap(&[]));
    let time = started.elapsed();
    let mut command = Command::new(mctl);
    command.args(["destroy", CLUSTER, "--confirm", CLUSTER]);
    engine.use_in(&mut command)?;
    let removed = host::run("bench", &mut command);
    result.context("mctl did not finish, so nothing was measured")?;
    removed?;
    Ok(time)
}

fn report(peer: &mut [Duration], own: &mut [Duration], at_most: f64) -> anyhow::Result<()> {
    let peer = median(peer);
    let own = median(own);
    for (name, time) in [("peer", peer), ("mctl", own)] {
        if let Some(time) = time {
            println!("{name}: {:.1} s", time.as_secs_f64());
        }
    }
    if let (Some(peer), Some(own)) = (peer, own) {
        let ratio = own.as_secs_f64() / peer.as_secs_f64();
        println!("ratio mctl / peer: {ratio:.2} (at most {at_most:.2})");
        if ratio > at_most {
            bail!("mctl takes {ratio:.2} of the peer's time, more than {at_most:.2}");
        }
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_decides() {
        let seconds = |list: &[u64]| {
            list.iter()
                .map(|s| Duration::from_secs(*s))
                .collect::<Vec<_>>()
        };
        report(
            &mut seconds(&[100, 300, 120]),
            &mut seconds(&[110, 90, 118]),
            1.0,
        )
        .unwrap();
        let error = report(&mut seconds(&[100]), &mut seconds(&[105]), 1.0).unwrap_err();
        assert!(error.to_string().contains("1.05"), "{error}");
        report(&mut [], &mut seconds(&[105]), 1.0).unwrap();
    }

    #[test]
    fn the_document_carries_the_name() {
        assert!(include_str!("../bench/document.yaml").contains(&format!("name: {CLUSTER}\n")));
    }
}
