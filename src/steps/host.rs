//! Steps on the host: network, own image, registry container, node images. Must not touch what mctl did not make.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::shared::{REGISTRY_PORT, Shared};
use crate::{
    Error, GROUP, Kind, Result,
    bundle::Bundle,
    config::Cidr,
    engine::{Observation, Proof, Step},
    environment::ImageTag,
    error::Context,
    launchpad::{
        NETWORK, bundle, network,
        registry::{self, Recipe},
    },
    ports::{
        docker::LABEL,
        files::{Files, Told},
        kubernetes::{Progress, Wait, poll},
    },
    registry::own_image::OwnImage as Image,
};

/// Docker network `kind`.
pub struct Network(pub Arc<Shared>);

#[async_trait]
impl Step for Network {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        Ok(match self.0.docker.inspect("network", NETWORK).await? {
            Some(network) => Observation::done(network::evidence(&network)),
            None => Observation::Missing(format!("no network {NETWORK}")),
        })
    }

    async fn apply(&self, _: &dyn Progress) -> Result<()> {
        let labels = BTreeMap::from([(LABEL.to_owned(), self.0.name().to_owned())]);
        let ranges = &self.0.request.document.spec.network;
        let used = [&ranges.pod_cidr, &ranges.service_cidr];
        let mut used: Vec<Cidr> = used.iter().filter_map(|r| Cidr::parse(r)).collect();
        let routes = self.0.ports.network.routes();
        let routes = routes.context(|| "the host's routes cannot be read".into())?;
        used.extend(
            routes
                .iter()
                .filter(|r| r.prefix > 0)
                .filter_map(|r| Cidr::parse(&format!("{}/{}", r.network, r.prefix))),
        );
        network::make(&self.0.docker, &labels, used).await
    }
}

/// mctl's own image in the engine, under the cluster's tag.
pub struct OwnImage(pub Arc<Shared>);

impl OwnImage {
    fn reference(&self, image: &Image) -> String {
        format!("{}/mctl:{}", self.0.image_repository(), image.tag)
    }
}

#[async_trait]
impl Step for OwnImage {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let image = self.0.own_image().await?;
        let reference = self.reference(image);
        let found = self.0.docker.inspect("image", &reference).await?;
        if found.is_none() {
            return Ok(Observation::Missing(format!("no image {reference}")));
        }
        let output = json!({"mctlImage": format!("{GROUP}/mctl:{}", image.tag)});
        Ok(Observation::Done(Proof::with(
            format!("image {reference}"),
            output,
        )))
    }

    async fn apply(&self, _: &dyn Progress) -> Result<()> {
        let image = self.0.own_image().await?.clone();
        let reference = self.reference(&image);
        self.0
            .docker
            .load(move |to| image.write_docker_archive(&reference, to).map(drop))
            .await
    }
}

/// Registry container on network `kind`.
pub struct Registry(pub Arc<Shared>);

impl Registry {
    fn recipe(&self) -> Result<Recipe> {
        let shared = &self.0;
        let image = registry::image_name(shared.name(), &shared.environment().mctl_image);
        Recipe::of(&shared.state, &shared.request, image)
    }
}

