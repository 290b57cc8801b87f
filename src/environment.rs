//! Facts about one management cluster that its document does not hold: found out by the bootstrap, handed to the manager. Must not hold secrets.

use serde::{Deserialize, Serialize};

use crate::catalog::Profile;

/// What rendering needs besides document and catalog. Stored in the new cluster as ConfigMap `giantswarm/mctl-environment`, key `environment.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Environment {
    /// CA certificate of the management cluster (PEM); signs webhook and registry certificates.
    pub ca_certificate: String,
    /// `host:port` of the registry that nodes use as containerd mirror; serves over TLS with the CA above.
    /// With a bundle it serves every image, without one only mctl's own (`mctl.giantswarm.io/...`).
    pub mirror: String,
    /// True when the mirror holds every image (a bundle was given).
    pub mirror_has_all: bool,
    /// The bundle's profile.
    pub profile: Option<Profile>,
    /// Where machines get their image from, without tag, when the bundle's images are in the engine (Docker provider); the tag
    /// is the document's Kubernetes version. Empty: from where document, profile or provider say.
    pub node_repository: String,
    /// Load-balancer image repository and tag as the engine knows them (Docker provider); empty: the provider's default.
    pub load_balancer_image: Option<ImageTag>,
    /// Reference of mctl's own image: `mctl.giantswarm.io/mctl:<tag>`.
    pub mctl_image: String,
    /// Address of the new cluster's API server, once it is known.
    pub control_plane_endpoint: Option<Endpoint>,
    /// Path of the container engine's socket on the host (Docker provider).
    pub engine_socket: String,
}

/// Image repository (without name) and tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageTag {
    /// Repository in front of the image's name.
    pub repository: String,
    /// Tag.
    pub tag: String,
}

/// Host and port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}
