//! Files compiled into the executable: our own data and the vendored upstream manifests and charts. Must not interpret them.

use std::borrow::Cow;

use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "embedded/components/"]
struct Components;

#[derive(RustEmbed)]
#[folder = "providers/"]
struct Providers;

#[derive(RustEmbed)]
#[folder = "assets/vendor/manifests/"]
struct Manifests;

#[derive(RustEmbed)]
#[folder = "assets/vendor/charts/"]
struct Charts;

#[derive(RustEmbed)]
#[folder = "assets/vendor/bin/"]
struct Programs;

/// Content of a file; borrowed from the executable.
pub type Bytes = Cow<'static, [u8]>;

/// A vendored manifest by its path below `assets/vendor/manifests`.
pub fn vendor(path: &str) -> Option<Bytes> {
    Manifests::get(path).map(|f| f.data)
}

/// The kind executable.
pub fn kind() -> Option<Bytes> {
    Programs::get("kind").map(|f| f.data)
}

/// A packaged chart, `<name>-<version>.tgz`.
pub fn chart(name: &str, version: &str) -> Option<Bytes> {
    Charts::get(&format!("{name}-{version}.tgz")).map(|f| f.data)
}

/// File names of all packaged charts with their bytes.
pub fn charts() -> impl Iterator<Item = (Cow<'static, str>, Bytes)> {
    Charts::iter().filter_map(|name| {
        let file = Charts::get(&name)?;
        Some((name, file.data))
    })
}

/// A file of a component by its path below `embedded/components`.
pub fn component(path: &str) -> Option<Bytes> {
    Components::get(path).map(|f| f.data)
}

/// A file of a provider by its path below `providers`.
pub fn provider(path: &str) -> Option<Bytes> {
    Providers::get(path).map(|f| f.data)
}

/// A file of ours by its path in the project: `embedded/components/…` or `providers/…`.
pub fn own(path: &str) -> Option<Bytes> {
    match path.strip_prefix("embedded/components/") {
        Some(rest) => component(rest),
        None => provider(path.strip_prefix("providers/")?),
    }
}

/// Paths of all components' files.
pub fn component_files() -> impl Iterator<Item = Cow<'static, str>> {
    Components::iter()
}

/// Paths of all providers' files.
pub fn provider_files() -> impl Iterator<Item = Cow<'static, str>> {
    Providers::iter()
}
