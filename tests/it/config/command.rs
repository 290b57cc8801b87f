//! `mctl config`: what it writes and what it refuses.

use std::{fs, path::PathBuf};

use mctl::{
    Kind,
    cli::config::{Args, run},
    config,
};

fn output(args: &Args) -> mctl::Result<String> {
    let mut out = Vec::new();
    run(args, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn init(full: bool) -> String {
    let (name, provider) = ("golem".parse().unwrap(), "docker".to_owned());
    output(&Args::Init {
        name,
        provider,
        full,
    })
    .unwrap()
}

#[test]
fn init_writes_a_short_document_that_is_valid() {
    let text = init(false);
    let document = config::load(&text, "init").unwrap();
    assert_eq!(document.metadata.name.as_deref(), Some("golem"));
    assert_eq!(document.spec.node_pools.len(), 1);
    let fields = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    assert!(fields.count() <= 13, "{text}");
    insta::assert_snapshot!("init", text);
}

#[test]
fn init_full_changes_nothing_but_shows_every_field() {
    let text = init(true);
    let short = config::load(&init(false), "init").unwrap();
    assert_eq!(config::load(&text, "init --full").unwrap(), short);
    insta::assert_snapshot!("init-full", text);
}

/// Every line behind a `#` is a real field: with all of them at work, only the choice between two sources is wrong.
#[test]
fn the_examples_of_init_full_are_valid() {
    let text = init(true);
    let mut live = String::new();
    for line in text.lines() {
        let text = line.trim_start();
        let margin = &line[..line.len() - text.len()];
        match text.strip_prefix('#') {
            Some(field)
                if !field.starts_with(' ') || field.starts_with("  ") && !margin.is_empty() =>
            {
                live += &format!("{margin}{field}\n");
            }
            _ => live += &format!("{line}\n"),
        }
    }
    let live = live.replace("docker: {} ", "docker: ");
    let problems = config::load(&live, "live").unwrap_err();
    let found: Vec<String> = problems.list().iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["spec.gitops.customer.oci: only one of `git` or `oci` can be given (remove all but one)"],
        "{live}"
    );
    let oci = live.find("      # OCI artifact.").unwrap();
    let end = live.find("  # Where container images").unwrap();
    let one = format!("{}{}", &live[..oci], &live[end..]);
    config::load(&one, "one").unwrap();
}

#[test]
fn init_refuses_bad_names_and_providers() {
    let init = |name: &str, provider: &str| {
        let name = match name.parse() {
            Ok(name) => name,
            Err(error) => return error,
        };
        output(&Args::Init {
            name,
            provider: provider.into(),
            full: false,
        })
        .unwrap_err()
    };
    for name in [
        "Golem",
        "a: b",
        "",
        "{{ x }}",
        "12",
        "-",
        "a\nb: c",
        &"a".repeat(36),
    ] {
        let error = init(name, "docker");
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.has_state());
    }
    assert!(init("golem", "dokcer").to_string().contains("docker"));
}

#[test]
fn validate_reads_files_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mc.yaml");
    let validate = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        output(&Args::Validate { file: file.clone() })
    };
    let said = validate(init(false).as_bytes()).unwrap();
    assert_eq!(said, "the document of management cluster golem is valid\n");
    let error = validate(b"kind: ManagementCluster\nmetadata: {nmae: x}\n").unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(
        error
            .to_string()
            .contains(&format!("{}:2:12", file.display()))
    );
    let error = validate(b"a: 1\nb: \xff\n").unwrap_err();
    assert!(
        error.to_string().contains("not UTF-8") && error.to_string().contains(":2:4"),
        "{error}"
    );
    let error = validate(b"\xff\xfea\0:\0").unwrap_err();
    assert!(error.to_string().contains("UTF-16"), "{error}");
    let error = output(&Args::Validate {
        file: PathBuf::from("/nowhere/mc.yaml"),
    })
    .unwrap_err();
    assert!(error.to_string().contains("mctl config init"), "{error}");
    let error = output(&Args::Validate {
        file: folder.path().to_owned(),
    })
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Usage, "{error}");
}

/// A file that never ends is not read to its end.
#[test]
fn validate_stops_reading_in_time() {
    let error = output(&Args::Validate {
        file: PathBuf::from("/dev/zero"),
    })
    .unwrap_err();
    assert!(error.to_string().contains("larger than 512 KiB"), "{error}");
}

#[test]
fn schema_prints_both() {
    let json = output(&Args::Schema { crd: false }).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["title"], "ManagementCluster");
    let crd = output(&Args::Schema { crd: true }).unwrap();
    assert!(
        crd.starts_with("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n")
    );
}
