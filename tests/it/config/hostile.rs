//! Files made to hurt: the answer is an error, and it comes at once.

use std::time::{Duration, Instant};

use mctl::config;

fn refused_quickly(what: &str, text: &str) {
    let start = Instant::now();
    let problems = config::load(text, "mc.yaml").expect_err(what);
    let shown = problems.to_string();
    let took = start.elapsed();
    // Generous: tests run unoptimised and beside others; what grows with the square takes minutes.
    assert!(took < Duration::from_secs(10), "{what}: {took:?}");
    assert!(
        shown.len() < 100_000,
        "{what}: {} bytes of messages",
        shown.len()
    );
}

#[test]
fn hostile_files_are_refused_quickly() {
    let head = "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {name: golem}\n";
    let large = 500_000;
    refused_quickly("10 MB", &"a: b\n".repeat(2_000_000));
    refused_quickly("10 MB in one line", &"a".repeat(10_000_000));
    refused_quickly("deep lists", &"[".repeat(large));
    refused_quickly("deep maps", &"{a: ".repeat(large / 4));
    refused_quickly("deep dashes", &"- ".repeat(large / 2));
    let stairs: String = (0..1_000)
        .map(|n| format!("{}a:\n", " ".repeat(n)))
        .collect();
    refused_quickly("stairs", &stairs);
    refused_quickly(
        "deep values",
        &format!(
            "{head}spec: {{components: {{a: {{values: {}",
            "{a: ".repeat(10_000)
        ),
    );
    let keys: String = (0..30_000).map(|n| format!("  k{n}: 1\n")).collect();
    refused_quickly("many unknown fields", &format!("{head}spec:\n{keys}"));
    refused_quickly(
        "one key many times",
        &format!("{head}spec:\n{}", "  customer: a\n".repeat(30_000)),
    );
    refused_quickly(
        "many items",
        &format!(
            "{head}spec:\n  nodePools:\n{}",
            "  - name: a\n".repeat(30_000)
        ),
    );
    refused_quickly(
        "many pools",
        &format!(
            "{head}spec:\n  nodePools: [{}]",
            "{name: Ä},".repeat(30_000)
        ),
    );
    refused_quickly("a long key", &format!("{head}{}: 1\n", "k".repeat(900)));
    refused_quickly(
        "a long value",
        &format!("{head}spec: {{customer: {}}}\n", "k".repeat(large)),
    );
    refused_quickly(
        "a long quote",
        &format!("{head}spec: {{customer: \"{}\"}}\n", "k".repeat(large)),
    );
    refused_quickly(
        "a long address",
        &format!(
            "{head}spec: {{gitops: {{customer: {{git: {{url: \"https://{}@\"}}}}}}}}\n",
            "a/".repeat(large / 3)
        ),
    );
    refused_quickly("zeros", &"\0".repeat(large));
    refused_quickly("byte-order marks", &"\u{feff}".repeat(large / 4));
    refused_quickly("line breaks", &"\n".repeat(large));
    refused_quickly("quotes", &"\"".repeat(large));
    refused_quickly("stars", &"*a ".repeat(large / 3));
    refused_quickly("question marks", &"? ".repeat(large / 2));
    refused_quickly("comments", &"# a\n".repeat(large / 4));
    refused_quickly("documents", &"---\n".repeat(large / 4));
    refused_quickly("directives", &"%TAG ! x\n".repeat(large / 10));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..40 {
        let m = n - 1;
        bomb += &format!(
            "a{n}: &a{n} [*a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}]\n"
        );
    }
    refused_quickly("a bomb of aliases", &bomb);
    refused_quickly(
        "an alias to itself",
        &format!("{head}spec: &a {{components: *a}}\n"),
    );
}

#[test]
fn many_problems_are_counted_not_listed() {
    let keys: String = (0..1_000).map(|n| format!("  k{n}: 1\n")).collect();
    let text = format!(
        "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {{name: golem}}\nspec:\n{keys}"
    );
    let problems = config::load(&text, "mc.yaml").unwrap_err();
    assert_eq!(problems.list().len(), 1_000);
    assert_eq!(problems.summary(), "mc.yaml has 1000 problems");
    assert!(problems.to_string().ends_with("and 950 more"));
}
