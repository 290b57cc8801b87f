//! Child processes behind a trait, so that steps can be driven without any. Must not interpret what a program prints.

use std::{collections::BTreeMap, process::Stdio};

use async_trait::async_trait;

use crate::{Error, Kind, Result, error::Context};

/// A command to run. Arguments must not hold secrets.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Program name or path.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Variables added to the environment.
    pub env: BTreeMap<String, String>,
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

    /// Like [`run`](Self::run), with standard input produced by a function.
    async fn feed(&self, command: &Command, write: Writer) -> Result<Output>;
}

/// Produces standard input; runs on a thread of its own.
pub type Writer = Box<dyn FnOnce(&mut dyn std::io::Write) -> Result<()> + Send>;

/// Real processes: own process group (Ctrl-C does not hit them), killed when dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl System {
    fn spawn(command: &Command, stdin: Stdio) -> Result<tokio::process::Child> {
        let mut c = tokio::process::Command::new(&command.program);
        c.args(&command.args)
            .envs(&command.env)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        c.spawn().map_err(|e| {
            let missing = e.kind() == std::io::ErrorKind::NotFound;
            let e = Error::new(Kind::Preflight, format!("cannot run `{}`", command.program))
                .because(&e);
            if missing {
                e.fix(format!(
                    "install the `{}` command and have it on PATH",
                    command.program
                ))
            } else {
                e
            }
        })
    }

    async fn wait(command: &Command, child: tokio::process::Child) -> Result<Output> {
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

#[async_trait]
impl Processes for System {
    async fn run(&self, command: &Command) -> Result<Output> {
        let child = Self::spawn(command, Stdio::null())?;
        Self::wait(command, child).await
    }

    async fn feed(&self, command: &Command, write: Writer) -> Result<Output> {
        let mut child = Self::spawn(command, Stdio::piped())?;
        let stdin = child
            .stdin
            .take()
            .ok_or_else(|| Error::new(Kind::Internal, "a child has no standard input"))?;
        let stdin = stdin
            .into_owned_fd()
            .context(|| format!("feeding `{}`", command.program))?;
        let writer = tokio::task::spawn_blocking(move || {
            let mut pipe = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::from(stdin));
            write(&mut pipe)?;
            std::io::Write::flush(&mut pipe).context(|| "the program closed its input early".into())
        });
        let out = Self::wait(command, child).await?;
        let written = writer
            .await
            .map_err(|e| Error::new(Kind::Internal, "a writer ended abnormally").because(&e))?;
        // A program that failed says why; a broken pipe does not.
        if out.code == 0 {
            written.map(|()| out)
        } else {
            Ok(out)
        }
    }
}
