//! Child processes behind a trait, each with a limit and a group of its own that ends with it. Must not interpret what a
//! program prints.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStdin},
};

use super::tied;
use crate::{Error, Kind, Result, error::Context};

/// How long a command may take unless it says otherwise.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long a group has to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(3);
/// How long output is awaited after its program has ended: somebody else may still hold the pipe.
const REST: Duration = Duration::from_secs(2);

/// A command to run. Arguments must not hold secrets.
#[derive(Clone, Debug)]
pub struct Command {
    /// Program name or path.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Variables added to the environment.
    pub env: BTreeMap<String, String>,
    /// How long it may take; then it is ended with everything that it started.
    pub limit: Duration,
    /// If it must not outlive this process.
    pub tie: Option<Tie>,
}

/// What binds a child to the life of this process, and lets a later one find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The child holds a lock on this file while it lives.
    pub lock: PathBuf,
    /// The executable that watches over it: `PROGRAM tied`.
    pub keeper: PathBuf,
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
            env: BTreeMap::new(),
            limit: LIMIT,
            tie: None,
        }
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// It ends with this process, however that ends, and holds a lock on the file until then.
    #[must_use]
    pub fn tied(mut self, lock: &Path) -> Self {
        self.tie = Some(Tie {
            lock: lock.to_owned(),
            // The file may have been replaced since; this is what runs.
            keeper: PathBuf::from("/proc/self/exe"),
        });
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
        Err(Error::failed(format!(
            "`{}` ended with code {}",
            command.line(),
            self.code
        ))
        .because(self.tail()))
    }

    /// The last lines it printed.
    fn tail(&self) -> String {
        let of = |text: &str| {
            let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
            lines[lines.len().saturating_sub(6)..].join(" | ")
        };
        match of(&self.stderr) {
            nothing if nothing.is_empty() => of(&self.stdout),
            tail => tail,
        }
    }
}

/// Runs commands.
#[async_trait]
pub trait Processes: Send + Sync {
    /// Runs to the end and captures the output. `Err` if it could not be run at all or did not end within its limit.
    async fn run(&self, command: &Command) -> Result<Output>;

    /// Like [`run`](Self::run), with standard input produced by a function.
    async fn feed(&self, command: &Command, write: Writer) -> Result<Output>;

    /// Sees to it that no child tied with this lock is left of an earlier process: waits for it, then ends it.
    async fn settle(&self, lock: &Path) -> Result<()>;

    /// Ends all that still runs, at once: this process is about to end.
    fn end_all(&self);
}

/// Produces standard input; runs on a thread of its own.
pub type Writer = Box<dyn FnOnce(&mut dyn std::io::Write) -> Result<()> + Send>;

/// Real processes: own process group (Ctrl-C does not hit them), ended when dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

/// Groups that run now, of the whole process.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// The group of a running child; ends with this value.
struct Group {
    pid: Option<Pid>,
    /// Held open while a tied child may live: its keeper ends it when this closes, and must not be killed before that.
    leash: Option<ChildStdin>,
    tied: bool,
}

