//! Who may change a cluster, asked by the executable itself of a fake `docker`: refusals make nothing, removals leave nothing
//! and touch nothing of others, also when each of their changes fails once.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use assert_cmd::Command;

/// The command with a folder for an engine. Changes are logged; one of them fails if `fail` holds its number.
const DOCKER: &str = r#"#!/bin/sh
host=$(printf '%s' "${DOCKER_HOST:-unix:///var/run/docker.sock}" | tr -c 'a-z0-9' _)
engine=$FAKE/$host
case "$1 $2" in
"context inspect") echo unix:///var/run/docker.sock; exit 0 ;;
esac
[ -d "$engine" ] || { echo "Cannot connect to the Docker daemon at $DOCKER_HOST" >&2; exit 1; }
change() {
    echo "$*" >> "$FAKE/changes"
    n=$(wc -l < "$FAKE/changes")
    if [ -f "$FAKE/fail" ] && [ "$n" -eq "$(cat "$FAKE/fail")" ]; then echo "disk on fire" >&2; exit 1; fi
}
case "$1" in
info) cat "$engine/info" ;;
ps) cat "$engine/ps" ;;
images) cat "$engine/images" ;;
exec) echo "container is not running" >&2; exit 1 ;;
rm)
    change "$@"
    shift 3
    for name; do grep -v "\"$name\"" "$engine/ps" > "$engine/new"; mv "$engine/new" "$engine/ps"; done ;;
rmi) change "$@"; : > "$engine/images" ;;
network)
    case "$2" in
    ls) cat "$engine/networks" ;;
    inspect) [ -s "$engine/networks" ] || { echo "network kind not found" >&2; exit 1; }; cat "$engine/users" ;;
    rm) change "$@"; : > "$engine/networks" ;;
    esac ;;
container|image) echo "No such $1" >&2; exit 1 ;;
*) change "$@" ;;
esac
"#;

