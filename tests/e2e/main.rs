//! The live lane: one real management cluster on a real engine, hurt on the way, checked, scaled and removed.
//!
//! Needs `MCTL_E2E_EXECUTABLE` (a static mctl) and `MCTL_E2E_BUNDLE` (a bundle); fails without them, never skips.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod cluster;
mod mctl;
mod ownership;
mod restart;

use std::{collections::BTreeSet, process::Command, time::Duration};

use mctl::Mctl;

/// Name of the cluster under test.
const NAME: &str = "live";

/// Everything on the engine that could be ours or others', to compare before and after.
fn engine_objects() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (kind, args) in [
        ("container", vec!["ps", "-a", "--format", "{{.Names}}"]),
        ("network", vec!["network", "ls", "--format", "{{.Name}}"]),
        ("volume", vec!["volume", "ls", "--format", "{{.Name}}"]),
        (
            "image",
            vec!["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"],
        ),
    ] {
        let out = Command::new("docker")
            .args(&args)
            .output()
            .expect("docker runs");
        assert!(
            out.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        all.extend(
            String::from_utf8_lossy(&out.stdout)
                .lines()
                .map(|l| format!("{kind} {l}")),
        );
    }
    all
}

/// Containers and volumes that belong to a cluster of the test's name.
fn is_of_the_cluster(object: &str) -> bool {
    ["container ", "volume "]
        .iter()
        .filter_map(|kind| object.strip_prefix(kind))
        .any(|name| {
            name.strip_prefix("mctl-")
                .unwrap_or(name)
                .starts_with(&format!("{NAME}-"))
        })
}

#[test]
fn a_management_cluster_survives_its_making_and_leaves_nothing() {
    let m = Mctl::new(NAME, "spec:\n  nodePools: [{name: default, replicas: 1}]\n");
    let before = engine_objects();
    let others: Vec<_> = before.iter().filter(|o| is_of_the_cluster(o)).collect();
    assert!(
        others.is_empty(),
        "this engine has a cluster `{NAME}` that this checkout's live lane did not make, or cannot remove; remove it first: {others:?}"
    );

    m.refuses_bad_input();

    // The plug is pulled four times, each time in the middle of something, and Ctrl-C pressed once.
    m.bootstrap_killed_in("temporary-cluster", Duration::from_secs(5));
    let said = m.bootstrap_interrupted_in("temporary-providers", Duration::from_secs(2));
    assert!(
        said.contains("mctl bootstrap --config"),
        "Ctrl-C must print the command that goes on:\n{said}"
    );
    m.bootstrap_killed_in("control-plane", Duration::from_secs(8));
    m.second_mctl_is_refused_while_one_runs();
    m.bootstrap_killed_in("pivot", Duration::from_millis(400));
    println!("bootstrap done: {}", m.bootstrap_to_the_end());

    let again = m.run(&[
        "bootstrap",
        "--config",
        &m.config(),
        "--bundle",
        &m.bundle(),
        "--yes",
        "--output",
        "lines",
    ]);
    assert!(
        again.status.success(),
        "a finished bootstrap run again: {}",
        again.text
    );

    assert!(
        !engine_objects()
            .iter()
            .any(|o| o.starts_with("container mctl-live-") && o.ends_with("-control-plane")),
        "the temporary cluster is gone"
    );
    let verify = m.run(&["verify", NAME]);
    println!("{}", verify.text);
    assert!(verify.status.success(), "verify: {}", verify.text);
    let status = m.run(&["status", NAME]);
    println!("{}", status.text);
    assert!(status.status.success(), "status: {}", status.text);

    let kubeconfig = m.run(&["kubeconfig", NAME]);
    assert!(kubeconfig.status.success(), "{}", kubeconfig.text);
    let reader = cluster::Reader::new(&kubeconfig.text);
    reader.cilium_was_adopted_without_a_restart();

    restart::is_survived_in_odd_order(&m, NAME);

    m.no_secret_leaked(&reader.authority_key());

    ownership::nothing_is_made_twice(&m);

    let active = m.run(&["verify", NAME, "--active"]);
    println!("{}", active.text);
    assert!(active.status.success(), "verify --active: {}", active.text);

    let destroyed = m.run(&["destroy", NAME, "--confirm", NAME]);
    println!("{}", destroyed.text);
    assert!(destroyed.status.success(), "destroy: {}", destroyed.text);
    let left: Vec<String> = engine_objects().difference(&before).cloned().collect();
    assert!(left.is_empty(), "destroy left: {left:?}");
    assert!(
        !m.state_folder().exists(),
        "destroy left the state directory"
    );
    m.close();
    println!(
        "live lane: one cluster made, killed four times, interrupted once, verified, scaled to three control planes, destroyed; nothing is left"
    );
}
