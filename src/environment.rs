//! Facts about one management cluster that its document does not hold: found out by the bootstrap, handed to the manager. Must not hold secrets.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Kind, Result, catalog::Profile};

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
    /// Range of the addresses that machines keep over restarts (Docker provider); none where the engine's network cannot
    /// give any.
    pub fixed_addresses: Option<String>,
    /// Path of the container engine's socket on the host (Docker provider).
    pub engine_socket: String,
}

impl Environment {
    /// What steps gave to know, one after the other; later ones win.
    pub fn of<'a>(outputs: impl IntoIterator<Item = &'a Value>) -> Result<Self> {
        let mut environment = Self::default();
        for output in outputs {
            environment.learn(output)?;
        }
        Ok(environment)
    }

    /// Takes in what a step gives to know: some of the fields.
    pub fn learn(&mut self, output: &Value) -> Result<()> {
        let wrong = |why: String| {
            Error::new(Kind::Internal, "a step gave to know what has no place")
                .because(why)
                .state("nothing was changed")
        };
        let mut all = serde_json::to_value(&*self).map_err(|e| wrong(e.to_string()))?;
        let (Some(fields), Some(new)) = (all.as_object_mut(), output.as_object()) else {
            return Err(wrong("it is no set of fields".into()));
        };
        for (field, value) in new {
            match fields.get_mut(field) {
                Some(place) => *place = value.clone(),
                None => return Err(wrong(format!("there is no field `{field}`"))),
            }
        }
        *self = serde_json::from_value(all).map_err(|e| wrong(e.to_string()))?;
        Ok(())
    }

    /// Refuses an environment that a cluster must not be given: incomplete, or of another CA.
    pub fn check(&self, ca_certificate: &str) -> Result<()> {
        let fields = [
            ("caCertificate", &self.ca_certificate),
            ("mirror", &self.mirror),
            ("mctlImage", &self.mctl_image),
        ];
        let why = match fields.iter().find(|(_, value)| value.is_empty()) {
            Some((field, _)) => format!("`{field}` is not known"),
            None if self.ca_certificate.trim() != ca_certificate.trim() => {
                "it is of another CA than this host's".into()
            }
            None => return Ok(()),
        };
        Err(
            Error::failed("what is known of the cluster's environment cannot be its own")
                .because(why)
                .fix("run the bootstrap from the host, and with the state folder, that began it")
                .state("nothing was changed"),
        )
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_outputs_win_and_unknown_ones_are_refused() {
        let outputs = [
            json!({"nodeRepository": "a", "mirror": "m:5000"}),
            json!({"nodeRepository": "b", "controlPlaneEndpoint": {"host": "h", "port": 6443}}),
        ];
        let environment = Environment::of(&outputs).unwrap();
        assert_eq!(
            (
                environment.node_repository.as_str(),
                environment.mirror.as_str()
            ),
            ("b", "m:5000")
        );
        assert_eq!(
            environment.control_plane_endpoint.map(|e| e.port),
            Some(6443)
        );
        assert!(Environment::of(&[json!({"nodeimage": "a"})]).is_err());
        assert!(Environment::of(&[json!(1)]).is_err());
    }

    #[test]
    fn an_environment_without_its_parts_or_of_another_ca_is_refused() {
        let mut e = Environment::default();
        assert!(e.check("").is_err());
        for field in ["caCertificate", "mirror", "mctlImage"] {
            e.learn(&json!({field: "x"})).unwrap();
        }
        e.check("x\n").unwrap();
        assert!(e.check("y").unwrap_err().to_string().contains("another CA"));
    }
}
