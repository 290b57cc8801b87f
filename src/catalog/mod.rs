//! What can be installed (components) and where (providers), as data from `embedded/` and `providers/`. Must not talk to anything.

pub mod assets;
mod load;
mod profile;
mod select;
pub mod template;
pub(crate) mod yaml;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use load::short_name;
pub use profile::Profile;

/// Entry of [`Component::manifests`] for the definition of `ManagementCluster`, which comes from the types.
pub const MANAGEMENT_CLUSTER_CRD: &str = "crd:managementclusters";

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
    /// Upstream version; `mctl` for this executable's own.
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
    /// Manifest files, in order: `vendor:<path below assets/vendor/manifests>` (taken as it is, apart from the upstream
    /// rules in [`crate::render`]), `own:<path below the component's manifests/>` (a template) or `raw:<path below the
    /// component's manifests/>` (not a template: alerts, dashboards). `own:/<component>/<path>` is another component's
    /// template.
    #[serde(default)]
    pub manifests: Vec<String>,
    /// Values of `${NAME:=default}` in vendored manifests.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Objects of vendored manifests that are left out.
    #[serde(default)]
    pub omit: Vec<ObjectName>,
    /// Changes to objects of the manifests, or of the chart by Helm's post-renderer; templates.
    #[serde(default)]
    pub patches: Vec<ObjectPatch>,
    /// Role in Cluster API, if it is one of its providers.
    #[serde(default)]
    pub cluster_api_provider: Option<String>,
    /// Container images it runs.
    #[serde(default)]
    pub images: Vec<String>,
    /// Components that must be ready first.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// What shows that it is ready.
    #[serde(default)]
    pub ready: Vec<Ready>,
    /// Whether it is on when the document does not say.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// True: cannot be switched off in the document.
    #[serde(default)]
    pub required: bool,
    /// How Flux keeps it.
    #[serde(default)]
    pub flux: FluxSettings,
}

fn yes() -> bool {
    true
}

fn both() -> Vec<Target> {
    vec![Target::Temporary, Target::Management]
}

/// When and by whom a component is installed first; afterwards Flux keeps all of them from the platform artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// An object by kind and name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectName {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A change to objects of a component's manifests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectPatch {
    /// Kind of the objects.
    pub kind: String,
    /// Name; every object of the kind if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Merged over the object: maps by key, lists of maps with a `name` by that name, `null` removes, other lists are
    /// replaced (in a chart: a strategic merge). A template.
    pub merge: Value,
}

/// How Flux keeps a component.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FluxSettings {
    /// How often it is compared with the cluster; 1m if absent.
    pub interval: Option<String>,
    /// How long it may take to become ready; 5m if absent.
    pub timeout: Option<String>,
    /// `healthCheckExprs` of its Kustomization: what ready means for kinds that Flux does not know.
    pub health: Vec<Value>,
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
