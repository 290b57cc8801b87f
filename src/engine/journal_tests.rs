//! Damage, torn ends and failing disks under a journal.

use jiff::Timestamp;

use super::*;
use crate::{
    plan::{Plan, StepSpec},
    ports::files::failing::{EIO, ENOSPC, Failing, Failure},
};

const STEPS: [&str; 3] = ["one", "two", "three"];

fn at(body: Body) -> Event {
    Event {
        at: Timestamp::UNIX_EPOCH,
        body,
    }
}

fn begin() -> Event {
    let spec = |id: &str| StepSpec {
        id: id.into(),
        title: id.into(),
        needs: vec![],
        components: vec![],
        point_of_no_return: false,
    };
    at(Body::RunStarted {
        format: FORMAT,
        plan: Plan {
            cluster: "x".into(),
            mctl: "0".into(),
            hash: "h".into(),
            kubernetes_version: "v".into(),
            images: vec![],
            steps: STEPS.map(spec).to_vec(),
        },
    })
}

fn done(step: &str) -> Event {
    at(Body::StepDone {
        step: step.into(),
        evidence: "x".into(),
        already: true,
        output: Some(serde_json::json!({"nodeImage": step})),
    })
}

#[test]
fn a_torn_last_line_is_cut_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut j = Journal::open(&path).unwrap();
    for event in [begin(), done("one")] {
        j.append(&event).unwrap();
    }
    let kept = std::fs::read(&path).unwrap().len();
    j.append(&done("two")).unwrap();
    drop(j);
    let whole = std::fs::read(&path).unwrap();
    for cut in kept..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let mut j = Journal::open(&path).unwrap();
        assert_eq!(j.events().len(), 2, "cut at {cut}");
        assert_eq!(j.history().outputs.len(), 1);
        j.append(&done("three")).unwrap();
        drop(j);
        assert_eq!(
            Journal::read(&path).unwrap(),
            vec![begin(), done("one"), done("three")]
        );
    }
}

#[test]
fn damage_in_the_middle_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut j = Journal::open(&path).unwrap();
    j.append(&begin()).unwrap();
    for s in STEPS {
        j.append(&done(s)).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let broken = text.replacen("\"step\":\"two\"", "\"st", 1);
    let twice = text.replacen("\"step\":\"two\"", "\"step\":\"one\"", 1);
    for (text, why) in [(broken, "damaged"), (twice, "after it was done")] {
        std::fs::write(&path, text).unwrap();
        let e = Journal::open(&path).unwrap_err().to_string();
        assert!(e.contains("journal.jsonl:3") && e.contains(why), "{e}");
        assert!(Journal::read(&path).is_err());
    }
}

#[test]
fn another_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut line = serde_json::to_value(begin()).unwrap();
    line["format"] = serde_json::json!(1);
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let e = Journal::open(&path).unwrap_err().to_string();
    assert!(
        e.contains("format 1") && e.contains("nothing was changed"),
        "{e}"
    );
}

#[test]
fn what_no_run_does_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut j = Journal::open(&path).unwrap();
    let e = j.append(&done("one")).unwrap_err();
    assert_eq!(e.kind(), Kind::Internal);
    assert!(Journal::read(&path).unwrap().is_empty());
}

#[test]
fn a_failed_write_is_told_and_loses_nothing() {
    let all = [begin(), done("one"), done("two"), done("three")];
    for failure in [
        Failure::Nothing(EIO),
        Failure::Torn(EIO),
        Failure::Nothing(ENOSPC),
        Failure::Torn(ENOSPC),
    ] {
        for number in 0..all.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal.jsonl");
            let files = Arc::new(Failing::at(number, failure));
            let mut j = Journal::open_in(files, &path).unwrap();
            for (i, event) in all.iter().enumerate() {
                if i == number {
                    let e = j.append(event).unwrap_err();
                    assert!(e.has_state(), "{e}");
                    // As if the process had died right then.
                    assert_eq!(Journal::read(&path).unwrap(), all[..i]);
                }
                j.append(event).unwrap();
            }
            assert_eq!(Journal::read(&path).unwrap(), all);
        }
    }
}
