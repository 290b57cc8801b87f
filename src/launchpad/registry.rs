//! The registry's container: how it is started, with which certificate and address. Must not decide when.

use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{ADDRESS_LABEL, NETWORK, addresses, bundle, mount, network};
use crate::{
    Error, GROUP, Kind, Result,
    ownership::marks,
    pki,
    ports::{
        docker::{Docker, LABEL},
        files::Told,
        kubernetes::Progress,
    },
    steps::{
        REGISTRY_PORT,
        state::{Request, State},
    },
};

/// Label that holds a digest of how a container was started.
const RECIPE: &str = "io.giantswarm.mctl/recipe";
/// Value of the address label when the engine would not give an address of its own.
const REFUSED: &str = "engine";
/// Folder of its certificate, below the state.
const FOLDER: &str = "registry";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How often another address is chosen when one is taken.
const TRIES: usize = 5;

/// Name of mctl's own image in the engine for a cluster, from the name it has in the cluster.
pub fn image_name(cluster: &str, in_cluster: &str) -> String {
    let tag = in_cluster.rsplit(':').next().unwrap_or_default();
    format!("{GROUP}/{cluster}/mctl:{tag}")
}

/// How the container is to be started.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Name of the container.
    pub name: String,
    /// Labels that say whose it is.
    pub labels: Vec<(String, String)>,
    /// mctl's own image in the engine.
    pub image: String,
    /// Folder with `tls.crt` and `tls.key`.
    pub certificate: PathBuf,
    /// The cluster's own bundle.
    pub bundle: Option<PathBuf>,
    /// Port it listens on.
    pub port: u16,
}

impl Recipe {
    /// Of the cluster with this state and request. `image` is mctl's own one, in the engine.
    pub fn of(state: &State, request: &Request, image: String) -> Result<Self> {
        let bundle = request.bundle.as_deref();
        let ca = state.ca_certificate()?.unwrap_or_default();
        Ok(Self {
            name: marks::registry_name(&state.cluster),
            labels: vec![
                (LABEL.to_owned(), state.cluster.to_string()),
                (marks::RUN.to_owned(), request.run.clone()),
                (marks::CA.to_owned(), marks::ca_digest(&ca)),
            ],
            image,
            certificate: state.file(FOLDER),
            bundle: bundle.map(|b| bundle::place(state.files(), &state.folder, b)),
            port: REGISTRY_PORT,
        })
    }

    /// The registry of another run is not touched: whoever has it, owns the cluster's name on this engine.
    pub fn is_mine(&self, found: &Value) -> Result<()> {
        let run = found["Config"]["Labels"][marks::RUN].as_str();
        if self
            .labels
            .iter()
            .any(|(k, v)| k == marks::RUN && Some(v.as_str()) == run)
        {
            return Ok(());
        }
        let who = run.map_or_else(|| "somebody other than mctl".into(), |r| format!("run {r}"));
        let what = format!("container {} belongs to {who}, not to this run", self.name);
        Err(Error::new(Kind::Preflight, what)
            .at(format!("container {}", self.name))
            .fix("go on where that run was begun: same user, host and XDG_STATE_HOME")
            .state("nothing of it was touched"))
    }

    /// Removes the container if it is this run's. By its id: another run may take the name at any moment, and the
    /// engine gives it away only once.
    async fn remove(&self, docker: &Docker) -> Result<()> {
        let Some(found) = docker.inspect("container", &self.name).await? else {
            return Ok(());
        };
        self.is_mine(&found)?;
        let id = found["Id"].as_str().unwrap_or_default().to_owned();
        docker.remove("container", &[id]).await
    }

    /// Starts it; when somebody else took the name meanwhile, says who.
    async fn start(&self, docker: &Docker, address: Option<Ipv4Addr>) -> Result<()> {
        let Err(e) = docker.run_container(self.arguments(address)).await else {
            return Ok(());
        };
        if let Some(found) = docker.inspect("container", &self.name).await? {
            self.is_mine(&found)?;
        }
        Err(e)
    }