impl Group {
    fn of(child: &mut Child, tied: bool) -> Self {
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let (Some(pid), false) = (pid, tied) {
            running(|all| all.push(pid));
        }
        Self {
            pid,
            leash: if tied { child.stdin.take() } else { None },
            tied,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// It has ended by itself; whoever it left behind ends too.
    fn ended(mut self) {
        if !self.tied {
            self.signal(Signal::KILL);
        }
        self.forget();
    }

    fn forget(&mut self) {
        if let Some(pid) = self.pid.take() {
            running(|all| all.retain(|p| *p != pid));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.tied {
            self.signal(Signal::KILL);
        }
        self.forget();
    }
}

fn running<T>(act: impl FnOnce(&mut Vec<Pid>) -> T) -> T {
    act(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner))
}

impl System {
    fn spawn(command: &Command, stdin: Stdio) -> Result<Child> {
        let mut c = match &command.tie {
            None => {
                let mut c = tokio::process::Command::new(&command.program);
                c.args(&command.args);
                c
            }
            Some(tie) => {
                let mut c = tokio::process::Command::new(&tie.keeper);
                c.args(["tied", "--lock"]).arg(&tie.lock).arg("--");
                c.arg(&command.program).args(&command.args);
                c
            }
        };
        c.envs(&command.env)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        c.spawn().map_err(|e| {
            let missing = e.kind() == std::io::ErrorKind::NotFound;
            let e = Error::new(Kind::Preflight, format!("cannot run `{}`", command.program))
                .because(&e)
                .state("it was not started");
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

    async fn wait(command: &Command, mut child: Child) -> Result<Output> {
        let mut group = Group::of(&mut child, command.tie.is_some());
        let stdout = Captured::of(child.stdout.take());
        let stderr = Captured::of(child.stderr.take());
        let status = match tokio::time::timeout(command.limit, child.wait()).await {
            Ok(status) => status.context(|| format!("waiting for `{}`", command.program))?,
            Err(_) => {
                end(&mut group, &mut child).await;
                let left = Output {
                    code: -1,
                    stdout: stdout.text().await,
                    stderr: stderr.text().await,
                };
                let said = match left.tail() {
                    nothing if nothing.is_empty() => "it printed nothing".to_owned(),
                    tail => format!("it last printed: {tail}"),
                };
                return Err(Error::new(
                    Kind::Stalled,
                    format!(
                        "`{}` did not end within {} s",
                        command.line(),
                        command.limit.as_secs()
                    ),
                )
                .because(said)
                .fix("see that what it talks to answers, then run the same command again")
                .state("it was ended with everything that it started"));
            }
        };
        group.ended();
        Ok(Output {
            code: status.code().unwrap_or(-1),
            stdout: stdout.text().await,
            stderr: stderr.text().await,
        })
    }
}

/// Asks the group to end, then ends it.
async fn end(group: &mut Group, child: &mut Child) {
    if group.tied {
        // The keeper has patience of its own with what it keeps.
        group.leash = None;
        if tokio::time::timeout(tied::GRACE + GRACE, child.wait())
            .await
            .is_ok()
        {
            return;
        }
    }
    group.signal(Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        group.signal(Signal::KILL);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
    }
}

/// Output as far as it has come.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Captured {
    fn of(pipe: Option<impl tokio::io::AsyncRead + Send + Unpin + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let task = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut part = vec![0; 1 << 14];
            while let Ok(n @ 1..) = pipe.read(&mut part).await {
                into.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&part[..n]);
            }
        });
        Self { bytes, task }
    }

    async fn text(self) -> String {
        let Self { bytes, mut task } = self;
        if tokio::time::timeout(REST, &mut task).await.is_err() {
            task.abort();
        }
        let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[async_trait]
impl Processes for System {
    async fn run(&self, command: &Command) -> Result<Output> {
        let stdin = match command.tie {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let child = Self::spawn(command, stdin)?;
        Self::wait(command, child).await
    }

    async fn feed(&self, command: &Command, write: Writer) -> Result<Output> {
        if command.tie.is_some() {
            return Err(Error::new(
                Kind::Internal,
                "a tied child has no input of its own",
            ));
        }
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

    async fn settle(&self, lock: &Path) -> Result<()> {
        tied::settle(lock).await
    }

    fn end_all(&self) {
        // Tied children end by themselves when this process does.
        for pid in running(std::mem::take) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("sh", ["-c", script])
    }

    fn lives(pid: &str) -> bool {
        // A zombie that nobody has waited for yet does not live.
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|s| !s.rsplit(')').next().unwrap_or("").trim().starts_with('Z'))
    }

    async fn dies(pid: &str) -> bool {
        for _ in 0..100 {
            if !lives(pid) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn the_limit_ends_grandchildren_too_and_tells_what_was_printed() {
        let command =
            shell("sleep 600 & echo $!; echo working >&2; wait").within(Duration::from_millis(300));
        let e = System.run(&command).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Stalled);
        let text = e.to_string();
        assert!(
            text.contains("working") && text.contains("sleep 600"),
            "{text}"
        );
        assert!(text.contains("fix:") && text.contains("state:"), "{text}");
    }

    #[tokio::test]
    async fn the_limit_ends_who_does_not_listen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!(
            "trap '' TERM; sh -c 'trap \"\" TERM; sleep 600' & echo $! > {}; wait; wait",
            file.path().display()
        );
        let command = shell(&script).within(Duration::from_millis(300));
        assert!(System.run(&command).await.is_err());
        let pid = std::fs::read_to_string(file.path()).unwrap();
        assert!(dies(pid.trim()).await, "the grandchild lives on");
    }

    #[tokio::test]
    async fn dropping_a_run_ends_the_whole_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 600 & echo $! > {}; wait", file.path().display());
        let command = shell(&script);
        let run = tokio::time::timeout(Duration::from_millis(300), System.run(&command));
        assert!(run.await.is_err());
        let pid = std::fs::read_to_string(file.path()).unwrap();
        assert!(dies(pid.trim()).await, "the grandchild lives on");
    }

    #[tokio::test]
    async fn a_program_that_leaves_its_output_open_does_not_hold_up_the_end() {
        let begin = tokio::time::Instant::now();
        let out = System.run(&shell("sleep 600 & echo done")).await.unwrap();
        assert_eq!(out.stdout, "done\n");
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[tokio::test]
    async fn a_failure_tells_its_last_lines() {
        let command = shell("echo why >&2; exit 3");
        let e = System
            .run(&command)
            .await
            .unwrap()
            .success(&command)
            .unwrap_err();
        assert!(e.to_string().contains("why") && e.to_string().contains("code 3"));
    }
}
