//! Reads what a request asks for: paths, names, ranges. Pure; must not answer.

use crate::bundle::{Digest, full_repository, is_host};

/// What a path below `/v2/` stands for.
#[derive(Debug, PartialEq)]
pub enum Target<'a> {
    /// All repositories.
    Catalog,
    /// A manifest by tag or digest.
    Manifest {
        /// Repository.
        name: &'a str,
        /// Tag or digest.
        reference: &'a str,
    },
    /// Content.
    Blob {
        /// Repository.
        name: &'a str,
        /// Digest, not checked yet.
        digest: &'a str,
    },
    /// Tags of a repository.
    Tags {
        /// Repository.
        name: &'a str,
    },
    /// What refers to a digest.
    Referrers {
        /// Repository.
        name: &'a str,
        /// Digest, not checked yet.
        digest: &'a str,
    },
}

impl<'a> Target<'a> {
    /// Reads the path after `/v2/`.
    pub fn parse(path: &'a str) -> Option<Self> {
        if path == "_catalog" {
            return Some(Self::Catalog);
        }
        // From the right: a repository may itself have a part named `manifests`.
        let (head, last) = path.rsplit_once('/')?;
        let (name, kind) = head.rsplit_once('/')?;
        Some(match kind {
            "manifests" => Self::Manifest {
                name,
                reference: last,
            },
            "blobs" => Self::Blob { name, digest: last },
            "tags" if last == "list" => Self::Tags { name },
            "referrers" => Self::Referrers { name, digest: last },
            _ => return None,
        })
    }

    /// The repository it names; empty for the catalog.
    pub fn name(&self) -> &'a str {
        match self {
            Self::Catalog => "",
            Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::Tags { name }
            | Self::Referrers { name, .. } => name,
        }
    }
}

/// Repositories that a name may mean, best first: containerd says the upstream host in `ns`, other clients in the path. `None`: a malformed name.
pub fn repositories(name: &str, ns: Option<&str>) -> Option<Vec<String>> {
    let plain = full_repository(name)?;
    let upstream = ns
        .filter(|host| is_host(host) || *host == "docker.io")
        .and_then(|host| full_repository(&format!("{host}/{name}")));
    Some(upstream.into_iter().chain([plain]).collect())
}

/// Which bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All.
    Whole,
    /// From the first to before the second.
    Part(u64, u64),
    /// None that exist.
    Unsatisfiable,
}

/// Reads a `Range` header; several ranges at once and other units are ignored, as RFC 9110 allows.
pub fn range(header: &str, size: u64) -> Range {
    let Some((first, last)) = header
        .strip_prefix("bytes=")
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Range::Whole;
    };
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u64>())
    };
    match (first, last) {
        ("", "") => Range::Whole,
        ("", suffix) => match number(suffix) {
            None => Range::Whole,
            Some(Ok(0)) => Range::Unsatisfiable,
            Some(_) if size == 0 => Range::Unsatisfiable,
            Some(wanted) => Range::Part(size.saturating_sub(wanted.unwrap_or(u64::MAX)), size),
        },
        (first, last) => {
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Range::Whole;
            };
            let first = first.unwrap_or(u64::MAX);
            // An open end, too, is no number.
            let last = last.unwrap_or(u64::MAX);
            if first > last || first >= size {
                Range::Unsatisfiable
            } else {
                Range::Part(first, last.saturating_add(1).min(size))
            }
        }
    }
}

/// True for what could be a digest of an algorithm we do not know; those are unknown rather than malformed.
pub fn digest(text: &str) -> Result<Digest, bool> {
    Digest::parse(text).ok_or_else(|| {
        text.split_once(':').is_some_and(|(algorithm, encoded)| {
            !matches!(algorithm, "" | "sha256" | "sha512") && !encoded.is_empty()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let manifest = |name, reference| Some(Target::Manifest { name, reference });
        for (path, expected) in [
            ("a/manifests/b", manifest("a", "b")),
            ("a.b/c/d/manifests/e", manifest("a.b/c/d", "e")),
            ("a/manifests/manifests/b", manifest("a/manifests", "b")),
            (
                "a/blobs/x",
                Some(Target::Blob {
                    name: "a",
                    digest: "x",
                }),
            ),
            ("a/b/tags/list", Some(Target::Tags { name: "a/b" })),
            (
                "a/referrers/x",
                Some(Target::Referrers {
                    name: "a",
                    digest: "x",
                }),
            ),
            ("_catalog", Some(Target::Catalog)),
            ("a/tags/other", None),
            ("manifests/b", None),
            ("a/uploads/b", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(Target::parse(path), expected, "{path}");
        }
    }

    #[test]
    fn names_by_host_and_by_path() {
        for (name, ns, expected) in [
            (
                "library/nginx",
                Some("docker.io"),
                vec!["docker.io/library/nginx"; 2],
            ),
            (
                "pause",
                Some("registry.k8s.io"),
                vec!["registry.k8s.io/pause", "docker.io/library/pause"],
            ),
            (
                "a/b",
                Some("reg:5000"),
                vec!["reg:5000/a/b", "docker.io/a/b"],
            ),
            ("quay.io/a/b", None, vec!["quay.io/a/b"]),
            ("docker.io/nginx", None, vec!["docker.io/library/nginx"]),
            ("a/b", Some("../x"), vec!["docker.io/a/b"]),
        ] {
            assert_eq!(
                repositories(name, ns).unwrap_or_default(),
                expected,
                "{name} {ns:?}"
            );
        }
        assert_eq!(repositories("A/b", None), None);
        assert_eq!(repositories("a/../b", Some("quay.io")), None);
    }

    #[test]
    fn ranges() {
        use Range::{Part, Unsatisfiable, Whole};
        for (header, expected) in [
            ("bytes=0-0", Part(0, 1)),
            ("bytes=500-1499", Part(500, 1000)),
            ("bytes=500-999", Part(500, 1000)),
            ("bytes=500-", Part(500, 1000)),
            ("bytes=-500", Part(500, 1000)),
            ("bytes=-5000", Part(0, 1000)),
            ("bytes=-0", Unsatisfiable),
            ("bytes=1000-", Unsatisfiable),
            ("bytes=2000-5000", Unsatisfiable),
            ("bytes=500-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=0-99999999999999999999999", Part(0, 1000)),
            ("bytes=0-1,5-6", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(range(header, 1000), expected, "{header}");
        }
        assert_eq!(range("bytes=0-", 0), Unsatisfiable);
        assert_eq!(range("bytes=-1", 0), Unsatisfiable);
    }
}
