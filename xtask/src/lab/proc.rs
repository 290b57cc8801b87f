//! Runs other programs with their output in a log file; must not interpret what they do.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// One program to run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    log: Option<PathBuf>,
}

impl Run {
    /// A program by name or path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, log: None }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets one variable of the environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs in a folder.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Appends standard output and errors to a file, whose end is shown on failure.
    pub fn log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }

    /// Runs to the end; fails unless it exits with success.
    pub fn ok(mut self) -> Result<()> {
        let shown = self.shown();
        if let Some(path) = &self.log {
            let mut file = append(path)?;
            writeln!(file, "+ {shown}")?;
            self.command.stdout(file.try_clone()?).stderr(file);
            let status = self
                .command
                .status()
                .with_context(|| format!("cannot run {shown}"))?;
            if !status.success() {
                bail!(
                    "{shown}: {status}\n{}\nfull log: {}",
                    tail(path, 25),
                    path.display()
                );
            }
            return Ok(());
        }
        let out = self
            .command
            .output()
            .with_context(|| format!("cannot run {shown}"))?;
        if !out.status.success() {
            bail!(
                "{shown}: {}\n{}",
                out.status,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(())
    }

    /// Runs to the end and gives its standard output; errors go to the log, if there is one.
    pub fn output(mut self) -> Result<String> {
        let shown = self.shown();
        if let Some(path) = &self.log {
            self.command.stderr(append(path)?);
            self.command.stdout(Stdio::piped());
            let child = self
                .command
                .spawn()
                .with_context(|| format!("cannot run {shown}"))?;
            let out = child.wait_with_output()?;
            if !out.status.success() {
                bail!(
                    "{shown}: {}\n{}\nfull log: {}",
                    out.status,
                    tail(path, 25),
                    path.display()
                );
            }
            return Ok(String::from_utf8(out.stdout)?);
        }
        let out = self
            .command
            .output()
            .with_context(|| format!("cannot run {shown}"))?;
        if !out.status.success() {
            bail!(
                "{shown}: {}\n{}",
                out.status,
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(String::from_utf8(out.stdout)?)
    }

    /// Program and arguments, for messages; long ones are cut.
    fn shown(&self) -> String {
        let mut text = self.command.get_program().to_string_lossy().into_owned();
        for arg in self.command.get_args() {
            text.push(' ');
            text.push_str(&arg.to_string_lossy());
        }
        if text.chars().count() > 300 {
            text = text.chars().take(300).collect::<String>() + " …";
        }
        text
    }
}

/// Finds a program in `PATH`.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Administrators' programs may be outside a user's PATH.
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

fn append(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open the log {}", path.display()))
}

/// The last lines of a log.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs/x.log");
        let err = Run::new("sh")
            .args(["-c", "echo first; echo last >&2; exit 3"])
            .log(&log)
            .ok()
            .unwrap_err();
        let text = format!("{err:#}");
        assert!(text.contains("last") && text.contains("x.log"), "{text}");
    }

    #[test]
    fn output_is_returned() {
        assert_eq!(Run::new("echo").arg("hi").output().unwrap(), "hi\n");
        assert!(Run::new("false").output().is_err());
        assert!(which("sh").is_some());
    }
}
