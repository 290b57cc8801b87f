//! Types of the document. One set serves YAML, JSON Schema, CRD and the manager; must not contain logic beyond defaults and accessors.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    forms::{self, form},
    name::ClusterName,
};
use crate::error::Result;

/// What the management cluster shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mctl.giantswarm.io",
    version = "v1alpha1",
    kind = "ManagementCluster",
    plural = "managementclusters",
    shortname = "mc",
    namespaced,
    status = "ManagementClusterStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ManagementClusterSpec {
    /// Customer that the cluster belongs to; a DNS label.
    #[schemars(transform = form(forms::LABEL), example = &"acme")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// DNS name below which the cluster's services are published.
    #[schemars(transform = form(forms::DOMAIN), example = "golem.acme.example.io")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_domain: Option<String>,
    /// Infrastructure provider; exactly one.
    pub provider: ProviderSpec,
    /// Kubernetes version, `v1.36.3`; the provider's default if absent.
    #[schemars(transform = form(forms::VERSION), example = "v1.36.3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Control plane.
    pub control_plane: ControlPlane,
    /// Pools of worker machines; without any, the control plane runs everything.
    #[schemars(length(max = 50), transform = forms::ListKey("name"))]
    pub node_pools: Vec<NodePool>,
    /// Sources of platform and customer configuration.
    pub gitops: Gitops,
    /// Where container images come from.
    pub registry: Registry,
    /// Address ranges.
    pub network: Network,
    /// Switches and values per component, by component name.
    #[schemars(extend("maxProperties" = 128), example = forms::components_example())]
    pub components: BTreeMap<String, ComponentSettings>,
}

impl ManagementCluster {
    /// Its name, checked; a document that was read from a file has a good one.
    pub fn cluster_name(&self) -> Result<ClusterName> {
        self.metadata.name.as_deref().unwrap_or_default().parse()
    }
}

/// Infrastructure provider; exactly one field is set. Absent means Docker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = forms::one_of)]
pub struct ProviderSpec {
    /// Machines are containers of a Docker engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerProvider>,
}

impl Default for ProviderSpec {
    fn default() -> Self {
        Self {
            docker: Some(DockerProvider::default()),
        }
    }
}

impl ProviderSpec {
    /// Name of the provider's folder in the catalog.
    pub fn name(&self) -> &'static str {
        "docker"
    }
}

/// Settings of the Docker provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DockerProvider {
    /// Node image; the catalog's image for the Kubernetes version if absent.
    #[schemars(transform = form(forms::IMAGE), example = "docker.io/kindest/node:v1.36.3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_image: Option<String>,
    /// Extra mounts of every machine.
    #[schemars(length(max = 16), transform = forms::ListKey("containerPath"))]
    pub extra_mounts: Vec<ExtraMount>,
}

/// A mount from the engine's host into machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtraMount {
    /// Absolute path on the host.
    #[schemars(transform = form(forms::HOST_PATH), example = "/srv/data")]
    pub host_path: String,
    /// Absolute path in the machine.
    #[schemars(transform = form(forms::MOUNT_PATH), example = "/var/mnt/data")]
    pub container_path: String,
    /// Mounted read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// Control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControlPlane {
    /// Number of machines: 1 or 3.
    #[schemars(extend("enum" = [1, 3]))]
    pub replicas: u32,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

/// A pool of equal worker machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePool {
    /// Name; a DNS label, unique in the document.
    #[schemars(transform = form(forms::POOL_NAME), example = &"default")]
    pub name: String,
    /// Number of machines.
    #[schemars(range(max = 100))]
    #[serde(default = "one")]
    pub replicas: u32,
    /// Labels of its nodes.
    #[schemars(schema_with = "labels", example = BTreeMap::from([("example.io/disk", "fast")]))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": forms::LABEL_VALUE.schema(),
    })
}

fn one() -> u32 {
    1
}

