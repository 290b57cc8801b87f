//! The manager gets the document, Flux brings the platform, and acceptance checks prove it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::json;

use super::{
    in_cluster::{Basis, Found},
    seed::{Set, object},
    shared::{STALL, Shared},
};
use crate::{
    Error, GROUP, Kind, Result,
    catalog::Target,
    engine::{Observation, Proof, Step},
    ports::kubernetes::{
        Board, Pending, Progress, Wait, kind,
        kinds::{CLUSTER, CONFIG_MAP, KUSTOMIZATION, MANAGEMENT_CLUSTER, POD},
        met,
        names::{AUTHORITY, ENVIRONMENT, MANAGER, NAMESPACE, ORGANIZATION, PLATFORM_FLUX},
        objects::{Readiness, flux, name, same_revision, text},
        poll,
    },
    verify,
};

/// Labels of its pods.
const SELECTOR: &str = "app.kubernetes.io/name=mctl";
/// Marker of its applied objects.
const MARKER: &str = "mctl-applied-manager";

/// mctl's manager, with what it needs beside it. It stays idle until it sees the document.
pub struct Manager(pub Arc<Shared>);

impl Manager {
    fn set(basis: &Basis) -> Result<Set> {
        Set::render(basis, &[MANAGER.to_owned()], Target::Management)
    }
}

#[async_trait]
impl Step for Manager {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let management = self.0.management().await?;
        let environment = management
            .get(&CONFIG_MAP.gvk(), Some(NAMESPACE), ENVIRONMENT)
            .await?;
        if environment.is_none() {
            return Ok(Observation::Missing(
                "the manager's environment is not there".into(),
            ));
        }
        let basis = Basis::of(&self.0).await?;
        if !basis.handed_over && !Self::set(&basis)?.is_applied(management, MARKER).await? {
            return Ok(Observation::Missing(
                "the manager is not applied yet".into(),
            ));
        }
        let pods = management
            .list(&POD.gvk(), Some(NAMESPACE), Some(SELECTOR))
            .await?
            .unwrap_or_default();
        Ok(match running(pods.first()) {
            Ok(name) if basis.handed_over => Observation::done(format!(
                "{name} runs; what the cluster itself says is in force"
            )),
            Ok(name) => Observation::done(format!("{name} runs and waits for the document")),
            Err(why) => Observation::Missing(why),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let management = self.0.management().await?;
        // Refuses an environment that knows too little, or one of another authority, before anything is written.
        let basis = Basis::of(&self.0).await?;
        let authority = self.0.state.authority()?;
        let environment = serde_json::to_string_pretty(&basis.environment).map_err(|e| {
            Error::new(Kind::Internal, "the environment cannot be written").because(&e)
        })?;
        let beside = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ENVIRONMENT, "namespace": NAMESPACE}, "data": {"environment.json": environment}}),
            json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": AUTHORITY, "namespace": NAMESPACE}, "stringData": {"tls.crt": authority.certificate, "tls.key": authority.key()}}),
        ];
        let beside: Vec<_> = beside.into_iter().map(object).collect::<Result<_>>()?;
        management.apply_all(&beside, progress).await?;
        Self::set(&basis)?
            .apply(management, &authority, MARKER, progress)
            .await?;
        // It gets ready only with the document; until then it is enough that it runs.
        let wait = Wait {
            what: "the manager",
            stall: STALL,
            pause: Duration::from_millis(500),
            progress,
        };
        poll(wait, || async {
            Ok(self.observe(progress).await?.pending())
        })
        .await
        .map(drop)
        .map_err(|e| e.fix("look at its pod in namespace giantswarm, mend the cause, then run the same command again"))
    }
}

/// The name of a pod whose container runs.
fn running(pod: Option<&kube::core::DynamicObject>) -> Result<String, String> {
    let pod = pod.ok_or("the manager has no pod yet")?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = &pod.data["status"];
    if status["containerStatuses"][0]["state"]["running"].is_object() {
        return Ok(name);
    }
    let waiting = &status["containerStatuses"][0]["state"]["waiting"];
    Err(format!(
        "pod {name} is {}: {} {}",
        status["phase"].as_str().unwrap_or("unknown"),
        waiting["reason"].as_str().unwrap_or_default(),
        waiting["message"].as_str().unwrap_or_default()
    ))
}

/// Gives the document to the manager.
pub struct Handover(pub Arc<Shared>);

