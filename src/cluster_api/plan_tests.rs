//! The situations of upstream's move tests as text, with the layers they must give; then what upstream lacks.
//!
//! One object a line: `KIND name`, then `< KIND name` for each owner, `@namespace`, `+move` or `+hierarchy` for labels,
//! `=class` for a Cluster's class. Layers are parted by `|`.

use std::collections::BTreeSet;

use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::json;

use super::*;

const KINDS: [(&str, &str, &str); 24] = [
    ("C", CORE, "Cluster"),
    ("CC", CORE, "ClusterClass"),
    ("m", CORE, "Machine"),
    ("MS", CORE, "MachineSet"),
    ("MD", CORE, "MachineDeployment"),
    ("MP", CORE, "MachinePool"),
    ("IC", "infrastructure.cluster.x-k8s.io", "DevCluster"),
    ("IM", "infrastructure.cluster.x-k8s.io", "DevMachine"),
    (
        "IMT",
        "infrastructure.cluster.x-k8s.io",
        "DevMachineTemplate",
    ),
    (
        "ICT",
        "infrastructure.cluster.x-k8s.io",
        "DevClusterTemplate",
    ),
    ("BC", "bootstrap.cluster.x-k8s.io", "KubeadmConfig"),
    ("BCT", "bootstrap.cluster.x-k8s.io", "KubeadmConfigTemplate"),
    ("CP", "controlplane.cluster.x-k8s.io", "KubeadmControlPlane"),
    (
        "CPT",
        "controlplane.cluster.x-k8s.io",
        "KubeadmControlPlaneTemplate",
    ),
    ("CRS", "addons.cluster.x-k8s.io", "ClusterResourceSet"),
    (
        "CRB",
        "addons.cluster.x-k8s.io",
        "ClusterResourceSetBinding",
    ),
    ("S", "", "Secret"),
    ("CM", "", "ConfigMap"),
    ("X", "external.example.org", "External"),
    ("GX", "external.example.org", "GlobalExternal"),
    ("GID", "infrastructure.cluster.x-k8s.io", "GlobalIdentity"),
    ("Y", "external.example.org", "Other"),
    ("IPC", "ipam.cluster.x-k8s.io", "IPAddressClaim"),
    ("IPA", "ipam.cluster.x-k8s.io", "IPAddress"),
];

fn short(object: &Object) -> String {
    let (short, ..) = KINDS
        .iter()
        .find(|(_, group, kind)| object.is(group, kind))
        .unwrap();
    format!("{short} {}", object.name())
}

fn parse(text: &str) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, group, kind) = KINDS.iter().find(|(s, ..)| *s == words[0]).unwrap();
        let gvk = GroupVersionKind::gvk(group, "v1beta2", kind);
        let global = words[0].starts_with('G');
        let mut value = json!({"metadata": {
            "name": words[1],
            "uid": format!("{} {}", words[0], words[1]),
        }, "spec": {}});
        if !global {
            value["metadata"]["namespace"] = json!("ns1");
        }
        let (mut moves, mut hierarchy) = (false, false);
        let mut owners = Vec::new();
        let mut rest = words[2..].iter();
        while let Some(word) = rest.next() {
            match (*word, word.split_at(1)) {
                ("<", _) => {
                    let (kind, name) = (rest.next().unwrap(), rest.next().unwrap());
                    owners.push(json!({"apiVersion": "x/v1", "kind": kind, "name": name, "uid": format!("{kind} {name}")}));
                }
                ("+move", _) => moves = true,
                ("+hierarchy", _) => hierarchy = true,
                (_, ("@", namespace)) => value["metadata"]["namespace"] = json!(namespace),
                (_, ("=", class)) => value["spec"]["topology"]["classRef"]["name"] = json!(class),
                (_, ("*", cluster)) => value["spec"]["clusterName"] = json!(cluster),
                (_, ("^", secret)) => {
                    value["spec"]["files"] = json!([{"contentFrom": {"secret": {"name": secret}}}]);
                }
                _ => panic!("{line}"),
            }
        }
        value["metadata"]["ownerReferences"] = json!(owners);
        let object: DynamicObject = serde_json::from_value(value).unwrap();
        let mut object = Object::new(object, &gvk);
        object.hierarchy = hierarchy || matches!(words[0], "C" | "CC" | "CRS" | "GID");
        object.moves = moves || object.hierarchy;
        objects.push(object);
    }
    objects
}

fn shown(objects: &[Object], plan: &Plan) -> String {
    let layers = plan.layers.iter().map(|layer| {
        let mut names: Vec<String> = layer.iter().map(|&i| short(&objects[i])).collect();
        names.sort();
        names.join(", ")
    });
    layers.collect::<Vec<_>>().join(" | ")
}

#[track_caller]
fn moves(text: &str, layers: &str) {
    let objects = parse(text);
    let plan = plan(&objects, &BTreeSet::new()).unwrap();
    assert_eq!(shown(&objects, &plan), layers);
    // The order of discovery must not matter.
    let mut reversed = objects;
    reversed.reverse();
    let plan = super::plan(&reversed, &BTreeSet::new()).unwrap();
    assert_eq!(shown(&reversed, &plan), layers, "reversed");
}

