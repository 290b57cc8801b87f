//! Rules between and beyond single fields, on the typed document; also for documents that come from a cluster. Must be pure.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::{
    check::check,
    cidr::Cidr,
    forms::NAMES_MAX,
    hint,
    problem::{Path, Problem, shown},
    schema,
    tree::Node,
    types::{ManagementCluster, Mirror},
};

/// Kubernetes minor versions that this mctl runs: those that its Cluster API and Flux both support in management clusters.
pub const KUBERNETES_MINORS: std::ops::RangeInclusive<u64> = 34..=37;

/// Pod addresses of one node: what kubeadm hands out.
const NODE_PREFIX: u32 = 24;

/// A component that the catalog has. A plain name is one that can be switched off.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// It cannot be switched off.
    pub required: bool,
}

impl<'a> From<&'a str> for Known<'a> {
    fn from(name: &'a str) -> Self {
        Self {
            name,
            required: false,
        }
    }
}

/// Everything that is wrong with a document; `known_components` are those of the catalog, none: names are not checked.
pub fn validate<'a, K: Copy + Into<Known<'a>>>(
    document: &ManagementCluster,
    known_components: &[K],
) -> Vec<Problem> {
    let known: Vec<Known<'_>> = known_components.iter().map(|k| (*k).into()).collect();
    let meta = &document.metadata;
    let mut value = json!({
        "apiVersion": schema::API_VERSION,
        "kind": schema::KIND,
        "metadata": {},
        "spec": document.spec,
    });
    // Only what a document holds; the cluster adds more to its objects.
    let given = [
        ("name", meta.name.as_ref().map(|n| json!(n))),
        ("namespace", meta.namespace.as_ref().map(|n| json!(n))),
        ("labels", meta.labels.as_ref().map(|l| json!(l))),
    ];
    for (key, field) in given {
        if let Some(field) = field {
            value["metadata"][key] = field;
        }
    }
    let checked = check(&Node::from_value(&value), schema::document());
    let mut problems = checked.problems;
    problems.extend(rules(document, &known, &checked.broken));
    for problem in &mut problems {
        problem.span = None;
    }
    problems
}