/// Sources of configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gitops {
    /// The customer's own source, followed by `flux-system`: either `git` or `oci`. None if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerSource>,
}

/// The customer's source: a Git repository or an OCI artifact; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = forms::one_of)]
pub struct CustomerSource {
    /// Git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// OCI artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,
}

/// A Git repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = forms::git_rules()))]
pub struct GitSource {
    /// `https://` or `ssh://` address.
    #[schemars(transform = form(forms::GIT_URL), example = "https://git.example.io/acme/golem.git")]
    pub url: String,
    /// Branch.
    #[schemars(transform = form(forms::BRANCH))]
    #[serde(default = "main_branch")]
    pub branch: String,
    /// Folder in the repository.
    #[schemars(transform = form(forms::FOLDER))]
    #[serde(default = "root_path")]
    pub path: String,
    /// Name of a Secret in `flux-system` with credentials; created by the customer.
    #[schemars(transform = form(forms::DOMAIN), example = "git-credentials")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
}

/// An OCI artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciSource {
    /// `oci://` address, without tag.
    #[schemars(transform = form(forms::OCI_URL), example = "oci://registry.example.io/acme/golem")]
    pub url: String,
    /// Tag.
    #[schemars(transform = form(forms::TAG))]
    #[serde(default = "latest")]
    pub tag: String,
    /// Folder in the artifact.
    #[schemars(transform = form(forms::FOLDER))]
    #[serde(default = "root_path")]
    pub path: String,
    /// Name of a Secret in `flux-system` with credentials.
    #[schemars(transform = form(forms::DOMAIN), example = "registry-credentials")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
}

fn main_branch() -> String {
    "main".into()
}

fn root_path() -> String {
    "./".into()
}

fn latest() -> String {
    "latest".into()
}

/// Where container images come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registry {
    /// Mirrors tried by every node before an upstream registry.
    #[schemars(length(max = 32), transform = forms::ListKey("upstream"))]
    pub mirrors: Vec<Mirror>,
}

/// A mirror of one upstream registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// Upstream registry host, `registry.k8s.io`, or `*` for all.
    #[schemars(transform = form(forms::REGISTRY_HOST), example = "registry.k8s.io")]
    pub upstream: String,
    /// Addresses tried in order, `https://mirror.example.io`.
    #[schemars(schema_with = "endpoints")]
    pub endpoints: Vec<String>,
}

fn endpoints(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 8,
        "x-kubernetes-list-type": "set",
        "items": forms::ENDPOINT.example("https://mirror.example.io"),
    })
}

/// Address ranges of pods and services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = forms::network_rules()))]
pub struct Network {
    /// Pod addresses; every node takes a /24 of them. Cannot be changed later.
    #[schemars(transform = form(forms::CIDR), example = "192.168.0.0/16")]
    pub pod_cidr: String,
    /// Service addresses. Cannot be changed later.
    #[schemars(transform = form(forms::CIDR), example = "10.128.0.0/16")]
    pub service_cidr: String,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pod_cidr: "192.168.0.0/16".into(),
            service_cidr: "10.128.0.0/16".into(),
        }
    }
}

/// Switch and values of one component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ComponentSettings {
    /// False leaves the component out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Merged over the catalog's values (RFC 7386).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub values: Option<Value>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// What the manager observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagementClusterStatus {
    /// `Bootstrapping`, `Ready`, `Updating` or `Degraded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Version of the manager that wrote this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Generation of the spec that was acted upon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Digest of the platform artifact being served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_digest: Option<String>,
    /// Conditions: `Ready`, `ControlPlaneReady`, `WorkersReady`, `MonitoringHeartbeat`, `Component<Name>` …
    #[schemars(transform = forms::ListKey("type"))]
    pub conditions: Vec<Condition>,
}

/// A condition as in Kubernetes' API conventions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// CamelCase name.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// CamelCase reason.
    pub reason: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// RFC 3339 time of the last change of `status`.
    pub last_transition_time: String,
    /// Generation it was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
