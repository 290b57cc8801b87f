//! What becomes of results that cannot be written: a pipe whose reader went away, a device that is full.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

/// Commands that print a result without any cluster or engine.
fn commands(document: &str) -> Vec<Vec<String>> {
    [
        "config init --name golem",
        "config init --name golem --full",
        "config schema",
        "config schema --crd",
        "config validate FILE",
        "completions bash",
        "plan --config FILE",
        "plan --config FILE --output json",
        "status",
        "status --output json",
        "kubeconfig golem",
        "kubeconfig golem --path",
        "preflight --config FILE",
        "preflight --config FILE --output json",
        "--help",
        "--version",
        "bootstrap --help",
    ]
    .iter()
    .map(|line| line.replace("FILE", document))
    .map(|line| line.split(' ').map(str::to_owned).collect())
    .collect()
}

fn host() -> tempfile::TempDir {
    let host = tempfile::tempdir().unwrap();
    let state = host.path().join("state/mctl/golem");
    fs::create_dir_all(&state).unwrap();
    let text = "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {name: other}\n";
    fs::write(host.path().join("mc.yaml"), text).unwrap();
    fs::write(state.join("request.json"), "{}").unwrap();
    fs::write(state.join("management.kubeconfig"), "kind: Config\n").unwrap();
    host
}

fn mctl(host: &Path, args: &[String], stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mctl"))
        .args(args)
        .env_clear()
        .env("PATH", "/nowhere")
        .env("HOME", host)
        .env("XDG_STATE_HOME", host.join("state"))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn a_full_device_is_a_failure_of_every_command() {
    let host = host();
    let document = host.path().join("mc.yaml").display().to_string();
    for args in commands(&document) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, said) = mctl(host.path(), &args, full);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        for part in ["No space left", "where:", "why:", "state:", "fix:"] {
            assert!(said.contains(part), "{args:?}: {said}");
        }
    }
}

/// As programs that SIGPIPE ends: no success, and not a word.
#[test]
fn a_closed_pipe_is_no_success_of_any_command() {
    let host = host();
    let document = host.path().join("mc.yaml").display().to_string();
    for args in commands(&document) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, said) = mctl(host.path(), &args, writer);
        assert_eq!(code, Some(141), "{args:?}: {said}");
        assert_eq!(said, "", "{args:?}");
    }
}

/// Messages are not the result: a closed standard error changes no exit code.
#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    let host = host();
    for (args, code) in [("status", 0), ("kubeconfig nobody", 2), ("destroy", 2)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_mctl"))
            .args(args.split(' '))
            .env_clear()
            .env("HOME", host.path())
            .env("XDG_STATE_HOME", host.path().join("state"))
            .stdout(Stdio::null())
            .stderr(writer)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{args}");
    }
}