/// The rules that the schema cannot express; findings that rest on broken places are left out.
pub(super) fn rules(
    document: &ManagementCluster,
    known_components: &[Known<'_>],
    broken: &HashSet<Path>,
) -> Vec<Problem> {
    let mut out = Vec::new();
    labels(
        document.metadata.labels.as_ref(),
        &Path::of("metadata.labels"),
        false,
        &mut out,
    );
    version(document, &mut out);
    pools(document, &mut out);
    mounts(document, &mut out);
    network(document, &mut out);
    sources(document, &mut out);
    mirrors(&document.spec.registry.mirrors, &mut out);
    components(document, known_components, &mut out);
    out.retain(|problem| {
        !std::iter::once(&problem.path)
            .chain(&problem.depends)
            .any(|path| path.within(broken))
    });
    out
}

fn version(document: &ManagementCluster, out: &mut Vec<Problem>) {
    let Some(version) = &document.spec.kubernetes_version else {
        return;
    };
    let path = Path::of("spec.kubernetesVersion");
    let Some(minor) = minor(version) else { return };
    let (oldest, newest) = (KUBERNETES_MINORS.start(), KUBERNETES_MINORS.end());
    if !KUBERNETES_MINORS.contains(&minor) {
        out.push(Problem::new(
            path,
            format!("Kubernetes {version} is not supported"),
            format!("use a version from v1.{oldest} to v1.{newest}"),
        ));
        return;
    }
    let docker = document.spec.provider.docker.as_ref();
    let Some(image) = docker.and_then(|d| d.node_image.as_deref()) else {
        return;
    };
    let tag = image
        .split('@')
        .next()
        .and_then(|i| i.rsplit_once(':'))
        .map(|(_, tag)| tag);
    if let Some(tag) = tag.filter(|t| self::minor(t).is_some() && t != version) {
        out.push(
            Problem::new(
                Path::of("spec.provider.docker.nodeImage"),
                format!("the node image is for Kubernetes {tag}, the document asks for {version}"),
                format!("use an image of {version}, or `kubernetesVersion: {tag}`"),
            )
            .depends(path),
        );
    }
}

/// Minor number of `v1.<minor>.<patch>`.
fn minor(version: &str) -> Option<u64> {
    let rest = version.strip_prefix('v')?;
    let version = semver::Version::parse(rest).ok()?;
    (version.major == 1).then_some(version.minor)
}

fn pools(document: &ManagementCluster, out: &mut Vec<Problem>) {
    let cluster = document.metadata.name.as_deref().unwrap_or_default();
    for (i, pool) in document.spec.node_pools.iter().enumerate() {
        let path = Path::of("spec.nodePools").index(i);
        let length = cluster.len() + pool.name.len();
        if pool.name == "control-plane" {
            out.push(Problem::new(
                path.key("name"),
                "`control-plane` is the name of the control plane's machines",
                "choose another name",
            ));
        } else if length > NAMES_MAX {
            out.push(
                Problem::new(
                    path.key("name"),
                    format!("the names of the cluster and the pool have {length} characters together, at most {NAMES_MAX} fit into a machine's name"),
                    format!("shorten one of them by {}", length - NAMES_MAX),
                )
                .depends(Path::of("metadata.name")),
            );
        }
        labels(Some(&pool.labels), &path.key("labels"), true, out);
    }
}

/// Keys of labels; nodes may not have all that objects may have.
fn labels(
    labels: Option<&BTreeMap<String, String>>,
    path: &Path,
    of_node: bool,
    out: &mut Vec<Problem>,
) {
    const PART: &str = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
    const DOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    for key in labels.into_iter().flat_map(BTreeMap::keys) {
        let (domain, part) = key
            .split_once('/')
            .map_or((None, key.as_str()), |(d, p)| (Some(d), p));
        let domain_fits = domain.is_none_or(|d| d.len() <= 253 && hint::fits(DOMAIN, d));
        if !domain_fits || !hint::fits(PART, part) {
            out.push(
                Problem::new(
                    path.key(key),
                    format!("{} is not a label's name", shown(key)),
                    "write `name` or `example.io/name`: letters, digits, `-`, `_` and `.`, at most 63 behind the `/`",
                )
                .at_key(),
            );
            continue;
        }
        if of_node && domain.is_some_and(is_reserved) {
            out.push(
                Problem::new(
                    path.key(key),
                    format!("nodes may not give themselves the label {}", shown(key)),
                    "use a name of your own domain, or one below `node.kubernetes.io/`",
                )
                .at_key(),
            );
        }
    }
}

/// Domains whose labels the kubelet refuses to start with.
fn is_reserved(domain: &str) -> bool {
    let below = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    (below("kubernetes.io") || below("k8s.io"))
        && !(below("node.kubernetes.io")
            || below("kubelet.kubernetes.io")
            || domain == "topology.kubernetes.io")
}

fn mounts(document: &ManagementCluster, out: &mut Vec<Problem>) {
    /// Places that mctl or the node image fills; a mount at, above or below them breaks the machine.
    const FILLED: &[&str] = &[
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/etc/containerd",
        "/etc/kubernetes",
        "/etc/cni",
        "/kind",
        "/proc",
        "/sys",
        "/dev",
        "/lib/modules",
        "/var/lib/containerd",
        "/var/lib/kubelet",
        "/var/lib/etcd",
        "/usr",
        "/bin",
        "/sbin",
        "/lib64",
    ];
    let Some(docker) = &document.spec.provider.docker else {
        return;
    };
    for (i, mount) in docker.extra_mounts.iter().enumerate() {
        let path = Path::of("spec.provider.docker.extraMounts").index(i);
        for (field, value) in [
            ("hostPath", &mount.host_path),
            ("containerPath", &mount.container_path),
        ] {
            if value.split('/').any(|part| part == "." || part == "..") {
                out.push(Problem::new(
                    path.key(field),
                    format!("{} contains `.` or `..`", shown(value)),
                    "write the path without them",
                ));
            }
        }
        let mount = mount.container_path.as_str();
        let inside = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(taken) = FILLED.iter().find(|t| inside(mount, t) || inside(t, mount)) {
            out.push(Problem::new(
                path.key("containerPath"),
                format!(
                    "{} clashes with `{taken}`, which the machine needs",
                    shown(mount)
                ),
                "mount it elsewhere, such as below `/var/mnt`",
            ));
        }
    }
}

fn network(document: &ManagementCluster, out: &mut Vec<Problem>) {
    let network = &document.spec.network;
    let pods = range(
        &network.pod_cidr,
        "spec.network.podCidr",
        8..=NODE_PREFIX,
        out,
    );
    let services = range(
        &network.service_cidr,
        "spec.network.serviceCidr",
        12..=24,
        out,
    );
    if let (Some(pods), Some(services)) = (pods, services)
        && pods.overlaps(services)
    {
        // The one that was chosen is meant, not the default.
        let chosen = network.service_cidr != super::Network::default().service_cidr;
        let (path, range, other) = if chosen {
            ("serviceCidr", services, ("podCidr", pods))
        } else {
            ("podCidr", pods, ("serviceCidr", services))
        };
        let path_of = |name: &str| Path::of("spec.network").key(name);
        out.push(
            Problem::new(
                path_of(path),
                format!("{range} overlaps with {}, {}", other.0, other.1),
                "choose two ranges that have no address in common",
            )
            .depends(path_of(other.0)),
        );
    }
    let workers: u64 = document
        .spec
        .node_pools
        .iter()
        .map(|p| u64::from(p.replicas))
        .sum();
    // One more while machines are replaced, of the control plane and of every pool.
    let nodes = u64::from(document.spec.control_plane.replicas)
        + workers
        + document.spec.node_pools.len() as u64
        + 1;
    if let Some(pods) = pods {
        let fit = 1_u64 << (NODE_PREFIX - pods.prefix());
        if nodes > fit {
            let needed = NODE_PREFIX - nodes.next_power_of_two().trailing_zeros().min(NODE_PREFIX);
            out.push(
                Problem::new(
                    Path::of("spec.network.podCidr"),
                    format!("{pods} has room for {fit} nodes, up to {nodes} are asked for; every node takes a /{NODE_PREFIX}"),
                    format!("use a larger range, such as `{}`", pods.with_prefix(needed)),
                )
                .depends(Path::of("spec.nodePools"))
                .depends(Path::of("spec.controlPlane")),
            );
        }
    }
}

/// A range that can be used, else `None` and a finding.
fn range(
    text: &str,
    path: &str,
    prefixes: std::ops::RangeInclusive<u32>,
    out: &mut Vec<Problem>,
) -> Option<Cidr> {
    const UNUSABLE: &[&str] = &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];
    let path = Path::of(path);
    let Some(cidr) = Cidr::parse(text) else {
        out.push(Problem::new(
            path,
            format!("{} is not a range of IPv4 addresses", shown(text)),
            "write four numbers up to 255, a `/` and a length up to 32",
        ));
        return None;
    };
    if cidr.to_string() != text {
        out.push(Problem::new(
            path,
            format!(
                "{} does not begin at the first address of its range",
                shown(text)
            ),
            format!("write `{cidr}`"),
        ));
        return None;
    }
    if !prefixes.contains(&cidr.prefix()) {
        let (most, least) = (prefixes.start(), prefixes.end());
        let size = if cidr.prefix() < *most {
            "large"
        } else {
            "small"
        };
        out.push(Problem::new(
            path,
            format!("{cidr} is too {size}"),
            format!("use a length from /{most} to /{least}"),
        ));
        return None;
    }
    let unusable = UNUSABLE.iter().filter_map(|u| Cidr::parse(u));
    if let Some(unusable) = unusable.into_iter().find(|u| u.overlaps(cidr)) {
        out.push(Problem::new(
            path,
            format!("{cidr} lies in {unusable}, which networks cannot use"),
            "use a private range, such as one below 10.0.0.0/8",
        ));
        return None;
    }
    Some(cidr)
}

