//! What the manager works from: document, environment and CA, followed by watches on three named objects. Must not act on them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;
use tokio::sync::watch;

use super::{
    backoff::Steady,
    in_force::There,
    kinds::{AUTHORITY, CONFIG_MAP, ENVIRONMENT, Known, MANAGEMENT_CLUSTER, SECRET},
};
use crate::{
    config::ManagementCluster, environment::Environment, pki::Authority,
    ports::kubernetes::objects::secret_text,
};

/// The three inputs as last seen.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The document.
    pub document: Option<Arc<ManagementCluster>>,
    /// Facts found out by the bootstrap.
    pub environment: Option<Arc<Environment>>,
    /// The cluster's CA.
    pub authority: Option<Arc<Authority>>,
    /// What cannot be read, by object.
    pub unreadable: Vec<(&'static str, String)>,
    /// What was looked for and is not there.
    absent: Vec<&'static str>,
}

impl Inputs {
    /// What is not there or cannot be read; empty when all is.
    pub fn missing(&self, name: &str) -> Vec<String> {
        let mut all = Vec::new();
        let mut note = |there: bool, key: &'static str, text: String| {
            if there {
                return;
            }
            match self.unreadable.iter().find(|(k, _)| *k == key) {
                Some((_, why)) => all.push(format!("{text} cannot be read: {why}")),
                None => all.push(format!("{text} does not exist yet")),
            }
        };
        note(
            self.document.is_some(),
            DOCUMENT,
            format!("ManagementCluster {name}"),
        );
        note(
            self.environment.is_some(),
            ENVIRONMENT,
            format!("ConfigMap {ENVIRONMENT}"),
        );
        note(
            self.authority.is_some(),
            AUTHORITY,
            format!("Secret {AUTHORITY}"),
        );
        all
    }

    /// Whether the document is there.
    pub fn document_there(&self) -> There {
        self.there(DOCUMENT, self.document.is_some())
    }

    /// Whether the environment is there.
    pub fn environment_there(&self) -> There {
        self.there(ENVIRONMENT, self.environment.is_some())
    }

    fn there(&self, key: &str, read: bool) -> There {
        if self.absent.contains(&key) {
            There::No
        } else if read || self.unreadable.iter().any(|(k, _)| *k == key) {
            There::Yes
        } else {
            There::Unknown
        }
    }

    fn set_readable(&mut self, key: &'static str, why: Option<String>) {
        self.unreadable.retain(|(k, _)| *k != key);
        if let Some(why) = why {
            self.unreadable.push((key, why));
        }
    }

    /// Takes in one of the three objects, or that it is gone; returns whether anything that matters changed.
    fn take(&mut self, key: &'static str, object: Option<DynamicObject>) -> bool {
        let before = (self.unreadable.clone(), self.absent.clone());
        self.absent.retain(|k| *k != key);
        if object.is_none() {
            self.absent.push(key);
        }
        let (changed, why) = match key {
            DOCUMENT => self.take_document(object),
            ENVIRONMENT => self.take_environment(object),
            _ => self.take_authority(object),
        };
        self.set_readable(key, why);
        changed || (&self.unreadable, &self.absent) != (&before.0, &before.1)
    }

    fn take_document(&mut self, object: Option<DynamicObject>) -> (bool, Option<String>) {
        let Some(object) = object else {
            return (self.document.take().is_some(), None);
        };
        let parsed = serde_json::to_value(object).and_then(serde_json::from_value);
        match parsed {
            // The last good document stays in force.
            Err(e) => (false, Some(e.to_string())),
            Ok(new) => {
                let new: ManagementCluster = new;
                let changed = self.document.as_ref().is_none_or(|old| {
                    old.spec != new.spec
                        || old.metadata.uid != new.metadata.uid
                        || old.metadata.generation != new.metadata.generation
                        || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
                });
                if changed {
                    self.document = Some(Arc::new(new));
                }
                (changed, None)
            }
        }
    }

    fn take_environment(&mut self, object: Option<DynamicObject>) -> (bool, Option<String>) {
        let Some(object) = object else {
            return (self.environment.take().is_some(), None);
        };
        let text = object
            .data
            .pointer("/data/environment.json")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match serde_json::from_str::<Environment>(text) {
            Err(e) => (false, Some(format!("key environment.json: {e}"))),
            Ok(new) => {
                let changed = self.environment.as_deref() != Some(&new);
                if changed {
                    self.environment = Some(Arc::new(new));
                }
                (changed, None)
            }
        }
    }

    fn take_authority(&mut self, object: Option<DynamicObject>) -> (bool, Option<String>) {
        // Without the Secret the manager goes on with what it knows until it must sign again.
        let Some(object) = object else {
            return (false, None);
        };
        let read = |key: &str| secret_text(&object, key).ok_or_else(|| format!("no key {key}"));
        let parsed = read("tls.crt").and_then(|certificate| {
            let key = read("tls.key")?;
            Authority::from_pem(&certificate, &key).map_err(|e| e.line())
        });
        match parsed {
            Err(why) => (false, Some(why)),
            Ok(new) => {
                let changed = self
                    .authority
                    .as_ref()
                    .is_none_or(|old| old.certificate != new.certificate);
                if changed {
                    self.authority = Some(Arc::new(new));
                }
                (changed, None)
            }
        }
    }
}

