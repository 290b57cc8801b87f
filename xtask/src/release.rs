//! The release executable: one static musl file, and the limits it must keep; must not start clusters with it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::{elf, host};

const TARGET: &str = "x86_64-unknown-linux-musl";
const LARGEST: u64 = 40_000_000;
const SLOWEST: Duration = Duration::from_millis(20);
const STARTS: usize = 21;

/// Builds the executable and returns its path.
pub fn build() -> anyhow::Result<PathBuf> {
    ensure_target()?;
    host::run(
        "release",
        host::cargo().args([
            "build",
            "--locked",
            "--release",
            "--target",
            TARGET,
            "--package",
            "mctl",
        ]),
    )?;
    let path = host::target().join(TARGET).join("release/mctl");
    ensure!(path.is_file(), "cargo left no {}", path.display());
    Ok(path)
}

/// Adds the target's standard library; rustup does so by itself only where automatic installation is on.
fn ensure_target() -> anyhow::Result<()> {
    let rustc =
        |what: &[&str]| host::output(Command::new("rustc").args(what).current_dir(host::root()));
    let libraries = rustc(&["--print", "target-libdir", "--target", TARGET])?;
    let folder = PathBuf::from(String::from_utf8(libraries)?.trim());
    if folder.is_dir() {
        return Ok(());
    }
    host::run(
        "release",
        Command::new("rustup")
            .args(["target", "add", TARGET])
            .current_dir(host::root()),
    )
    .context("the static target is not installed and cannot be added; add it by hand: rustup target add x86_64-unknown-linux-musl")
}

/// Checks the executable and says what was measured.
pub fn check(path: &PathBuf) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    elf::ensure_static(&bytes).with_context(|| format!("{} is not static", path.display()))?;
    let kind = std::fs::metadata(host::root().join("assets/vendor/bin/kind"))
        .context("assets/vendor/bin/kind is missing")?
        .len();
    let own = (bytes.len() as u64).saturating_sub(kind);
    let (fastest, median) = start_times(path)?;
    println!(
        "release: static, {:.1} MB ({:.1} MB without kind, at most {:.0}), --help {:.1} ms at best, {:.1} ms median of {STARTS} (at most {})",
        megabytes(bytes.len() as u64),
        megabytes(own),
        megabytes(LARGEST),
        milliseconds(fastest),
        milliseconds(median),
        SLOWEST.as_millis(),
    );
    ensure!(
        own <= LARGEST,
        "the executable without kind has {:.1} MB, more than {:.0}",
        megabytes(own),
        megabytes(LARGEST)
    );
    // The best of many: other work on the machine only ever adds.
    ensure!(
        fastest <= SLOWEST,
        "`mctl --help` takes {:.1} ms, more than {}",
        milliseconds(fastest),
        SLOWEST.as_millis()
    );
    Ok(())
}

fn start_times(path: &PathBuf) -> anyhow::Result<(Duration, Duration)> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let status = Command::new(path)
            .arg("--help")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot run `mctl --help`")?;
        times.push(started.elapsed());
        ensure!(status.success(), "`mctl --help` failed ({status})");
    }
    times.sort();
    Ok((times[0], times[STARTS / 2]))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
