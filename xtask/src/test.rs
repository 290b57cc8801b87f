//! `cargo xtask test`: every check of the project in lanes, fast ones first; must not hide a lane that could not run.

mod ahead;
mod room;
mod tools;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::{host, lab, release, stack, vendor};
use ahead::Ahead;
use room::Need;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these lanes; all of them if none is named.
    lanes: Vec<Lane>,
    /// This run is the part of another one that goes on beside it.
    #[arg(long, hide = true)]
    beside: bool,
}

/// A group of checks that runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lane {
    /// Formatting.
    Fmt,
    /// Lints; a warning is an error.
    Clippy,
    /// Banned crates, licences and sources of all dependencies.
    Deny,
    /// Unit and integration tests, without a cluster.
    Unit,
    /// A whole bootstrap against engine, API servers and files in memory.
    Contract,
    /// Generated files are as the code says.
    Generated,
    /// The static executable: linkage, size, start-up time.
    Release,
    /// The laboratory's bundle is built.
    Lab,
    /// Tests on a real kube-apiserver with etcd.
    Apiserver,
    /// One real bootstrap, all live assertions on it, destroy.
    Live,
}

/// What became of a lane.
struct Outcome {
    name: String,
    result: anyhow::Result<()>,
    time: Duration,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let lanes: Vec<Lane> = if args.lanes.is_empty() {
        Lane::value_variants().to_vec()
    } else {
        args.lanes
    };
    if args.beside {
        ahead::give_way()?;
    } else {
        room::check(&needs(&lanes)?)?;
    }
    let started = Instant::now();
    let mut outcomes = Vec::new();
    let mut lab = worth_beginning_ahead(&lanes).then(lab_ahead).transpose()?;
    if lanes
        .iter()
        .any(|lane| !matches!(lane, Lane::Fmt | Lane::Deny | Lane::Lab))
    {
        outcomes.push(timed("vendor", || vendor::run(vendor::Args::default())));
    }
    for lane in lanes {
        let name = lane
            .to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default();
        println!("\n=== {name}");
        let outcome = timed(&name, || match lab.take_if(|_| lane.needs_lab()) {
            Some(begun) => {
                println!("{}", begun.end().context("the lab")?);
                if lane == Lane::Lab {
                    Ok(())
                } else {
                    lane.run()
                }
            }
            None => lane.run(),
        });
        if let Err(error) = &outcome.result {
            eprintln!("{name}: FAILED: {error:#}");
        }
        outcomes.push(outcome);
    }
    if !args.beside {
        print!("\n{}", table(&outcomes, started.elapsed()));
    }
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_err())
        .map(|outcome| outcome.name.as_str())
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The lab waits for the network and compiles on what is left of the processor, so other lanes need not wait for it.
fn worth_beginning_ahead(lanes: &[Lane]) -> bool {
    lanes
        .iter()
        .position(|lane| lane.needs_lab())
        .is_some_and(|at| at > 0)
}

fn lab_ahead() -> anyhow::Result<Ahead> {
    let log = host::cache()?.join("logs/lab-lane.log");
    println!(
        "lab: begun beside the other lanes; its log: {}",
        log.display()
    );
    let mut command = Command::new(std::env::current_exe()?);
    Ahead::begin(command.args(["test", "--beside", "lab"]), &log)
}

/// Room that the lanes need, measured on a machine where nothing was there and rounded up.
fn needs(lanes: &[Lane]) -> anyhow::Result<Vec<Need>> {
    let compiles = lanes
        .iter()
        .any(|lane| !matches!(lane, Lane::Fmt | Lane::Deny | Lane::Lab));
    let target = host::target();
    let mut all = Vec::new();
    if compiles {
        all.push(Need {
            gib: if target.exists() { 3 } else { 8 },
            folder: target,
            what: "Rust builds",
            variable: "CARGO_TARGET_DIR",
        });
    }
    if lanes.iter().any(|lane| lane.needs_lab()) {
        let build = lab::room()?;
        // What building needs beyond its results is free again when clusters run.
        let live = if lanes.contains(&Lane::Live) { 12 } else { 0 };
        all.push(Need {
            folder: host::cache()?,
            gib: build.max(live),
            what: if build > live {
                "the lab's build"
            } else {
                "containers"
            },
            variable: "XDG_CACHE_HOME",
        });
    }
    Ok(all)
}

