//! Every command, run into its failures: what happened, where, why, what state things are in and what to do are all said.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use assert_cmd::Command;

/// Answers as an engine on which nothing is; an `info` of this host is put in front.
const STUB: &str = r#"#!/bin/sh
case "$1" in
  info) cat "$(dirname "$0")/info.json" ;;
  inspect|container|network|image|volume)
    case "$2" in ls) ;; *) echo "Error: No such object" >&2; exit 1 ;; esac ;;
esac
"#;

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = tempfile::tempdir().unwrap();
        let root = host.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "mc.yaml",
            "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {name: new}\n",
        );
        write(
            "bad.yaml",
            "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {nmae: x}\n",
        );
        write("state/mctl/begun/request.json", "{}");
        write("state/mctl/damaged/request.json", "{}");
        write("state/mctl/damaged/journal.jsonl", "{broken}\n{}\n");
        write("state/mctl/damaged/management.kubeconfig", "no kubeconfig");
        write("bundle/oci-layout", "{}");
        write("bin/docker", STUB);
        write(
            "bin/info.json",
            r#"{"ServerVersion":"20.10.1","OSType":"linux","CgroupVersion":"2","MemTotal":34359738368}"#,
        );
        fs::set_permissions(root.join("bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(host)
    }

    /// Exit code and standard error.
    fn run(&self, line: &str, path: &str) -> (Option<i32>, String) {
        let (code, _, said) = self.both(line, path);
        (code, said)
    }

    /// Exit code, standard output and standard error.
    fn both(&self, line: &str, path: &str) -> (Option<i32>, String, String) {
        let root = self.0.path();
        let line = line.replace('@', &format!("{}/", root.display()));
        let out = Command::new(env!("CARGO_BIN_EXE_mctl"))
            .args(line.split(' '))
            .current_dir(root)
            .env_clear()
            .env("PATH", path.replace('@', &format!("{}/", root.display())))
            .env("HOME", root)
            .env("XDG_STATE_HOME", root.join("state"))
            .timeout(Duration::from_secs(60))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    }
}

/// Exit code, command, and a part of what must be said.
const FAILURES: &[(i32, &str, &str)] = &[
    (2, "plan --config @nowhere.yaml", "config init"),
    (2, "plan --config @bad.yaml", "nmae"),
    (2, "plan --config @mc.yaml --bundle @nowhere", "bundle"),
    (3, "plan --config @mc.yaml --bundle @bundle", "index.json"),
    (2, "preflight --config @nowhere.yaml", "config init"),
    (3, "preflight --config @mc.yaml", "docker"),
    (3, "preflight --config @mc.yaml --output json", "docker"),
    (2, "bootstrap --config @bad.yaml", "nmae"),
    (3, "bootstrap --config @mc.yaml", "docker"),
    (3, "bootstrap --config @mc.yaml --dry-run", "docker"),
    (
        3,
        "bootstrap --config @mc.yaml --yes --output json",
        "docker",
    ),
    (2, "kubeconfig nobody", "known here: begun, damaged"),
    (1, "kubeconfig begun", "no control plane yet"),
    (2, "status nobody", "known here"),
    (1, "status damaged", "journal.jsonl"),
    (2, "verify nobody", "known here"),
    (2, "verify begun", "begun"),
    (1, "verify damaged", "kubeconfig"),
    (2, "destroy begun --confirm begun", "request.json"),
    (3, "destroy nobody --confirm nobody", "docker"),
    (2, "start nobody", "known here"),
    (2, "stop begun", "request.json"),
    (2, "bootstrap --config @mc.yaml --until nostep", "mctl plan"),
    (3, "bundle verify @nowhere", "bundle"),
    (3, "bundle inspect @mc.yaml", "bundle"),
    (3, "bundle inspect @bundle", "index.json"),
    (2, "config validate @bad.yaml", "nmae"),
    (2, "config init --name golem --provider moon", "docker"),
    (
        1,
        "registry serve --certificate @nowhere --key @nowhere",
        "nowhere",
    ),
    (1, "manager --name golem", "cluster"),
];

