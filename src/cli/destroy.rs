//! `mctl destroy`: removes what bootstrap made on the engine and on this host, and proves it.

use std::{io::IsTerminal, time::Duration};

use crate::{
    Error, GROUP, Kind, Result,
    config::ClusterName,
    ports::{
        Ports,
        docker::{Docker, LABEL},
        kubernetes::Cluster,
    },
    report::printer,
    steps::{
        NODE_CONTAINER_LABEL,
        state::{MANAGEMENT, State},
    },
};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Management cluster
    name: ClusterName,
    /// The name once more, instead of typing it when asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<ClusterName>,
    /// Also when the cluster still has workload clusters; their machines stay behind
    #[arg(long)]
    abandon_workload_clusters: bool,
}

/// What belongs to a cluster on an engine.
#[derive(Debug, Default)]
struct Found {
    containers: Vec<String>,
    images: Vec<String>,
    networks: Vec<String>,
}

impl Found {
    async fn look(docker: &Docker, name: &ClusterName) -> Result<Self> {
        let mut containers = docker
            .names("container", &format!("label={LABEL}={name}"))
            .await?;
        // Machines of the cluster itself, then of its temporary clusters, which carry the cluster's name in front.
        containers.extend(
            docker
                .names("container", &format!("label={NODE_CONTAINER_LABEL}={name}"))
                .await?,
        );
        // A name has no character that means something in a regular expression.
        let temporary = docker
            .names(
                "container",
                &format!("name=^mctl-{name}-[0-9a-f]+-control-plane$"),
            )
            .await?;
        containers.extend(temporary);
        containers.sort();
        containers.dedup();
        let images = docker.images(&format!("{GROUP}/{name}/*")).await?;
        let networks = docker
            .names("network", &format!("label={LABEL}={name}"))
            .await?;
        Ok(Self {
            containers,
            images,
            networks,
        })
    }

    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.images.is_empty() && self.networks.is_empty()
    }

    fn list(&self) -> String {
        let part = |what: &str, names: &[String]| {
            names
                .iter()
                .map(|n| format!("  {what} {n}\n"))
                .collect::<String>()
        };
        format!(
            "{}{}{}",
            part("container", &self.containers),
            part("image", &self.images),
            part("network", &self.networks)
        )
    }
}

/// Runs the command.
pub async fn run(args: Args) -> Result<()> {
    let name = &args.name;
    let state = State::at(name)?;
    let request = state.request().unwrap_or_default();
    let address =
        crate::env::get("DOCKER_HOST").or_else(|| request.as_ref().and_then(|r| r.engine.clone()));
    let docker = Docker::new(Ports::real().processes, address);
    docker.info().await?;
    let found = Found::look(&docker, name).await?;
    if found.is_empty() && !state.folder.exists() {
        // The error names the clusters that are known.
        return State::open(name).map(drop);
    }
    if !args.abandon_workload_clusters {
        refuse_with_workload_clusters(&state).await?;
    }
    printer::err(&format!(
        "destroying management cluster `{name}` removes:\n{}  state {}",
        found.list(),
        state.folder.display()
    ));
    confirm(&args)?;
    let _lock = state.lock()?;

    // Its controllers run inside and make what is missing: containers go together, and again until none come back.
    let mut left = found;
    for _ in 0..5 {
        docker.remove("container", &left.containers).await?;
        left = Found::look(&docker, name).await?;
        if left.containers.is_empty() {
            break;
        }
    }
    docker.remove("image", &left.images).await?;
    let mut kept = Vec::new();
    for network in &left.networks {
        // Others may have joined it meanwhile.
        if let Err(e) = docker
            .remove("network", std::slice::from_ref(network))
            .await
        {
            kept.push(format!("network {network} stays: {}", e.line()));
        }
    }
    let left = Found::look(&docker, name).await?;
    if !left.containers.is_empty() || !left.images.is_empty() {
        return Err(
            Error::failed(format!("not everything of `{name}` could be removed"))
                .because(left.list().replace('\n', ";"))
                .fix(format!("run it again: mctl destroy {name}"))
                .state("the rest is removed; the state directory is kept"),
        );
    }
    state.remove()?;
    for line in kept {
        printer::err(&line);
    }
    printer::err(&format!(
        "`{name}` is gone: no container, volume, image or state of it is left. kind's executable stays in the cache."
    ));
    Ok(())
}

fn confirm(args: &Args) -> Result<()> {
    let given = match &args.confirm {
        Some(name) => name.to_string(),
        None if std::io::stdin().is_terminal() => {
            printer::err(&format!("type the name `{}` to go on:", args.name));
            let mut line = String::new();
            let _ = std::io::stdin().read_line(&mut line);
            line.trim().to_owned()
        }
        None => {
            return Err(Error::new(
                Kind::Usage,
                "destroy asks for the name, and there is no terminal to ask on",
            )
            .fix(format!("add --confirm {}", args.name))
            .state("nothing was changed"));
        }
    };
    if args.name == *given {
        Ok(())
    } else {
        Err(
            Error::new(Kind::Usage, format!("`{given}` is not `{}`", args.name))
                .state("nothing was changed"),
        )
    }
}

/// Machines of workload clusters would run on with nobody to manage them.
async fn refuse_with_workload_clusters(state: &State) -> Result<()> {
    let Some(kubeconfig) = state.kubeconfig(MANAGEMENT)? else {
        return Ok(());
    };
    let name = &state.cluster;
    let Ok(cluster) =
        Cluster::from_kubeconfig(format!("management cluster {name}"), &kubeconfig).await
    else {
        return Ok(());
    };
    let kind = kube::core::GroupVersionKind::gvk("cluster.x-k8s.io", "v1beta2", "Cluster");
    // A cluster that does not answer cannot be asked; it is being destroyed anyway.
    let Ok(Ok(Some(all))) =
        tokio::time::timeout(Duration::from_secs(5), cluster.list(&kind, None, None)).await
    else {
        return Ok(());
    };
    let others: Vec<String> = all
        .iter()
        .map(|c| {
            format!(
                "{}/{}",
                c.metadata.namespace.as_deref().unwrap_or_default(),
                c.metadata.name.as_deref().unwrap_or_default()
            )
        })
        .filter(|n| *n != format!("org-giantswarm/{name}"))
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!("`{name}` still manages workload clusters"),
    )
    .because(others.join(", "))
    .fix("delete them first: kubectl delete cluster -n NAMESPACE NAME")
    .fix(format!(
        "or leave their machines behind: mctl destroy {name} --abandon-workload-clusters"
    ))
    .state("nothing was changed"))
}
