//! Children that must end with their parent, also when that is killed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mctl::ports::process::{self, Processes, System, Tie};

fn tied(script: &str, lock: &Path) -> process::Command {
    let mut command = process::Command::new("sh", ["-c", script]);
    command.tie = Some(Tie {
        lock: lock.to_owned(),
        keeper: PathBuf::from(env!("CARGO_BIN_EXE_mctl")),
    });
    command
}

/// Starts the keeper as a parent would; its standard input stands for the parent's life.
fn keeper(script: &str, lock: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mctl"))
        .args(["tied", "--lock"])
        .arg(lock)
        .args(["--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|s| !s.rsplit(')').next().unwrap_or("").trim().starts_with('Z'))
}

fn until(what: &str, check: impl Fn() -> bool) {
    let begin = Instant::now();
    while !check() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pid(file: &Path) -> String {
    until("the child does not start", || {
        std::fs::read_to_string(file).is_ok_and(|s| s.ends_with('\n'))
    });
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn output_and_code_come_through() {
    let folder = tempfile::tempdir().unwrap();
    let command = tied(
        "echo out; echo err >&2; exit 7",
        &folder.path().join("lock"),
    );
    let out = System.run(&command).await.unwrap();
    assert_eq!(
        (out.code, out.stdout.as_str(), out.stderr.as_str()),
        (7, "out\n", "err\n")
    );
}

#[test]
fn a_killed_parent_takes_child_and_grandchild_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, file) = (folder.path().join("lock"), folder.path().join("pid"));
    let script = format!("sleep 600 & echo $! > {}; wait", file.display());
    // A parent that holds the keeper's standard input and is killed without a chance to do anything.
    let (read, write) = std::io::pipe().unwrap();
    let mut parent = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .stdout(write)
        .spawn()
        .unwrap();
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_mctl"))
        .args(["tied", "--lock"])
        .arg(&lock)
        .args(["--", "sh", "-c", &script])
        .stdin(read)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let grandchild = pid(&file);
    assert!(lives(&grandchild));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the grandchild outlives its parent", || !lives(&grandchild));
    keeper.wait().unwrap();
}

#[test]
fn who_does_not_listen_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, file) = (folder.path().join("lock"), folder.path().join("pid"));
    let script = format!(
        "trap '' TERM; echo $$ > {}; while :; do sleep 0.1; done",
        file.display()
    );
    let mut keeper = keeper(&script, &lock);
    let child = pid(&file);
    drop(keeper.stdin.take());
    until("the child lives on", || !lives(&child));
    keeper.wait().unwrap();
}

#[tokio::test]
async fn a_later_run_waits_for_what_an_earlier_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, file) = (folder.path().join("lock"), folder.path().join("pid"));
    System.settle(&lock).await.unwrap();
    let script = format!("echo $$ > {}; sleep 1", file.display());
    let mut keeper = keeper(&script, &lock);
    let child = pid(&file);
    let second = System.run(&tied("true", &lock)).await.unwrap();
    assert_ne!(second.code, 0, "two at the same time");
    System.settle(&lock).await.unwrap();
    assert!(!lives(&child));
    keeper.wait().unwrap();
    let third = System.run(&tied("true", &lock)).await.unwrap();
    assert_eq!(third.code, 0, "{}", third.stderr);
}

#[tokio::test]
async fn what_an_earlier_run_left_is_ended_when_it_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, file) = (folder.path().join("lock"), folder.path().join("pid"));
    let script = format!("echo $$ > {}; sleep 600", file.display());
    let mut keeper = keeper(&script, &lock);
    let child = pid(&file);
    // The keeper is gone too, and with it whoever would end the child.
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    assert!(lives(&child));
    let begin = Instant::now();
    System.settle(&lock).await.unwrap();
    assert!(!lives(&child));
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn the_limit_holds_for_tied_children_too() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, file) = (folder.path().join("lock"), folder.path().join("pid"));
    let script = format!("echo $$ > {}; sleep 600", file.display());
    let command = tied(&script, &lock).within(Duration::from_millis(500));
    let e = System.run(&command).await.unwrap_err();
    assert!(e.to_string().contains("did not end within"), "{e}");
    let child = std::fs::read_to_string(&file).unwrap();
    assert!(!lives(&child));
}
