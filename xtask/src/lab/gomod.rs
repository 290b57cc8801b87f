//! Writes the `go.mod` of a consumer that builds programs of other modules; must not run Go.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// What a consumer needs to know of one module's own `go.mod`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GoMod {
    /// Its `go` line.
    pub go: String,
    /// Its replaces: left side to right side, as written.
    pub replaces: Vec<(String, String)>,
}

/// Reads the `go` line and the replaces.
pub fn parse(text: &str) -> GoMod {
    let mut found = GoMod::default();
    let mut in_block = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if in_block {
            if line == ")" {
                in_block = false;
            } else {
                found.replaces.extend(replace(line));
            }
        } else if let Some(version) = line.strip_prefix("go ") {
            version.trim().clone_into(&mut found.go);
        } else if let Some(rest) = line.strip_prefix("replace") {
            let rest = rest.trim();
            if rest == "(" {
                in_block = true;
            } else {
                found.replaces.extend(replace(rest));
            }
        }
    }
    found
}

fn replace(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once("=>")?;
    Some((left.trim().to_owned(), right.trim().to_owned()))
}

/// One program's modules, as its pins say.
#[derive(Debug)]
pub struct Consumer<'a> {
    /// Name of the consumer's own module.
    pub name: &'a str,
    /// `module@version`, with what its own `go.mod` says.
    pub modules: &'a [(String, GoMod)],
    /// Version that stands for replaces by a folder of the module's own repository.
    pub local_replaces: Option<&'a str>,
    /// Replaces that win over the modules' own.
    pub replaces: &'a BTreeMap<String, String>,
}

/// The consumer's `go.mod`.
///
/// Replaces count only in the main module, so those of the required modules are repeated. A replace by a folder has no
/// meaning outside its repository: it becomes the released version, if one is pinned, else the requirement decides.
pub fn generate(consumer: &Consumer) -> Result<String> {
    let mut go = "1.24".to_owned();
    let mut requires = Vec::new();
    let mut replaces: BTreeMap<String, String> = consumer.replaces.clone();
    for (module, own) in consumer.modules {
        let (path, version) = module
            .split_once('@')
            .with_context(|| format!("{module:?} is not module@version"))?;
        requires.push(format!("\t{path} {version}\n"));
        if numbers(&own.go) > numbers(&go) {
            go.clone_from(&own.go);
        }
        for (left, right) in &own.replaces {
            if !right.starts_with('.') {
                replaces
                    .entry(left.clone())
                    .or_insert_with(|| right.clone());
            } else if let Some(version) = consumer.local_replaces {
                let left_path = left.split(' ').next().unwrap_or(left);
                replaces
                    .entry(left.clone())
                    .or_insert_with(|| format!("{left_path} {version}"));
            }
        }
    }
    let mut text = format!(
        "module lab/{}\n\ngo {go}\n\nrequire (\n{})\n",
        consumer.name,
        requires.concat()
    );
    if !replaces.is_empty() {
        text.push_str("\nreplace (\n");
        for (left, right) in replaces {
            text.push_str(&format!("\t{left} => {right}\n"));
        }
        text.push_str(")\n");
    }
    Ok(text)
}

fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

/// Name of the executable that `go build` makes of a package: its last element, a major version left out.
pub fn executable(package: &str) -> &str {
    let mut parts = package.rsplit('/');
    let last = parts.next().unwrap_or(package);
    let is_major = last
        .strip_prefix('v')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if is_major {
        parts.next().unwrap_or(last)
    } else {
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "module example.org/a\n\ngo 1.26.1\n\nrequire example.org/b v1.0.0 // indirect\n\n\
        // why\nreplace example.org/c => example.org/fork v1.2.3\n\nreplace (\n\
        \texample.org/api => ./staging/api // local\n\texample.org/d v1.0.0 => example.org/d v1.0.1\n)\n";

    #[test]
    fn replaces_are_read_from_lines_and_blocks() {
        let found = parse(TEXT);
        assert_eq!(found.go, "1.26.1");
        assert_eq!(found.replaces.len(), 3);
        assert_eq!(
            found.replaces[1],
            ("example.org/api".to_owned(), "./staging/api".to_owned())
        );
    }

    fn consumer(local: Option<&str>, own: &[(&str, &str)]) -> String {
        let modules = [("example.org/a@v1.0.0".to_owned(), parse(TEXT))];
        let replaces = own
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        generate(&Consumer {
            name: "a",
            modules: &modules,
            local_replaces: local,
            replaces: &replaces,
        })
        .unwrap()
    }

    #[test]
    fn version_replaces_are_repeated_and_local_ones_left_out() {
        let text = consumer(None, &[]);
        assert!(
            text.starts_with("module lab/a\n\ngo 1.26.1\n\nrequire (\n\texample.org/a v1.0.0\n)\n"),
            "{text}"
        );
        assert!(text.contains("\texample.org/c => example.org/fork v1.2.3\n"));
        assert!(!text.contains("staging"));
    }

    #[test]
    fn local_replaces_become_a_released_version() {
        assert!(
            consumer(Some("v0.36.3"), &[])
                .contains("\texample.org/api => example.org/api v0.36.3\n")
        );
    }

    #[test]
    fn a_pinned_replace_wins() {
        let text = consumer(Some("v0.36.3"), &[("example.org/api", "../shim")]);
        assert!(
            text.contains("\texample.org/api => ../shim\n") && !text.contains("v0.36.3"),
            "{text}"
        );
    }

    #[test]
    fn executables_are_named_as_go_names_them() {
        assert_eq!(
            executable("k8s.io/kube-state-metrics/v2"),
            "kube-state-metrics"
        );
        assert_eq!(executable("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(executable("k8s.io/kubernetes/cmd/kubelet"), "kubelet");
        assert_eq!(executable("example.org/video"), "video");
    }
}
