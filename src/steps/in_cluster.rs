//! What a cluster that was handed over says about itself: from then on its own document and environment are the truth, and files
//! of this host only a memory. Must not write anything.

use kube::core::DynamicObject;
use serde_json::Value;

use super::shared::Shared;
use crate::{
    Error, Result,
    catalog::Catalog,
    config::ManagementCluster,
    environment::Environment,
    manager::{
        in_force::{IN_FORCE, InForce, refusal},
        kinds::{CONFIG_MAP, ENVIRONMENT, MANAGEMENT_CLUSTER, NAMESPACE, SECRET},
    },
    ports::kubernetes::Cluster,
    render::Context,
};

/// What was found in the cluster.
#[derive(Debug, Default)]
pub struct Found {
    /// Its document.
    pub document: Option<ManagementCluster>,
    /// Its environment; one that cannot be read is an empty one.
    pub environment: Option<Environment>,
    /// What its manager accepted last.
    pub kept: Option<InForce>,
}

/// Whose environment counts.
#[derive(Debug, PartialEq)]
pub enum Truth {
    /// This run's: the cluster is not handed over yet.
    Ours,
    /// The cluster's own.
    Theirs(Box<Environment>),
}

impl Found {
    /// Looks.
    pub async fn read(cluster: &Cluster, name: &str) -> Result<Self> {
        let namespace = Some(NAMESPACE);
        let environment = cluster
            .get(&CONFIG_MAP.gvk(), namespace, ENVIRONMENT)
            .await?;
        let document = cluster
            .get(&MANAGEMENT_CLUSTER.gvk(), namespace, name)
            .await?;
        let kept = cluster.get(&SECRET.gvk(), namespace, IN_FORCE).await?;
        let document = document
            .map(|d| serde_json::to_value(d).and_then(serde_json::from_value))
            .transpose()
            .map_err(|e| {
                Error::failed(format!("the cluster's document {name} cannot be read")).because(&e)
            })?;
        Ok(Self {
            document,
            environment: environment.as_ref().map(environment_of),
            kept: kept.map(|s| InForce::from_secret(&s, name)).transpose()?,
        })
    }

    /// Whether the manager has, or had, a document.
    pub fn is_handed_over(&self) -> bool {
        self.document.is_some() || self.kept.is_some()
    }

    /// Decides whose environment counts. `ours` is what this run knows, `authority` the certificate of this host's CA. An
    /// environment that is empty or of another CA is never put over one that works.
    pub fn truth(&self, ours: &Environment, authority: &str) -> Result<Truth> {
        let kept = self.kept.as_ref().map(|k| &k.environment);
        let theirs = [self.environment.as_ref(), kept]
            .into_iter()
            .flatten()
            .find(|e| refusal(e, None).is_none());
        if let Some(theirs) = theirs
            && refusal(theirs, Some(authority)).is_some()
        {
            return Err(
                Error::failed("the cluster has another certificate authority than this host")
                    .at(format!("ConfigMap {NAMESPACE}/{ENVIRONMENT}"))
                    .because("ca.crt in the state folder is not the cluster's")
                    .fix("use the state folder of the run that made the cluster, or run the command on the host it was made from")
                    .state("nothing was changed; the cluster works on with its own"),
            );
        }
        if self.is_handed_over()
            && let Some(theirs) = theirs
        {
            return Ok(Truth::Theirs(Box::new(theirs.clone())));
        }
        ours.check(authority)?;
        Ok(Truth::Ours)
    }
}

