//! Image references: `registry/repository:tag@digest`, in full form. Must not ask any registry.

use std::fmt;

use super::Digest;

const DOCKER: &str = "docker.io";

/// A reference in full form: the registry is always there, and a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Registry host and repository: `docker.io/library/nginx`.
    pub repository: String,
    /// Tag; `latest` when the text had neither tag nor digest.
    pub tag: Option<String>,
    /// Digest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as Docker does: no host means `docker.io`, no folder there means `library/`.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; before it, a port.
        let name = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest.get(name..)?.split_once(':') {
            Some((last, tag)) => (rest.get(..name + last.len())?, Some(tag.to_owned())),
            None => (rest, None),
        };
        if !tag.as_deref().is_none_or(is_tag) {
            return None;
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Some(Self {
            repository: full_repository(repository)?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Registry host and repository in full form; `None` when the name breaks the specification's rules.
pub fn full_repository(name: &str) -> Option<String> {
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        _ => (DOCKER, name),
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER,
        host => host,
    };
    if path.len() > 255 || !path.split('/').all(is_component) {
        return None;
    }
    Some(if host == DOCKER && !path.contains('/') {
        format!("{host}/library/{path}")
    } else {
        format!("{host}/{path}")
    })
}

/// True when the first part of a name is a registry and not a folder.
pub fn is_host(part: &str) -> bool {
    let (host, port) = match part.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (part, None),
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let named = host.split('.').all(|label| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    (bracketed || named)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
        && (port.is_some() || bracketed || host.contains('.') || host == "localhost")
}

/// The specification's `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The specification's `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<u8>| b.is_some_and(alphanumeric);
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends(part.bytes().next())
        && ends(part.bytes().last())
        && separators.filter(|s| !s.is_empty()).all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> Option<String> {
        Reference::parse(text).map(|reference| reference.to_string())
    }

    #[test]
    fn references_in_full_form() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.2", "docker.io/library/nginx:1.2"),
            ("kindest/node:v1", "docker.io/kindest/node:v1"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            (
                "index.docker.io/kindest/node:v1",
                "docker.io/kindest/node:v1",
            ),
            ("localhost/a:b", "localhost/a:b"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("mctl-x-registry:5000/a/b:c", "mctl-x-registry:5000/a/b:c"),
            ("[::1]:5000/a/b:c", "[::1]:5000/a/b:c"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("a.b/c__d/e--f.g:H_i", "a.b/c__d/e--f.g:H_i"),
        ] {
            assert_eq!(full(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(
            full(&format!("nginx@{digest}")),
            Some(format!("docker.io/library/nginx@{digest}"))
        );
        assert_eq!(
            full(&format!("a.b/c:d@{digest}")),
            Some(format!("a.b/c:d@{digest}"))
        );
    }

    #[test]
    fn nonsense_is_no_reference() {
        for text in [
            "",
            ":",
            "/",
            "a.b/",
            "a.b//c",
            "A/b",
            "a.b/C",
            "a.b/c:",
            "a.b/c:-d",
            "a.b/../c",
            "a.b/c@sha256:00",
            "a.b/.c",
            "a.b/c_",
            "a.b/c___d",
            "a.b/c._d",
            "a b",
            "a.b/c:d/e:f g",
            "a.b/ü",
            "/a/b",
            "a.b/c:d@",
            "a\0b",
        ] {
            assert_eq!(full(text), None, "{text:?}");
        }
        assert_eq!(full(&format!("a.b/c:{}", "x".repeat(129))), None);
    }
}