    fn options(&self) -> Vec<String> {
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--hostname={}", self.name),
            format!("--network={NETWORK}"),
            // Whenever the engine starts, until somebody stops it.
            "--restart=unless-stopped".into(),
            "--read-only".into(),
            "--cap-drop=ALL".into(),
            "--cap-add=DAC_READ_SEARCH".into(),
            "--user=0:0".into(),
            format!(
                "--mount={}",
                mount::read_only(&self.certificate, "/registry")
            ),
        ];
        args.extend(self.labels.iter().map(|(k, v)| format!("--label={k}={v}")));
        if let Some(bundle) = &self.bundle {
            args.push(format!("--mount={}", mount::read_only(bundle, "/bundle")));
        }
        args
    }

    fn command(&self) -> Vec<String> {
        let listen = format!("0.0.0.0:{}", self.port);
        let mut args: Vec<String> = [
            "registry",
            "serve",
            "--certificate",
            "/registry/tls.crt",
            "--key",
            "/registry/tls.key",
            "--listen",
            &listen,
        ]
        .map(str::to_owned)
        .to_vec();
        if self.bundle.is_some() {
            args.extend(["--bundle".to_owned(), "/bundle".to_owned()]);
        }
        args
    }

    /// Digest of all of it; the address is the engine's matter and not part of it.
    fn digest(&self) -> String {
        let all = [self.options(), vec![self.image.clone()], self.command()].concat();
        hex::encode(&Sha256::digest(all.join("\n"))[..8])
    }

    /// Arguments of `docker run`.
    fn arguments(&self, address: Option<Ipv4Addr>) -> Vec<String> {
        let mut args = self.options();
        args.push(format!("--label={RECIPE}={}", self.digest()));
        match address {
            Some(address) => {
                args.push(format!("--ip={address}"));
                args.push(format!("--label={ADDRESS_LABEL}={address}"));
            }
            None => args.push(format!("--label={ADDRESS_LABEL}={REFUSED}")),
        }
        args.push(self.image.clone());
        args.extend(self.command());
        args
    }

    /// Why an inspected container must be started anew; `None` if it is as it should be.
    pub fn differs(&self, container: &Value) -> Option<String> {
        let labels = &container["Config"]["Labels"];
        if labels[RECIPE] != self.digest().as_str() {
            return Some(format!(
                "container {} was started in another way",
                self.name
            ));
        }
        let (_, own) = addresses::of(container, NETWORK);
        (own.is_none() && labels[ADDRESS_LABEL] != REFUSED)
            .then(|| format!("container {} has no address of its own", self.name))
    }

    /// Removes the container if there is one and starts it anew, with an address of its own if the engine gives one.
    pub async fn run(&self, docker: &Docker, progress: &dyn Progress) -> Result<()> {
        let fixed = network::look(docker)
            .await?
            .and_then(|n| addresses::Fixed::of(&n));
        let mut refused = BTreeSet::new();
        for _ in 0..TRIES {
            self.remove(docker).await?;
            let address = match fixed {
                Some(fixed) => {
                    let names = docker.all("container").await?;
                    let all = docker.inspect_all("container", &names).await?;
                    let mut taken = addresses::taken(&all, NETWORK);
                    taken.extend(&refused);
                    fixed.pick(&self.name, &taken)
                }
                None => None,
            };
            let Some(address) = address else {
                break;
            };
            let Err(e) = self.start(docker, Some(address)).await else {
                return Ok(());
            };
            let why = e.line();
            if why.contains("user configured subnet") || why.contains("no configured subnet") {
                progress.seen(&format!(
                    "network {NETWORK} has no subnet of its own: addresses will not outlive a restart of the engine"
                ));
                break;
            }
            if !why.contains("ddress already in use") {
                return Err(e);
            }
            refused.insert(address);
        }
        self.remove(docker).await?;
        self.start(docker, None).await
    }
}

/// The part of the network that machines' addresses come from; none when the engine refused the registry one.
pub fn fixed(container: &Value, network: Option<&Value>) -> Option<String> {
    addresses::of(container, NETWORK).1?;
    addresses::Fixed::of(network?).map(|f| f.to_string())
}

/// Why the registry's serving certificate has to be issued anew by this authority (PEM); `None` when it is good.
pub fn certificate_due(state: &State, authority: &str) -> Result<Option<String>> {
    let text = |name: &str| state.files().text(&state.file(FOLDER).join(name));
    let (Some(certificate), Some(_)) = (text(CERTIFICATE)?, text(KEY)?) else {
        return Ok(Some("the registry has no certificate yet".into()));
    };
    let due = pki::serving_due(
        &certificate,
        &marks::registry_name(&state.cluster),
        authority,
    );
    Ok(due.map(|why| format!("the registry's certificate: {why}")))
}