fn environment_of(map: &DynamicObject) -> Environment {
    map.data
        .pointer("/data/environment.json")
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// What objects for the new cluster are rendered from.
#[derive(Debug)]
pub struct Basis {
    /// The document that counts.
    pub document: ManagementCluster,
    /// The environment that counts.
    pub environment: Environment,
    /// The catalog with the profile that counts.
    pub catalog: Catalog,
    /// Whether these are the cluster's own.
    pub handed_over: bool,
}

impl Basis {
    /// What this run was asked for and found out.
    pub fn ours(shared: &Shared) -> Result<Self> {
        Ok(Self {
            document: shared.request.document.clone(),
            environment: shared.environment(),
            catalog: shared.catalog.clone(),
            handed_over: false,
        })
    }

    /// The cluster's own once it is handed over, else this run's.
    pub async fn of(shared: &Shared) -> Result<Self> {
        let found = Found::read(shared.management().await?, shared.name()).await?;
        let ours = Self::ours(shared)?;
        let authority = shared.state.authority()?;
        match found.truth(&ours.environment, &authority.certificate)? {
            Truth::Ours => Ok(ours),
            Truth::Theirs(environment) => {
                let mut document = ours.document;
                match (found.document, found.kept) {
                    (Some(live), _) => document.spec = live.spec,
                    (None, Some(kept)) => document.spec = kept.spec,
                    (None, None) => {}
                }
                let catalog = Catalog::embedded()?;
                let catalog = match &environment.profile {
                    Some(profile) => catalog.with_profile(profile)?,
                    None => catalog,
                };
                Ok(Self {
                    document,
                    environment: *environment,
                    catalog,
                    handed_over: true,
                })
            }
        }
    }

    /// For rendering.
    pub fn context(&self) -> Context<'_> {
        Context {
            document: &self.document,
            catalog: &self.catalog,
            environment: &self.environment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(ca: &str) -> Environment {
        Environment {
            ca_certificate: ca.into(),
            mirror: "m:5000".into(),
            mctl_image: "mctl:1".into(),
            ..Environment::default()
        }
    }

    fn document() -> ManagementCluster {
        ManagementCluster::new("golem", crate::config::ManagementClusterSpec::default())
    }

    fn found(handed_over: bool, live: Option<&str>, kept: Option<&str>) -> Found {
        Found {
            document: handed_over.then(document),
            environment: live.map(environment),
            kept: kept.map(|ca| InForce::of(&document(), &environment(ca))),
        }
    }

    #[test]
    fn after_the_handover_the_cluster_is_the_truth() {
        let theirs = |ca: &str| Truth::Theirs(Box::new(environment(ca)));
        let lost = Environment::default();
        let cases = [
            // A first run, and one that goes on before the handover.
            (found(false, None, None), environment("A"), Ok(Truth::Ours)),
            (
                found(false, Some("A"), None),
                environment("A"),
                Ok(Truth::Ours),
            ),
            // A lost environment is never written.
            (
                found(false, None, None),
                lost.clone(),
                Err("`caCertificate`"),
            ),
            (
                found(false, Some("A"), None),
                lost.clone(),
                Err("`caCertificate`"),
            ),
            (found(true, Some("A"), None), lost.clone(), Ok(theirs("A"))),
            (found(true, None, Some("A")), lost.clone(), Ok(theirs("A"))),
            (
                found(true, Some(""), Some("A")),
                lost.clone(),
                Ok(theirs("A")),
            ),
            (
                found(false, None, Some("A")),
                environment("A"),
                Ok(theirs("A")),
            ),
            (found(true, Some(""), None), lost, Err("`caCertificate`")),
            // Nor one of another authority, on whichever side.
            (
                found(true, Some("B"), None),
                environment("A"),
                Err("ca.crt"),
            ),
            (
                found(false, Some("B"), None),
                environment("A"),
                Err("ca.crt"),
            ),
            (
                found(false, None, None),
                environment("B"),
                Err("another CA"),
            ),
        ];
        for (found, ours, expected) in cases {
            match (found.truth(&ours, "A"), expected) {
                (Ok(truth), Ok(expected)) => assert_eq!(truth, expected, "{found:?}"),
                (Err(e), Err(part)) => {
                    assert!(e.to_string().contains(part), "{part}: {e}");
                }
                (got, expected) => panic!("{found:?}: {got:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn an_environment_without_images_is_refused() {
        let mut bare = environment("A");
        bare.mctl_image = String::new();
        let told = found(false, None, None).truth(&bare, "A").unwrap_err();
        assert!(told.to_string().contains("mctlImage"), "{told}");
    }
}
