//! A lane begun beside the lanes before it, with its output in a log of its own; must not outlive the run.

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines of the log that are shown at the end.
const CLOSING: usize = 3;
/// Lines of the log that are shown when it failed.
const FAILED: usize = 30;

/// Work that has begun.
pub struct Ahead {
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Ahead {
    /// Begins it.
    pub fn begin(command: &mut Command, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot begin the lab beside the other lanes")?;
        Ok(Self {
            child,
            log: log.to_owned(),
            started: Instant::now(),
        })
    }

    /// Waits for its end and gives its closing lines; fails as it failed.
    pub fn end(mut self) -> Result<String> {
        let mut said = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if said.elapsed() >= Duration::from_secs(60) && !std::io::stderr().is_terminal() {
                said = Instant::now();
                println!("{}", last(&self.log, 1));
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let minutes = self.started.elapsed().as_secs_f64() / 60.0;
        if !status.success() {
            bail!(
                "{status} after {minutes:.1} min\n{}\nfull log: {}",
                last(&self.log, FAILED),
                self.log.display()
            );
        }
        Ok(format!(
            "{}\nbegun beside the other lanes, {minutes:.1} min in all; full log: {}",
            last(&self.log, CLOSING),
            self.log.display()
        ))
    }
}

/// Whoever does not wait for the end any more does not want it either.
impl Drop for Ahead {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Makes this process the one beside: it gives way to the others and ends with the process that began it.
pub fn give_way() -> Result<()> {
    use rustix::process::{Signal, nice, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM))?;
    nice(10)?;
    Ok(())
}

fn last(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(script: &str) -> (tempfile::TempDir, Ahead) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let ahead = Ahead::begin(&mut command, &folder.path().join("logs/x.log")).unwrap();
        (folder, ahead)
    }

    #[test]
    fn the_end_is_waited_for_and_its_closing_lines_are_given() {
        let (_folder, ahead) = begun("echo first; echo a; echo b; sleep 0.3; echo c >&2");
        let said = ahead.end().unwrap();
        assert!(said.starts_with("a\nb\nc\n"), "{said}");
        assert!(said.contains("logs/x.log"), "{said}");
    }

    #[test]
    fn a_failure_is_one_and_shows_the_end_of_the_log() {
        let (_folder, ahead) = begun("echo disk is full; exit 3");
        let error = format!("{:#}", ahead.end().unwrap_err());
        assert!(
            error.contains("disk is full") && error.contains("exit status: 3"),
            "{error}"
        );
    }

    #[test]
    fn it_does_not_outlive_who_began_it() {
        let (folder, ahead) = begun("exec sleep 60");
        let process = PathBuf::from(format!("/proc/{}", ahead.child.id()));
        assert!(process.exists());
        drop(ahead);
        assert!(!process.exists());
        drop(folder);
    }
}
