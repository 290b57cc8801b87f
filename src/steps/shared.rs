//! What all steps of one run share: request, catalog, engine, bundle, connections. Must not do work of its own.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::state::{MANAGEMENT, Request, State, TEMPORARY};
use crate::{
    Error, Kind, Result,
    bundle::Bundle,
    catalog::Catalog,
    environment::Environment,
    ownership::marks,
    ports::{Ports, docker::Docker, kubernetes::Cluster},
    registry::own_image::OwnImage,
    render,
};

/// No change for this long while waiting ends a step.
pub const STALL: Duration = Duration::from_secs(300);
/// Port of the registry container and of the manager's registry.
pub const REGISTRY_PORT: u16 = 5000;

/// See the module.
pub struct Shared {
    /// State directory.
    pub state: State,
    /// What was asked for.
    pub request: Request,
    /// Catalog with the bundle's profile applied.
    pub catalog: Catalog,
    /// Kubernetes version of the new cluster.
    pub kubernetes_version: String,
    /// Container engine.
    pub docker: Docker,
    /// The outside.
    pub ports: Ports,
    /// Bundle, if one was given.
    pub bundle: Option<Bundle>,
    environment: Mutex<Environment>,
    own_image: OnceCell<OwnImage>,
    temporary: OnceCell<Cluster>,
    management: OnceCell<Cluster>,
}

impl Shared {
    /// Puts the parts together.
    pub fn new(
        ports: Ports,
        state: State,
        request: Request,
        catalog: Catalog,
        kubernetes_version: String,
        bundle: Option<Bundle>,
    ) -> Self {
        let docker = Docker::new(ports.processes.clone(), request.engine.clone());
        Self {
            state: state.kept_in(ports.files.clone()),
            request,
            catalog,
            kubernetes_version,
            docker,
            ports,
            bundle,
            environment: Mutex::default(),
            own_image: OnceCell::new(),
            temporary: OnceCell::new(),
            management: OnceCell::new(),
        }
    }

    /// With this image instead of the one around the running executable.
    #[must_use]
    pub fn around(mut self, image: OwnImage) -> Self {
        self.own_image = OnceCell::new_with(Some(image));
        self
    }

    /// Name of the management cluster.
    pub fn name(&self) -> &str {
        &self.state.cluster
    }

    /// Name of the temporary kind cluster: its own, because `kind delete` removes every container that carries the
    /// cluster's label, and Cluster API's Docker machines carry that label too.
    pub fn temporary_name(&self) -> String {
        marks::temporary_name(self.name(), &self.request.run)
    }

    /// Name of the registry container.
    pub fn registry_name(&self) -> String {
        marks::registry_name(self.name())
    }

    /// Repository of this cluster's images in the engine; `destroy` removes all below it.
    pub fn image_repository(&self) -> String {
        format!("{}/{}", crate::GROUP, self.name())
    }

    /// The image around the running executable; hashing it takes a moment, so it is formed once.
    pub async fn own_image(&self) -> Result<&OwnImage> {
        self.own_image
            .get_or_try_init(|| async {
                tokio::task::spawn_blocking(OwnImage::of_this_executable)
                    .await
                    .map_err(|e| {
                        let what = "forming the own image ended abnormally";
                        Error::new(Kind::Internal, what).because(&e)
                    })?
            })
            .await
    }

    /// Connection to the temporary cluster.
    pub async fn temporary(&self) -> Result<&Cluster> {
        self.temporary
            .get_or_try_init(|| self.connect("temporary cluster".into(), TEMPORARY))
            .await
    }

    /// Connection to the new cluster.
    pub async fn management(&self) -> Result<&Cluster> {
        self.management
            .get_or_try_init(|| {
                self.connect(format!("management cluster {}", self.name()), MANAGEMENT)
            })
            .await
    }

    async fn connect(&self, name: String, file: &str) -> Result<Cluster> {
        let text = self.state.kubeconfig(file)?.ok_or_else(|| {
            Error::failed(format!("there is no kubeconfig of the {name} yet")).at(self
                .state
                .file(file)
                .display()
                .to_string())
        })?;
        self.ports.clusters.connect(&name, &text).await
    }

    /// What steps gave to know so far.
    pub fn environment(&self) -> Environment {
        self.known().clone()
    }

    /// Takes in what a step gives to know.
    pub fn learn(&self, output: &Value) -> Result<()> {
        self.known().learn(output)
    }

    fn known(&self) -> MutexGuard<'_, Environment> {
        self.environment
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What rendering needs.
    pub fn context<'a>(&'a self, environment: &'a Environment) -> render::Context<'a> {
        render::Context {
            document: &self.request.document,
            catalog: &self.catalog,
            environment,
        }
    }
}