const DOCUMENT: &str = "document";

/// Follows the three objects for ever.
pub async fn follow(client: Client, namespace: String, name: String, to: watch::Sender<Inputs>) {
    let one = |kind: Known, object: String, key: &'static str| {
        let to = to.clone();
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &namespace, &kind.resource());
        async move {
            let config = watcher::Config::default().fields(&format!("metadata.name={object}"));
            let mut events = watcher(api, config)
                .backoff(Steady::new(
                    Duration::from_millis(500),
                    Duration::from_secs(5),
                ))
                .boxed();
            let mut listed = false;
            while let Some(event) = events.next().await {
                let object = match event {
                    Ok(watcher::Event::Init) => {
                        listed = false;
                        continue;
                    }
                    Ok(watcher::Event::InitDone) if listed => continue,
                    Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => None,
                    Ok(watcher::Event::InitApply(o) | watcher::Event::Apply(o)) => {
                        listed = true;
                        Some(o)
                    }
                    Err(e) => {
                        tracing::debug!(kind = kind.kind, error = %e, "watch");
                        continue;
                    }
                };
                to.send_if_modified(|inputs| inputs.take(key, object));
            }
        }
    };
    tokio::join!(
        one(MANAGEMENT_CLUSTER, name, DOCUMENT),
        one(CONFIG_MAP, ENVIRONMENT.to_owned(), ENVIRONMENT),
        one(SECRET, AUTHORITY.to_owned(), AUTHORITY),
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Option<DynamicObject> {
        Some(serde_json::from_value(value).unwrap())
    }

    fn document(replicas: u32, generation: i64, phase: &str) -> Option<DynamicObject> {
        object(json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem", "generation": generation},
            "spec": {"controlPlane": {"replicas": replicas}}, "status": {"phase": phase},
        }))
    }

    #[test]
    fn only_what_matters_counts_as_a_change() {
        let mut inputs = Inputs::default();
        assert_eq!(inputs.missing("golem").len(), 3);
        assert!(inputs.take(DOCUMENT, document(1, 1, "Ready")));
        assert!(
            !inputs.take(DOCUMENT, document(1, 1, "Degraded")),
            "own status"
        );
        assert!(inputs.take(DOCUMENT, document(3, 2, "Ready")));
        let environment = |text: &str| {
            object(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"},
                "data": {"environment.json": text}}),
            )
        };
        assert!(inputs.take(ENVIRONMENT, environment(r#"{"mirror":"a:5000"}"#)));
        assert!(!inputs.take(ENVIRONMENT, environment(r#"{"mirror": "a:5000"}"#)));
        assert!(inputs.take(ENVIRONMENT, environment("{")), "now unreadable");
        assert_eq!(inputs.environment.as_ref().unwrap().mirror, "a:5000");
        assert_eq!(inputs.missing("golem").len(), 1, "the last good one stays");
        assert!(inputs.take(DOCUMENT, None));
        assert!(inputs.missing("golem")[0].contains("does not exist"));
    }

    #[test]
    fn absent_is_told_from_not_looked_for_and_from_unreadable() {
        let mut inputs = Inputs::default();
        assert_eq!(inputs.document_there(), There::Unknown);
        assert!(inputs.take(DOCUMENT, None), "that it is absent is news");
        assert!(!inputs.take(DOCUMENT, None));
        assert_eq!(inputs.document_there(), There::No);
        assert_eq!(inputs.environment_there(), There::Unknown);
        let bad = object(json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem"}, "spec": {"controlPlane": "three"},
        }));
        inputs.take(DOCUMENT, bad);
        assert_eq!(
            inputs.document_there(),
            There::Yes,
            "unreadable is not gone"
        );
        inputs.take(DOCUMENT, document(1, 1, "Ready"));
        assert_eq!(inputs.document_there(), There::Yes);
    }

    #[test]
    fn an_unreadable_document_is_told_and_the_last_good_one_stays() {
        let mut inputs = Inputs::default();
        inputs.take(DOCUMENT, document(1, 1, "Ready"));
        let bad = object(json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem", "generation": 2}, "spec": {"controlPlane": "three"},
        }));
        assert!(inputs.take(DOCUMENT, bad.clone()));
        assert!(!inputs.take(DOCUMENT, bad));
        assert_eq!(
            inputs
                .document
                .as_ref()
                .unwrap()
                .spec
                .control_plane
                .replicas,
            1
        );
        assert!(inputs.unreadable[0].1.contains("three") || !inputs.unreadable[0].1.is_empty());
    }
}
