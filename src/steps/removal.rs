//! The steps of a removal: each takes away one kind of thing of one run from the engine, and looks until it is gone. Must not
//! touch what belongs to another run or to somebody else.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Error, GROUP, Result,
    engine::{Observation, Step, Steps},
    ownership::facts::Containers,
    plan::{Plan, removal::id},
    ports::{
        Ports,
        docker::{Docker, LABEL},
        kubernetes::Progress,
    },
};

/// How often containers that come back are removed again: controllers in machines make what is missing.
const ROUNDS: usize = 5;
/// How often a machine that is on its way out is looked at.
const PAUSE: Duration = Duration::from_millis(500);

/// What belongs to one run of a cluster on an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Machines, load balancer, nodes of the temporary cluster.
    pub machines: Vec<String>,
    /// Registry, and what else mctl itself runs.
    pub own: Vec<String>,
    /// Images under mctl's own names.
    pub images: Vec<String>,
    /// The network, if mctl made it.
    pub networks: Vec<String>,
    /// What is there of others under the cluster's name, and stays.
    pub others: Vec<String>,
}

/// One run of a cluster on an engine.
#[derive(Clone)]
pub struct Remains {
    /// The outside.
    pub ports: Ports,
    /// The engine.
    pub docker: Docker,
    /// Name of the cluster.
    pub cluster: String,
    /// The run.
    pub run: String,
    /// True when this host's state knows the run: machines are its own even after everything that says so is gone.
    pub known: bool,
}

impl Remains {
    /// Looks at the engine.
    pub async fn look(&self) -> Result<Belongings> {
        let listed = self.docker.list().await?;
        let containers = Containers::of(&self.cluster, &listed);
        let mut found = sort(&containers, &self.run, self.known);
        // Images and network have no run: they go with the last one.
        if containers.runs().iter().all(|(r, _)| *r == self.run) {
            found.images = self
                .docker
                .images(&format!("{GROUP}/{}/*", self.cluster))
                .await?;
            let filter = format!("label={LABEL}={}", self.cluster);
            found.networks = self.docker.names("network", &filter).await?;
        }
        Ok(found)
    }

    /// Containers of others on a network.
    async fn users(&self, network: &str) -> Result<Vec<String>> {
        let found = self.docker.inspect("network", network).await?;
        let users = found.as_ref().and_then(|n| n["Containers"].as_object());
        Ok(users
            .into_iter()
            .flat_map(|all| all.values())
            .filter_map(|c| Some(c["Name"].as_str()?.to_owned()))
            .collect())
    }
}

/// What of the containers is the run's; pure.
fn sort(containers: &Containers, run: &str, known: bool) -> Belongings {
    let claims = containers.runs();
    let mine = known || claims.iter().any(|(r, _)| r == run);
    let foreign = claims.iter().any(|(r, _)| r != run);
    let mut found = Belongings::default();
    for own in &containers.own {
        match own.marks.run == run {
            true => found.own.push(own.name.clone()),
            false => found.others.push(own.name.clone()),
        }
    }
    for node in &containers.temporary {
        match node.run == run {
            true => found.machines.push(node.name.clone()),
            false => found.others.push(node.name.clone()),
        }
    }
    let machines = containers.machines.iter().map(|m| m.name.clone());
    match mine && !foreign {
        true => found.machines.extend(machines),
        false => found.others.extend(machines),
    }
    found.others.extend(containers.strangers.iter().cloned());
    found
}

impl Belongings {
    /// True when nothing of the run is left.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
            && self.own.is_empty()
            && self.images.is_empty()
            && self.networks.is_empty()
    }

    /// One line each, for people.
    pub fn list(&self) -> String {
        [
            ("container", &self.machines),
            ("container", &self.own),
            ("image", &self.images),
            ("network", &self.networks),
        ]
        .iter()
        .flat_map(|(what, names)| names.iter().map(move |n| format!("  {what} {n}\n")))
        .collect()
    }
}

/// Implements every step of the plan.
pub fn all(plan: &Plan, remains: &Arc<Remains>) -> Steps {
    plan.steps
        .iter()
        .filter_map(|s| {
            let step: Arc<dyn Step> = match s.id.0.as_str() {
                id::MACHINES => Arc::new(Gone::new(remains, |b| &b.machines, "container")),
                id::OWN => Arc::new(Gone::new(remains, |b| &b.own, "container")),
                id::IMAGES => Arc::new(Gone::new(remains, |b| &b.images, "image")),
                id::NETWORK => Arc::new(Network(remains.clone())),
                id::PROOF => Arc::new(Nothing(remains.clone())),
                _ => return None,
            };
            Some((s.id.clone(), step))
        })
        .collect()
}

/// Everything of one kind is gone.
struct Gone {
    remains: Arc<Remains>,
    which: fn(&Belongings) -> &Vec<String>,
    kind: &'static str,
}

