//! The new cluster as seen from the temporary one: control plane, add-ons, machines. Must not act after the pivot.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    seed::{object, wait_for_workloads, workloads_ready},
    shared::{FLUX, ORGANIZATION, STALL, Shared, cluster_kind, helm_release_kind, kind},
    state::MANAGEMENT,
};
use crate::{
    Error, Kind, Result,
    catalog::{Component, Target},
    engine::{Observation, Step},
    environment::Endpoint,
    ports::{
        files,
        kubernetes::{
            Cluster, Pending, Progress, condition,
            objects::{name, secret_text},
            poll,
        },
    },
    render,
};

/// First control-plane machine: Cluster API objects applied, API server answers, its Node is registered.
pub struct ControlPlane(pub Arc<Shared>);

#[async_trait]
impl Step for ControlPlane {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let shared = &self.0;
        let environment = shared.environment()?;
        let objects = render::cluster(shared.context(&environment))?;
        let temporary = shared.temporary().await?;
        for o in &objects {
            let found = temporary
                .get(
                    &crate::ports::kubernetes::gvk(o)?,
                    o.metadata.namespace.as_deref(),
                    o.metadata.name.as_deref().unwrap_or_default(),
                )
                .await;
            // An unknown kind means that nothing was applied yet.
            if !matches!(found, Ok(Some(_))) {
                return Ok(Observation::Missing(format!(
                    "{} {} to apply",
                    crate::ports::kubernetes::kind(o),
                    o.metadata.name.as_deref().unwrap_or_default()
                )));
            }
        }
        if environment.control_plane_endpoint.is_none()
            || shared.state.kubeconfig(MANAGEMENT)?.is_none()
        {
            return Ok(Observation::Missing(
                "the API server's address is not known yet".into(),
            ));
        }
        Ok(match first_node(shared).await {
            Ok(name) => Observation::Done(format!("API server answers; node {name} registered")),
            Err(why) => Observation::Missing(why),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let shared = &self.0;
        let temporary = shared.temporary().await?;
        let environment = shared.environment()?;
        let namespace = object(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ORGANIZATION}}),
        )?;
        temporary.apply(&namespace, progress).await?;
        temporary
            .apply_all(&render::cluster(shared.context(&environment))?, progress)
            .await?;

        let endpoint = temporary
            .wait(
                &cluster_kind(),
                Some(ORGANIZATION),
                shared.name(),
                STALL,
                progress,
                endpoint,
            )
            .await?;
        shared
            .state
            .update_environment(|e| e.control_plane_endpoint = Some(endpoint))?;
        let secret = format!("{}-kubeconfig", shared.name());
        let kubeconfig = temporary
            .wait(
                &kind("", "v1", "Secret"),
                Some(ORGANIZATION),
                &secret,
                STALL,
                progress,
                |s| {
                    s.and_then(|s| secret_text(s, "value"))
                        .ok_or_else(|| format!("Secret {secret} is not there yet"))
                },
            )
            .await?;
        files::write_private(&shared.state.file(MANAGEMENT), kubeconfig.as_bytes())?;

        // The API server cannot be watched before it answers.
        let pause = Duration::from_millis(250);
        poll("the first control-plane machine", STALL, pause, progress, || async {
            Ok(match first_node(shared).await {
                Ok(_) => Ok(()),
                Err(why) => Err(control_plane_message(temporary).await.unwrap_or(why)),
            })
        })
        .await
        .map_err(|e| {
            e.fix(format!("look into the machine: docker exec $(docker ps -qf name={}-) journalctl -u kubelet", shared.name()))
                .state("temporary cluster and machine are running; the same command goes on from here")
        })
    }
}

