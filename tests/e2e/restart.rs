//! All containers stop and start again in an order that suits nobody: the cluster comes back by itself, where it was.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use crate::mctl::Mctl;

/// A cluster that is back must say so within this time.
const LIMIT: Duration = Duration::from_secs(300);

fn docker(args: &[&str]) -> String {
    let out = Command::new("docker").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "docker {args:?}: {error}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Containers of the cluster with their addresses.
fn addresses(name: &str) -> BTreeMap<String, String> {
    let mut containers = vec![format!("mctl-{name}-registry")];
    let label = format!("label=io.x-k8s.kind.cluster={name}");
    let machines = docker(&["ps", "-a", "--filter", &label, "--format", "{{.Names}}"]);
    containers.extend(machines.lines().map(str::to_owned));
    let format = "{{.NetworkSettings.Networks.kind.IPAddress}}";
    containers
        .into_iter()
        .map(|c| {
            let address = docker(&["inspect", "--format", format, &c]);
            (c, address.trim().to_owned())
        })
        .collect()
}

/// What needs others first: workers, then control planes, then what both need.
fn order(container: &str, name: &str) -> u8 {
    if container.ends_with("-registry") || container == format!("{name}-lb") {
        return 2;
    }
    let role = docker(&[
        "inspect",
        "--format",
        "{{index .Config.Labels \"io.x-k8s.kind.role\"}}",
        container,
    ]);
    u8::from(role.trim() == "control-plane")
}

pub fn is_survived_in_odd_order(m: &Mctl, name: &str) {
    let before = addresses(name);
    let stopped = m.run(&["stop", name]);
    assert!(stopped.status.success(), "stop: {}", stopped.text);
    let down = m.run(&["verify", name]);
    assert!(
        !down.status.success() && down.text.contains(&format!("mctl start {name}")),
        "a stopped cluster must name the command that starts it: {}",
        down.text
    );

    let mut odd: Vec<&String> = before.keys().collect();
    odd.sort_by_key(|c| order(c, name));
    let begin = Instant::now();
    for container in &odd {
        docker(&["start", container]);
    }
    assert_eq!(addresses(name), before, "addresses after the start");
    let verify = loop {
        let verify = m.run(&["verify", name]);
        if verify.status.success() || begin.elapsed() > LIMIT {
            break verify;
        }
        std::thread::sleep(Duration::from_secs(5));
    };
    assert!(
        verify.status.success(),
        "verify after a restart: {}",
        verify.text
    );
    println!(
        "restart: {} containers stopped and started in the order {odd:?}; verify passed after {:.0} s",
        odd.len(),
        begin.elapsed().as_secs_f64()
    );
}
