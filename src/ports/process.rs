//! Child processes behind a trait, so that steps can be driven without any. Must not interpret what a program prints.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;

use crate::{Error, Result, error::Context};

/// A command to run. Arguments must not hold secrets.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Program name or path.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Variables added to the environment.
    pub env: BTreeMap<String, String>,
    /// Written to standard input, then closed.
    pub stdin: Input,
}

/// Standard input of a command.
#[derive(Clone, Debug, Default)]
pub enum Input {
    /// Closed at once.
    #[default]
    None,
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a file.
    File(PathBuf),
}

impl Command {
    /// A command with arguments.
    pub fn new<S: Into<String>>(
        program: impl Into<String>,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets standard input.
    #[must_use]
    pub fn stdin(mut self, input: Input) -> Self {
        self.stdin = input;
        self
    }

    /// The command line for messages.
    pub fn line(&self) -> String {
        std::iter::once(&self.program)
            .chain(&self.args)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What a finished command left.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Exit code; -1 when ended by a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The output if the command succeeded, else an error with the last lines it printed.
    pub fn success(self, command: &Command) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        let tail: Vec<&str> = self
            .stderr
            .lines()
            .filter(|l| !l.trim().is_empty())
            .collect();
        let tail = tail[tail.len().saturating_sub(6)..].join(" | ");
        Err(Error::failed(format!(
            "`{}` ended with code {}",
            command.line(),
            self.code
        ))
        .because(tail))
    }
}

/// Runs commands.
#[async_trait]
pub trait Processes: Send + Sync {
    /// Runs to the end and captures the output. `Err` only if it could not be run at all.
    async fn run(&self, command: &Command) -> Result<Output>;
}

/// Real processes: own process group (Ctrl-C does not hit them), killed when dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

#[async_trait]
impl Processes for System {
    async fn run(&self, command: &Command) -> Result<Output> {
        let mut c = tokio::process::Command::new(&command.program);
        c.args(&command.args)
            .envs(&command.env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        match &command.stdin {
            Input::None => c.stdin(Stdio::null()),
            Input::Bytes(_) => c.stdin(Stdio::piped()),
            Input::File(path) => {
                let file = std::fs::File::open(path)
                    .context(|| format!("cannot open {}", path.display()))?;
                c.stdin(Stdio::from(file))
            }
        };
        let mut child = c.spawn().map_err(|e| {
            let e = Error::failed(format!("cannot run `{}`", command.program)).because(&e);
            if command.program == "docker" {
                e.fix("install the docker command line and have it on PATH")
            } else {
                e
            }
        })?;
        if let (Input::Bytes(bytes), Some(mut stdin)) = (&command.stdin, child.stdin.take()) {
            // A child that exits early closes the pipe; its exit code tells more than our write error.
            let _ = stdin.write_all(bytes).await;
        }
        let out = child
            .wait_with_output()
            .await
            .context(|| format!("waiting for `{}`", command.program))?;
        Ok(Output {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }
}
