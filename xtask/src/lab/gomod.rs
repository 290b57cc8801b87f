//! Writes the `go.mod` of a consumer that builds programs of other modules; must not run Go.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// What a consumer needs to know of one module's own `go.mod`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GoMod {
    /// Its `go` line.
    pub go: String,
    /// Its requirements: module to version.
    pub requires: BTreeMap<String, String>,
    /// Its replaces: left side to right side, as written.
    pub replaces: Vec<(String, String)>,
}

/// Reads the `go` line, the requirements and the replaces.
pub fn parse(text: &str) -> GoMod {
    let mut found = GoMod::default();
    let mut block = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let (verb, rest) = match line.split_once(char::is_whitespace) {
            _ if !block.is_empty() => (block.clone(), line),
            Some((verb, rest)) => (verb.to_owned(), rest.trim()),
            None => continue,
        };
        match (verb.as_str(), rest) {
            (_, ")") => block.clear(),
            (_, "(") => block = verb,
            ("go", version) => version.clone_into(&mut found.go),
            ("require", rest) => found.requires.extend(pair(rest, " ")),
            ("replace", rest) => found.replaces.extend(pair(rest, "=>")),
            _ => {}
        }
    }
    found
}

fn pair(line: &str, between: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(between)?;
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
    /// Least versions of the libraries that several programs share.
    pub libraries: &'a BTreeMap<String, String>,
}

/// The consumer's `go.mod`.
///
/// Replaces count only in the main module, so those of the required modules are repeated. A replace by a folder has no
/// meaning outside its repository: the released version is required instead, if one is pinned, else the requirement
/// decides. Required and not replaced, for Go names what it compiled by the required version: under another name the same
/// package would be compiled once more.
pub fn generate(consumer: &Consumer) -> Result<String> {
    let mut go = "1.24".to_owned();
    let mut requires = consumer.libraries.clone();
    let mut replaces: BTreeMap<String, String> = consumer.replaces.clone();
    for (_, own) in consumer.modules {
        if numbers(&own.go) > numbers(&go) {
            go.clone_from(&own.go);
        }
        for (left, right) in &own.replaces {
            let path = left.split(' ').next().unwrap_or(left);
            if !right.starts_with('.') {
                replaces
                    .entry(left.clone())
                    .or_insert_with(|| right.clone());
            } else if let (Some(version), Some(required)) =
                (consumer.local_replaces, own.requires.get(path))
                && !replaces.contains_key(path)
            {
                requires
                    .entry(path.to_owned())
                    .or_insert_with(|| version.to_owned());
                if required != version {
                    // A version that was never released; Go reads the requirements of every version it meets.
                    replaces.insert(format!("{path} {required}"), format!("{path} {version}"));
                }
            }
        }
    }
    // The programs' own modules last: what is built has exactly the pinned version.
    for (module, _) in consumer.modules {
        let (path, version) = module
            .split_once('@')
            .with_context(|| format!("{module:?} is not module@version"))?;
        requires.insert(path.to_owned(), version.to_owned());
    }
    let mut text = format!("module lab/{}\n\ngo {go}\n\nrequire (\n", consumer.name);
    for (path, version) in requires {
        text.push_str(&format!("\t{path} {version}\n"));
    }
    text.push_str(")\n");
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
        require (\n\texample.org/api v0.0.0\n\texample.org/e v1.1.0 // indirect\n)\n\
        // why\nreplace example.org/c => example.org/fork v1.2.3\n\nreplace (\n\
        \texample.org/api => ./staging/api // local\n\texample.org/d v1.0.0 => example.org/d v1.0.1\n)\n";

    #[test]
    fn replaces_are_read_from_lines_and_blocks() {
        let found = parse(TEXT);
        assert_eq!(found.go, "1.26.1");
        assert_eq!(found.requires.len(), 3);
        assert_eq!(found.requires["example.org/e"], "v1.1.0");
        assert_eq!(found.replaces.len(), 3);
        assert_eq!(
            found.replaces[1],
            ("example.org/api".to_owned(), "./staging/api".to_owned())
        );
    }

    fn consumer(local: Option<&str>, own: &[(&str, &str)]) -> String {
        sharing(local, own, &[])
    }

    fn sharing(local: Option<&str>, own: &[(&str, &str)], libraries: &[(&str, &str)]) -> String {
        let modules = [("example.org/a@v1.0.0".to_owned(), parse(TEXT))];
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        let replaces = map(own);
        generate(&Consumer {
            name: "a",
            modules: &modules,
            local_replaces: local,
            replaces: &replaces,
            libraries: &map(libraries),
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
    fn local_replaces_become_a_required_release() {
        let text = consumer(Some("v0.36.3"), &[]);
        assert!(text.contains("\n\texample.org/api v0.36.3\n"), "{text}");
        assert!(
            text.contains("\texample.org/api v0.0.0 => example.org/api v0.36.3\n"),
            "{text}"
        );
    }

    #[test]
    fn shared_libraries_are_required_and_win_over_the_release_but_not_over_the_program() {
        let text = sharing(
            Some("v0.36.3"),
            &[],
            &[
                ("example.org/a", "v9.0.0"),
                ("example.org/api", "v0.36.4"),
                ("example.org/e", "v1.2.0"),
            ],
        );
        for line in ["a v1.0.0", "api v0.36.4", "e v1.2.0"] {
            assert!(
                text.contains(&format!("\n\texample.org/{line}\n")),
                "{text}"
            );
        }
        assert!(!text.contains("v9.0.0"), "{text}");
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