fn endpoint(cluster: Option<&DynamicObject>) -> Result<Endpoint, String> {
    let cluster = cluster.ok_or("the Cluster is not there yet")?;
    let at = &cluster.data["spec"]["controlPlaneEndpoint"];
    match (
        at["host"].as_str(),
        at["port"].as_u64().and_then(|p| u16::try_from(p).ok()),
    ) {
        (Some(host), Some(port)) if !host.is_empty() && port > 0 => Ok(Endpoint {
            host: host.to_owned(),
            port,
        }),
        _ => Err(condition(cluster, "InfrastructureReady")
            .err()
            .unwrap_or_else(|| "the Cluster has no endpoint yet".into())),
    }
}

async fn first_node(shared: &Shared) -> Result<String, String> {
    let management = shared.management().await.map_err(|e| e.line())?;
    let nodes = tokio::time::timeout(
        Duration::from_secs(3),
        management.list(&kind("", "v1", "Node"), None, None),
    )
    .await
    .map_err(|_| "the API server does not answer yet".to_owned())?
    .map_err(|e| e.line())?;
    let node = nodes
        .unwrap_or_default()
        .into_iter()
        .next()
        .ok_or("no Node is registered yet")?;
    Ok(node.metadata.name.unwrap_or_default())
}

/// What Cluster API says of the machines, for the user.
async fn control_plane_message(temporary: &Cluster) -> Option<String> {
    let machines = temporary
        .list(
            &kind("cluster.x-k8s.io", "v1beta2", "Machine"),
            Some(ORGANIZATION),
            None,
        )
        .await
        .ok()??;
    machines.iter().find_map(|m| condition(m, "Ready").err())
}

/// An add-on that Flux installs from the temporary cluster into the new one.
pub struct Addon {
    /// Shared parts.
    pub shared: Arc<Shared>,
    /// Component.
    pub component: String,
}

impl Addon {
    fn component(&self) -> Result<&Component> {
        self.shared
            .catalog
            .components
            .get(&self.component)
            .ok_or_else(|| {
                Error::new(
                    Kind::Internal,
                    format!("component `{}` is not in the catalog", self.component),
                )
            })
    }

    fn objects(&self) -> Result<Vec<DynamicObject>> {
        let environment = self.shared.environment()?;
        Ok(render::component(
            self.shared.context(&environment),
            self.component()?,
            Target::Temporary,
        )?
        .objects)
    }

    /// Suspends the release and sees it suspended: from now on the new cluster's Flux is its only writer.
    async fn let_go(&self, temporary: &Cluster, progress: &dyn Progress) -> Result<()> {
        let kind = helm_release_kind();
        let patch = json!({"spec": {"suspend": true}});
        temporary
            .merge(&kind, Some(FLUX), &self.component, &patch, progress)
            .await?;
        let seen = temporary.get(&kind, Some(FLUX), &self.component).await?;
        seen.as_ref()
            .map_or_else(|| Err("it is gone".to_owned()), suspended)
            .map_err(|why| {
                let what = format!(
                    "HelmRelease {} of the temporary cluster cannot be suspended",
                    self.component
                );
                Error::failed(what).because(why)
            })
    }
}

