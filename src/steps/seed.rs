//! Components that mctl applies itself, into the temporary and into the new cluster. Must not know any component by name.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    in_cluster::Basis,
    shared::{STALL, Shared},
};
use crate::{
    Error, Kind, Result,
    catalog::{Component, Ready, Target},
    engine::{Observation, Step},
    pki::{self, Authority, CertificateRequest},
    plan::StepId,
    ports::kubernetes::{
        Board, Cluster, Pending, Progress, kind,
        kinds::{CONFIG_MAP, SECRET},
        replicas_ready,
    },
    render,
};

/// Field manager of Flux's kustomize-controller.
const FLUX_MANAGER: &str = "kustomize-controller";
/// Namespace of the markers that say which objects were applied completely.
const MARKER_NAMESPACE: &str = "kube-system";

/// A set of components in one cluster.
pub struct Seed {
    /// Shared parts.
    pub shared: Arc<Shared>,
    /// Names, in any order.
    pub components: Vec<String>,
    /// True: the temporary cluster; else the new one.
    pub temporary: bool,
    /// The step it is, which names its marker.
    pub step: StepId,
}

impl Seed {
    async fn cluster(&self) -> Result<&Cluster> {
        if self.temporary {
            self.shared.temporary().await
        } else {
            self.shared.management().await
        }
    }

    fn target(&self) -> Target {
        if self.temporary {
            Target::Temporary
        } else {
            Target::Management
        }
    }

    async fn set(&self) -> Result<Set> {
        let basis = if self.temporary {
            Basis::ours(&self.shared)?
        } else {
            Basis::of(&self.shared).await?
        };
        Set::render(&basis, &self.components, self.target())
    }

    fn marker(&self) -> String {
        format!("mctl-applied-{}", self.step)
    }
}

#[async_trait]
impl Step for Seed {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let cluster = self.cluster().await?;
        let rendered = self.set().await?;
        if !rendered.is_applied(cluster, &self.marker()).await? {
            return Ok(Observation::Missing(format!(
                "{} to apply",
                self.components.join(", ")
            )));
        }
        if let Err(why) = workloads_ready(cluster, &rendered.ready).await? {
            return Ok(Observation::Missing(why));
        }
        Ok(Observation::done(format!(
            "{} objects of {}; {} workloads ready",
            rendered.objects.len(),
            self.components.join(", "),
            rendered.ready.len()
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let cluster = self.cluster().await?;
        let set = self.set().await?;
        // Flux keeps these objects later: applied as Flux would, its first look finds nothing to change.
        let writer = if self.temporary {
            cluster.clone()
        } else {
            cluster.acting_as(FLUX_MANAGER)
        };
        set.apply(
            &writer,
            &self.shared.state.authority()?,
            &self.marker(),
            progress,
        )
        .await?;
        wait_for_workloads(cluster, &set.ready, progress).await
    }
}

/// Rendered objects of several components with what shows that they are ready.
pub struct Set {
    objects: Vec<DynamicObject>,
    certificates: Vec<CertificateRequest>,
    ready: Vec<Ready>,
}

impl Set {
    /// Renders the components for one cluster.
    pub fn render(basis: &Basis, names: &[String], target: Target) -> Result<Self> {
        let mut set = Self {
            objects: vec![],
            certificates: vec![],
            ready: vec![],
        };
        for name in names {
            let component: &Component = basis.catalog.components.get(name).ok_or_else(|| {
                Error::new(
                    Kind::Internal,
                    format!("component `{name}` is planned but not in the catalog"),
                )
            })?;
            let rendered = render::component(basis.context(), component, target)?;
            // A workload counts only where it is rendered: the temporary cluster gets less.
            set.ready.extend(component.workloads().filter(|r| {
                rendered
                    .objects
                    .iter()
                    .any(|o| kind(o) == r.kind && o.metadata.name.as_deref() == Some(&r.name))
            }));
            set.objects.extend(rendered.objects);
            set.certificates.extend(rendered.certificates);
        }
        Ok(set)
    }

    /// Equal objects, equal digest.
    fn digest(&self) -> String {
        let bytes = serde_json::to_vec(&self.objects).unwrap_or_default();
        hex::encode(&Sha256::digest(bytes)[..16])
    }

    /// True when exactly these objects were applied completely before.
    pub async fn is_applied(&self, cluster: &Cluster, marker: &str) -> Result<bool> {
        let found = cluster
            .get(&CONFIG_MAP.gvk(), Some(MARKER_NAMESPACE), marker)
            .await?;
        Ok(found.is_some_and(|m| {
            m.data.pointer("/data/digest").and_then(Value::as_str) == Some(&self.digest())
        }))
    }

    /// Applies everything, certificates included, then marks it complete.
    pub async fn apply(
        &self,
        cluster: &Cluster,
        authority: &Authority,
        marker: &str,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (namespaces, rest): (Vec<_>, Vec<_>) = self
            .objects
            .iter()
            .cloned()
            .partition(|o| kind(o) == "Namespace");
        cluster.apply_all(&namespaces, progress).await?;
        let mut objects = Vec::new();
        for request in &self.certificates {
            objects.extend(certificate(cluster, authority, request).await?);
        }
        objects.extend(rest);
        progress.seen(&format!("applying {} objects", objects.len()));
        cluster.apply_all(&objects, progress).await?;
        let marker = object(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": marker, "namespace": MARKER_NAMESPACE},
            "data": {"digest": self.digest()},
        }))?;
        cluster.apply(&marker, progress).await.map(drop)
    }
}

/// Whether all workloads are ready, or what the first one lacks.
pub async fn workloads_ready(
    cluster: &Cluster,
    workloads: &[Ready],
) -> Result<Result<(), Pending>> {
    for r in workloads {
        let gvk = GroupVersionKind::gvk("apps", "v1", &r.kind);
        let found = cluster.get(&gvk, r.namespace.as_deref(), &r.name).await?;
        if let Err(why) = ready(r, found.as_ref()) {
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}

/// Waits until all workloads are ready.
pub async fn wait_for_workloads(
    cluster: &Cluster,
    workloads: &[Ready],
    progress: &dyn Progress,
) -> Result<()> {
    let board = Board::new(progress);
    let waits: Vec<_> = workloads.iter().map(|r| (r, board.slot())).collect();
    try_join_all(waits.into_iter().map(|(r, slot)| async move {
        let gvk = GroupVersionKind::gvk("apps", "v1", &r.kind);
        let namespace = r.namespace.as_deref();
        cluster
            .wait(&gvk, namespace, &r.name, STALL, &slot, |o| ready(r, o))
            .await
    }))
    .await
    .map(drop)
}

fn ready(workload: &Ready, found: Option<&DynamicObject>) -> Result<(), Pending> {
    found.map_or_else(
        || {
            Err(format!(
                "{} {} is not there yet",
                workload.kind, workload.name
            ))
        },
        replicas_ready,
    )
}

/// The Secret for a certificate request, unless a good one is there.
async fn certificate(
    cluster: &Cluster,
    authority: &Authority,
    request: &CertificateRequest,
) -> Result<Option<DynamicObject>> {
    let found = cluster
        .get(&SECRET.gvk(), Some(&request.namespace), &request.secret)
        .await?;
    match pki::due(request, found.as_ref(), &authority.certificate) {
        None => Ok(None),
        Some(_) => pki::issue(request, authority).map(Some),
    }
}

/// An object from JSON.
pub fn object(value: Value) -> Result<DynamicObject> {
    serde_json::from_value(value)
        .map_err(|e| Error::new(Kind::Internal, "an object of mctl's own is malformed").because(&e))
}