#[async_trait]
impl Step for Handover {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let found = self
            .0
            .management()
            .await?
            .get(&MANAGEMENT_CLUSTER.gvk(), Some(NAMESPACE), self.0.name())
            .await?;
        Ok(match found {
            None => Observation::Missing("the manager has no document yet".into()),
            Some(d) => match served(&d) {
                Ok(digest) => {
                    Observation::done(format!("the manager serves the platform {digest}"))
                }
                Err(why) => Observation::Missing(why),
            },
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let management = self.0.management().await?;
        let found = Found::read(management, self.0.name()).await?;
        // The document may be edited by people from now on: created once, never put over their changes.
        if found.document.is_none() {
            let object = match &found.kept {
                // It was deleted: it comes back as it last was, not as this run was once asked for.
                Some(kept) => kept.document(NAMESPACE, self.0.name())?,
                None => {
                    let mut spec = self.0.request.document.spec.clone();
                    // The version is written down, so that another profile or catalog never changes it silently.
                    spec.kubernetes_version = Some(self.0.kubernetes_version.clone());
                    object(json!({
                        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "ManagementCluster",
                        "metadata": {"name": self.0.name(), "namespace": NAMESPACE},
                        "spec": spec,
                    }))?
                }
            };
            management.create(&object, progress).await?;
        }
        management
            .wait(
                &MANAGEMENT_CLUSTER.gvk(),
                Some(NAMESPACE),
                self.0.name(),
                STALL,
                progress,
                |d| d.map_or(Err("the document is not there".into()), served),
            )
            .await
            .map(drop)
    }
}

/// The digest of the platform that the manager made of this document and serves. Whether it also works on the Cluster API
/// objects, which may still be on their way, is no matter of the handover.
fn served(document: &kube::core::DynamicObject) -> Result<String, Pending> {
    met(document, "DocumentAccepted")?;
    match text(document, "/status/platformDigest") {
        "" => Err("the manager does not serve the platform yet".into()),
        digest => Ok(digest.to_owned()),
    }
}

/// Everything that `flux-giantswarm` brings is ready.
pub struct Platform(pub Arc<Shared>);

impl Platform {
    /// What must be ready: one Kustomization per component of the document in force, besides the root.
    async fn kustomizations(&self) -> Result<Vec<String>> {
        let basis = Basis::of(&self.0).await?;
        Ok(crate::plan::enabled(&basis.document, &basis.catalog)
            .into_iter()
            .filter(|c| c.clusters.contains(&Target::Management))
            .map(|c| c.name.clone())
            .chain(std::iter::once("platform".to_owned()))
            .collect())
    }
}

#[async_trait]
impl Step for Platform {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let management = self.0.management().await?;
        let names = self.kustomizations().await?;
        for name in &names {
            match management
                .get(&KUSTOMIZATION.gvk(), Some(PLATFORM_FLUX), name)
                .await?
            {
                None => {
                    return Ok(Observation::Missing(format!(
                        "Kustomization {name} is not there"
                    )));
                }
                Some(o) => {
                    if let Err(why) = applied(&o) {
                        return Ok(Observation::Missing(why));
                    }
                }
            }
        }
        let cluster = management
            .get(&CLUSTER.gvk(), Some(ORGANIZATION), self.0.name())
            .await?;
        if let Err(why) = cluster
            .as_ref()
            .map_or(Err("the Cluster is not there".into()), |c| {
                met(c, "Available")
            })
        {
            return Ok(Observation::Missing(why));
        }
        Ok(Observation::done(format!(
            "{} Kustomizations ready, Cluster available",
            names.len()
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let management = self.0.management().await?;
        let names = self.kustomizations().await?;
        let board = Board::new(progress);
        let waits: Vec<_> = names.iter().map(|name| (name, board.slot())).collect();
        try_join_all(waits.into_iter().map(|(name, slot)| async move {
            let gvk = KUSTOMIZATION.gvk();
            management
                .wait(&gvk, Some(PLATFORM_FLUX), name, STALL, &slot, |o| match o {
                    None => Err(format!("Kustomization {name}: not there yet")),
                    Some(o) => applied(o),
                })
                .await
        }))
        .await?;
        management
            .wait(
                &CLUSTER.gvk(),
                Some(ORGANIZATION),
                self.0.name(),
                STALL,
                progress,
                |c| {
                    c.map_or(Err("the Cluster is not there".into()), |c| {
                        met(c, "Available")
                    })
                },
            )
            .await
    }
}

/// A fresh platform takes some scrapes and heartbeats to prove itself.
const PATIENCE: Duration = Duration::from_secs(180);

/// Ready, or being looked at again with nothing new to apply, as Flux does every minute.
fn applied(object: &kube::core::DynamicObject) -> Result<(), String> {
    match flux(object) {
        Readiness::Ready(_) => Ok(()),
        Readiness::Progressing(_) if same_revision(object) => Ok(()),
        other => Err(format!(
            "{} {}: {}",
            kind(object),
            name(object),
            other.text()
        )),
    }
}

/// Acceptance checks.
pub struct Verify(pub Arc<Shared>);

#[async_trait]
impl Step for Verify {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        Ok(Observation::Missing("acceptance checks to run".into()))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let report = self.checks(PATIENCE, progress).await?;
        if report.passed() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Stalled,
            "the cluster is up, but acceptance checks do not pass",
        )
        .because(report.failed().join(", "))
        .fix(format!("see the evidence: mctl verify {}", self.0.name()))
        .state("the cluster manages itself; nothing is lost"))
    }

    async fn verify(&self, progress: &dyn Progress) -> Result<Proof> {
        let report = self.checks(Duration::ZERO, progress).await?;
        Ok(format!("{} checks pass", report.checks.len()).into())
    }
}

impl Verify {
    async fn checks(&self, patience: Duration, progress: &dyn Progress) -> Result<verify::Report> {
        let options = verify::Options {
            active: false,
            patience,
        };
        // What people have changed meanwhile is what must be so.
        let basis = Basis::of(&self.0).await?;
        verify::run(
            self.0.management().await?,
            &basis.document,
            options,
            progress,
        )
        .await
    }
}