fn complete(code: i32, line: &str, said: &str, part: &str) {
    let line_at = |start: &str| {
        said.lines()
            .any(|l| l.starts_with(start) && l.len() > start.len() + 1)
    };
    let why = line_at("  why:   ") || said.contains("\n\n");
    // A server logs before it fails.
    let all = said.lines().any(|l| l.starts_with("error: "))
        && line_at("  where: ")
        && why
        && line_at("  state: ")
        && line_at("  fix:   ");
    assert!(all, "`mctl {line}` ended with {code} and said:\n{said}");
    assert!(said.contains(part), "`{part}` is not in:\n{said}");
}

#[test]
fn every_failure_says_what_where_why_state_and_fix() {
    let host = Host::new();
    for (code, line, part) in FAILURES {
        let (found, said) = host.run(line, "/nowhere");
        complete(*code, line, &said, part);
        assert_eq!(found, Some(*code), "`mctl {line}` said:\n{said}");
    }
    let left: Vec<String> = fs::read_dir(host.0.path().join("state/mctl"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !left.contains(&"new".to_owned()),
        "a refused run left {left:?}"
    );
}

/// With an engine that answers: all findings at once, those that are bad stop.
#[test]
fn preflight_tells_all_findings_of_an_engine_at_once() {
    let host = Host::new();
    let path = "@bin:/usr/bin:/bin";
    let (code, shown, said) = host.both("preflight --config @mc.yaml", path);
    complete(3, "preflight", &said, "engine-version");
    assert_eq!(code, Some(3), "{said}");
    assert!(
        shown.contains("20.10.1") && shown.contains("update the Docker engine"),
        "{shown}"
    );
    let out = Command::new(env!("CARGO_BIN_EXE_mctl"))
        .args(["preflight", "--output", "json", "--config"])
        .arg(host.0.path().join("mc.yaml"))
        .env_clear()
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", host.0.path().join("bin").display()),
        )
        .env("HOME", host.0.path())
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(report["cluster"], "new");
    assert_eq!(report["result"], "bad");
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() >= 30, "{}", findings.len());
    let of = |id: &str| findings.iter().find(|f| f["id"] == id).unwrap();
    assert_eq!(of("engine-version")["result"], "bad");
    assert_eq!(of("engine")["result"], "good");
    assert_eq!(of("ip-forwarding")["result"], "unknown");
    assert!(
        !host.0.path().join(".local").exists(),
        "looking left a folder"
    );
}

/// The command that is missing, an engine that is silent and one that may not be used have different fixes.
#[test]
fn no_command_silence_and_no_permission_are_told_apart() {
    let host = Host::new();
    let docker = |script: &str| {
        fs::write(
            host.0.path().join("bin/docker"),
            format!("#!/bin/sh\n{script}\n"),
        )
        .unwrap();
        let (code, shown, said) = host.both("preflight --config @mc.yaml", "@bin:/usr/bin:/bin");
        assert_eq!(code, Some(3), "{said}");
        shown
    };
    let said = docker(
        "echo 'Cannot connect to the Docker daemon at unix:///x.sock. Is it running?' >&2; exit 1",
    );
    assert!(
        said.contains("no Docker engine answers") && said.contains("start the engine"),
        "{said}"
    );
    let said = docker(
        "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1",
    );
    assert!(said.contains("usermod -aG docker"), "{said}");
    let (_, said, _) = host.both("preflight --config @mc.yaml", "/nowhere");
    assert!(said.contains("there is no `docker` command"), "{said}");
    assert!(Path::new("/nowhere").read_dir().is_err());
}

/// One damaged state must not hide the others.
#[test]
fn the_list_of_clusters_names_a_damaged_one() {
    let host = Host::new();
    let out = Command::new(env!("CARGO_BIN_EXE_mctl"))
        .arg("status")
        .env_clear()
        .env("HOME", host.0.path())
        .env("XDG_STATE_HOME", host.0.path().join("state"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}");
    assert!(
        said.contains("begun: ") && said.contains("damaged: the journal is damaged"),
        "{said}"
    );
}
