//! Drift from metadata, and the pace of requests.

use serde_json::json;

use super::*;
use crate::manager::kinds::DEPLOYMENT;

fn meta(uid: &str, generation: i64, writers: &[(&str, &str, &str)]) -> ObjectMeta {
    let fields: Vec<_> = writers
        .iter()
        .map(|(manager, time, subresource)| {
            json!({"manager": manager, "operation": "Update", "time": time, "subresource": subresource})
        })
        .collect();
    serde_json::from_value(json!({
        "name": "ksm", "namespace": "monitoring", "uid": uid, "generation": generation,
        "labels": {
            "kustomize.toolkit.fluxcd.io/name": "monitoring",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-giantswarm",
        },
        "managedFields": fields,
    }))
    .unwrap()
}

const FLUX: (&str, &str, &str) = ("kustomize-controller", "2026-01-01T00:00:10Z", "");

fn started() -> Detector {
    let mut d = Detector::new(DEPLOYMENT);
    let first = meta("u1", 1, &[FLUX]);
    assert!(d.observe(Event::Init).is_empty());
    assert!(d.observe(Event::InitApply(&first)).is_empty());
    assert!(d.observe(Event::InitDone).is_empty());
    d
}

#[test]
fn a_deletion_is_drift_of_its_owner() {
    let mut d = started();
    let drift = d.observe(Event::Delete(&meta("u1", 1, &[FLUX])));
    assert_eq!(drift[0].owner.name, "monitoring");
    assert_eq!(drift[0].owner.kind, KUSTOMIZATION);
    assert_eq!(drift[0].what, "Deployment monitoring/ksm was deleted");
    // Made again by Flux: fine.
    assert!(d.observe(Event::Apply(&meta("u2", 1, &[FLUX]))).is_empty());
}

#[test]
fn an_edit_by_someone_else_is_drift_and_the_repair_is_not() {
    let mut d = started();
    let edit = ("kubectl-edit", "2026-01-01T00:00:20Z", "");
    let drift = d.observe(Event::Apply(&meta("u1", 2, &[FLUX, edit])));
    assert_eq!(
        drift[0].what,
        "Deployment monitoring/ksm was changed by kubectl-edit"
    );
    let again = ("kustomize-controller", "2026-01-01T00:00:21Z", "");
    assert!(
        d.observe(Event::Apply(&meta("u1", 3, &[again, edit])))
            .is_empty()
    );
    let scale = ("kubectl", "2026-01-01T00:00:30Z", "scale");
    assert_eq!(
        d.observe(Event::Apply(&meta("u1", 4, &[again, scale])))
            .len(),
        1
    );
}

#[test]
fn status_and_mere_metadata_are_no_drift() {
    let mut d = started();
    let status = ("kube-controller-manager", "2026-01-01T00:01:00Z", "status");
    assert!(
        d.observe(Event::Apply(&meta("u1", 1, &[FLUX, status])))
            .is_empty()
    );
    assert!(
        d.observe(Event::Apply(&meta("u1", 2, &[FLUX, status])))
            .is_empty()
    );
    let annotate = ("kubectl-annotate", "2026-01-01T00:01:00Z", "");
    assert!(
        d.observe(Event::Apply(&meta("u1", 2, &[FLUX, annotate])))
            .is_empty()
    );
}

#[test]
fn what_vanished_while_the_watch_was_away_is_found() {
    let mut d = started();
    assert!(d.observe(Event::Init).is_empty());
    assert_eq!(d.observe(Event::InitDone).len(), 1);
}

#[test]
fn objects_of_the_customer_and_without_owner_are_left_alone() {
    let mut d = Detector::new(DEPLOYMENT);
    let mut other = meta("u1", 1, &[FLUX]);
    other.labels.as_mut().unwrap().insert(
        "kustomize.toolkit.fluxcd.io/namespace".into(),
        "flux-system".into(),
    );
    d.observe(Event::Apply(&other));
    assert!(d.observe(Event::Delete(&other)).is_empty());
    other.labels = None;
    d.observe(Event::Apply(&other));
    assert!(d.observe(Event::Delete(&other)).is_empty());
}

#[test]
fn a_chart_is_the_owner_before_the_kustomization() {
    let mut m = meta("u1", 1, &[FLUX]);
    let labels = m.labels.as_mut().unwrap();
    labels.insert("helm.toolkit.fluxcd.io/name".into(), "kyverno".into());
    labels.insert(
        "helm.toolkit.fluxcd.io/namespace".into(),
        "flux-giantswarm".into(),
    );
    assert_eq!(owner(&m).unwrap().kind, HELM_RELEASE);
}

fn somebody() -> Owner {
    Owner {
        kind: KUSTOMIZATION,
        name: "monitoring".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_request_is_fast_and_a_fight_is_slow() {
    let mut limiter = Limiter::default();
    let begin = Instant::now();
    limiter.request(somebody(), begin);
    limiter.request(somebody(), begin);
    assert_eq!(limiter.next(), Some(begin + SETTLE));
    assert!(limiter.due(begin).is_empty());
    assert_eq!(limiter.due(begin + SETTLE).len(), 1);
    assert_eq!(limiter.next(), None);

    // A fight over ten minutes: as soon as it was asked, it drifts again.
    let mut asked = 0;
    let mut now = begin + SETTLE;
    while now < begin + Duration::from_secs(600) {
        limiter.request(somebody(), now);
        now += Duration::from_secs(1);
        asked += limiter.due(now).len();
    }
    assert!((8..20).contains(&asked), "{asked} requests in ten minutes");

    // Quiet again: fast again.
    limiter.due(now + LONGEST);
    assert_eq!(limiter.next(), None);
    let later = now + LONGEST * 5;
    limiter.request(somebody(), later);
    assert_eq!(limiter.next(), Some(later + SETTLE));
}
