//! A child that ends with its parent, however the parent ends: a keeper between them waits for the end of a pipe that the
//! parent holds. Must not know what the child does.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process_group},
};

use crate::{Error, Kind, Result, error::Context};

/// How long the child has to end by itself after it was asked to.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long a child of an earlier process is waited for before it is ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs a program until it ends or standard input does; returns its exit code. The lock is held by the program and all that
/// it starts, so that it is free only when none of them is left.
pub fn keep(lock: &Path, program: &str, args: &[String]) -> Result<u8> {
    let mut file = open(lock)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::new(
                Kind::Locked,
                format!("a process of an earlier run holds {}", lock.display()),
            )
            .fix("wait for it to end, then run the same command again")
            .state("nothing was started"));
        }
        Err(TryLockError::Error(e)) => {
            return Err(e).context(|| format!("cannot lock {}", lock.display()));
        }
    }
    let what = || format!("cannot write {}", lock.display());
    file.set_len(0).context(what)?;
    // The child inherits the lock with the file.
    fcntl_setfd(&file, FdFlags::empty()).context(what)?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .context(|| format!("cannot run `{program}`"))?;
    fcntl_setfd(&file, FdFlags::CLOEXEC).context(what)?;
    let id = child.id();
    let record = format!("{id} {}\n", started(id).unwrap_or(0));
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.write_all(record.as_bytes()))
        .context(what)?;

    let (gone, parent) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut nothing = [0; 64];
        while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
        drop(gone);
    });
    loop {
        if let Some(status) = child
            .try_wait()
            .context(|| "waiting for the child".into())?
        {
            return Ok(code(status));
        }
        if let Err(std::sync::mpsc::RecvTimeoutError::Disconnected) = parent.recv_timeout(PAUSE) {
            break;
        }
    }
    signal(id, Signal::TERM);
    let begin = Instant::now();
    while begin.elapsed() < GRACE {
        if child.try_wait().is_ok_and(|s| s.is_some()) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    signal(id, Signal::KILL);
    let _ = child.wait();
    Ok(1)
}

/// See [`super::process::Processes::settle`].
pub(super) async fn settle(lock: &Path) -> Result<()> {
    let begin = tokio::time::Instant::now();
    let mut ended = false;
    loop {
        let Some(file) = held(lock)? else {
            return Ok(());
        };
        if begin.elapsed() > PATIENCE && !ended {
            ended = true;
            if let Some((id, since)) = record(file)
                && started(id) == Some(since)
            {
                signal(id, Signal::KILL);
            }
        }
        if begin.elapsed() > PATIENCE + GRACE {
            return Err(Error::new(
                Kind::Locked,
                "a process that an earlier run started does not end",
            )
            .at(lock.display().to_string())
            .fix(format!("end it: fuser -k {}", lock.display()))
            .state("nothing was changed"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The lock's file, if somebody holds it.
fn held(lock: &Path) -> Result<Option<File>> {
    let what = || format!("cannot look at {}", lock.display());
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(what),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(file)),
        Err(TryLockError::Error(e)) => Err(e).context(what),
    }
}

fn open(lock: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(lock)
        .context(|| format!("cannot open {}", lock.display()))
}

fn record(mut file: File) -> Option<(u32, u64)> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (id, since) = text.trim().split_once(' ')?;
    Some((id.parse().ok()?, since.parse().ok()?))
}

/// When a process was started, in ticks since the host was: with it a number means one process only.
fn started(id: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

fn code(status: ExitStatus) -> u8 {
    status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(1)
}
