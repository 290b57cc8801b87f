//! Steps on the host: network, own image, registry container, node images. Must not touch what mctl did not make.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::shared::{REGISTRY_PORT, Shared};
use crate::{
    Error, GROUP, Kind, Result,
    bundle::Bundle,
    engine::{Observation, Proof, Step},
    environment::ImageTag,
    ownership::marks,
    ports::{
        docker::LABEL,
        files::{Files, Told},
        kubernetes::{Progress, Wait, poll},
    },
    registry::own_image::OwnImage as Image,
};

/// Label that holds a digest of how a container was started.
const RECIPE: &str = "mctl.giantswarm.io/recipe";
/// The network of kind and of Cluster API's Docker provider.
pub const NETWORK: &str = "kind";

/// Docker network `kind`.
pub struct Network(pub Arc<Shared>);

#[async_trait]
impl Step for Network {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        Ok(match self.0.docker.inspect("network", NETWORK).await? {
            Some(_) => Observation::done(format!("network {NETWORK} is there")),
            None => Observation::Missing(format!("no network {NETWORK}")),
        })
    }

    async fn apply(&self, _: &dyn Progress) -> Result<()> {
        let labels = BTreeMap::from([(LABEL.to_owned(), self.0.name().to_owned())]);
        self.0.docker.create_network(NETWORK, &labels).await
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
    fn folder(&self) -> PathBuf {
        self.0.state.file("registry")
    }

    fn has_certificate(&self) -> bool {
        let files = self.0.state.files();
        ["tls.crt", "tls.key"]
            .iter()
            .all(|file| files.exists(&self.folder().join(file)))
    }

    /// Writes certificate and key unless they are there.
    fn certify(&self) -> Result<()> {
        let shared = &self.0;
        let files = shared.state.files();
        files.private(&self.folder())?;
        if self.has_certificate() {
            return Ok(());
        }
        // The manager in the cluster cannot reach the host, so nobody could renew it.
        let leaf = shared
            .state
            .authority()?
            .serving_for_life(std::slice::from_ref(&shared.registry_name()))?;
        files.keep(&self.folder().join("tls.key"), leaf.key.as_bytes())?;
        files.keep_as(
            &self.folder().join("tls.crt"),
            leaf.certificate.as_bytes(),
            0o644,
        )
    }

    /// How the container is to be started.
    fn arguments(&self) -> Result<Vec<String>> {
        let shared = &self.0;
        let name = shared.registry_name();
        let ca = shared.state.ca_certificate()?.unwrap_or_default();
        let ca = marks::ca_digest(&ca);
        let folder = self.folder();
        let environment = shared.environment();
        let tag = environment
            .mctl_image
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        let mut args: Vec<String> = vec![
            format!("--name={name}"),
            format!("--hostname={name}"),
            format!("--network={NETWORK}"),
            format!("--label={LABEL}={}", shared.name()),
            format!("--label={}={}", marks::RUN, shared.request.run),
            format!("--label={}={}", marks::CA, ca),
            "--restart=unless-stopped".into(),
            "--read-only".into(),
            "--cap-drop=ALL".into(),
            "--cap-add=DAC_READ_SEARCH".into(),
            "--user=0:0".into(),
            format!("--volume={}:/registry:ro", folder.display()),
        ];
        if let Some(bundle) = &shared.request.bundle {
            args.push(format!("--volume={}:/bundle:ro", bundle.display()));
        }
        args.push(format!("{}/mctl:{tag}", shared.image_repository()));
        args.extend(
            [
                "registry",
                "serve",
                "--certificate",
                "/registry/tls.crt",
                "--key",
                "/registry/tls.key",
            ]
            .map(str::to_owned),
        );
        args.extend(["--listen".to_owned(), format!("0.0.0.0:{REGISTRY_PORT}")]);
        if shared.request.bundle.is_some() {
            args.extend(["--bundle".to_owned(), "/bundle".to_owned()]);
        }
        let recipe = hex::encode(&Sha256::digest(args.join("\n"))[..8]);
        args.insert(0, format!("--label={RECIPE}={recipe}"));
        Ok(args)
    }

    /// The registry of another run is not touched: whoever has it, owns the cluster's name on this engine.
    fn is_mine(&self, found: &Value) -> Result<()> {
        let run = found["Config"]["Labels"][marks::RUN].as_str();
        if run == Some(&self.0.request.run) {
            return Ok(());
        }
        let who = run.map_or_else(|| "somebody other than mctl".into(), |r| format!("run {r}"));
        Err(Error::new(
            Kind::Preflight,
            format!(
                "management cluster `{}` belongs to {who}, not to this run",
                self.0.name()
            ),
        )
        .at(format!("container {}", self.0.registry_name()))
        .fix("go on where that run was begun: same user, host and XDG_STATE_HOME")
        .state("nothing of it was touched"))
    }
}

#[async_trait]
impl Step for Registry {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let name = self.0.registry_name();
        let Some(found) = self.0.docker.inspect("container", &name).await? else {
            return Ok(Observation::Missing(format!("no container {name}")));
        };
        self.is_mine(&found)?;
        let Some(authority) = self.0.state.authority_if_any()? else {
            return Ok(Observation::Missing("the cluster has no CA yet".into()));
        };
        if !self.has_certificate() {
            return Ok(Observation::Missing(
                "the registry has no certificate yet".into(),
            ));
        }
        let wanted = self.arguments()?.remove(0);
        let label = format!(
            "--label={RECIPE}={}",
            found["Config"]["Labels"][RECIPE]
                .as_str()
                .unwrap_or_default()
        );
        if label != wanted {
            return Ok(Observation::Missing(format!(
                "container {name} was started in another way"
            )));
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
        let output = json!({
            "caCertificate": authority.certificate,
            "mirror": format!("{name}:{REGISTRY_PORT}"),
            "mirrorHasAll": self.0.bundle.is_some(),
            "profile": self.0.catalog.profile,
        });
        Ok(Observation::Done(Proof::with(
            format!("{name}:{REGISTRY_PORT} answers"),
            output,
        )))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        let name = self.0.registry_name();
        // By its id: another run may take the name at any moment, and the engine gives it away only once.
        if let Some(found) = self.0.docker.inspect("container", &name).await? {
            self.is_mine(&found)?;
            let id = found["Id"].as_str().unwrap_or_default().to_owned();
            self.0.docker.remove("container", &[id]).await?;
        }
        self.certify()?;
        if let Err(e) = self.0.docker.run_container(self.arguments()?).await {
            if let Some(found) = self.0.docker.inspect("container", &name).await? {
                self.is_mine(&found)?;
            }
            return Err(e);
        }
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
        let repository = shared.image_repository();
        Ok(Load {
            to: format!("{repository}/node:{}", shared.kubernetes_version),
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
        let (image, evidence) = match &self.0.bundle {
            // kind and Cluster API pull what is missing themselves.
            None => (
                load.from.clone(),
                format!("{} from its registry", load.from),
            ),
            Some(bundle) if has(&self.0, bundle, &load).await? => (load.to.clone(), load.to),
            Some(_) => {
                let why = format!("{} is not in the engine", load.from);
                return Ok(Observation::Missing(why));
            }
        };
        Ok(Observation::Done(Proof::with(
            evidence,
            json!({"nodeImage": image}),
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