fn sources(document: &ManagementCluster, out: &mut Vec<Problem>) {
    let Some(source) = &document.spec.gitops.customer else {
        return;
    };
    let folder = |path: &Path, folder: &str, out: &mut Vec<Problem>| {
        if folder.split('/').any(|part| part == "..") {
            out.push(Problem::new(
                path.key("path"),
                format!("{} leads out of the source", shown(folder)),
                "write the path from the root, without `..`",
            ));
        }
    };
    if let Some(git) = &source.git {
        let path = Path::of("spec.gitops.customer.git");
        folder(&path, &git.path, out);
        let user = git.url.split_once("://").and_then(|(_, rest)| {
            let authority = rest.split('/').next().unwrap_or(rest);
            Some(authority.rsplit_once('@')?.0)
        });
        let ssh = git.url.starts_with("ssh://");
        if user.is_some_and(|u| !ssh || u.contains(':')) {
            out.push(Problem::new(
                path.key("url"),
                "the address holds credentials",
                "remove them; put them into a Secret in `flux-system` and name it in `secretRef`",
            ));
        }
        if ssh && git.secret_ref.is_none() {
            out.push(
                Problem::new(
                    path.key("url"),
                    "an ssh:// address needs a key",
                    "add `secretRef: NAME`, a Secret in `flux-system` with identity and known_hosts",
                )
                .depends(path.key("secretRef")),
            );
        }
    }
    if let Some(oci) = &source.oci {
        folder(&Path::of("spec.gitops.customer.oci"), &oci.path, out);
    }
}