impl Gone {
    fn new(
        remains: &Arc<Remains>,
        which: fn(&Belongings) -> &Vec<String>,
        kind: &'static str,
    ) -> Self {
        Self {
            remains: remains.clone(),
            which,
            kind,
        }
    }
}

#[async_trait]
impl Step for Gone {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let found = self.remains.look().await?;
        let left = (self.which)(&found);
        Ok(match left.is_empty() {
            true => Observation::done(format!("no {} is left", self.kind)),
            false => Observation::Missing(format!("{} {} there", self.kind, left.join(", "))),
        })
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        // All together, and again until none comes back.
        for round in 0..ROUNDS {
            let found = self.remains.look().await?;
            let left = (self.which)(&found);
            if left.is_empty() {
                return Ok(());
            }
            if round > 0 {
                self.remains.ports.clock.sleep(PAUSE).await;
            }
            progress.seen(&format!("removing {}", left.join(", ")));
            self.remains.docker.remove(self.kind, left).await?;
        }
        Ok(())
    }
}

/// The network is gone, or others need it.
struct Network(Arc<Remains>);

#[async_trait]
impl Step for Network {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let mut stays = Vec::new();
        for network in self.0.look().await?.networks {
            let users = self.0.users(&network).await?;
            if users.is_empty() {
                return Ok(Observation::Missing(format!("network {network} is there")));
            }
            stays.push(format!("{network} stays: {} use it", users.join(", ")));
        }
        Ok(Observation::done(match stays.is_empty() {
            true => "no network of mctl is left".to_owned(),
            false => stays.join("; "),
        }))
    }

    async fn apply(&self, progress: &dyn Progress) -> Result<()> {
        for network in self.0.look().await?.networks {
            if self.0.users(&network).await?.is_empty() {
                progress.seen(&format!("removing {network}"));
                self.0
                    .docker
                    .remove("network", std::slice::from_ref(&network))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Nothing is left; what cannot be looked at is not gone.
struct Nothing(Arc<Remains>);

#[async_trait]
impl Step for Nothing {
    async fn observe(&self, _: &dyn Progress) -> Result<Observation> {
        let found = self.0.look().await?;
        let left = [&found.machines, &found.own, &found.images];
        let left: Vec<&str> = left.into_iter().flatten().map(String::as_str).collect();
        if left.is_empty() {
            return Ok(Observation::done("no container, volume or image is left"));
        }
        Ok(Observation::Missing(left.join(", ")))
    }

    async fn apply(&self, _: &dyn Progress) -> Result<()> {
        let found = self.0.look().await?;
        Err(Error::failed(format!(
            "not everything of `{}` could be removed",
            self.0.cluster
        ))
        .because(found.list().trim().replace('\n', ";"))
        .fix(format!("run it again: mctl destroy {}", self.0.cluster))
        .state("the rest is removed; the state folder is kept"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::docker::Listed;

    fn listed(name: &str, labels: &str) -> Listed {
        Listed {
            names: name.into(),
            labels: labels.into(),
            state: "running".into(),
        }
    }

    fn engine() -> Vec<Listed> {
        vec![
            listed(
                "mctl-demo-registry",
                "io.giantswarm.mctl/cluster=demo,io.giantswarm.mctl/run=5f",
            ),
            listed(
                "mctl-demo-5f-control-plane",
                "io.x-k8s.kind.cluster=mctl-demo-5f",
            ),
            listed("demo-x7k2p", "io.x-k8s.kind.cluster=demo"),
        ]
    }

    #[test]
    fn the_run_takes_its_machines_along_and_another_takes_nothing() {
        let containers = Containers::of("demo", &engine());
        let found = sort(&containers, "5f", false);
        assert_eq!(found.machines, ["mctl-demo-5f-control-plane", "demo-x7k2p"]);
        assert_eq!(found.own, ["mctl-demo-registry"]);
        assert!(found.others.is_empty());
        let found = sort(&containers, "77", true);
        assert!(found.is_empty() && found.others.len() == 3, "{found:?}");
    }

    #[test]
    fn a_kind_cluster_of_the_same_name_stays() {
        let mut all = engine();
        all.push(listed("demo-control-plane", "io.x-k8s.kind.cluster=demo"));
        let found = sort(&Containers::of("demo", &all), "5f", true);
        assert_eq!(found.others, ["demo-control-plane"]);
        assert_eq!(found.machines.len(), 2);
    }

    #[test]
    fn machines_that_nothing_speaks_for_go_only_with_a_known_run() {
        let all = [listed("demo-x7k2p", "io.x-k8s.kind.cluster=demo")];
        let containers = Containers::of("demo", &all);
        assert!(sort(&containers, "5f", false).is_empty());
        assert_eq!(sort(&containers, "5f", true).machines, ["demo-x7k2p"]);
    }
}
