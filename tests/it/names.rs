//! Names that are none, given to every command that takes one: refused as wrong usage, and nothing is touched.

use std::{collections::BTreeMap, fs, path::Path};

use assert_cmd::Command;

/// What no name may be. A NUL cannot be given on a command line; it is tried in a document.
const BAD: &[&str] = &[
    "",
    ".",
    "..",
    "../x",
    "a.*",
    "A",
    "-a",
    "a/b",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "a b",
];

/// Commands with a name in them, at `NAME`.
const COMMANDS: &[&[&str]] = &[
    &["destroy", "--confirm=NAME", "--", "NAME"],
    &["destroy", "--confirm=NAME", "a"],
    &["kubeconfig", "--", "NAME"],
    &["kubeconfig", "--path", "--", "NAME"],
    &["status", "--", "NAME"],
    &["verify", "--", "NAME"],
    &["verify", "--active", "--", "NAME"],
    &["manager", "--name=NAME"],
    &["config", "init", "--name=NAME"],
];

/// Commands that read a document, at `FILE`.
const DOCUMENTS: &[&[&str]] = &[
    &["bootstrap", "--yes", "--config", "FILE"],
    &["bootstrap", "--dry-run", "--config", "FILE"],
    &["plan", "--config", "FILE"],
    &["config", "validate", "FILE"],
];

/// Every file below a folder with its content.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                all.insert(name, vec![]);
                open.push(path);
            } else {
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// A host that knows two clusters; no engine can be reached from it.
fn host() -> tempfile::TempDir {
    let host = tempfile::tempdir().unwrap();
    for name in ["a", "golem"] {
        let folder = host.path().join("state/mctl").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("request.json"), "{}").unwrap();
        fs::write(folder.join("ca.key"), "kept").unwrap();
    }
    fs::write(host.path().join("state/precious"), "kept").unwrap();
    host
}

fn mctl(host: &Path, args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_mctl"))
        .args(args)
        .env_clear()
        .env("PATH", "/nowhere")
        .env("HOME", host)
        .env("XDG_STATE_HOME", host.join("state"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code(), text)
}

#[test]
fn every_command_refuses_names_that_are_none() {
    let host = host();
    let before = content(host.path());
    for command in COMMANDS {
        for name in BAD {
            let args: Vec<String> = command.iter().map(|a| a.replace("NAME", name)).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let (code, said) = mctl(host.path(), &args);
            assert_eq!(code, Some(2), "{args:?}: {said}");
            assert!(
                said.contains("state: nothing was changed") && said.contains("fix:"),
                "{args:?}: {said}"
            );
            assert_eq!(content(host.path()), before, "{args:?}");
        }
    }
}

#[test]
fn documents_with_such_names_are_refused() {
    let host = host();
    let file = host.path().join("mc.yaml");
    for name in BAD.iter().chain(&["a\\0b"]) {
        let text = format!(
            "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {{name: \"{name}\"}}\n"
        );
        fs::write(&file, text).unwrap();
        let before = content(host.path());
        for command in DOCUMENTS {
            let path = file.display().to_string();
            let args: Vec<&str> = command
                .iter()
                .map(|a| if *a == "FILE" { path.as_str() } else { a })
                .collect();
            let (code, said) = mctl(host.path(), &args);
            assert_eq!(code, Some(2), "{name:?} {args:?}: {said}");
            assert!(said.contains("nothing was changed"), "{args:?}: {said}");
            assert_eq!(content(host.path()), before, "{args:?}");
        }
    }
}

/// A folder in the state that carries no cluster's name is nobody's: it is neither listed nor opened.
#[test]
fn folders_with_other_names_are_not_listed() {
    let host = host();
    for name in [".hidden", "Golem", "a b", "x.y"] {
        let folder = host.path().join("state/mctl").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("request.json"), "{}").unwrap();
    }
    let (code, said) = mctl(host.path(), &["kubeconfig", "b"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("known here: a, golem"), "{said}");
}

/// A relative path would mean another folder in each working directory; the XDG specification says to ignore it.
#[test]
fn relative_state_folders_are_ignored() {
    let host = host();
    let out = Command::new(env!("CARGO_BIN_EXE_mctl"))
        .args(["status"])
        .current_dir(host.path())
        .env_clear()
        .env("HOME", host.path().join("home"))
        .env("XDG_STATE_HOME", "state")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("knows no management cluster"), "{text}");
}