fn mirrors(mirrors: &[Mirror], out: &mut Vec<Problem>) {
    for (i, mirror) in mirrors.iter().enumerate() {
        if mirror.upstream == crate::GROUP {
            out.push(Problem::new(
                Path::of("spec.registry.mirrors").index(i).key("upstream"),
                format!("`{}` is served by mctl itself", mirror.upstream),
                "remove this mirror",
            ));
        }
    }
}

fn components(document: &ManagementCluster, known: &[Known<'_>], out: &mut Vec<Problem>) {
    if known.is_empty() {
        return;
    }
    let names = || known.iter().map(|k| k.name);
    for (name, settings) in &document.spec.components {
        let path = Path::of("spec.components").key(name);
        match known.iter().find(|k| k.name == name) {
            Some(k) if k.required && settings.enabled == Some(false) => out.push(Problem::new(
                path.key("enabled"),
                format!("{} is needed by every management cluster", shown(name)),
                "remove the line; the component cannot be switched off",
            )),
            Some(_) => {}
            None => {
                let fix = match hint::nearest(name, names()) {
                    Some((near, _)) => format!("write `{near}`"),
                    None => format!(
                        "remove it; known are {}",
                        names().collect::<Vec<_>>().join(", ")
                    ),
                };
                let what = format!("unknown component {}", shown(name));
                out.push(Problem::new(path, what, fix).at_key());
            }
        }
    }
}

impl Node {
    /// A tree without places.
    fn from_value(value: &Value) -> Self {
        use super::{
            problem::Span,
            tree::{Entry, NodeKind},
        };
        let span = Span {
            line: 0,
            column: 0,
            len: 0,
        };
        let kind = match value {
            Value::Null => NodeKind::Scalar {
                text: "null".to_owned(),
                plain: true,
            },
            Value::Bool(b) => NodeKind::Scalar {
                text: b.to_string(),
                plain: true,
            },
            Value::Number(n) => NodeKind::Scalar {
                text: n.to_string(),
                plain: true,
            },
            Value::String(text) => NodeKind::Scalar {
                text: text.clone(),
                plain: false,
            },
            Value::Array(items) => NodeKind::List(items.iter().map(Self::from_value).collect()),
            Value::Object(fields) => NodeKind::Map(
                fields
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        key_span: span,
                        value: Self::from_value(value),
                    })
                    .collect(),
            ),
        };
        Self { span, kind }
    }
}
