//! `mctl start` and `mctl stop`: all containers of a cluster. Must not make machines or remove anything.

use std::{sync::Arc, time::Duration};

use super::verify::Lines;
use crate::{
    Error, Kind, Result,
    config::ClusterName,
    launchpad::{
        access,
        diagnosis::{Container, Role},
        power,
        registry::{self, Recipe},
    },
    ownership::marks,
    ports::{
        Seen,
        docker::Docker,
        files::write_private,
        kubernetes::{Cluster, Progress, Wait, kinds::NODE, met, poll},
        process::System,
    },
    report::printer,
    steps::state::{MANAGEMENT, State},
};

/// No news for this long while the cluster comes up ends the command.
const STALL: Duration = Duration::from_secs(180);

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Management cluster
    name: ClusterName,
}

/// The engine that a cluster's containers are on.
pub(super) fn engine(state: &State) -> Result<Docker> {
    let engine = state.request()?.and_then(|r| r.engine);
    Ok(Docker::new(Arc::new(System), engine))
}

async fn containers(docker: &Docker, name: &str) -> Result<Vec<Container>> {
    docker.info().await?;
    let registry = marks::registry_name(name);
    let all = power::containers(docker, name, &registry).await?;
    if all.iter().any(|c| c.role != Role::Registry) {
        return Ok(all);
    }
    Err(Error::new(
        Kind::Usage,
        format!("management cluster `{name}` has no machines on this engine"),
    )
    .at(docker
        .host
        .clone()
        .unwrap_or_else(|| "the docker command's default engine".into()))
    .fix("go on with `mctl bootstrap`, or see which engine it was made on: DOCKER_HOST")
    .state("nothing was changed"))
}

/// Stops the cluster.
pub async fn stop(args: Args) -> Result<()> {
    let state = State::open(&args.name)?;
    let docker = engine(&state)?;
    let all = containers(&docker, &args.name).await?;
    let _lock = state.lock()?;
    let stopped = power::stop(&docker, &all, &Lines::shown()).await?;
    printer::err(&format!(
        "`{0}` is stopped ({stopped} containers); it comes back with: mctl start {0}",
        args.name
    ));
    Ok(())
}

/// Starts the cluster, mends what a stop or a restart may have cost, and waits until all its nodes are ready.
pub async fn start(args: Args) -> Result<()> {
    let name = &args.name;
    let state = State::open(name)?;
    let docker = engine(&state)?;
    let all = containers(&docker, name).await?;
    let _lock = state.lock()?;
    let progress = Lines::shown();
    put_registry_back(&docker, &state, &progress).await?;
    let started = power::start(&docker, &all, &progress).await?;
    // Addresses are known only of what runs.
    let all = containers(&docker, name).await?;
    let text = kubeconfig(&state, &all)?;
    let cluster = Cluster::from_kubeconfig(format!("management cluster {name}"), &text).await?;
    let wait = Wait {
        what: "the cluster's nodes",
        stall: STALL,
        pause: Duration::from_millis(500),
        progress: &progress,
    };
    let nodes = poll(wait, || async { Ok(ready(&cluster).await) }).await;
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(e) => {
            let e = e.state("its containers run").fix(format!(
                "look at one of them: docker exec {name}-… journalctl -u kubelet"
            ));
            return Err(power::look(&docker, &state).await?.explain(e));
        }
    };
    printer::err(&format!(
        "`{name}` answers: {nodes} nodes ready, {started} containers started; its platform may need another minute: mctl verify {name} --wait 300"
    ));
    Ok(())
}

/// Starts the registry anew if it is gone, or not as it should be: without it no image reaches a node.
async fn put_registry_back(docker: &Docker, state: &State, progress: &dyn Progress) -> Result<()> {
    let Some(request) = state.request()? else {
        return Ok(());
    };
    let known = state.environment()?.mctl_image;
    if known.is_empty() {
        progress.seen("the journal does not say how the registry was started; it is left as it is");
        return Ok(());
    }
    let image = registry::image_name(&state.cluster, &known);
    let recipe = Recipe::of(state, &request, image)?;
    let found = docker.inspect("container", &recipe.name).await?;
    if let Some(found) = &found {
        recipe.is_mine(found)?;
    }
    registry::certify(state)?;
    let why = match &found {
        None => Some(format!("container {} is gone", recipe.name)),
        Some(found) => recipe.differs(found),
    };
    let Some(why) = why else {
        return Ok(());
    };
    progress.seen(&format!("{why}; starting it anew"));
    recipe.run(docker, progress).await.map_err(|e| {
        e.fix("if its image is gone too, the bootstrap loads it: run it again")
            .state("the machines are as they were")
    })
}

/// The kept kubeconfig, after the load balancer's address if that is another now.
fn kubeconfig(state: &State, all: &[Container]) -> Result<String> {
    let text = state.kubeconfig(MANAGEMENT)?.ok_or_else(|| {
        Error::failed(format!("`{}` has no control plane yet", state.cluster))
            .fix("go on with `mctl bootstrap`")
            .state("its containers are started")
    })?;
    let balancer = all.iter().find(|c| c.role == Role::LoadBalancer);
    let Some(moved) = balancer.and_then(|b| access::follow(&text, b.address?)) else {
        return Ok(text);
    };
    write_private(&state.file(MANAGEMENT), moved.as_bytes())?;
    Ok(moved)
}

/// How many nodes are ready, or what is missing.
async fn ready(cluster: &Cluster) -> Result<usize, String> {
    let nodes = match cluster.look_at_all(&NODE.gvk(), None, None).await {
        Seen::Is(nodes) => nodes,
        Seen::Absent => Vec::new(),
        Seen::Unknown(e) => return Err(e.line()),
    };
    if nodes.is_empty() {
        return Err("no node is registered".to_owned());
    }
    match nodes.iter().find_map(|n| met(n, "Ready").err()) {
        Some(why) => Err(why),
        None => Ok(nodes.len()),
    }
}
