//! Which engine a command works with: the one that was recorded, or, for the first time, the shell's. Must not change anything.

use std::sync::Arc;

use crate::{
    Error, Kind, Result,
    ports::{
        docker::{Docker, Info},
        process::Processes,
    },
};

/// An engine as the state remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its address; none for the `docker` command's own default.
    pub address: Option<String>,
    /// What it calls itself; it stays the same over restarts.
    pub id: String,
}

/// The engine to work with.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The engine.
    pub docker: Docker,
    /// What it says of itself.
    pub info: Info,
    /// What the state has to remember.
    pub recorded: Recorded,
}

impl Chosen {
    /// How messages name it.
    pub fn name(&self) -> String {
        name(self.recorded.address.as_deref())
    }
}

fn name(address: Option<&str>) -> String {
    address.map_or_else(|| "the docker command's default".into(), str::to_owned)
}

/// The recorded engine wins. The shell may name it in another way; naming another engine, or one that does not say which it
/// is, is refused.
pub async fn choose(
    processes: Arc<dyn Processes>,
    recorded: Option<&Recorded>,
    shell: Option<String>,
) -> Result<Chosen> {
    let docker = |address: Option<String>| Docker::new(processes.clone(), address);
    let Some(recorded) = recorded else {
        let address = match shell {
            Some(shell) => Some(shell),
            // Which one it is by default is good to know, not needed.
            None => match docker(None).address().await {
                Err(e) if e.kind() == Kind::Preflight => {
                    return Err(e.state("nothing was changed"));
                }
                address => address.unwrap_or_default(),
            },
        };
        let docker = docker(address.clone());
        let info = docker.info().await?;
        let recorded = Recorded {
            address,
            id: info.id.clone(),
        };
        return Ok(Chosen {
            docker,
            info,
            recorded,
        });
    };
    let mut address = recorded.address.clone();
    if let Some(shell) = shell.filter(|s| Some(s) != recorded.address.as_ref()) {
        match docker(Some(shell.clone())).info().await {
            // Without an address of its own the command would go to the shell's anyway.
            Ok(info) if info.id == recorded.id => address = address.or(Some(shell)),
            Ok(info) => {
                return Err(other(
                    recorded,
                    &shell,
                    &format!("it is engine {}", info.id),
                ));
            }
            Err(e) => {
                let why = format!("it does not say which engine it is: {}", e.line());
                return Err(other(recorded, &shell, &why));
            }
        }
    }
    let docker = docker(address);
    let info = docker.info().await.map_err(|e| {
        e.because(format!(
            "this is the engine on which the cluster was begun (engine {})",
            recorded.id
        ))
    })?;
    if info.id != recorded.id {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "the engine at {} is not the one on which the cluster was begun",
                name(recorded.address.as_deref())
            ),
        )
        .because(format!("it is engine {}, recorded is {}", info.id, recorded.id))
        .fix("start the recorded engine there; if its data are gone, so is the cluster, and its state folder can be removed by hand")
        .state("nothing was changed"));
    }
    Ok(Chosen {
        docker,
        info,
        recorded: recorded.clone(),
    })
}

fn other(recorded: &Recorded, shell: &str, why: &str) -> Error {
    Error::new(
        Kind::Usage,
        "DOCKER_HOST names another engine than the one on which the cluster was begun",
    )
    .because(format!("DOCKER_HOST is {shell}: {why}"))
    .because(format!(
        "recorded is {} (engine {})",
        name(recorded.address.as_deref()),
        recorded.id
    ))
    .fix("unset DOCKER_HOST: the recorded engine is used then")
    .state("nothing was changed")
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
