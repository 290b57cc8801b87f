//! What the live commands stand on: the lab's bundle and programs, and a container engine; must not start clusters.

use std::net::{TcpStream, ToSocketAddrs};
use std::process::Command;
use std::time::Duration;

use crate::{host, lab};

/// Where the bundle's images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Pulled when container registries answer, else built.
    Auto,
    /// Pulled.
    Registries,
    /// Built from source.
    Built,
}

/// The lab's bundle and programs that bootstrap and the tests need, made if they are missing.
pub fn lab(source: Source) -> anyhow::Result<lab::Lab> {
    make(source, false)
}

/// The same with what only long measurements need.
pub fn whole_lab(source: Source) -> anyhow::Result<lab::Lab> {
    make(source, true)
}

fn make(source: Source, all: bool) -> anyhow::Result<lab::Lab> {
    let pull = match source {
        Source::Registries => true,
        Source::Built => false,
        Source::Auto => registries_answer(),
    };
    println!(
        "lab: {}",
        if pull {
            "images from their registries"
        } else {
            "images from source; a first time takes about 25 min on 2 cores, later ones seconds"
        }
    );
    lab::build(pull, all)
}

/// Whether container registries can be reached from here.
fn registries_answer() -> bool {
    let Ok(mut addresses) = ("registry.k8s.io", 443).to_socket_addrs() else {
        return false;
    };
    addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok())
}

/// A container engine in use.
pub struct Engine {
    engine: lab::engine::Engine,
}

/// The engine that answers, else the lab's own, started.
pub fn engine() -> anyhow::Result<Engine> {
    let engine = lab::engine()?;
    println!(
        "engine: {}{}",
        engine.host,
        if engine.ours { " (the lab's own)" } else { "" }
    );
    Ok(Engine { engine })
}

impl Engine {
    /// Makes a program use this engine.
    pub fn use_in(&self, command: &mut Command) -> anyhow::Result<()> {
        command.env("DOCKER_HOST", &self.engine.host);
        if let (false, Some(bin)) = (host::has("docker"), &self.engine.bin) {
            let mut paths = vec![bin.clone()];
            paths.extend(std::env::split_paths(
                &std::env::var_os("PATH").unwrap_or_default(),
            ));
            command.env("PATH", std::env::join_paths(paths)?);
        }
        Ok(())
    }

    /// Value of DOCKER_HOST.
    pub fn host(&self) -> &str {
        &self.engine.host
    }

    /// Stops it if this run started it.
    pub fn release(self) -> anyhow::Result<()> {
        if self.engine.started {
            println!("engine: stopping what this run started");
            lab::stop_engine()?;
        }
        Ok(())
    }
}
