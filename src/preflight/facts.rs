//! What preflight looked at: plain values, each of which may be unknown. Must not look or judge.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use crate::config::{Cidr, ClusterName};

/// A fact, or why it could not be had.
pub type Fact<T> = Result<T, Unknown>;

/// Why something is not known: one clause, which names the missing right where one is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl Unknown {
    /// For a reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Everything that the checks judge.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What shall be made.
    pub wanted: Wanted,
    /// The container engine.
    pub engine: Engine,
    /// This host.
    pub host: Host,
}

/// What document, bundle and executable ask for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name of the cluster.
    pub name: ClusterName,
    /// Machines of the document.
    pub machines: u64,
    /// Range of pods.
    pub pods: Cidr,
    /// Range of services.
    pub services: Cidr,
    /// Kubernetes version, `v1.36.3`.
    pub kubernetes: String,
    /// Image of the machines.
    pub node_image: String,
    /// Host paths that machines mount, with whether they are there.
    pub mounts: BTreeMap<String, bool>,
    /// Mirrors of the document serve every registry.
    pub mirrored: bool,
    /// The bundle, if one was given.
    pub bundle: Option<Offer>,
    /// State of an earlier run of this name.
    pub earlier: Option<Earlier>,
    /// Whether mctl can form its own image from the running executable.
    pub own_image: Fact<()>,
}

/// What a bundle offers against what the plan needs.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Where it is.
    pub path: PathBuf,
    /// Images that the plan needs and the bundle lacks.
    pub missing: Vec<String>,
    /// How many images the plan needs.
    pub needed: usize,
    /// Node images that it holds.
    pub node_images: Vec<String>,
}

/// What an earlier run left on this host.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// File with its request.
    pub file: PathBuf,
    /// Its document is another one than today's.
    pub differs: bool,
}

/// The container engine.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Address, or what the command uses by default.
    pub address: String,
    /// What it said.
    pub answer: Result<Answer, NoAnswer>,
}

/// Why there is nothing known of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no `docker` command.
    NoCommand(String),
    /// Its socket may not be used by this user.
    NoPermission(String),
    /// Nothing answers there.
    Silent(String),
    /// Something answered, but not an engine that this mctl understands.
    Strange(String),
}

/// What an engine says of itself and of what is on it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Version, `26.1.5`.
    pub version: String,
    /// Name of its host.
    pub name: String,
    /// `Docker Desktop`, `Debian GNU/Linux 13`.
    pub operating_system: String,
    /// `linux`.
    pub os_type: String,
    /// Options such as `name=rootless`.
    pub security: Vec<String>,
    /// `1` or `2`; empty: it does not say.
    pub cgroup: String,
    /// `overlay2`.
    pub storage: String,
    /// Images are kept by containerd.
    pub containerd_store: bool,
    /// Folder of its data.
    pub root: PathBuf,
    /// Bytes of memory.
    pub memory: u64,
    /// Processors.
    pub processors: u64,
    /// `6.12.0`.
    pub kernel: String,
    /// The engine forwards packets between networks.
    pub forwards: Option<bool>,
    /// Seconds its clock is ahead of this host's; negative: behind.
    pub ahead: Option<i64>,
    /// It is not Docker's, but Podman's imitation.
    pub podman: bool,
    /// Its networks and their ranges.
    pub networks: Option<Fact<BTreeMap<String, Vec<Cidr>>>>,
    /// Containers that carry the label of a kind cluster of this name.
    pub machines: Option<Fact<Vec<String>>>,
    /// The container with the registry's name, and whether it carries this cluster's label.
    pub registry: Option<Fact<Option<bool>>>,
    /// Free bytes where it keeps images; unknown for a remote engine.
    pub free: Option<Fact<u64>>,
}

/// This host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name, as the kernel has it.
    pub name: String,
    /// Year of its clock.
    pub year: i16,
    /// Where state is kept.
    pub state: Fact<Folder>,
    /// Where kind's executable is unpacked.
    pub cache: Fact<Folder>,
    /// Bytes of memory that are free now.
    pub memory: Fact<u64>,
    /// `fs.inotify.max_user_instances`.
    pub inotify_instances: Fact<u64>,
    /// `fs.inotify.max_user_watches`.
    pub inotify_watches: Fact<u64>,
    /// Files that this process may have open, at most.
    pub open_files: Fact<u64>,
    /// File systems that the kernel has at present.
    pub file_systems: Fact<Vec<String>>,
    /// IPv4 routes.
    pub routes: Fact<Vec<Route>>,
    /// Name servers.
    pub resolvers: Fact<Vec<Ipv4Addr>>,
    /// Proxy variables that are set.
    pub proxy: Proxy,
}

/// A folder that will be written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// Why nothing can be written there.
    pub refused: Option<String>,
    /// Executables may not be run from there.
    pub noexec: bool,
    /// Free bytes.
    pub free: u64,
}

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Cidr,
    /// Interface.
    pub device: String,
}

/// Proxy variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Names of variables with a proxy; their values may hold a password.
    pub set: Vec<String>,
    /// What is asked for directly.
    pub spared: Option<String>,
}
