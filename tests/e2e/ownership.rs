//! A finished cluster has one owner: whatever a person does to files, variables and names, nothing is made and nothing is lost.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;

use super::{cluster::Reader, mctl::Mctl};

/// What no cluster can be called.
const NO_NAMES: [&str; 10] = [
    "",
    ".",
    "..",
    "../mctl",
    "de.o",
    "a/b",
    "Live",
    "a b",
    "live*",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// What must be the same before and after: containers by id, machines by UID.
fn world(kubeconfig: &str) -> BTreeSet<String> {
    let out = docker(&["ps", "--all", "--quiet", "--no-trunc"]);
    let containers = out.lines().map(|id| format!("container {id}"));
    let mut all: BTreeSet<String> = containers.collect();
    all.extend(Reader::new(kubeconfig).machines());
    all
}

fn docker(args: &[&str]) -> String {
    let out = Command::new("docker").args(args).output().unwrap();
    assert!(out.status.success(), "docker {args:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Files of the state, aside for a moment.
struct Aside {
    from: PathBuf,
    to: PathBuf,
}

impl Aside {
    fn put(from: PathBuf) -> Self {
        let to = from.with_extension("aside");
        fs::rename(&from, &to).unwrap();
        Self { from, to }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        fs::rename(&self.to, &self.from).unwrap();
    }
}

/// Every experiment on the finished cluster.
pub fn nothing_is_made_twice(m: &Mctl) {
    let begin = Instant::now();
    let kubeconfig = m.run(&["kubeconfig", m.name()]).text;
    let before = world(&kubeconfig);
    let mut asked = 0;
    let mut unchanged = |what: &str| {
        asked += 1;
        assert_eq!(world(&kubeconfig), before, "{what} changed something");
    };

    for step in steps(&m.state_folder()) {
        let out = m.bootstrap_with(&["--until", &step], &[]);
        assert_eq!(out.status.code(), Some(0), "--until {step}: {}", out.text);
        assert!(
            out.text.contains("`live` manages itself"),
            "--until {step}: {}",
            out.text
        );
        unchanged(&format!("--until {step}"));
    }

    for lost in ["journal.jsonl", "move.jsonl", "management.kubeconfig"] {
        let file = m.state_folder().join(lost);
        let kept = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        for until in ["control-plane", "machines", "verify"] {
            let out = m.bootstrap_with(&["--until", until], &[]);
            assert_eq!(
                out.status.code(),
                Some(0),
                "without {lost}, --until {until}: {}",
                out.text
            );
            unchanged(&format!("without {lost}, --until {until}"));
        }
        fs::write(&file, kept).unwrap();
    }

    let request = m.state_folder().join("request.json");
    let run = serde_json::from_slice::<Value>(&fs::read(&request).unwrap()).unwrap()["run"]
        .as_str()
        .unwrap()
        .to_owned();
    {
        let _aside = Aside::put(request.clone());
        let out = m.bootstrap_with(&[], &[]);
        assert_eq!(out.status.code(), Some(3), "no request: {}", out.text);
        assert!(out.text.contains(&format!("run {run}")), "{}", out.text);
        fs::write(&request, "{\"document\": ").unwrap();
        let out = m.bootstrap_with(&[], &[]);
        assert_eq!(out.status.code(), Some(2), "damaged: {}", out.text);
        assert!(out.text.contains("request.json is damaged"), "{}", out.text);
        let out = m.run(&["destroy", m.name(), "--confirm", m.name()]);
        assert_eq!(out.status.code(), Some(2), "damaged: {}", out.text);
        assert!(
            out.text
                .contains(&format!("mctl destroy --run {run} {}", m.name())),
            "{}",
            out.text
        );
        fs::remove_file(&request).unwrap();
    }
    unchanged("a request that is lost or damaged");

    other_home(m, &run);
    unchanged("another XDG_STATE_HOME");
    other_engine(m);
    unchanged("another DOCKER_HOST");

    for name in NO_NAMES {
        for command in ["destroy", "status", "verify", "kubeconfig"] {
            let mut args = vec![command];
            if command == "destroy" {
                args.extend(["--confirm", name]);
            }
            args.extend(["--", name]);
            let out = m.run(&args);
            assert_eq!(out.status.code(), Some(2), "{args:?}: {}", out.text);
        }
    }
    assert!(m.state_folder().join("ca.crt").exists());
    unchanged("names that are none");

    let out = m.run(&["destroy", m.name(), "--plan"]);
    assert_eq!(out.status.code(), Some(0), "{}", out.text);
    assert!(
        out.text.contains("mctl-live-registry") && out.text.contains("5 steps"),
        "{}",
        out.text
    );
    unchanged("destroy --plan");

    println!(
        "ownership: {asked} experiments on the finished cluster in {:.0} s; the same {} containers and machines as before",
        begin.elapsed().as_secs_f64(),
        before.len()
    );
}

/// Names of the plan's steps, from the journal.
fn steps(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("journal.jsonl")).unwrap();
    let events = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    let longest = events
        .filter(|e| e["event"] == "run-started")
        .map(|e| e["plan"]["steps"].as_array().unwrap().clone())
        .max_by_key(Vec::len)
        .unwrap();
    let names = longest.iter().map(|s| s["id"].as_str().unwrap().to_owned());
    names.collect()
}

/// Another user on the same engine.
fn other_home(m: &Mctl, run: &str) {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().display().to_string();
    let env = [("XDG_STATE_HOME", state.as_str())];
    for extra in [&[][..], &["--until", "control-plane"]] {
        let out = m.bootstrap_with(extra, &env);
        assert_eq!(out.status.code(), Some(3), "{}", out.text);
        assert!(
            out.text.contains(&format!("run {run}")) && out.text.contains("mctl-live-registry"),
            "{}",
            out.text
        );
    }
    let out = m.run_with(&["destroy", m.name(), "--confirm", m.name()], &env);
    assert_eq!(out.status.code(), Some(3), "{}", out.text);
    assert!(out.text.contains(run), "{}", out.text);
    let out = m.run_with(&["destroy", "--run", run, m.name(), "--plan"], &env);
    assert_eq!(out.status.code(), Some(0), "{}", out.text);
    let left = fs::read_dir(home.path().join("mctl")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a refusal left a state folder");
}

/// Engines that are not the recorded one, and the recorded one under a second name.
fn other_engine(m: &Mctl) {
    let out = m.bootstrap_with(&[], &[("DOCKER_HOST", "unix:///nowhere.sock")]);
    assert_eq!(out.status.code(), Some(2), "{}", out.text);
    assert!(
        out.text.contains("unix:///nowhere.sock") && out.text.contains("recorded is"),
        "{}",
        out.text
    );
    let out = m.run_with(
        &["destroy", m.name(), "--confirm", m.name()],
        &[("DOCKER_HOST", "unix:///nowhere.sock")],
    );
    assert_eq!(out.status.code(), Some(2), "{}", out.text);

    let address = std::env::var("DOCKER_HOST").unwrap_or_else(|_| {
        docker(&[
            "context",
            "inspect",
            "--format",
            "{{.Endpoints.docker.Host}}",
        ])
        .trim()
        .to_owned()
    });
    let Some(socket) = address.strip_prefix("unix://") else {
        println!("ownership: the engine at {address} has no socket to give a second name");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("second.sock");
    symlink(socket, &second).unwrap();
    let second = format!("unix://{}", second.display());
    let out = m.bootstrap_with(&["--until", "control-plane"], &[("DOCKER_HOST", &second)]);
    assert_eq!(out.status.code(), Some(0), "{}", out.text);
}