/// A host with engines and a state.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::create_dir(host.path("bin")).unwrap();
        fs::write(host.path("bin/docker"), DOCKER).unwrap();
        fs::set_permissions(host.path("bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            host.path("mc.yaml"),
            "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {name: demo}\n",
        )
        .unwrap();
        host.engine("unix:///var/run/docker.sock", "one");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds an engine; nothing is on it.
    fn engine(&self, address: &str, id: &str) -> PathBuf {
        let name: String = address
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let folder = self.path(&name);
        fs::create_dir_all(&folder).unwrap();
        let info = serde_json::json!({
            "ID": id, "ServerVersion": "28.0.0", "OSType": "linux", "DockerRootDir": "/",
        });
        fs::write(folder.join("info"), info.to_string()).unwrap();
        for (file, content) in [
            ("ps", ""),
            ("images", ""),
            ("networks", ""),
            ("users", r#"[{"Containers": {}}]"#),
        ] {
            fs::write(folder.join(file), content).unwrap();
        }
        folder
    }

    /// Everything that a run leaves half-way: registry, temporary cluster, machine, image, network.
    fn remains_of(&self, run: &str) -> PathBuf {
        let engine = self.path("unix____var_run_docker_sock");
        let lines = [
            container(
                "mctl-demo-registry",
                &format!("io.giantswarm.mctl/cluster=demo,io.giantswarm.mctl/run={run}"),
            ),
            container(
                &format!("mctl-demo-{run}-control-plane"),
                &format!("io.x-k8s.kind.cluster=mctl-demo-{run}"),
            ),
            container(
                "demo-lb",
                "io.x-k8s.kind.cluster=demo,io.x-k8s.kind.role=external-load-balancer",
            ),
        ];
        fs::write(engine.join("ps"), lines.concat()).unwrap();
        fs::write(engine.join("images"), "mctl.giantswarm.io/demo/mctl:1\n").unwrap();
        fs::write(engine.join("networks"), "kind\n").unwrap();
        engine
    }

    fn add(&self, line: &str) {
        let ps = self.path("unix____var_run_docker_sock/ps");
        let text = fs::read_to_string(&ps).unwrap() + line;
        fs::write(ps, text).unwrap();
    }

    /// A state that knows a run.
    fn knows(&self, run: &str) -> PathBuf {
        let folder = self.path("state/mctl/demo");
        fs::create_dir_all(&folder).unwrap();
        let request = serde_json::json!({
            "document": {
                "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
                "metadata": {"name": "demo"}, "spec": {},
            },
            "bundle": null, "run": run,
            "engine": "unix:///var/run/docker.sock", "engineId": "one",
        });
        fs::write(folder.join("request.json"), request.to_string()).unwrap();
        folder
    }

    fn run(&self, args: &[&str], host: Option<&str>) -> (Option<i32>, String) {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mctl"));
        command
            .args(args)
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.0.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("FAKE", self.0.path());
        if let Some(host) = host {
            command.env("DOCKER_HOST", host);
        }
        let out = command.output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        (out.status.code(), text)
    }

    fn bootstrap(&self, extra: &[&str]) -> (Option<i32>, String) {
        let file = self.path("mc.yaml").display().to_string();
        let mut args = vec!["bootstrap", "--yes", "--config", &file];
        args.extend(extra);
        self.run(&args, None)
    }

    fn destroy(&self, extra: &[&str]) -> (Option<i32>, String) {
        let mut args = vec!["destroy", "demo", "--confirm", "demo"];
        args.extend(extra);
        self.run(&args, None)
    }

    /// What was changed on any engine.
    fn changes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("changes")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn nothing_was_changed(&self, said: &str) {
        assert!(said.contains("nothing was changed"), "{said}");
        assert!(said.contains("fix:"), "{said}");
        assert_eq!(self.changes(), Vec::<String>::new(), "{said}");
    }
}

fn container(name: &str, labels: &str) -> String {
    let line = serde_json::json!({"Names": name, "Labels": labels, "State": "exited"});
    format!("{line}\n")
}

fn empty(engine: &Path) {
    for file in ["ps", "images", "networks"] {
        assert_eq!(fs::read_to_string(engine.join(file)).unwrap(), "", "{file}");
    }
}

#[test]
fn a_bootstrap_from_another_home_is_told_whose_the_cluster_is() {
    let host = Host::new();
    host.remains_of("5f");
    for extra in [&[][..], &["--until", "control-plane"], &["--dry-run"]] {
        let (code, said) = host.bootstrap(extra);
        assert_eq!(code, Some(3), "{said}");
        assert!(
            said.contains("run 5f")
                && said.contains("mctl-demo-registry")
                && said.contains("unix:///var/run/docker.sock"),
            "{said}"
        );
        host.nothing_was_changed(&said);
        assert!(!host.path("state/mctl/demo").exists(), "{said}");
    }
}

#[test]
fn a_kind_cluster_of_the_same_name_is_nobodys_to_take() {
    let host = Host::new();
    host.add(&container(
        "demo-control-plane",
        "io.x-k8s.kind.cluster=demo",
    ));
    let (code, said) = host.bootstrap(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("demo-control-plane"), "{said}");
    host.nothing_was_changed(&said);
    let (code, said) = host.destroy(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(host.changes(), Vec::<String>::new(), "{said}");
}

#[test]
fn a_request_that_is_lost_or_damaged_stops_everything() {
    let host = Host::new();
    host.remains_of("5f");
    let folder = host.knows("5f");
    fs::write(folder.join("request.json"), "{\"document\": ").unwrap();
    let (code, said) = host.bootstrap(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("request.json is damaged"), "{said}");
    host.nothing_was_changed(&said);
    let (code, said) = host.destroy(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("mctl destroy --run 5f demo"), "{said}");
    host.nothing_was_changed(&said);

    fs::remove_file(folder.join("request.json")).unwrap();
    fs::write(folder.join("journal.jsonl"), "").unwrap();
    let (code, said) = host.bootstrap(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("run 5f"), "{said}");
    host.nothing_was_changed(&said);

    // Nothing is on this engine, but it may be on another one.
    for file in ["ps", "images", "networks"] {
        fs::write(host.path("unix____var_run_docker_sock").join(file), "").unwrap();
    }
    for (code, said) in [host.bootstrap(&[]), host.destroy(&[])] {
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("is lost"), "{said}");
        host.nothing_was_changed(&said);
    }
    assert!(folder.exists());
}

#[test]
fn the_recorded_engine_wins() {
    let host = Host::new();
    let engine = host.remains_of("5f");
    let folder = host.knows("5f");
    host.engine("tcp://far:2375", "two");
    host.engine("unix:///second.sock", "one");
    let file = host.path("mc.yaml").display().to_string();
    for args in [
        &["destroy", "demo", "--confirm", "demo"][..],
        &["bootstrap", "--yes", "--config", &file],
    ] {
        for other in ["tcp://far:2375", "unix:///nowhere.sock"] {
            let (code, said) = host.run(args, Some(other));
            assert_eq!(code, Some(2), "{said}");
            assert!(
                said.contains(other) && said.contains("unix:///var/run/docker.sock"),
                "{said}"
            );
            host.nothing_was_changed(&said);
            assert!(folder.exists());
        }
    }
    // The same engine under a second name.
    let (code, said) = host.run(
        &["destroy", "demo", "--confirm", "demo"],
        Some("unix:///second.sock"),
    );
    assert_eq!(code, Some(0), "{said}");
    empty(&engine);
}

#[test]
fn a_removal_shows_what_goes_and_changes_nothing_before_it_may() {
    let host = Host::new();
    host.remains_of("5f");
    let folder = host.knows("5f");
    let (code, said) = host.run(&["destroy", "demo", "--plan"], None);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "container mctl-demo-5f-control-plane",
        "container mctl-demo-registry",
        "container demo-lb",
        "image mctl.giantswarm.io/demo/mctl:1",
        "network kind",
        &folder.display().to_string(),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(host.changes(), Vec::<String>::new());
    let (code, said) = host.run(&["destroy", "demo", "--confirm", "other"], None);
    assert_eq!(code, Some(2), "{said}");
    host.nothing_was_changed(&said);
}

#[test]
fn a_removal_goes_on_after_each_of_its_changes_failed() {
    for fail in 1..=4 {
        let host = Host::new();
        let engine = host.remains_of("5f");
        let folder = host.knows("5f");
        fs::write(host.path("fail"), fail.to_string()).unwrap();
        let (code, said) = host.destroy(&[]);
        assert_eq!(code, Some(1), "change {fail}: {said}");
        assert!(
            said.contains("disk on fire") && said.contains("state:") && said.contains("fix:"),
            "{said}"
        );
        assert!(folder.exists(), "the state goes last: {said}");
        let (code, said) = host.destroy(&[]);
        assert_eq!(code, Some(0), "after change {fail}: {said}");
        empty(&engine);
        assert!(!folder.exists(), "{said}");
        assert_eq!(fs::read_dir(host.path("state/mctl")).unwrap().count(), 0);
    }
}

#[test]
fn a_run_that_this_host_does_not_know_goes_only_by_its_name() {
    let host = Host::new();
    let engine = host.remains_of("5f");
    let (code, said) = host.destroy(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("mctl destroy --run 5f demo"), "{said}");
    host.nothing_was_changed(&said);
    let (code, said) = host.destroy(&["--run", "77"]);
    assert_eq!(code, Some(2), "{said}");
    host.nothing_was_changed(&said);
    let (code, said) = host.destroy(&["--run", "5f"]);
    assert_eq!(code, Some(0), "{said}");
    empty(&engine);
    assert_eq!(fs::read_dir(host.path("state/mctl")).unwrap().count(), 0);
}

#[test]
fn a_removal_leaves_others_alone() {
    let host = Host::new();
    let engine = host.remains_of("5f");
    host.knows("5f");
    let stranger = container("demo-control-plane", "io.x-k8s.kind.cluster=demo");
    let other = container(
        "mctl-demo-two-5f-control-plane",
        "io.x-k8s.kind.cluster=mctl-demo-two-5f",
    );
    host.add(&stranger);
    host.add(&other);
    fs::write(
        engine.join("users"),
        r#"[{"Containers": {"1": {"Name": "demo-control-plane"}}}]"#,
    )
    .unwrap();
    let (code, said) = host.destroy(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("kind stays: demo-control-plane"), "{said}");
    assert_eq!(
        fs::read_to_string(engine.join("ps")).unwrap(),
        stranger + &other
    );
    assert_eq!(
        fs::read_to_string(engine.join("networks")).unwrap(),
        "kind\n"
    );

    // A run that lost the name to another one has nothing but its state.
    let host = Host::new();
    let engine = host.remains_of("77");
    let before = fs::read_to_string(engine.join("ps")).unwrap();
    let folder = host.knows("5f");
    let (code, said) = host.destroy(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_to_string(engine.join("ps")).unwrap(), before);
    assert!(!folder.exists());
}

#[test]
fn machines_that_cannot_be_asked_go_only_if_they_are_abandoned() {
    let host = Host::new();
    let engine = host.remains_of("5f");
    host.knows("5f");
    host.add(&container(
        "demo-x7k2p",
        "io.x-k8s.kind.cluster=demo,io.x-k8s.kind.role=control-plane",
    ));
    let (code, said) = host.destroy(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("--abandon-workload-clusters"), "{said}");
    host.nothing_was_changed(&said);
    let (code, said) = host.destroy(&["--abandon-workload-clusters"]);
    assert_eq!(code, Some(0), "{said}");
    empty(&engine);
}
