//! The new cluster as seen from the temporary one: control plane, add-ons, machines. Must not act after the pivot.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    seed::{object, wait_for_workloads, workloads_ready},
    shared::{STALL, Shared},
    state::MANAGEMENT,
};
use crate::{
    Error, Kind, Result,
    catalog::{Component, Target},
    engine::{Observation, Proof, Step},
    environment::Endpoint,
    ports::{
        Seen,
        files::Told,
        kubernetes::{
            Cluster, Pending, Progress, Wait, gvk, kind,
            kinds::{CLUSTER, HELM_RELEASE, MACHINE, NODE, SECRET},
            met,
            names::{ORGANIZATION, PLATFORM_FLUX},
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
        let environment = shared.environment();
        let objects = render::cluster(shared.context(&environment))?;
        let temporary = shared.temporary().await?;
        let mut cluster = None;
        for o in &objects {
            let found = temporary
                .get(&gvk(o)?, o.metadata.namespace.as_deref(), name(o))
                .await?;
            if found.is_none() {
                let why = format!("{} {} to apply", kind(o), name(o));
                return Ok(Observation::Missing(why));
            }
            if kind(o) == CLUSTER.kind {
                cluster = found;
            }
        }
        let endpoint = match endpoint(cluster.as_ref()) {
            Ok(endpoint) if shared.state.kubeconfig(MANAGEMENT)?.is_some() => endpoint,
            Ok(_) => {
                return Ok(Observation::Missing(
                    "the API server's kubeconfig is not here yet".into(),
                ));
            }
            Err(why) => return Ok(Observation::Missing(why)),
        };
        // An API server that does not answer is one that is not up yet.
        Ok(match first_node(shared).await {
            Ok(name) => Observation::Done(Proof::with(
                format!("API server answers; node {name} registered"),
                json!({"controlPlaneEndpoint": endpoint}),
            )),
            Err(why) => Observation::Missing(why),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let shared = &self.0;
        let temporary = shared.temporary().await?;
        let environment = shared.environment();
        let namespace = object(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ORGANIZATION}}),
        )?;
        temporary.apply(&namespace, progress).await?;
        temporary
            .apply_all(&render::cluster(shared.context(&environment))?, progress)
            .await?;

        temporary
            .wait(
                &CLUSTER.gvk(),
                Some(ORGANIZATION),
                shared.name(),
                STALL,
                progress,
                endpoint,
            )
            .await?;
        let secret = format!("{}-kubeconfig", shared.name());
        let kubeconfig = temporary
            .wait(
                &SECRET.gvk(),
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
        shared
            .state
            .files()
            .keep(&shared.state.file(MANAGEMENT), kubeconfig.as_bytes())?;

        // The API server cannot be watched before it answers.
        let wait = Wait {
            what: "the first control-plane machine",
            stall: STALL,
            pause: Duration::from_millis(250),
            progress,
        };
        poll(wait, || async {
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
        _ => Err(met(cluster, "InfrastructureReady")
            .err()
            .unwrap_or_else(|| "the Cluster has no endpoint yet".into())),
    }
}

async fn first_node(shared: &Shared) -> Result<String, String> {
    let management = shared.management().await.map_err(|e| e.line())?;
    let gvk = NODE.gvk();
    let look = management.look_at_all(&gvk, None, None);
    let nodes = match tokio::time::timeout(Duration::from_secs(3), look).await {
        Ok(Seen::Is(nodes)) => nodes,
        Ok(Seen::Absent) => vec![],
        Ok(Seen::Unknown(e)) => return Err(e.line()),
        Err(_) => return Err("the API server does not answer yet".to_owned()),
    };
    let node = nodes.first().ok_or("no Node is registered yet")?;
    Ok(name(node).to_owned())
}

/// What Cluster API says of the machines, for the user.
async fn control_plane_message(temporary: &Cluster) -> Option<String> {
    let machines = temporary
        .look_at_all(&MACHINE.gvk(), Some(ORGANIZATION), None)
        .await
        .known()
        .ok()??;
    machines.iter().find_map(|m| met(m, "Ready").err())
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
        let environment = self.shared.environment();
        Ok(render::component(
            self.shared.context(&environment),
            self.component()?,
            Target::Temporary,
        )?
        .objects)
    }

    /// Suspends the release and sees it suspended: from now on the new cluster's Flux is its only writer.
    async fn let_go(&self, temporary: &Cluster, progress: &dyn Progress) -> Result<()> {
        let gvk = HELM_RELEASE.gvk();
        let patch = json!({"spec": {"suspend": true}});
        temporary
            .merge(&gvk, Some(PLATFORM_FLUX), &self.component, &patch, progress)
            .await?;
        let seen = temporary
            .get(&gvk, Some(PLATFORM_FLUX), &self.component)
            .await?;
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
        let release = temporary
            .get(&HELM_RELEASE.gvk(), Some(PLATFORM_FLUX), &self.component)
            .await?;
        let Some(release) = release else {
            return Ok(Observation::Missing(format!(
                "HelmRelease {} is not there",
                self.component
            )));
        };
        if let Err(why) = met(&release, "Ready").and_then(|()| suspended(&release)) {
            return Ok(Observation::Missing(why));
        }
        let management = self.shared.management().await?;
        let workloads: Vec<_> = component.workloads().collect();
        if let Err(why) = workloads_ready(management, &workloads).await? {
            return Ok(Observation::Missing(why));
        }
        Ok(Observation::done(format!(
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
            .get(&SECRET.gvk(), Some(ORGANIZATION), &name)
            .await?;
        let kubeconfig = secret
            .as_ref()
            .and_then(|s| secret_text(s, "value"))
            .ok_or_else(|| {
                Error::failed(format!("Secret {ORGANIZATION}/{name} has no kubeconfig"))
            })?;
        // Flux reads a kubeconfig only from the HelmRelease's own namespace; this copy ends with the temporary cluster.
        let copy = object(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": PLATFORM_FLUX},
            "stringData": {"value": kubeconfig},
        }))?;
        temporary.apply(&copy, progress).await?;
        temporary.apply_all(&self.objects()?, progress).await?;
        temporary
            .wait(
                &HELM_RELEASE.gvk(),
                Some(PLATFORM_FLUX),
                &self.component,
                STALL,
                progress,
                |o| match o {
                    None => Err(format!("HelmRelease {}: not there yet", self.component)),
                    Some(o) => met(o, "Ready"),
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
            .list(&MACHINE.gvk(), Some(ORGANIZATION), None)
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
                .find_map(|m| met(m, "Ready").err())
                .unwrap_or_default();
            return Ok(Err(format!(
                "{with_node} of {} machines have their node; {why}",
                self.wanted()
            )));
        }
        let cluster = temporary
            .get(&CLUSTER.gvk(), Some(ORGANIZATION), self.0.name())
            .await?;
        if let Err(why) = cluster
            .as_ref()
            .map_or(Err("the Cluster is not there".to_owned()), |c| {
                met(c, "ControlPlaneInitialized")
            })
        {
            return Ok(Err(why));
        }
        let nodes = self
            .0
            .management()
            .await?
            .list(&NODE.gvk(), None, None)
            .await?
            .unwrap_or_default();
        if let Some(why) = nodes.iter().find_map(|n| met(n, "Ready").err()) {
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
            Ok(evidence) => Observation::done(evidence),
            Err(why) => Observation::Missing(why),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let wait = Wait {
            what: "the set of machines",
            stall: STALL,
            pause: Duration::from_millis(400),
            progress,
        };
        poll(wait, || self.pending())
            .await
            .map(drop)
            .map_err(|e| e.fix("look at the Machines in the temporary cluster, mend the cause, then run the same command again"))
    }
}