#[async_trait]
impl Step for Registry {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let name = self.0.registry_name();
        let Some(found) = self.0.docker.inspect("container", &name).await? else {
            return Ok(Observation::Missing(format!("no container {name}")));
        };
        let recipe = self.recipe()?;
        recipe.is_mine(&found)?;
        let Some(authority) = self.0.state.ca_certificate()? else {
            return Ok(Observation::Missing("the cluster has no CA yet".into()));
        };
        let due = registry::certificate_due(&self.0.state, &authority)?;
        if let Some(why) = due.or_else(|| recipe.differs(&found)) {
            return Ok(Observation::Missing(why));
        }
        if found["State"]["Running"] != true {
            return Ok(Observation::Missing(format!(
                "container {name} is {}",
                found["State"]["Status"].as_str().unwrap_or_default()
            )));
        }
        let Some(address) = address(&found) else {
            return Ok(Observation::Missing(format!(
                "container {name} has no address on network {NETWORK} yet"
            )));
        };
        let limit = Duration::from_secs(3);
        if self.0.ports.network.reach(address, limit).await.is_err() {
            return Ok(Observation::Missing(format!(
                "container {name} does not answer at {address}"
            )));
        }
        let fixed = registry::fixed(&found, network::look(&self.0.docker).await?.as_ref());
        let lasting = match &fixed {
            Some(fixed) => format!("machines have addresses of their own, from {fixed}"),
            None => format!(
                "network {NETWORK} gives no addresses that last: the cluster will not survive a restart of the engine"
            ),
        };
        let output = json!({
            "caCertificate": authority,
            "mirror": format!("{name}:{REGISTRY_PORT}"),
            "mirrorHasAll": self.0.bundle.is_some(),
            "profile": self.0.catalog.profile,
            "fixedAddresses": fixed,
        });
        Ok(Observation::Done(Proof::with(
            format!("{name}:{REGISTRY_PORT} answers; {lasting}"),
            output,
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let name = self.0.registry_name();
        if let Some(bundle) = &self.0.bundle {
            progress.seen("keeping the bundle for the cluster");
            let (state, source) = (self.0.state.clone(), bundle.path().to_owned());
            let own = move || bundle::own(state.files(), &state.folder, &source);
            tokio::task::spawn_blocking(own).await.map_err(|e| {
                Error::new(Kind::Internal, "keeping the bundle ended abnormally").because(&e)
            })??;
        }
        registry::certify(&self.0.state)?;
        self.recipe()?.run(&self.0.docker, progress).await?;
        let wait = Wait {
            what: "the registry container",
            stall: Duration::from_secs(30),
            pause: Duration::from_millis(100),
            progress,
        };
        let up = poll(wait, || async {
            Ok(self.observe(progress).await?.pending())
        })
        .await;
        match up {
            Ok(_) => Ok(()),
            Err(e) => {
                let logs = self.0.docker.logs(&name, 5).await.unwrap_or_default();
                Err(e.because(logs.trim().replace('\n', " | ")))
            }
        }
    }
}

fn address(container: &Value) -> Option<SocketAddr> {
    let ip: IpAddr = container["NetworkSettings"]["Networks"][NETWORK]["IPAddress"]
        .as_str()?
        .parse()
        .ok()?;
    Some(SocketAddr::new(ip, REGISTRY_PORT))
}

/// Node image in the engine, from the bundle under mctl's own name, else as upstream publishes it.
pub struct NodeImage(pub Arc<Shared>);

/// Load balancer's image in the engine, likewise; Cluster API pulls it itself when there is no bundle.
pub struct LoadBalancerImage(pub Arc<Shared>);

/// An image of the bundle and its name in the engine.
#[derive(Clone)]
struct Load {
    from: String,
    to: String,
}

impl NodeImage {
    fn load(&self) -> Result<Load> {
        let shared = &self.0;
        let from = shared.catalog.node_image(&shared.request.document)?;
        Ok(Load {
            to: format!("{}:{}", node_repository(shared), shared.kubernetes_version),
            from,
        })
    }
}

impl LoadBalancerImage {
    fn load(&self) -> Result<Option<Load>> {
        let provider = self.0.catalog.provider(&self.0.request.document)?;
        let image = provider.images.iter().find(|i| i.contains("/haproxy:"));
        Ok(image.map(|image| {
            let tag = image.rsplit(':').next().unwrap_or_default();
            Load {
                from: image.clone(),
                to: format!("{}/haproxy:{tag}", self.0.image_repository()),
            }
        }))
    }
}

/// Where a bundle's node image is in the engine; its tag is the Kubernetes version.
fn node_repository(shared: &Shared) -> String {
    format!("{}/node", shared.image_repository())
}

/// Whether the engine has exactly this image under this name.
async fn has(shared: &Shared, bundle: &Bundle, load: &Load) -> Result<bool> {
    let want = bundle.image_id(&load.from)?;
    let found = shared.docker.inspect("image", &load.to).await?;
    Ok(found.is_some_and(|i| i["Id"] == want))
}

async fn load(shared: &Shared, bundle: &Bundle, load: Load, progress: &dyn Progress) -> Result<()> {
    if has(shared, bundle, &load).await? {
        return Ok(());
    }
    progress.seen(&format!("loading {}", load.from));
    let bundle = bundle.clone();
    let name = load.from.clone();
    shared
        .docker
        .load(move |to| {
            bundle
                .write_docker_archive(&load.from, &load.to, to)
                .map(drop)
        })
        .await
        .map_err(|e| Error::failed(format!("{name} cannot be loaded into the engine")).because(e))
}

#[async_trait]
impl Step for NodeImage {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let load = self.load()?;
        let (repository, evidence) = match &self.0.bundle {
            // kind and Cluster API pull what is missing themselves.
            None => (String::new(), format!("{} from its registry", load.from)),
            Some(bundle) if has(&self.0, bundle, &load).await? => {
                (node_repository(&self.0), load.to)
            }
            Some(_) => {
                let why = format!("{} is not in the engine", load.from);
                return Ok(Observation::Missing(why));
            }
        };
        Ok(Observation::Done(Proof::with(
            evidence,
            json!({"nodeRepository": repository}),
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        match &self.0.bundle {
            None => Ok(()),
            Some(bundle) => load(&self.0, bundle, self.load()?, progress).await,
        }
    }
}

#[async_trait]
impl Step for LoadBalancerImage {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let (Some(bundle), Some(load)) = (&self.0.bundle, self.load()?) else {
            return Ok(Observation::done("from its registry"));
        };
        if !has(&self.0, bundle, &load).await? {
            let why = format!("{} is not in the engine", load.from);
            return Ok(Observation::Missing(why));
        }
        let (name, tag) = load.to.rsplit_once(':').unwrap_or((&load.to, ""));
        let image = ImageTag {
            repository: name.trim_end_matches("/haproxy").to_owned(),
            tag: tag.to_owned(),
        };
        Ok(Observation::Done(Proof::with(
            load.to,
            json!({"loadBalancerImage": image}),
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        match (&self.0.bundle, self.load()?) {
            (Some(bundle), Some(wanted)) => load(&self.0, bundle, wanted, progress).await,
            _ => Ok(()),
        }
    }
}

/// Writes `certs.d` for containerd below a folder: with a bundle the registry stands for all upstreams, without one for mctl's own images.
pub fn write_certs_d(
    files: &dyn Files,
    folder: &Path,
    mirror: &str,
    all: bool,
    ca: &str,
) -> Result<()> {
    let host = folder.join(if all { "_default" } else { GROUP });
    files.private(&host)?;
    let hosts = format!(
        "server = \"https://{mirror}\"\n\n[host.\"https://{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"/etc/containerd/certs.d/mctl-ca.crt\"\n  dial_timeout = \"2s\"\n"
    );
    files.keep_as(&host.join("hosts.toml"), hosts.as_bytes(), 0o644)?;
    files.keep_as(&folder.join("mctl-ca.crt"), ca.as_bytes(), 0o644)
}