#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let problems = plan(&parse(text), &BTreeSet::new()).unwrap_err();
    assert_eq!(problems, wanted);
}

const FOO: &str = "C foo\n IC foo < C foo\n S foo-ca\n S foo-kubeconfig < C foo\n";

fn foo(more: &str) -> String {
    format!("{FOO}{more}")
}

#[test]
fn cluster() {
    moves(FOO, "C foo | IC foo, S foo-ca, S foo-kubeconfig");
}

#[test]
fn cluster_with_class() {
    moves(
        "CC class\n ICT class < CC class\n CPT class < CC class\n C foo =class\n IC foo < C foo\n S foo-ca\n S foo-kubeconfig < C foo",
        "CC class | C foo, CPT class, ICT class | IC foo, S foo-ca, S foo-kubeconfig",
    );
}

#[test]
fn class_without_cluster() {
    moves(
        "CC class\n ICT class < CC class\n CPT class < CC class",
        "CC class | CPT class, ICT class",
    );
}

#[test]
fn cloud_config_with_move_label() {
    moves(
        &foo("S cloud-config +move"),
        "C foo, S cloud-config | IC foo, S foo-ca, S foo-kubeconfig",
    );
}

#[test]
fn standalone_machines() {
    moves(
        &foo(
            "m m1 < C foo\n BC m1 < m m1\n IM m1 < m m1\n S m1 < BC m1\n S foo-sa < BC m1\n m m2 < C foo\n BC m2 < m m2\n IM m2 < m m2\n S m2 < BC m2",
        ),
        "C foo | IC foo, S foo-ca, S foo-kubeconfig, m m1, m m2 | BC m1, BC m2, IM m1, IM m2 | S foo-sa, S m1, S m2",
    );
}

#[test]
fn machine_set() {
    moves(
        &foo(
            "MS ms < C foo\n BCT ms < C foo\n IMT ms < C foo\n m m1 < MS ms\n BC m1 < m m1\n IM m1 < m m1\n S m1 < BC m1",
        ),
        "C foo | BCT ms, IC foo, IMT ms, MS ms, S foo-ca, S foo-kubeconfig | m m1 | BC m1, IM m1 | S m1",
    );
}

#[test]
fn machine_deployment() {
    moves(
        &foo(
            "MD md < C foo\n BCT md < C foo\n IMT md < C foo\n MS ms < MD md\n m m1 < MS ms\n BC m1 < m m1\n IM m1 < m m1\n S m1 < BC m1",
        ),
        "C foo | BCT md, IC foo, IMT md, MD md, S foo-ca, S foo-kubeconfig | MS ms | m m1 | BC m1, IM m1 | S m1",
    );
}

#[test]
fn machine_deployment_with_static_bootstrap_data() {
    moves(
        &foo("MD md < C foo\n IMT md < C foo\n MS ms < MD md\n m m1 < MS ms\n IM m1 < m m1"),
        "C foo | IC foo, IMT md, MD md, S foo-ca, S foo-kubeconfig | MS ms | m m1 | IM m1",
    );
}

#[test]
fn control_plane() {
    moves(
        "C foo\n IC foo < C foo\n S foo-ca\n CP cp < C foo\n IMT cp < C foo\n S foo-kubeconfig < CP cp\n S foo-sa < CP cp\n m m1 < CP cp\n BC m1 < m m1\n IM m1 < m m1\n S m1 < BC m1",
        "C foo | CP cp, IC foo, IMT cp, S foo-ca | S foo-kubeconfig, S foo-sa, m m1 | BC m1, IM m1 | S m1",
    );
}

#[test]
fn machine_pool() {
    moves(
        &foo("MP mp < C foo\n BCT mp < C foo\n IMT mp < C foo"),
        "C foo | BCT mp, IC foo, IMT mp, MP mp, S foo-ca, S foo-kubeconfig",
    );
}

#[test]
fn two_clusters() {
    moves(
        &foo("C bar\n IC bar < C bar\n S bar-ca\n S bar-kubeconfig < C bar"),
        "C bar, C foo | IC bar, IC foo, S bar-ca, S bar-kubeconfig, S foo-ca, S foo-kubeconfig",
    );
}

#[test]
fn two_clusters_sharing_a_template() {
    moves(
        "C a\n C b\n IMT shared < C a < C b\n MS a < C a\n MS b < C b\n m a < MS a\n m b < MS b\n BC a < m a\n BC b < m b\n S a < BC a\n S b < BC b",
        "C a, C b | IMT shared, MS a, MS b | m a, m b | BC a, BC b | S a, S b",
    );
}

#[test]
fn resource_set() {
    moves(
        &foo("CRS crs\n S s < CRS crs\n CM cm < CRS crs\n CRB foo < CRS crs *foo"),
        "C foo, CRS crs | CM cm, CRB foo, IC foo, S foo-ca, S foo-kubeconfig, S s",
    );
}