/// Issues the serving certificate unless there is a good one.
pub fn certify(state: &State) -> Result<()> {
    // A good one needs no key, which goes to the cluster at the handover.
    let known = state.ca_certificate()?.unwrap_or_default();
    if certificate_due(state, &known)?.is_none() {
        return Ok(());
    }
    let authority = state.authority()?;
    // The manager in the cluster cannot reach the host, so nobody could renew it.
    let leaf = authority.serving_for_life(&[marks::registry_name(&state.cluster)])?;
    let (files, folder) = (state.files(), state.file(FOLDER));
    files.private(&folder)?;
    files.keep(&folder.join(KEY), leaf.key.as_bytes())?;
    files.keep_as(
        &folder.join(CERTIFICATE),
        leaf.certificate.as_bytes(),
        0o644,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pki::Authority;

    fn recipe() -> Recipe {
        Recipe {
            name: "mctl-golem-registry".into(),
            labels: vec![("io.giantswarm.mctl/cluster".into(), "golem".into())],
            image: "mctl.giantswarm.io/golem/mctl:1".into(),
            certificate: "/state, of mine/golem/registry".into(),
            bundle: Some("/state/golem/bundle/layout".into()),
            port: 5000,
        }
    }

    fn container(recipe: &Recipe, own: &str, label: &str) -> Value {
        json!({
            "Config": {"Labels": {RECIPE: recipe.digest(), ADDRESS_LABEL: label}},
            "NetworkSettings": {"Networks": {"kind": {"IPAddress": "172.18.0.2", "IPAMConfig": {"IPv4Address": own}}}},
        })
    }

    #[test]
    fn paths_are_mounted_as_they_are_and_the_address_is_asked_for() {
        let args = recipe().arguments(Some([172, 18, 128, 9].into()));
        let has = |a: &str| assert!(args.iter().any(|b| a == b), "{a} in {args:?}");
        has(
            "--mount=type=bind,\"source=/state, of mine/golem/registry\",target=/registry,readonly",
        );
        has("--mount=type=bind,source=/state/golem/bundle/layout,target=/bundle,readonly");
        has("--ip=172.18.128.9");
        has("--label=io.giantswarm.mctl/address=172.18.128.9");
        assert!(!args.iter().any(|a| a.starts_with("--volume")));
    }

    #[test]
    fn a_container_is_kept_only_as_it_should_be() {
        let r = recipe();
        assert_eq!(
            r.differs(&container(&r, "172.18.128.9", "172.18.128.9")),
            None
        );
        assert_eq!(r.differs(&container(&r, "", "engine")), None);
        assert!(
            r.differs(&container(&r, "", ""))
                .unwrap()
                .contains("no address of its own")
        );
        let mut other = recipe();
        other.bundle = None;
        assert!(
            r.differs(&container(&other, "", "engine"))
                .unwrap()
                .contains("another way")
        );
        let network =
            json!({"IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "IPRange": "172.18.0.0/17"}]}});
        let own = container(&r, "172.18.128.9", "");
        assert_eq!(
            fixed(&own, Some(&network)).as_deref(),
            Some("172.18.128.0/17")
        );
        assert_eq!(fixed(&container(&r, "", "engine"), Some(&network)), None);
    }

    #[test]
    fn a_certificate_of_another_authority_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::below(folder.path(), &"golem".parse().unwrap());
        let due = || {
            let authority = state.ca_certificate().unwrap().unwrap();
            certificate_due(&state, &authority).unwrap()
        };
        state.make_authority().unwrap();
        assert!(due().unwrap().contains("no certificate yet"));
        certify(&state).unwrap();
        assert_eq!(due(), None);
        // As after the handover.
        state.drop_key().unwrap();
        certify(&state).unwrap();
        let other = Authority::new("mctl golem").unwrap();
        state.keep_authority(&other).unwrap();
        assert!(due().unwrap().contains("another authority"));
        certify(&state).unwrap();
        assert_eq!(due(), None);
        std::fs::write(state.file("registry/tls.crt"), "rubbish").unwrap();
        certify(&state).unwrap();
        assert_eq!(due(), None);
    }
}
