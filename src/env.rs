//! Every environment variable mctl reads. Must be the only place that reads them, and must not decide what they mean for a cluster.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{Error, Kind, Result};

/// Variables with what they do; the command line's help and the documentation list them.
pub const ALL: &[(&str, &str)] = &[
    (
        "DOCKER_HOST",
        "container engine, as the docker command reads it",
    ),
    (
        "XDG_STATE_HOME",
        "where the state of clusters is kept, an absolute path; default ~/.local/state",
    ),
    (
        "XDG_CACHE_HOME",
        "where kind's executable is unpacked, an absolute path; default ~/.cache",
    ),
    ("HOME", "base of the two above"),
    ("PATH", "where the docker command is looked for"),
    ("NO_COLOR", "no colours when set and not empty"),
    ("CI", "line output by default"),
    ("TERM", "line output by default when it is `dumb`"),
    (
        "MCTL_LOG",
        "diagnostics on standard error: error, warn, info, debug, trace, or per module",
    ),
    (
        "HTTP_PROXY",
        "proxy of kind's machine and of the docker command",
    ),
    ("HTTPS_PROXY", "the same for TLS"),
    ("ALL_PROXY", "the same for everything"),
    (
        "NO_PROXY",
        "what the proxies are not asked for; it must hold the cluster's ranges",
    ),
];

/// Value of a variable; unset and empty are the same. Must be one of [`ALL`].
pub fn get(name: &str) -> Option<String> {
    raw(name).map(|v| v.to_string_lossy().into_owned())
}

fn raw(name: &str) -> Option<OsString> {
    debug_assert!(
        ALL.iter().any(|(n, _)| *n == name),
        "{name} is not documented"
    );
    std::env::var_os(name).filter(|v| !v.is_empty())
}

/// A proxy variable; programs know the lower-case spelling too, and most prefer it.
pub fn proxy(name: &str) -> Option<String> {
    std::env::var_os(name.to_lowercase())
        .filter(|v| !v.is_empty())
        .map(|v| v.to_string_lossy().into_owned())
        .or_else(|| get(name))
}

/// `$XDG_STATE_HOME/mctl`, by default `~/.local/state/mctl`.
pub fn state_folder() -> Result<PathBuf> {
    folder("XDG_STATE_HOME", ".local/state")
}

/// `$XDG_CACHE_HOME/mctl`, by default `~/.cache/mctl`.
pub fn cache_folder() -> Result<PathBuf> {
    folder("XDG_CACHE_HOME", ".cache")
}

fn folder(variable: &str, below_home: &str) -> Result<PathBuf> {
    base(raw(variable), raw("HOME"), below_home)
        .map(|base| base.join("mctl"))
        .ok_or_else(|| {
            Error::new(
                Kind::Usage,
                format!("neither {variable} nor HOME is set to an absolute path"),
            )
            .at("the environment")
            .because("mctl keeps files there, and a relative path means another folder in each working directory")
            .fix("set HOME")
            .state("nothing was changed")
        })
}

/// Base folder by the XDG specification: paths must be absolute, relative ones are ignored.
fn base(variable: Option<OsString>, home: Option<OsString>, below_home: &str) -> Option<PathBuf> {
    let absolute = |text: OsString| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
    variable
        .and_then(absolute)
        .or_else(|| Some(Path::new(&absolute(home?)?).join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_folders_are_ignored() {
        let base = |variable: Option<&str>, home: Option<&str>| {
            super::base(
                variable.map(OsString::from),
                home.map(OsString::from),
                ".cache",
            )
        };
        let is = |found: Option<PathBuf>, path: &str| assert_eq!(found.unwrap(), Path::new(path));
        is(base(Some("/x"), Some("/h")), "/x");
        is(base(Some("x"), Some("/h")), "/h/.cache");
        is(base(Some("./x"), Some("/h")), "/h/.cache");
        is(base(None, Some("/h")), "/h/.cache");
        is(base(Some("/x"), None), "/x");
        assert_eq!(base(Some("x"), None), None);
        assert_eq!(base(None, Some("h")), None);
        assert_eq!(base(None, None), None);
    }

    #[test]
    fn each_variable_is_documented_once() {
        let mut names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn nothing_else_reads_variables() {
        let mut open = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(next) = open.pop() {
            if next.is_dir() {
                open.extend(std::fs::read_dir(&next).unwrap().map(|e| e.unwrap().path()));
            } else if !next.ends_with("src/env.rs") {
                let text = std::fs::read_to_string(&next).unwrap_or_default();
                assert!(
                    !text.contains("env::var"),
                    "{} reads the environment",
                    next.display()
                );
            }
        }
    }
}
