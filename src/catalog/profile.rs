//! The profile a bundle may carry: versions it holds, parts it lacks, values its environment needs. Must not know a particular profile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `kind: Profile` of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Kubernetes version used when the document names none.
    #[serde(default)]
    pub kubernetes_version: Option<String>,
    /// Node image in the bundle (full reference).
    #[serde(default)]
    pub node_image: Option<String>,
    /// Optional parts that the bundle lacks.
    #[serde(default)]
    pub without: Vec<String>,
    /// Values merged over a component's own (RFC 7386), by component name.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
}
