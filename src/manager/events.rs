//! Kubernetes events about the ManagementCluster. Must not fail or hold up anything: an event that cannot be written in time is
//! only logged.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

use super::{conditions::Transition, kinds::MANAGEMENT_CLUSTER};
use crate::{FIELD_MANAGER, config::ManagementCluster, ports::kubernetes::short};

/// Longest time for one event.
const LIMIT: Duration = Duration::from_secs(5);
/// Events that may wait to be written; what comes on top of them is dropped.
const QUEUE: usize = 64;
/// Longest note the API takes, with some room.
const NOTE: usize = 1000;

/// Writes events, one after the other, beside the work that causes them.
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl Events {
    /// Events reported by this replica; needs a runtime.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        let recorder = Recorder::new(client, reporter);
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        tokio::spawn(async move {
            while let Some((event, about)) = waiting.recv().await {
                match tokio::time::timeout(LIMIT, recorder.publish(&event, &about)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => tracing::debug!(error = %short(&e), "cannot write an event"),
                    Err(_) => tracing::debug!("an event was not written in time"),
                }
            }
        });
        Self { queue }
    }

    /// A condition changed.
    pub fn transition(&self, document: &ManagementCluster, t: &Transition) {
        let good = t.to.status == Some(true);
        let note = format!("{} is {}: {}", t.to.type_, t.to.status(), t.to.message);
        self.publish(document, good, &t.to.type_, &t.to.reason, note);
    }

    /// Something else happened. Events of equal action and reason are folded into one by the recorder.
    pub fn publish(
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
        if self.queue.try_send((event, reference)).is_err() {
            tracing::debug!(reason, "an event is dropped: too many wait to be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::fake::{Answer, client};

    #[tokio::test]
    async fn an_api_server_that_is_silent_holds_up_nobody() {
        let (client, seen) = client(|_, _, _| Answer::Silence);
        let events = Events::new(client, "a");
        let document: ManagementCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "mctl.giantswarm.io/v1alpha1", "kind": "ManagementCluster",
            "metadata": {"name": "golem", "namespace": "giantswarm"}, "spec": {},
        }))
        .unwrap();
        for n in 0..3 * QUEUE {
            events.publish(&document, false, "Restore", "DriftFound", format!("{n}"));
            tokio::task::yield_now().await;
        }
        assert_eq!(seen.of("POST").len(), 1, "the others wait or are dropped");
    }
}
