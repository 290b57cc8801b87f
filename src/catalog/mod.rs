//! What can be installed (components) and where (providers), as data from `embedded/` and `providers/`. Must not talk to anything.

mod profile;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use profile::Profile;

/// Everything mctl can install, after a profile was applied.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Components by name.
    pub components: BTreeMap<String, Component>,
    /// Infrastructure providers by name.
    pub providers: BTreeMap<String, Provider>,
    /// Profile in force, if any.
    pub profile: Option<Profile>,
}

/// One thing that can be installed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// Name; equals its folder.
    pub name: String,
    /// One sentence for people.
    pub description: String,
    /// Upstream version.
    pub version: String,
    /// Namespace of its workloads.
    pub namespace: String,
    /// When and by whom it is installed first.
    pub stage: Stage,
    /// Clusters that get it; both unless said.
    #[serde(default = "both")]
    pub clusters: Vec<Target>,
    /// Helm chart, if it is one.
    #[serde(default)]
    pub chart: Option<Chart>,
    /// Manifest files, in order: `vendor:<path below assets/vendor/manifests>` or `own:<path below the component's manifests/>`.
    #[serde(default)]
    pub manifests: Vec<String>,
    /// Container images it runs.
    #[serde(default)]
    pub images: Vec<String>,
    /// Components that must be ready first.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// What shows that it is ready.
    #[serde(default)]
    pub ready: Vec<Ready>,
    /// True: cannot be switched off in the document.
    #[serde(default)]
    pub required: bool,
}

fn both() -> Vec<Target> {
    vec![Target::Temporary, Target::Management]
}

/// When and by whom a component is installed first; afterwards Flux keeps all of them from the platform artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Applied by mctl itself (Cluster API, Flux, the manager).
    Seed,
    /// HelmRelease applied in the temporary cluster, installs into the new one (Cilium).
    ClusterAddon,
    /// From the platform artifact only.
    Management,
}

/// A cluster that something is rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The temporary kind cluster.
    Temporary,
    /// The new management cluster.
    Management,
}

/// A Helm chart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chart {
    /// Name; the packaged file is `assets/vendor/charts/<name>-<version>.tgz`.
    pub name: String,
    /// Chart version.
    pub version: String,
    /// Helm release name.
    pub release: String,
}

/// A workload whose readiness counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ready {
    /// Deployment, DaemonSet or StatefulSet.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if not the component's.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// An infrastructure provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// Name; equals its folder and its key under `spec.provider`.
    pub name: String,
    /// One sentence for people.
    pub description: String,
    /// Components it needs (its Cluster API provider).
    pub components: Vec<String>,
    /// Template files of the Cluster API objects, in order.
    pub templates: Vec<String>,
    /// Default Kubernetes version.
    pub kubernetes_version: String,
    /// Node image for that version, with `{version}`.
    pub node_image: String,
    /// Images its machines need besides components' images.
    #[serde(default)]
    pub images: Vec<String>,
    /// Values the templates may use.
    #[serde(default)]
    pub values: Value,
}
