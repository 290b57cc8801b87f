//! The temporary kind cluster: made, and removed again. Must not touch any other kind cluster.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{host::write_certs_d, shared::Shared, state::TEMPORARY};
use crate::{
    Error, Kind, Result,
    catalog::assets,
    cluster_api::export::FileExports,
    engine::{Observation, Proof, Step},
    error::Context,
    ports::{
        files::{self, Told},
        kubernetes::Progress,
        process::Command,
    },
    render,
};

/// Label that kind, and Cluster API's Docker provider, put on a cluster's containers.
pub const NODE_CONTAINER_LABEL: &str = "io.x-k8s.kind.cluster";

/// Held by kind while it makes a temporary cluster, in the state folder.
pub const CREATION_LOCK: &str = "kind.lock";
/// How long kind may take; it pulls the node image if it has to.
const CREATION: Duration = Duration::from_secs(1800);

/// Unpacks the embedded kind executable into the cache and returns its path.
pub fn unpack_kind() -> Result<PathBuf> {
    let kind = assets::kind().ok_or_else(|| Error::new(Kind::Internal, "kind is not embedded"))?;
    let digest = hex::encode(&Sha256::digest(&kind)[..8]);
    let folder = crate::env::cache_folder()?.join("bin");
    let path = folder.join(format!("kind-{digest}"));
    // Its name is its digest, and it is written in one step: if it is there, it is whole.
    if std::fs::metadata(&path).is_ok_and(|m| m.len() == kind.len() as u64) {
        return Ok(path);
    }
    std::fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
    files::write_mode(&path, &kind, 0o755)?;
    Ok(path)
}

/// The temporary cluster.
pub struct TemporaryCluster(pub Arc<Shared>);

impl TemporaryCluster {
    /// Its containers, as the engine knows them.
    pub(super) async fn containers(&self) -> Result<Vec<String>> {
        let filter = format!("label={NODE_CONTAINER_LABEL}={}", self.0.temporary_name());
        self.0.docker.names("container", &filter).await
    }
}

#[async_trait]
impl Step for TemporaryCluster {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let containers = self.containers().await?;
        if containers.is_empty() {
            return Ok(Observation::Missing("no temporary cluster".into()));
        }
        // kind writes the kubeconfig last: without it the creation did not end.
        if self.0.state.kubeconfig(TEMPORARY)?.is_none() {
            return Ok(Observation::Missing(
                "the temporary cluster was not completed".into(),
            ));
        }
        // It may hold the only objects of machines that run already: one that is silent is never made anew.
        let version = self.0.temporary().await?.version().await.map_err(|e| {
            e.fix(format!(
                "see that its containers run: docker start {}",
                containers.join(" ")
            ))
            .fix(format!(
                "or give it up with all that it made: mctl destroy {}",
                self.0.name()
            ))
        })?;
        let socket = self.0.docker.socket().await?;
        Ok(Observation::Done(Proof::with(
            format!("{} runs Kubernetes {version}", self.0.temporary_name()),
            json!({"engineSocket": socket}),
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let shared = &self.0;
        let kind = unpack_kind()?;
        let name = shared.temporary_name();
        // A creation of an earlier run may still be under way, and would end what this one makes.
        let lock = shared.state.file(CREATION_LOCK);
        shared.ports.processes.settle(&lock).await?;
        if !self.containers().await?.is_empty() {
            progress.seen("removing what an interrupted creation left");
            shared
                .docker
                .remove("container", &self.containers().await?)
                .await?;
        }
        let environment = shared.environment();
        let certs = shared.state.file("certs.d");
        let files = shared.state.files();
        write_certs_d(
            files,
            &certs,
            &environment.mirror,
            environment.mirror_has_all,
            &environment.ca_certificate,
        )?;
        let socket = shared.docker.socket().await?;
        let config = json!({
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{
                "role": "control-plane",
                "extraMounts": [
                    {"hostPath": socket, "containerPath": "/var/run/docker.sock"},
                    {"hostPath": certs, "containerPath": "/etc/containerd/certs.d", "readOnly": true},
                ],
            }],
            "containerdConfigPatches": ["[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n"],
        });
        let config_file = shared.state.file("kind.yaml");
        files.keep(&config_file, config.to_string().as_bytes())?;
        // Into a file of its own first, so that the final one exists only for a complete cluster.
        let kubeconfig = shared.state.file("temporary.kubeconfig.new");
        files.discard(&kubeconfig)?;
        let command = shared.docker.environment(Command::new(
            kind.display().to_string(),
            [
                "create".to_owned(),
                "cluster".into(),
                "--name".into(),
                name,
                "--image".into(),
                render::node_image(shared.context(&environment))?,
                "--config".into(),
                config_file.display().to_string(),
                "--kubeconfig".into(),
                kubeconfig.display().to_string(),
                // It would delete by name, and a later run may have made that name anew.
                "--retain".into(),
            ],
        ));
        let command = command.within(CREATION).tied(&lock);
        progress.seen("kind create cluster");
        shared
            .ports
            .processes
            .run(&command)
            .await?
            .success(&command)?;
        files
            .rename(&kubeconfig, &shared.state.file(TEMPORARY))
            .context(|| "cannot keep the temporary cluster's kubeconfig".into())
    }
}

/// Removes the temporary cluster; only ever reached after the pivot is proven.
pub struct Remove(pub Arc<Shared>);

impl Remove {
    fn exports(&self) -> FileExports {
        FileExports::new(self.0.ports.files.clone(), &self.0.state.folder)
    }
}

#[async_trait]
impl Step for Remove {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let left = TemporaryCluster(self.0.clone()).containers().await?;
        // It holds the cluster's CA keys: it lasts no longer than the cluster that it stands in for.
        let exported = self.exports().is_there();
        Ok(if left.is_empty() && !exported {
            Observation::done(format!("{} is gone", self.0.temporary_name()))
        } else if left.is_empty() {
            Observation::Missing("the export of the move is still there".into())
        } else {
            Observation::Missing(format!("{} is there", left.join(", ")))
        })
    }

    async fn apply(&self, _: &dyn Progress) -> Result<()> {
        let containers = TemporaryCluster(self.0.clone()).containers().await?;
        self.0.docker.remove("container", &containers).await?;
        for file in [TEMPORARY, "kind.yaml"] {
            self.0.state.files().discard(&self.0.state.file(file))?;
        }
        self.exports().discard()
    }
}
