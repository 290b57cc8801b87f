//! What was found about a cluster, as plain data: engine, temporary cluster, new cluster. Pure; must not look for itself.

use super::marks::{self, Marks};
use crate::ports::docker::Listed;

/// Something that was looked at. Not to be known is never the same as not to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// It is there.
    Is(T),
    /// Whoever must know says that it is not there.
    Absent,
    /// Nobody could say; why.
    Unknown(String),
}

/// All that the question of ownership depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name of the management cluster.
    pub cluster: String,
    /// The run that asks.
    pub mine: String,
    /// True when this host's journal tells of a pivot that was begun. Memory: it permits nothing but to go on with the pivot.
    pub pivot_remembered: bool,
    /// Containers on the engine; never absent.
    pub engine: Known<Containers>,
    /// The temporary cluster of the run that asks; absent when the engine has no container of it.
    pub temporary: Known<Side>,
    /// The new cluster; absent when the engine has no machine of it.
    pub management: Known<Side>,
}

/// What a cluster's API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Cluster API's object of the management cluster itself.
    pub object: Object,
    /// The run that holds, or held last, the Lease in this cluster.
    pub run: Option<String>,
}

/// Cluster API's Cluster object in one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Object {
    /// There is none, or its kind is not served.
    #[default]
    None,
    /// Controllers act on it.
    Acting,
    /// Paused by a person.
    Paused,
    /// Paused by a move.
    Moving,
}

/// Containers of one cluster on an engine, by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Containers {
    /// Those that mctl itself made: the registry.
    pub own: Vec<Own>,
    /// Nodes of temporary clusters.
    pub temporary: Vec<Temporary>,
    /// Machines and load balancer of the cluster itself, made by Cluster API.
    pub machines: Vec<Machine>,
    /// Those of somebody else under the same name.
    pub strangers: Vec<String>,
}

/// A container that mctl made and marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its marks.
    pub marks: Marks,
}

/// A node of a temporary cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Temporary {
    /// Its name.
    pub name: String,
    /// The run that is part of it.
    pub run: String,
}

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Name of the container.
    pub name: String,
    /// `control-plane`, `worker` or `external-load-balancer`.
    pub role: String,
    /// True when it runs.
    pub running: bool,
}

impl Machine {
    /// True for a load balancer, which knows nothing.
    pub fn is_load_balancer(&self) -> bool {
        self.role == "external-load-balancer"
    }

    /// True for one that has an API server.
    pub fn is_control_plane(&self) -> bool {
        self.role == "control-plane"
    }
}

impl Containers {
    /// Sorts what an engine lists; what has nothing to do with the cluster is left out.
    pub fn of(cluster: &str, listed: &[Listed]) -> Self {
        let mut all = Self::default();
        for container in listed {
            all.add(cluster, container);
        }
        all
    }

    fn add(&mut self, cluster: &str, container: &Listed) {
        let name = container.names.clone();
        let kind = container.label(marks::KIND_CLUSTER).unwrap_or_default();
        if container.label(marks::CLUSTER) == Some(cluster) {
            let text = |label: &str| container.label(label).unwrap_or_default().to_owned();
            self.own.push(Own {
                name,
                marks: Marks {
                    run: text(marks::RUN),
                    ca: text(marks::CA),
                },
            });
        } else if let Some(run) = marks::run_of_temporary(cluster, kind) {
            let run = run.to_owned();
            self.temporary.push(Temporary { name, run });
        } else if kind == cluster && !made_by_kind(cluster, &name) {
            self.machines.push(Machine {
                name,
                role: container
                    .label(marks::KIND_ROLE)
                    .unwrap_or_default()
                    .to_owned(),
                running: container.state == "running",
            });
        } else if kind == cluster || name == marks::registry_name(cluster) {
            self.strangers.push(name);
        }
    }

