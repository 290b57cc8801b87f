//! Bugs planted into the manager's decisions, each of which the same checks must catch that the real decision passes.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    document::{POOL_LABEL, hold},
    in_force::{Act, InForce, There, acts, refusal},
    leftovers::{HEALTH_CHECK, leftovers},
};
use crate::{
    config::ManagementCluster,
    environment::Environment,
    pki::is_due,
    ports::kubernetes::{kind, objects::name},
};

fn object(kind: &str, name: &str, extra: &Value) -> DynamicObject {
    let mut o = json!({"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name,
        "namespace": "org-giantswarm", "labels": {"cluster.x-k8s.io/cluster-name": "golem"}}});
    crate::catalog::template::merge(&mut o, extra);
    serde_json::from_value(o).unwrap()
}

type Hold<'a> = &'a dyn Fn(Option<&DynamicObject>) -> bool;

/// Nothing may be written unless the Cluster is here and free.
fn holds(decide: Hold<'_>) -> bool {
    let cluster = |extra: Value| object("Cluster", "golem", &extra);
    let paused = cluster(json!({"spec": {"paused": true}}));
    let marked = cluster(json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}}));
    let leaving = cluster(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let free = cluster(json!({"spec": {"paused": false}}));
    [None, Some(&paused), Some(&marked), Some(&leaving)]
        .into_iter()
        .all(decide)
        && !decide(Some(&free))
}

type Left<'a> =
    &'a dyn Fn(&[DynamicObject], &[DynamicObject], &[DynamicObject]) -> Vec<DynamicObject>;

/// Only what nothing names any more is deleted.
fn sweeps(decide: Left<'_>) -> bool {
    let none = json!({});
    let uses = |t: &str| json!({"spec": {"ref": {"kind": "Template", "name": t}}});
    let pool = json!({"metadata": {"labels": {POOL_LABEL: "a"}}});
    let theirs = json!({"metadata": {"labels": {"cluster.x-k8s.io/cluster-name": "other"}}});
    let rendered = [
        object("Template", "golem-a-11111111", &none),
        object(HEALTH_CHECK, "golem-a", &pool),
    ];
    let users = [object("MachineSet", "s", &uses("golem-a-22222222"))];
    let found = [
        rendered[0].clone(),
        rendered[1].clone(),
        object("Template", "golem-a-22222222", &none),
        object("Template", "golem-a-33333333", &none),
        object("Template", "other-a-44444444", &theirs),
        object("Template", "golem-by-hand", &none),
        object(HEALTH_CHECK, "golem-by-hand", &none),
    ];
    let gone = decide(&rendered, &found, &users);
    gone.iter().map(name).collect::<Vec<_>>() == ["golem-a-33333333"]
}

type Acts<'a> = &'a dyn Fn(Option<&InForce>, Option<&InForce>, There, There) -> Vec<Act>;

fn in_force(replicas: u32) -> InForce {
    let document: ManagementCluster = serde_json::from_value(json!({
        "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
        "metadata": {"name": "golem"}, "spec": {"controlPlane": {"replicas": replicas}},
    }))
    .unwrap();
    InForce::of(&document, &Environment::default())
}

/// What is accepted is kept; what is gone comes back; nothing happens on doubt.
fn remembers(decide: Acts<'_>) -> bool {
    use There::{No, Unknown, Yes};
    let (old, new) = (in_force(1), in_force(3));
    decide(None, None, No, No).is_empty()
        && decide(Some(&new), Some(&new), Yes, Yes).is_empty()
        && decide(None, Some(&old), Unknown, Unknown).is_empty()
        && decide(Some(&new), Some(&old), Yes, Yes) == [Act::Keep]
        && decide(None, Some(&old), No, No) == [Act::Environment, Act::Document]
}

type Refuses<'a> = &'a dyn Fn(&Environment, Option<&str>) -> bool;

/// No environment without, or of another, authority.
fn guards(decide: Refuses<'_>) -> bool {
    let of = |ca: &str| Environment {
        ca_certificate: ca.into(),
        ..Environment::default()
    };
    decide(&of(""), None)
        && decide(&of(" \n"), Some("A"))
        && decide(&of("B"), Some("A"))
        && !decide(&of("A\n"), Some("A"))
        && !decide(&of("B\nA"), Some("A"))
}

