//! `cargo xtask test`: every check of the project in lanes, fast ones first; must not hide a lane that could not run.

mod tools;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::{host, release, stack, vendor};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these lanes; all of them if none is named.
    lanes: Vec<Lane>,
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
    /// Every step of a bootstrap under a contract: crashes and faults at each point where it meets the outside.
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
    let started = Instant::now();
    let mut outcomes = Vec::new();
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
        let outcome = timed(&name, || lane.run());
        if let Err(error) = &outcome.result {
            eprintln!("{name}: FAILED: {error:#}");
        }
        outcomes.push(outcome);
    }
    print!("\n{}", table(&outcomes, started.elapsed()));
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

impl Lane {
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
    engine.release()?;
    result
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