    /// True when the engine holds nothing of the cluster.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
            && self.temporary.is_empty()
            && self.machines.is_empty()
            && self.strangers.is_empty()
    }

    /// Every run that has left something, with where.
    pub fn runs(&self) -> Vec<(String, String)> {
        let own = self.own.iter().map(|o| (&o.marks.run, &o.name));
        let temporary = self.temporary.iter().map(|t| (&t.run, &t.name));
        own.chain(temporary)
            .map(|(run, name)| (run.clone(), format!("container {name}")))
            .collect()
    }

    /// True when there is a machine that could know something.
    pub fn has_machines(&self) -> bool {
        self.machines.iter().any(|m| !m.is_load_balancer())
    }
}

/// kind numbers the nodes of a cluster; Cluster API's machines end in random letters.
fn made_by_kind(cluster: &str, container: &str) -> bool {
    let Some(role) = container
        .strip_prefix(cluster)
        .and_then(|rest| rest.strip_prefix('-'))
    else {
        return true;
    };
    let role = role.trim_end_matches(|c: char| c.is_ascii_digit());
    matches!(role, "control-plane" | "worker" | "external-load-balancer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, labels: &str) -> Listed {
        Listed {
            names: name.into(),
            labels: labels.into(),
            state: "running".into(),
        }
    }

    #[test]
    fn containers_are_told_apart() {
        let all = [
            listed(
                "mctl-demo-registry",
                "io.giantswarm.mctl/cluster=demo,io.giantswarm.mctl/run=5f,io.giantswarm.mctl/ca=aa",
            ),
            listed(
                "mctl-demo-5f-control-plane",
                "io.x-k8s.kind.cluster=mctl-demo-5f,io.x-k8s.kind.role=control-plane",
            ),
            listed(
                "demo-lb",
                "io.x-k8s.kind.cluster=demo,io.x-k8s.kind.role=external-load-balancer",
            ),
            listed(
                "demo-x7k2p",
                "io.x-k8s.kind.cluster=demo,io.x-k8s.kind.role=control-plane",
            ),
            listed(
                "demo-worker-5d9f-abcde",
                "io.x-k8s.kind.cluster=demo,io.x-k8s.kind.role=worker",
            ),
            // Of other clusters, one of them with a name that begins alike.
            listed(
                "demo-two-x7k2p",
                "io.x-k8s.kind.cluster=demo-two,io.x-k8s.kind.role=control-plane",
            ),
            listed(
                "mctl-demo-two-5f-control-plane",
                "io.x-k8s.kind.cluster=mctl-demo-two-5f",
            ),
            listed("kind-control-plane", "io.x-k8s.kind.cluster=kind"),
            listed("nginx", ""),
        ];
        let found = Containers::of("demo", &all);
        assert_eq!(
            found.runs(),
            [
                ("5f".to_owned(), "container mctl-demo-registry".to_owned()),
                (
                    "5f".to_owned(),
                    "container mctl-demo-5f-control-plane".to_owned()
                )
            ]
        );
        assert_eq!(found.own[0].marks.ca, "aa");
        let machines: Vec<_> = found.machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            machines,
            ["demo-lb", "demo-x7k2p", "demo-worker-5d9f-abcde"]
        );
        assert!(found.machines[0].is_load_balancer() && found.machines[1].is_control_plane());
        assert!(found.strangers.is_empty());
    }

    #[test]
    fn a_plain_kind_cluster_and_an_unmarked_registry_are_strangers() {
        let all = [
            listed("demo-control-plane", "io.x-k8s.kind.cluster=demo"),
            listed("demo-worker2", "io.x-k8s.kind.cluster=demo"),
            listed("mctl-demo-registry", ""),
        ];
        let found = Containers::of("demo", &all);
        assert_eq!(
            found.strangers,
            ["demo-control-plane", "demo-worker2", "mctl-demo-registry"]
        );
        assert!(!found.has_machines());
    }

    #[test]
    fn only_a_load_balancer_is_no_machine_that_knows_anything() {
        let lb = listed(
            "demo-lb",
            "io.x-k8s.kind.cluster=demo,io.x-k8s.kind.role=external-load-balancer",
        );
        let found = Containers::of("demo", &[lb]);
        assert!(!found.has_machines() && !found.is_empty());
    }
}
