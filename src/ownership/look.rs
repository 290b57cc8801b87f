//! Gathers the facts about a cluster from whoever really knows them: engine, temporary and new cluster. Must not decide, and
//! takes no file's word for anything: a kubeconfig only says where to ask.

use std::time::Duration;

use kube::core::DynamicObject;
use serde_json::Value;

use super::facts::{Containers, Facts, Known, Object, Side};
use crate::{
    cluster_api::marks,
    ports::{
        Ports, Seen,
        docker::Docker,
        kubernetes::{Cluster, kinds, names},
    },
};

/// Name of the Lease that a run holds in both clusters, in the namespace of the system.
pub const LEASE: (&str, &str) = ("kube-system", "mctl");
/// How long one cluster is waited for; whoever needs the answer asks again.
const LIMIT: Duration = Duration::from_secs(5);
/// Where kubeadm leaves an administrator's kubeconfig in a control-plane machine.
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// Whom to ask, and about what.
pub struct Asked<'a> {
    /// The outside.
    pub ports: &'a Ports,
    /// The engine.
    pub docker: &'a Docker,
    /// Name of the management cluster.
    pub cluster: &'a str,
    /// The run that asks.
    pub run: &'a str,
    /// Kubeconfig of the temporary cluster, if this host has one.
    pub temporary: Option<String>,
    /// Kubeconfig of the new cluster, if this host has one.
    pub management: Option<String>,
    /// True when this host's journal tells of a pivot that was begun.
    pub pivot_remembered: bool,
}

/// What was found, with the ways that led there.
pub struct Found {
    /// The facts.
    pub facts: Facts,
    /// The temporary cluster, if it answers.
    pub temporary: Option<Cluster>,
    /// The new cluster, if it answers.
    pub management: Option<Cluster>,
    /// Kubeconfig by which the new cluster answered.
    pub kubeconfig: Option<String>,
}

impl Asked<'_> {
    /// Looks everywhere once; changes nothing and never fails: what does not answer is a fact too.
    pub async fn look(&self) -> Found {
        let engine: Known<Containers> = match self.docker.list().await {
            Ok(listed) => Known::Is(Containers::of(self.cluster, &listed)),
            Err(e) => Known::Unknown(e.line()),
        };
        let none = Containers::default();
        let containers = match &engine {
            Known::Is(containers) => containers,
            _ => &none,
        };
        let (temporary, management) =
            tokio::join!(self.temporary(containers), self.management(containers));
        Found {
            facts: Facts {
                cluster: self.cluster.to_owned(),
                mine: self.run.to_owned(),
                pivot_remembered: self.pivot_remembered,
                temporary: temporary.0,
                management: management.0,
                engine,
            },
            temporary: temporary.1,
            kubeconfig: management.2.filter(|_| management.1.is_some()),
            management: management.1,
        }
    }

    async fn temporary(&self, containers: &Containers) -> (Known<Side>, Option<Cluster>) {
        if containers.temporary.iter().all(|t| t.run != self.run) {
            return (Known::Absent, None);
        }
        match &self.temporary {
            Some(text) => self.ask("temporary cluster".into(), text).await,
            None => {
                let why = "there is no kubeconfig of it on this host";
                (Known::Unknown(why.into()), None)
            }
        }
    }

    async fn management(
        &self,
        containers: &Containers,
    ) -> (Known<Side>, Option<Cluster>, Option<String>) {
        if !containers.has_machines() {
            return (Known::Absent, None, None);
        }
        let name = || format!("management cluster {}", self.cluster);
        let mut why = "there is no kubeconfig of it on this host".to_owned();
        if let Some(text) = &self.management {
            match self.ask(name(), text).await {
                (Known::Unknown(w), _) => why = w,
                (known, cluster) => return (known, cluster, Some(text.clone())),
            }
        }
        // The copy on this host is lost or too old; a machine has one of its own.
        let machines = containers.machines.iter();
        for machine in machines.filter(|m| m.running && m.is_control_plane()) {
            let Ok(text) = self.docker.read_file(&machine.name, ADMIN).await else {
                continue;
            };
            match self.ask(name(), &text).await {
                (Known::Unknown(w), _) => why = w,
                (known, cluster) => return (known, cluster, Some(text)),
            }
        }
        (Known::Unknown(why), None, None)
    }

    async fn ask(&self, name: String, kubeconfig: &str) -> (Known<Side>, Option<Cluster>) {
        let cluster = match self.ports.clusters.connect(&name, kubeconfig).await {
            Ok(cluster) => cluster,
            Err(e) => return (Known::Unknown(e.line()), None),
        };
        let (kind, lease) = (kinds::CLUSTER.gvk(), kinds::LEASE.gvk());
        let looks = async {
            tokio::join!(
                cluster.look(&kind, Some(names::ORGANIZATION), self.cluster),
                cluster.look(&lease, Some(LEASE.0), LEASE.1),
            )
        };
        let Ok((object, lease)) = tokio::time::timeout(LIMIT, looks).await else {
            let why = format!("no answer within {} s", LIMIT.as_secs());
            return (Known::Unknown(why), None);
        };
        let object = match object {
            Seen::Is(object) => state_of(&object),
            Seen::Absent => Object::None,
            Seen::Unknown(e) => return (Known::Unknown(e.line()), None),
        };
        let run = match lease {
            Seen::Is(lease) => holder(&lease),
            Seen::Absent => None,
            Seen::Unknown(e) => return (Known::Unknown(e.line()), None),
        };
        (Known::Is(Side { object, run }), Some(cluster))
    }
}

/// What a Cluster object says of itself.
fn state_of(object: &DynamicObject) -> Object {
    let paused = object.data.pointer("/spec/paused") == Some(&Value::Bool(true));
    match (paused, marks::is_moving(object)) {
        (true, true) => Object::Moving,
        (true, false) => Object::Paused,
        (false, _) => Object::Acting,
    }
}

/// The run in a Lease: what stands before the first blank, for people may read the rest.
fn holder(lease: &DynamicObject) -> Option<String> {
    let holder = lease.data.pointer("/spec/holderIdentity")?.as_str()?;
    let run = holder.split([' ', '/', '_']).next().unwrap_or_default();
    (!run.is_empty()).then(|| run.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(paused: Option<bool>, marked: bool) -> DynamicObject {
        let mut object = serde_json::json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "demo", "annotations": {"a": "b"}}, "spec": {},
        });
        if let Some(paused) = paused {
            object["spec"]["paused"] = paused.into();
        }
        if marked {
            object["metadata"]["annotations"][marks::PAUSED_FOR_MOVE] = "uid".into();
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_cluster_object_is_at_work_unless_it_is_paused() {
        assert_eq!(state_of(&cluster(None, false)), Object::Acting);
        assert_eq!(state_of(&cluster(Some(false), false)), Object::Acting);
        assert_eq!(state_of(&cluster(Some(true), false)), Object::Paused);
        assert_eq!(state_of(&cluster(Some(true), true)), Object::Moving);
        // A mark that was left behind pauses nothing.
        assert_eq!(state_of(&cluster(None, true)), Object::Acting);
    }

    #[test]
    fn the_run_is_the_first_word_of_the_holder() {
        let lease = |holder: Value| -> DynamicObject {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "mctl"}, "spec": {"holderIdentity": holder},
            }))
            .unwrap()
        };
        assert_eq!(holder(&lease("5f".into())).as_deref(), Some("5f"));
        assert_eq!(holder(&lease("5f process 7".into())).as_deref(), Some("5f"));
        assert_eq!(holder(&lease("".into())), None);
        assert_eq!(holder(&lease(Value::Null)), None);
    }
}
