//! The last document and environment that the manager accepted, as the cluster itself keeps them: what they look like in their
//! Secret, and what to do when one of them is gone. Pure.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::kinds::{ENVIRONMENT, MANAGEMENT_CLUSTER};
use crate::{
    Error, FIELD_MANAGER, GROUP, Kind, Result,
    config::{ManagementCluster, ManagementClusterSpec},
    environment::Environment,
    ports::kubernetes::objects::secret_text,
};

/// Secret in the manager's namespace. A Secret, because values of components may hold what nobody else should read.
pub const IN_FORCE: &str = "mctl-in-force";
const DOCUMENT_KEY: &str = "document.json";
const ENVIRONMENT_KEY: &str = "environment.json";

/// What is in force. Debug shows no values of the document.
#[derive(Clone, PartialEq)]
pub struct InForce {
    /// Spec of the document.
    pub spec: ManagementClusterSpec,
    /// Labels that people gave it.
    pub labels: BTreeMap<String, String>,
    /// Annotations that people gave it.
    pub annotations: BTreeMap<String, String>,
    /// Facts about the cluster.
    pub environment: Environment,
}

impl std::fmt::Debug for InForce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InForce").finish_non_exhaustive()
    }
}

impl InForce {
    /// What is in force once this document is accepted.
    pub fn of(document: &ManagementCluster, environment: &Environment) -> Self {
        let meta = &document.metadata;
        Self {
            spec: document.spec.clone(),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
            environment: environment.clone(),
        }
    }

    /// The document as it last was, to be made anew.
    pub fn document(&self, namespace: &str, name: &str) -> Result<DynamicObject> {
        object(json!({
            "apiVersion": MANAGEMENT_CLUSTER.gvk().api_version(), "kind": MANAGEMENT_CLUSTER.kind,
            "metadata": {"name": name, "namespace": namespace, "labels": self.labels, "annotations": self.annotations},
            "spec": self.spec,
        }))
    }

    /// The ConfigMap with the environment.
    pub fn environment(&self, namespace: &str) -> Result<DynamicObject> {
        object(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": ENVIRONMENT, "namespace": namespace},
            "data": {ENVIRONMENT_KEY: text(&self.environment)?},
        }))
    }

    /// The Secret that keeps both.
    pub fn secret(&self, namespace: &str, name: &str) -> Result<DynamicObject> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let document = text(&self.document(namespace, name)?)?;
        object(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": IN_FORCE, "namespace": namespace, "labels": {
                "app.kubernetes.io/managed-by": FIELD_MANAGER,
                format!("{GROUP}/cluster"): name,
            }},
            "data": {
                DOCUMENT_KEY: STANDARD.encode(document),
                ENVIRONMENT_KEY: STANDARD.encode(text(&self.environment)?),
            },
        }))
    }

    /// Reads it back; it must be of this cluster.
    pub fn from_secret(secret: &DynamicObject, name: &str) -> Result<Self> {
        let what = format!("Secret {IN_FORCE}, which keeps the last document, cannot be read");
        let part = |key: &str| {
            secret_text(secret, key)
                .ok_or_else(|| Error::failed(&what).because(format!("it has no {key}")))
        };
        let fail = |e: serde_json::Error| Error::failed(&what).because(&e);
        let document: ManagementCluster =
            serde_json::from_str(&part(DOCUMENT_KEY)?).map_err(fail)?;
        let environment: Environment =
            serde_json::from_str(&part(ENVIRONMENT_KEY)?).map_err(fail)?;
        if document.metadata.name.as_deref() != Some(name) {
            return Err(Error::failed(what).because("it is another cluster's"));
        }
        Ok(Self::of(&document, &environment))
    }
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(Kind::Internal, "what is in force cannot be written").because(&e))
}

fn object(value: Value) -> Result<DynamicObject> {
    serde_json::from_value(value)
        .map_err(|e| Error::new(Kind::Internal, "what is in force cannot be written").because(&e))
}

/// Whether an object is there, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// It has not been looked for yet.
    Unknown,
    /// It was looked for and is not there.
    No,
    /// It is there, readable or not.
    Yes,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Keep what was accepted.
    Keep,
    /// Make the document anew.
    Document,
    /// Make the environment anew.
    Environment,
}

/// What to do, in this order. `accepted` is what this process accepted last, `kept` what the Secret holds.
pub fn acts(
    accepted: Option<&InForce>,
    kept: Option<&InForce>,
    document: There,
    environment: There,
) -> Vec<Act> {
    let mut all = Vec::new();
    if accepted.is_some() && accepted != kept {
        all.push(Act::Keep);
    }
    if accepted.or(kept).is_some() {
        // The environment first: without it a document is not acted upon.
        if environment == There::No {
            all.push(Act::Environment);
        }
        if document == There::No {
            all.push(Act::Document);
        }
    }
    all
}