/// Due at two thirds of a life, and while it has not begun.
fn renews(decide: &dyn Fn(i64, i64, i64) -> bool) -> bool {
    let (from, until) = (1000, 1900);
    [
        (999, true),
        (1000, false),
        (1599, false),
        (1600, true),
        (1900, true),
        (5000, true),
    ]
    .iter()
    .all(|(now, due)| decide(from, until, *now) == *due)
}

fn without(o: Option<&DynamicObject>, change: impl Fn(&mut DynamicObject)) -> bool {
    let changed = o.map(|o| {
        let mut o = o.clone();
        change(&mut o);
        o
    });
    hold("golem", changed.as_ref()).is_some()
}

#[test]
fn every_planted_bug_is_caught() {
    let real = [
        holds(&|o| hold("golem", o).is_some()),
        sweeps(&|r, f, u| leftovers("golem", r, f, u)),
        remembers(&acts),
        guards(&|e, a| refusal(e, a).is_some()),
        renews(&is_due),
    ];
    assert_eq!(real, [true; 5], "the real decisions pass");
    let sweep = |r: &[_], f: &[_], u: &[_]| leftovers("golem", r, f, u);
    let gone = |f: &[DynamicObject], keep: &dyn Fn(&DynamicObject) -> bool| -> Vec<_> {
        f.iter().filter(|o| keep(o)).cloned().collect()
    };
    let planted: &[(&str, bool)] = &[
        (
            "an absent Cluster counts as free",
            holds(&|o| o.is_some() && hold("golem", o).is_some()),
        ),
        (
            "spec.paused is not looked at",
            holds(&|o| {
                without(o, |o| {
                    o.data["spec"] = json!({});
                })
            }),
        ),
        (
            "the pause annotation is not looked at",
            holds(&|o| {
                without(o, |o| {
                    o.metadata.annotations = None;
                })
            }),
        ),
        (
            "a Cluster that is being deleted counts as free",
            holds(&|o| {
                without(o, |o| {
                    o.metadata.deletion_timestamp = None;
                })
            }),
        ),
        (
            "templates of MachineSets are swept",
            sweeps(&|r, f, _| sweep(r, f, &[])),
        ),
        (
            "what is rendered is swept",
            sweeps(&|_, f, u| sweep(&[], f, u)),
        ),
        (
            "other clusters are swept",
            sweeps(&|r, f, u| {
                let mut all = sweep(r, f, u);
                all.extend(gone(f, &|o| name(o).starts_with("other")));
                all
            }),
        ),
        (
            "what people made is swept",
            sweeps(&|r, f, u| {
                let mut all = sweep(r, f, u);
                all.extend(gone(f, &|o| {
                    name(o) == "golem-by-hand" && kind(o) == HEALTH_CHECK
                }));
                all
            }),
        ),
        ("nothing is ever swept", sweeps(&|_, _, _| vec![])),
        (
            "not looked for counts as gone",
            remembers(&|a, k, d, e| {
                let doubt = |t| if t == There::Unknown { There::No } else { t };
                acts(a, k, doubt(d), doubt(e))
            }),
        ),
        (
            "the first document is kept for ever",
            remembers(&|a, k, d, e| acts(k.and(a).and(k), k, d, e)),
        ),
        (
            "it is written again and again",
            remembers(&|a, _, d, e| acts(a, None, d, e)),
        ),
        (
            "a deleted document stays away",
            remembers(&|a, k, _, e| acts(a, k, There::Yes, e)),
        ),
        (
            "the document comes before the environment",
            remembers(&|a, k, d, e| {
                let mut all = acts(a, k, d, e);
                all.reverse();
                all
            }),
        ),
        (
            "an empty environment is accepted",
            guards(&|e, a| !e.ca_certificate.trim().is_empty() && refusal(e, a).is_some()),
        ),
        (
            "another authority is accepted",
            guards(&|e, _| refusal(e, None).is_some()),
        ),
        (
            "a rotation is refused",
            guards(&|e, a| {
                refusal(e, a).is_some() || a.is_some_and(|a| e.ca_certificate.trim() != a)
            }),
        ),
        (
            "not valid yet counts as good",
            renews(&|f, u, n| n >= f && is_due(f, u, n)),
        ),
        (
            "renewed only when it has ended",
            renews(&|f, u, n| n < f || n >= u),
        ),
    ];
    let escaped: Vec<_> = planted.iter().filter(|(_, passes)| *passes).collect();
    println!(
        "planted {} caught {}",
        planted.len(),
        planted.len() - escaped.len()
    );
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
}
