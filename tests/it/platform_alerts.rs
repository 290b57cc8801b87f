//! Every alert can be acted upon: severity, summary, description and a runbook that exists.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::platform::{list, objects, text};

fn rules() -> Vec<Value> {
    objects()
        .iter()
        .filter(|(_, o)| text(o, "/kind") == "PrometheusRule")
        .flat_map(|(_, o)| list(o, "/spec/groups").to_vec())
        .flat_map(|g| list(&g, "/rules").to_vec())
        .collect()
}

#[test]
fn alerts_say_how_bad_what_and_what_to_do() {
    let mut names = BTreeSet::new();
    for rule in rules() {
        let name = text(&rule, "/alert").to_owned();
        assert!(!name.is_empty(), "a recording rule among the alerts");
        assert!(names.insert(name.clone()), "two alerts are named {name}");
        let severity = text(&rule, "/labels/severity");
        assert!(
            ["critical", "warning", "none"].contains(&severity),
            "{name}: severity `{severity}`"
        );
        assert_eq!(severity == "none", name == "Watchdog", "{name}");
        for part in ["summary", "description"] {
            let said = text(&rule, &format!("/annotations/{part}"));
            assert!(
                said.ends_with('.') && said.len() > 10,
                "{name}: {part} `{said}`"
            );
        }
        assert_eq!(
            text(&rule, "/annotations/runbook_url"),
            format!("docs/runbooks/{name}.md")
        );
    }
    assert!(names.len() >= 15);

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let books: BTreeSet<String> = fs::read_dir(&folder)
        .expect("runbooks")
        .filter_map(|e| Some(e.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(names, books, "alerts and runbooks");
    for name in &books {
        let book = fs::read_to_string(folder.join(format!("{name}.md"))).expect("a runbook");
        for part in [&format!("# {name}\n") as &str, "## Look", "## Fix"] {
            assert!(book.contains(part), "{name}.md lacks `{part}`");
        }
    }
}

#[test]
fn runbooks_refer_to_runbooks_that_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    for entry in fs::read_dir(&folder).expect("runbooks").flatten() {
        let book = fs::read_to_string(entry.path()).expect("a runbook");
        for link in book
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            assert!(
                folder.join(link).exists(),
                "{:?} refers to {link}",
                entry.file_name()
            );
        }
    }
}

#[test]
fn alerts_read_only_jobs_that_exist() {
    let jobs: BTreeSet<String> = objects()
        .iter()
        .flat_map(|(_, o)| {
            [
                list(o, "/spec/endpoints"),
                list(o, "/spec/podMetricsEndpoints"),
            ]
            .concat()
        })
        .flat_map(|e| list(&e, "/relabelings").to_vec())
        .filter(|r| r["targetLabel"] == "job")
        .map(|r| text(&r, "/replacement").to_owned())
        .collect();
    for rule in rules() {
        for job in text(&rule, "/expr")
            .split("job=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(
                jobs.contains(job),
                "{}: no job `{job}`",
                text(&rule, "/alert")
            );
        }
    }
}
