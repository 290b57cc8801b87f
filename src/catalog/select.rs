//! What a document selects from the catalog: components, versions, files. Must not render.

use std::collections::BTreeSet;

use super::{Catalog, Component, Profile, Provider, Ready, assets, short_name};
use crate::{Error, Kind, Result, config::ManagementCluster};

impl Catalog {
    /// The catalog with a bundle's profile in force: what the bundle lacks is gone, from components and from their images.
    /// Names that this catalog does not know are ignored, because a bundle may be newer.
    pub fn with_profile(mut self, profile: &Profile) -> Result<Self> {
        for name in &profile.without {
            if self.components.get(name).is_some_and(|c| c.required) {
                return Err(Error::new(
                    Kind::Usage,
                    format!(
                        "the bundle's profile `{}` leaves out `{name}`, which mctl cannot do without",
                        profile.name
                    ),
                )
                .fix("use a bundle that holds it"));
            }
            self.components.remove(name);
            for component in self.components.values_mut() {
                component.depends_on.retain(|n| n != name);
                component.images.retain(|i| short_name(i) != name);
            }
        }
        self.profile = Some(profile.clone());
        Ok(self)
    }

    /// Components that a document switches on, each after those it depends on.
    pub fn enabled(&self, document: &ManagementCluster) -> Vec<&Component> {
        let mut open: Vec<&Component> = self
            .components
            .values()
            .filter(|c| self.is_enabled(document, c))
            .collect();
        let mut done: Vec<&Component> = Vec::with_capacity(open.len());
        while let Some(next) = open.iter().position(|c| {
            !c.depends_on
                .iter()
                .any(|n| open.iter().any(|o| o.name == *n))
        }) {
            done.push(open.remove(next));
        }
        // A circle would be left over; the loader refuses those.
        done.extend(open);
        done
    }

    /// Whether a document switches a component on.
    pub fn is_enabled(&self, document: &ManagementCluster, component: &Component) -> bool {
        let wanted = document
            .spec
            .components
            .get(&component.name)
            .and_then(|s| s.enabled)
            .unwrap_or(component.enabled);
        let provider = document.spec.provider.name();
        let mut owners = self
            .providers
            .values()
            .filter(|p| p.components.contains(&component.name))
            .peekable();
        // A component that belongs to providers is on only with one of them.
        let fits = owners.peek().is_none() || owners.any(|p| p.name == provider);
        fits && (component.required || wanted)
    }

    /// Enabled components that this one waits for; those switched off are replaced by what they wait for themselves.
    pub fn needs(&self, document: &ManagementCluster, component: &Component) -> BTreeSet<&str> {
        let mut open: Vec<&String> = component.depends_on.iter().collect();
        let mut all = BTreeSet::new();
        while let Some(name) = open.pop() {
            match self.components.get(name) {
                Some(c) if self.is_enabled(document, c) => {
                    all.insert(c.name.as_str());
                }
                Some(c) => open.extend(&c.depends_on),
                None => {}
            }
        }
        all
    }

    /// The provider that a document names.
    pub fn provider(&self, document: &ManagementCluster) -> Result<&Provider> {
        let name = document.spec.provider.name();
        self.providers.get(name).ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("no provider `{name}` in the catalog"),
            )
        })
    }

    /// Kubernetes version of the new cluster: document, then profile, then the provider's default.
    pub fn kubernetes_version(&self, document: &ManagementCluster) -> Result<String> {
        let profile = self.profile.as_ref();
        let version = document
            .spec
            .kubernetes_version
            .clone()
            .or_else(|| profile.and_then(|p| p.kubernetes_version.clone()));
        match version {
            Some(version) => Ok(version),
            None => Ok(self.provider(document)?.kubernetes_version.clone()),
        }
    }

    /// Image of the machines under its upstream name: the document's, the profile's, or the provider's; the latter two for the
    /// document's version, whatever version the profile was made for.
    pub fn node_image(&self, document: &ManagementCluster) -> Result<String> {
        let docker = document.spec.provider.docker.as_ref();
        if let Some(image) = docker.and_then(|d| d.node_image.clone()) {
            return Ok(image);
        }
        let version = self.kubernetes_version(document)?;
        let profile = self.profile.as_ref();
        match profile.and_then(|p| p.node_image.as_deref()) {
            Some(image) => Ok(of_version(image, &version)),
            None => {
                let provider = self.provider(document)?;
                Ok(provider.node_image.replace("{version}", &version))
            }
        }
    }
}

/// The same image with this version as its tag.
fn of_version(image: &str, version: &str) -> String {
    let tagged = image.split('@').next().unwrap_or(image);
    match tagged.rsplit_once(':') {
        Some((_, tag)) if tag == version => image.to_owned(),
        Some((repository, tag)) if !tag.contains('/') => format!("{repository}:{version}"),
        _ => format!("{tagged}:{version}"),
    }
}

impl Component {
    /// Workloads that show that it is ready, each with its namespace.
    pub fn workloads(&self) -> impl Iterator<Item = Ready> + '_ {
        self.ready.iter().map(|r| Ready {
            namespace: Some(
                r.namespace
                    .clone()
                    .unwrap_or_else(|| self.namespace.clone()),
            ),
            ..r.clone()
        })
    }

    /// Bytes of a manifest named `vendor:…`, `own:…` or `raw:…`.
    pub fn manifest(&self, manifest: &str) -> Option<assets::Bytes> {
        match manifest.split_once(':')? {
            ("vendor", path) => assets::vendor(path),
            ("own" | "raw", path) => {
                let (component, path) = match path.strip_prefix('/') {
                    Some(other) => other.split_once('/')?,
                    None => (self.name.as_str(), path),
                };
                assets::component(&format!("{component}/manifests/{path}"))
            }
            _ => None,
        }
    }

    /// Text of its `values.yaml`, if it has one.
    pub fn values(&self) -> Option<assets::Bytes> {
        assets::component(&format!("{}/values.yaml", self.name))
    }

    /// The image whose last name is this: `image("cilium")` → `quay.io/cilium/cilium:v1.20.2`.
    pub fn image(&self, name: &str) -> Option<&str> {
        self.images
            .iter()
            .map(String::as_str)
            .find(|i| short_name(i) == name)
    }
}

impl Provider {
    /// Bytes of a template below its `templates/`.
    pub fn template(&self, path: &str) -> Option<assets::Bytes> {
        assets::provider(&format!("{}/templates/{path}", self.name))
    }

    /// Text of its `values.yaml`, if it has one: what its templates share.
    pub fn shared_values(&self) -> Option<assets::Bytes> {
        assets::provider(&format!("{}/values.yaml", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_follows_the_version() {
        for (image, expected) in [
            ("kindest/node:v1.36.3", "kindest/node:v1.36.3"),
            (
                "kindest/node:v1.36.3@sha256:abc",
                "kindest/node:v1.36.3@sha256:abc",
            ),
            ("kindest/node:v1.36.1@sha256:abc", "kindest/node:v1.36.3"),
            (
                "host:5000/kindest/node:v1.35.0",
                "host:5000/kindest/node:v1.36.3",
            ),
            ("host:5000/kindest/node", "host:5000/kindest/node:v1.36.3"),
        ] {
            assert_eq!(of_version(image, "v1.36.3"), expected);
        }
    }
}