/// Why an environment must not be acted upon; it would make every node and webhook trust somebody else.
pub fn refusal(environment: &Environment, authority: Option<&str>) -> Option<String> {
    let theirs = environment.ca_certificate.trim();
    if theirs.is_empty() {
        return Some("the environment names no certificate authority".to_owned());
    }
    let ours = authority?.trim();
    // Several are listed while one follows another.
    (!theirs.contains(ours)).then(|| {
        "the environment names another certificate authority than the cluster has".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn in_force(replicas: u32) -> InForce {
        let document: ManagementCluster = serde_json::from_value(json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem", "namespace": "giantswarm", "uid": "u", "generation": 7,
                "labels": {"team": "a"}, "resourceVersion": "9"},
            "spec": {"controlPlane": {"replicas": replicas},
                "components": {"monitoring": {"values": {"password": "hunter2"}}}},
            "status": {"phase": "Ready"},
        }))
        .unwrap();
        let environment = Environment {
            ca_certificate: "CA".into(),
            mctl_image: "mctl:1".into(),
            ..Environment::default()
        };
        InForce::of(&document, &environment)
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let three = in_force(3);
        let secret = three.secret("giantswarm", "golem").unwrap();
        assert_eq!(InForce::from_secret(&secret, "golem").unwrap(), three);
        let plain = serde_json::to_string(&secret).unwrap();
        assert!(!plain.contains("hunter2"), "no value in clear text");
        assert!(!format!("{three:?}").contains("hunter2"));
        let anew = serde_json::to_value(three.document("giantswarm", "golem").unwrap()).unwrap();
        assert_eq!(anew["spec"]["controlPlane"]["replicas"], 3);
        assert_eq!(anew["metadata"]["labels"]["team"], "a");
        for gone in ["uid", "resourceVersion", "generation"] {
            assert!(anew["metadata"].get(gone).is_none(), "{gone}");
        }
        assert!(anew.get("status").is_none());
    }

    #[test]
    fn what_is_damaged_or_foreign_is_refused() {
        let good = in_force(3).secret("giantswarm", "golem").unwrap();
        let why = InForce::from_secret(&good, "other").unwrap_err().line();
        assert!(why.contains("another cluster"), "{why}");
        for key in [DOCUMENT_KEY, ENVIRONMENT_KEY] {
            for bad in [json!("bm9uZQ=="), json!(null)] {
                let mut secret = good.clone();
                secret.data["data"][key] = bad;
                assert!(InForce::from_secret(&secret, "golem").is_err(), "{key}");
            }
        }
    }

    #[test]
    fn what_is_gone_comes_back_and_nothing_is_done_on_doubt() {
        use There::{No, Unknown, Yes};
        let (one, three) = (in_force(1), in_force(3));
        type Case<'a> = (
            Option<&'a InForce>,
            Option<&'a InForce>,
            There,
            There,
            &'a [Act],
        );
        let cases: [Case; 9] = [
            (None, None, No, No, &[]),
            (None, None, Unknown, Unknown, &[]),
            (Some(&one), None, Yes, Yes, &[Act::Keep]),
            (Some(&one), Some(&one), Yes, Yes, &[]),
            (Some(&three), Some(&one), Yes, Yes, &[Act::Keep]),
            (None, Some(&one), No, Yes, &[Act::Document]),
            (None, Some(&one), Unknown, Unknown, &[]),
            (None, Some(&one), No, No, &[Act::Environment, Act::Document]),
            (
                Some(&three),
                Some(&one),
                No,
                Yes,
                &[Act::Keep, Act::Document],
            ),
        ];
        for (accepted, kept, document, environment, expected) in cases {
            assert_eq!(acts(accepted, kept, document, environment), expected);
        }
    }

    #[test]
    fn an_environment_of_another_authority_is_refused() {
        let with = |ca: &str| Environment {
            ca_certificate: ca.into(),
            ..Environment::default()
        };
        assert!(refusal(&with(""), None).is_some());
        assert!(refusal(&with("  \n"), Some("A")).is_some());
        assert!(refusal(&with("B"), Some("A")).is_some());
        assert!(refusal(&with("A\n"), Some("A")).is_none());
        assert!(refusal(&with("B\nA"), Some("A\n")).is_none(), "a rotation");
        assert!(
            refusal(&with("A"), None).is_none(),
            "nothing to compare with yet"
        );
    }
}
