//! Every environment variable mctl reads. Must be the only place that reads them.

/// Variables with what they do; the command line's help and the documentation list them.
pub const ALL: &[(&str, &str)] = &[
    (
        "DOCKER_HOST",
        "container engine, as the docker command reads it",
    ),
    (
        "XDG_STATE_HOME",
        "where the state of clusters is kept; default ~/.local/state",
    ),
    (
        "XDG_CACHE_HOME",
        "where kind's executable is unpacked; default ~/.cache",
    ),
    ("HOME", "base of the two above"),
    ("NO_COLOR", "no colours when set and not empty"),
    ("CI", "line output by default"),
    (
        "MCTL_LOG",
        "diagnostics on standard error: error, warn, info, debug, trace, or per module",
    ),
];

/// Value of a variable; unset and empty are the same. Must be one of [`ALL`].
pub fn get(name: &str) -> Option<String> {
    debug_assert!(
        ALL.iter().any(|(n, _)| *n == name),
        "{name} is not documented"
    );
    std::env::var(name).ok().filter(|v| !v.is_empty())
}