#[async_trait]
impl Step for Addon {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let component = self.component()?;
        let temporary = self.shared.temporary().await?;
        let release = match temporary
            .get(&helm_release_kind(), Some(FLUX), &self.component)
            .await
        {
            Ok(Some(release)) => release,
            Ok(None) | Err(_) => {
                return Ok(Observation::Missing(format!(
                    "HelmRelease {} is not there",
                    self.component
                )));
            }
        };
        if let Err(why) = condition(&release, "Ready").and_then(|()| suspended(&release)) {
            return Ok(Observation::Missing(why));
        }
        let management = self.shared.management().await?;
        let workloads: Vec<_> = component.workloads().collect();
        if let Err(why) = workloads_ready(management, &workloads).await? {
            return Ok(Observation::Missing(why));
        }
        Ok(Observation::Done(format!(
            "HelmRelease {} ready and suspended here, {} workloads ready",
            self.component,
            workloads.len()
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let component = self.component()?;
        let temporary = self.shared.temporary().await?;
        let name = format!("{}-kubeconfig", self.shared.name());
        let secret = temporary
            .get(&kind("", "v1", "Secret"), Some(ORGANIZATION), &name)
            .await?;
        let kubeconfig = secret
            .as_ref()
            .and_then(|s| secret_text(s, "value"))
            .ok_or_else(|| {
                Error::failed(format!("Secret {ORGANIZATION}/{name} has no kubeconfig"))
            })?;
        // Flux reads a kubeconfig only from the HelmRelease's own namespace; this copy ends with the temporary cluster.
        let copy = object(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": FLUX},
            "stringData": {"value": kubeconfig},
        }))?;
        temporary.apply(&copy, progress).await?;
        temporary.apply_all(&self.objects()?, progress).await?;
        temporary
            .wait(
                &helm_release_kind(),
                Some(FLUX),
                &self.component,
                STALL,
                progress,
                |o| match o {
                    None => Err(format!("HelmRelease {}: not there yet", self.component)),
                    Some(o) => condition(o, "Ready"),
                },
            )
            .await?;
        let management = self.shared.management().await?;
        let workloads: Vec<_> = component.workloads().collect();
        wait_for_workloads(management, &workloads, progress).await?;
        self.let_go(temporary, progress).await
    }
}

fn suspended(release: &DynamicObject) -> Result<(), Pending> {
    if release.data.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    Err(format!("HelmRelease {} is not suspended", name(release)))
}

/// All machines have their nodes, so that nothing is in the making when the objects move.
pub struct Machines(pub Arc<Shared>);

impl Machines {
    fn wanted(&self) -> usize {
        let spec = &self.0.request.document.spec;
        (spec.control_plane.replicas + spec.node_pools.iter().map(|p| p.replicas).sum::<u32>())
            as usize
    }

    async fn pending(&self) -> Result<Result<String, String>> {
        let temporary = self.0.temporary().await?;
        let machines = temporary
            .list(
                &kind("cluster.x-k8s.io", "v1beta2", "Machine"),
                Some(ORGANIZATION),
                None,
            )
            .await?
            .unwrap_or_default();
        let with_node = machines
            .iter()
            .filter(|m| {
                m.data
                    .pointer("/status/nodeRef/name")
                    .and_then(Value::as_str)
                    .is_some()
            })
            .count();
        if machines.len() != self.wanted() || with_node != machines.len() {
            let why = machines
                .iter()
                .find_map(|m| condition(m, "Ready").err())
                .unwrap_or_default();
            return Ok(Err(format!(
                "{with_node} of {} machines have their node; {why}",
                self.wanted()
            )));
        }
        let cluster = temporary
            .get(&cluster_kind(), Some(ORGANIZATION), self.0.name())
            .await?;
        if let Err(why) = cluster
            .as_ref()
            .map_or(Err("the Cluster is not there".to_owned()), |c| {
                condition(c, "ControlPlaneInitialized")
            })
        {
            return Ok(Err(why));
        }
        let nodes = self
            .0
            .management()
            .await?
            .list(&kind("", "v1", "Node"), None, None)
            .await?
            .unwrap_or_default();
        if let Some(why) = nodes.iter().find_map(|n| condition(n, "Ready").err()) {
            return Ok(Err(why));
        }
        Ok(Ok(format!(
            "{with_node} machines, {} nodes ready",
            nodes.len()
        )))
    }
}

#[async_trait]
impl Step for Machines {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        Ok(match self.pending().await? {
            Ok(evidence) => Observation::Done(evidence),
            Err(why) => Observation::Missing(why),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let pause = Duration::from_millis(400);
        poll("the set of machines", STALL, pause, progress, || self.pending())
            .await
            .map(drop)
            .map_err(|e| e.fix("look at the Machines in the temporary cluster, mend the cause, then run the same command again"))
    }
}
