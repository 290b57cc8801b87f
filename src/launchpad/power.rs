//! Stops and starts a cluster's containers in an order that suits it. Must not make or remove any.

use std::time::Duration;

use super::{
    NETWORK,
    diagnosis::{Container, Diagnosis, Remembered, Role, diagnose},
};
use crate::{
    Error, Result,
    ownership::marks,
    ports::{docker::Docker, kubernetes::Progress},
    steps::{NODE_CONTAINER_LABEL, state::State},
};

/// How long a machine may take to shut down.
const PATIENCE: Duration = Duration::from_secs(40);

/// What goes first. When stopping all machines go at once: one that stays longer than the others would count them as lost.
const STOP: [&[Role]; 2] = [
    &[Role::Worker, Role::ControlPlane],
    &[Role::LoadBalancer, Role::Registry],
];
const START: [&[Role]; 3] = [
    &[Role::Registry, Role::LoadBalancer],
    &[Role::ControlPlane],
    &[Role::Worker],
];

/// The containers of a cluster: its registry, its load balancer and its machines.
pub async fn containers(docker: &Docker, cluster: &str, registry: &str) -> Result<Vec<Container>> {
    let filter = format!("label={NODE_CONTAINER_LABEL}={cluster}");
    let mut names = docker.names("container", &filter).await?;
    names.push(registry.to_owned());
    let found = docker.inspect_all("container", &names).await?;
    let mut all: Vec<Container> = found.iter().map(|c| Container::read(c, registry)).collect();
    all.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    Ok(all)
}

/// Looks at a cluster's containers and compares them with what is known of it.
pub async fn look(docker: &Docker, state: &State) -> Result<Diagnosis> {
    let remembered = Remembered {
        cluster: state.cluster.to_string(),
        registry: marks::registry_name(&state.cluster),
        endpoint: state.environment()?.control_plane_endpoint,
    };
    let all = containers(docker, &remembered.cluster, &remembered.registry).await?;
    Ok(diagnose(&remembered, &all))
}

/// Stops all that run; returns how many did.
pub async fn stop(
    docker: &Docker,
    containers: &[Container],
    progress: &dyn Progress,
) -> Result<usize> {
    let mut stopped = 0;
    for names in groups(containers, &STOP, Container::runs) {
        progress.seen(&format!("stopping {}", names.join(", ")));
        docker.stop(&names, PATIENCE).await.map_err(|e| {
            e.fix("run the same command again; what is stopped stays stopped")
                .state("some containers are stopped, none is removed")
        })?;
        stopped += names.len();
    }
    Ok(stopped)
}

/// Starts all that do not run; returns how many did not.
pub async fn start(
    docker: &Docker,
    containers: &[Container],
    progress: &dyn Progress,
) -> Result<usize> {
    let mut started = 0;
    for names in groups(containers, &START, |c| !c.runs()) {
        progress.seen(&format!("starting {}", names.join(", ")));
        docker.start(&names).await.map_err(explained)?;
        started += names.len();
    }
    Ok(started)
}

fn groups(
    containers: &[Container],
    order: &[&[Role]],
    which: impl Fn(&Container) -> bool,
) -> Vec<Vec<String>> {
    order
        .iter()
        .map(|roles| {
            containers
                .iter()
                .filter(|c| roles.contains(&c.role) && which(c))
                .map(|c| c.name.clone())
                .collect()
        })
        .filter(|names: &Vec<String>| !names.is_empty())
        .collect()
}

fn explained(error: Error) -> Error {
    let taken = error.line().contains("already in use");
    let error = error.state("what was started runs on; nothing was removed");
    if taken {
        error.fix(format!(
            "another container took the address: docker network inspect {NETWORK} names it; stop it, then run the same command again"
        ))
    } else {
        error.fix("run the same command again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, role: Role, status: &str) -> Container {
        Container {
            name: name.into(),
            role,
            status: status.into(),
            address: None,
            own: None,
            remembered: None,
        }
    }

    #[test]
    fn machines_stop_together_and_start_behind_what_they_need() {
        let all = [
            container("r", Role::Registry, "running"),
            container("lb", Role::LoadBalancer, "running"),
            container("c1", Role::ControlPlane, "running"),
            container("c2", Role::ControlPlane, "exited"),
            container("w", Role::Worker, "running"),
        ];
        let stop = groups(&all, &STOP, Container::runs);
        assert_eq!(stop, [vec!["c1", "w"], vec!["r", "lb"]]);
        let start = groups(&all, &START, |c| !c.runs());
        assert_eq!(start, [vec!["c2"]]);
        let start = groups(&all, &START, |_| true);
        assert_eq!(start, [vec!["r", "lb"], vec!["c1", "c2"], vec!["w"]]);
    }

    #[test]
    fn an_address_that_is_taken_is_explained() {
        let e = explained(Error::failed("x").because("Address already in use")).to_string();
        assert!(
            e.contains("took the address") && e.contains("state:"),
            "{e}"
        );
    }
}