impl Lane {
    fn needs_lab(self) -> bool {
        matches!(self, Self::Lab | Self::Apiserver | Self::Live)
    }

    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Fmt => host::run("fmt", host::cargo().args(["fmt", "--all", "--check"])),
            // Tests with a lane of their own are no part of all targets.
            Self::Clippy => [
                &["--workspace", "--all-targets"][..],
                &["--test", "apiserver", "--test", "e2e", "--test", "contract"],
            ]
            .into_iter()
            .try_for_each(|targets| {
                let mut cargo = host::cargo();
                cargo.args(["clippy", "--locked"]).args(targets);
                host::run("clippy", cargo.args(["--", "-D", "warnings"]))
            }),
            Self::Deny => host::run(
                "deny",
                host::cargo()
                    .arg("deny")
                    .env("PATH", tools::path_with_cargo_deny()?)
                    .args(["--locked", "check", "bans", "licenses", "sources"]),
            ),
            // Always the whole workspace: another selection would unite features otherwise and compile everything again.
            Self::Unit => host::run(
                "unit",
                host::cargo().env("INSTA_UPDATE", "no").args([
                    "test",
                    "--locked",
                    "--workspace",
                    "--no-fail-fast",
                ]),
            ),
            Self::Contract => host::run(
                "contract",
                host::cargo().args(["test", "--locked", "--workspace", "--test", "contract"]),
            ),
            Self::Generated => crate::generate::run(crate::generate::Args { check: true }),
            Self::Release => release::check(&release::build()?),
            Self::Lab => {
                stack::lab(stack::Source::Auto).map(|lab| println!("lab: {}", lab.bundle.display()))
            }
            Self::Apiserver => apiserver(),
            Self::Live => live(),
        }
    }
}

fn apiserver() -> anyhow::Result<()> {
    let lab = stack::lab(stack::Source::Auto).context("there is no kube-apiserver to test with")?;
    let mut command = host::cargo();
    command.args([
        "test",
        "--locked",
        "--workspace",
        "--test",
        "apiserver",
        "--",
        "--nocapture",
    ]);
    host::run(
        "apiserver",
        command
            .env("KUBEBUILDER_ASSETS", &lab.bin)
            .env("INSTA_UPDATE", "no"),
    )
}

fn live() -> anyhow::Result<()> {
    let executable = release::build()?;
    let lab = stack::lab(stack::Source::Auto).context("there are no images to bootstrap from")?;
    let engine = stack::engine()?;
    let mut command = host::cargo();
    command.args([
        "test",
        "--locked",
        "--workspace",
        "--test",
        "e2e",
        "--",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env("MCTL_E2E_EXECUTABLE", &executable)
        .env("MCTL_E2E_BUNDLE", &lab.bundle);
    engine.use_in(&mut command)?;
    let result = host::run("live", &mut command);
    // An engine that was there before stays; ours goes even when the tests failed, for mctl's own report is in the output.
    match (result, engine.release()) {
        (Err(failed), Err(engine)) => Err(failed.context(format!("and the engine: {engine:#}"))),
        (result, released) => result.and(released),
    }
}

fn timed(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> Outcome {
    let started = Instant::now();
    let result = work();
    Outcome {
        name: name.to_owned(),
        result,
        time: started.elapsed(),
    }
}

fn table(outcomes: &[Outcome], all: Duration) -> String {
    let mut text = format!("{:<10} {:<7} {:>8}\n", "lane", "result", "seconds");
    for outcome in outcomes {
        let result = if outcome.result.is_ok() {
            "ok"
        } else {
            "FAILED"
        };
        text += &format!(
            "{:<10} {result:<7} {:>8.1}\n",
            outcome.name,
            outcome.time.as_secs_f64()
        );
    }
    text + &format!("{:<10} {:<7} {:>8.1}\n", "all", "", all.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_begins_ahead_when_other_lanes_come_before_it() {
        assert!(worth_beginning_ahead(Lane::value_variants()));
        assert!(worth_beginning_ahead(&[Lane::Unit, Lane::Apiserver]));
        assert!(!worth_beginning_ahead(&[Lane::Lab, Lane::Live]));
        assert!(!worth_beginning_ahead(&[Lane::Fmt, Lane::Unit]));
    }

    #[test]
    fn room_is_asked_for_what_the_lanes_do() {
        assert!(needs(&[Lane::Fmt]).unwrap().is_empty());
        let unit = needs(&[Lane::Unit]).unwrap();
        assert_eq!(unit.len(), 1);
        let live = needs(&[Lane::Unit, Lane::Live]).unwrap();
        assert!(live.len() == 2 && live[1].gib >= 12, "{live:?}");
    }

    #[test]
    fn the_table_names_every_lane_and_what_failed() {
        let outcomes = [
            Outcome {
                name: "fmt".into(),
                result: Ok(()),
                time: Duration::from_millis(1500),
            },
            Outcome {
                name: "live".into(),
                result: Err(anyhow::anyhow!("x")),
                time: Duration::from_secs(600),
            },
        ];
        assert_eq!(
            table(&outcomes, Duration::from_secs(602)),
            "lane       result   seconds\nfmt        ok           1.5\nlive       FAILED     600.0\nall                   602.0\n"
        );
    }
}