#[test]
fn two_clusters_sharing_a_class() {
    moves(
        "CC class\n ICT class < CC class\n C a =class\n C b =class\n IC a < C a\n IC b < C b",
        "CC class | C a, C b, ICT class | IC a, IC b",
    );
}

#[test]
fn externals_by_label() {
    moves("X x +move", "X x");
    moves("GX gx +move", "GX gx");
}

#[test]
fn credentials_owned_by_the_cluster() {
    moves(
        &foo("S credentials < C foo"),
        "C foo | IC foo, S credentials, S foo-ca, S foo-kubeconfig",
    );
}

#[test]
fn global_identity_keeps_its_secret_in_the_source() {
    let objects = parse("GID id\n S id @provider-system < GID id");
    let plan = plan(&objects, &BTreeSet::new()).unwrap();
    assert_eq!(shown(&objects, &plan), "GID id | S id");
    assert!(plan.stays(0) && plan.stays(1));
}

#[test]
fn shared_class_stays_but_its_clusters_go() {
    let objects = parse("CC class\n ICT t < CC class\n C foo =class\n IC foo < C foo");
    let shared = BTreeSet::from(["class".to_owned()]);
    let plan = plan(&objects, &shared).unwrap();
    let stays: Vec<bool> = (0..4).map(|i| plan.stays(i)).collect();
    assert_eq!(stays, [true, true, false, false]);
}

#[test]
fn every_secret_that_cluster_api_finds_by_name() {
    let secrets: Vec<String> = PURPOSES.iter().map(|p| format!("S foo-bar-{p}")).collect();
    let objects = parse(&format!(
        "C foo-bar\n C foo\n {}\n S other-ca\n S foo-bar",
        secrets.join("\n")
    ));
    let plan = plan(&objects, &BTreeSet::new()).unwrap();
    assert_eq!(plan.layers[1].len(), 6);
    assert_eq!(
        plan.classes[8],
        Class::Ignored("belongs to no Cluster and has no move label")
    );
    assert_eq!(plan.classes[9], plan.classes[8]);
    // The name is cut at a purpose, not at the last dash.
    assert!(
        plan.layers[1]
            .iter()
            .any(|&i| objects[i].name() == "foo-bar-apiserver-etcd-client")
    );
}

#[test]
fn secret_that_a_file_of_a_machine_comes_from() {
    moves(
        "C foo\n CP cp < C foo ^registry\n S registry\n S unrelated",
        "C foo | CP cp | S registry",
    );
}

#[test]
fn nothing_moves_without_a_reason() {
    let objects = parse("CM kube-root-ca.crt\n S loose\n Y y\n S below < Y y");
    let plan = plan(&objects, &BTreeSet::new()).unwrap();
    assert!(plan.layers.is_empty());
    assert_eq!(plan.classes[3], Class::Ignored("its owners do not move"));
}

#[test]
fn foreign_owner() {
    refused(
        "C foo\n Y y\n IC foo < C foo < Y y",
        &["DevCluster foo is owned by Other y, which does not move"],
    );
}

#[test]
fn unknown_owner() {
    refused(
        "C foo\n S s < C foo < Y gone",
        &["Secret s is owned by Y gone, which is not there or of a kind that does not move"],
    );
}

#[test]
fn circle() {
    refused(
        "C foo\n X a < C foo < X b\n X b < X a\n S below < X b",
        &["owners go round in a circle: External a is owned by External b is owned by External a"],
    );
}

#[test]
fn class_of_another_namespace() {
    let mut objects = parse("C foo =class");
    objects[0].object.data["spec"]["topology"]["classRef"]["namespace"] = json!("ns2");
    let problems = plan(&objects, &BTreeSet::new()).unwrap_err();
    assert_eq!(
        problems,
        ["Cluster foo uses a ClusterClass of namespace ns2, which this move does not cover"]
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Any tree of owners below a Cluster: everything is placed once, owners always before what they own.
    #[test]
    fn layers_are_topological(parents in proptest::collection::vec((0usize..1000, 0usize..1000), 1..60)) {
        let mut text = String::from("C foo\n");
        for (i, (a, b)) in parents.iter().enumerate() {
            let owner = |n: usize| match n % (i + 1) {
                0 => "C foo".to_owned(),
                n => format!("X x{}", n - 1),
            };
            text += &format!("X x{i} < {} < {}\n", owner(*a), owner(*b));
        }
        let objects = parse(&text);
        let plan = plan(&objects, &BTreeSet::new()).unwrap();
        let mut layer_of = vec![usize::MAX; objects.len()];
        for (n, layer) in plan.layers.iter().enumerate() {
            for &i in layer {
                proptest::prop_assert_eq!(layer_of[i], usize::MAX);
                layer_of[i] = n;
            }
        }
        for (i, object) in objects.iter().enumerate() {
            proptest::prop_assert_ne!(layer_of[i], usize::MAX);
            for owner in object.owners() {
                let o = objects.iter().position(|o| o.uid() == owner.uid).unwrap();
                proptest::prop_assert!(layer_of[o] < layer_of[i]);
            }
        }
    }

}
