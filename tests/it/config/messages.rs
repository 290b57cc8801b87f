//! How problems are shown.

use mctl::{Error, Kind, config};

const TEXT: &str = "apiVersion: mctl.giantswarm.io/v1alpha1
kind: ManagementCluster
metadata: {name: golem}
spec:
  kubernetesVersion: 1.36
  gitops: {customer: {git: {url: \"https://me:hunter2@git.example.io/a/b\"}}}
  network:
    podCIDR: 10.0.0.0/8
";

#[test]
fn problems_show_the_line_and_the_fix() {
    let problems = config::load(TEXT, "mc.yaml").unwrap_err();
    let error = Error::from(problems);
    assert_eq!(error.kind(), Kind::Usage);
    let shown = error.to_string();
    assert!(!shown.contains("hunter2"));
    insta::assert_snapshot!("problems", shown);
    assert!(
        !error.line().contains('\n') && error.line().contains("line 5: spec.kubernetesVersion")
    );
}

#[test]
fn a_single_problem_is_called_one() {
    let problems = config::load("", "-").unwrap_err();
    insta::assert_snapshot!("empty", Error::from(problems).to_string());
}
