//! Kubernetes events about the ManagementCluster. Must not fail anything: an event that cannot be written is only logged.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::{conditions::Transition, kinds::MANAGEMENT_CLUSTER};
use crate::{FIELD_MANAGER, config::ManagementCluster, ports::kubernetes::short};

/// Longest time for one event.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest note the API takes, with some room.
const NOTE: usize = 1000;

/// Writes events.
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events reported by this replica.
    pub fn new(client: Client, identity: &str) -> Self {
        Self {
            recorder: Recorder::new(
                client,
                Reporter {
                    controller: FIELD_MANAGER.to_owned(),
                    instance: Some(identity.to_owned()),
                },
            ),
        }
    }

    /// A condition changed.
    pub async fn transition(&self, document: &ManagementCluster, t: &Transition) {
        let good = t.to.status == Some(true);
        let note = format!("{} is {}: {}", t.to.type_, t.to.status(), t.to.message);
        self.publish(document, good, &t.to.type_, &t.to.reason, note)
            .await;
    }

    /// Something else happened. Events of equal action and reason are folded into one by the recorder.
    pub async fn publish(
        &self,
        document: &ManagementCluster,
        good: bool,
        action: &str,
        reason: &str,
        note: String,
    ) {
        let reference = ObjectReference {
            api_version: Some(MANAGEMENT_CLUSTER.gvk().api_version()),
            kind: Some(MANAGEMENT_CLUSTER.kind.to_owned()),
            name: document.metadata.name.clone(),
            namespace: document.metadata.namespace.clone(),
            uid: document.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if good {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: reason.to_owned(),
            note: Some(note.chars().take(NOTE).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(LIMIT, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::debug!(error = %short(&e), "cannot write an event"),
            Err(_) => tracing::debug!("an event was not written in time"),
        }
    }
}
