//! A Docker engine through its `docker` command (kind needs that command too). Must not know about clusters.

use std::{io::Write, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::process::{Command, Output, Processes};
use crate::{Error, Kind, Result, error::Context};

/// How long a removal may take: many containers go at once.
const REMOVING: Duration = Duration::from_secs(300);
/// How long all machines of a cluster may take to stop or to start.
const POWER: Duration = Duration::from_secs(300);
/// How long an image archive may take to load.
const LOADING: Duration = Duration::from_secs(1200);
/// How often a removal that another process began is looked at, four times a second.
const REMOVAL_LOOKS: usize = 240;
/// Label on everything that mctl makes in an engine; its value is the cluster's name.
pub const LABEL: &str = "io.giantswarm.mctl/cluster";
/// Label with the run that made it.
pub const RUN_LABEL: &str = "io.giantswarm.mctl/run";
/// Label with the SHA-256 digest of the cluster's CA certificate.
pub const CA_LABEL: &str = "io.giantswarm.mctl/ca";

/// An engine.
#[derive(Clone)]
pub struct Docker {
    processes: Arc<dyn Processes>,
    /// Address as in `DOCKER_HOST`; the command's own default if absent.
    pub host: Option<String>,
}

/// What an engine says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// What it calls itself; it stays the same over restarts.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version of the engine, `26.1.5`.
    pub server_version: String,
    /// `name=rootless` and the like.
    pub security_options: Option<Vec<String>>,
    /// Where it keeps its data.
    pub docker_root_dir: String,
    /// Bytes of memory it may use.
    pub mem_total: u64,
    /// Processors.
    #[serde(rename = "NCPU")]
    pub ncpu: u32,
    /// Operating system type, `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// Hardware, `x86_64`.
    pub architecture: String,
}

/// A container in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    /// Name.
    pub names: String,
    /// `key=value`, separated by commas.
    pub labels: String,
    /// `running`, `exited`, `created`, …
    pub state: String,
}

impl Listed {
    /// Value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .split(',')
            .find_map(|l| l.strip_prefix(name)?.strip_prefix('='))
    }
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Docker {
    /// The engine that the `docker` command talks to, or the one at `host`.
    pub fn new(processes: Arc<dyn Processes>, host: Option<String>) -> Self {
        Self { processes, host }
    }

    /// Adds the engine's address to a command's environment.
    pub fn environment(&self, command: Command) -> Command {
        match &self.host {
            Some(host) => command.env("DOCKER_HOST", host),
            None => command,
        }
    }

    /// Runs a command with this engine.
    pub async fn run_command(&self, command: Command) -> Result<Output> {
        let ran = self.processes.run(&self.environment(command)).await;
        // An engine that is slow may answer later.
        ran.map_err(|e| match e.kind() {
            Kind::Stalled => e.passing(),
            _ => e,
        })
    }

    async fn docker(&self, args: &[&str]) -> Result<String> {
        let command = Command::new("docker", args.iter().copied());
        answer(self.run_command(command.clone()).await?, &command)
    }

    /// What the engine says of itself; an error if none answers.
    pub async fn info(&self) -> Result<Info> {
        let text = self.docker(&["info", "--format", "{{json .}}"]).await;
        let none = || {
            Error::new(Kind::Preflight, "no Docker engine answers")
                .at(self
                    .host
                    .clone()
                    .unwrap_or_else(|| "the docker command's default".into()))
                .fix("start the engine, or set DOCKER_HOST to one that runs")
                .state("nothing was changed")
        };
        let info: Info = serde_json::from_str(&text.map_err(|e| none().because(e))?)
            .context(|| "the engine's answer cannot be read".into())?;
        if info.server_version.is_empty() {
            Err(none())
        } else {
            Ok(info)
        }
    }

    /// Address of the engine that the command talks to by itself; `None` if it cannot be named in one word.
    pub async fn address(&self) -> Result<Option<String>> {
        let host = self
            .docker(&[
                "context",
                "inspect",
                "--format",
                "{{.Endpoints.docker.Host}}",
            ])
            .await?;
        Ok(Some(host.trim().to_owned()).filter(|h| h.starts_with("unix://")))
    }

    /// All containers, running or not.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let text = self
            .docker(&["ps", "--all", "--no-trunc", "--format", "{{json .}}"])
            .await?;
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_str(line)
                    .context(|| "the engine's list of containers cannot be read".into())
            })
            .collect()
    }

    /// A file in a running container.
    pub async fn read_file(&self, container: &str, path: &str) -> Result<String> {
        self.docker(&["exec", container, "cat", path]).await
    }

    /// Path of the engine's socket on its host.
    pub async fn socket(&self) -> Result<String> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None => self
                .docker(&[
                    "context",
                    "inspect",
                    "--format",
                    "{{.Endpoints.docker.Host}}",
                ])
                .await
                .unwrap_or_default()
                .trim()
                .to_owned(),
        };
        Ok(host
            .strip_prefix("unix://")
            .filter(|p| !p.is_empty())
            .unwrap_or("/var/run/docker.sock")
            .to_owned())
    }

    /// Inspects an object (`container`, `image`, `network`, `volume`); `None` if there is none.
    pub async fn inspect(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        let command = Command::new("docker", [kind, "inspect", name]);
        let out = self.run_command(command.clone()).await?;
        if out.code != 0 && says_absent(&out.stderr) {
            return Ok(None);
        }
        let text = answer(out, &command)?;
        let all: Vec<Value> = serde_json::from_str(&text)
            .context(|| format!("the engine's answer about {kind} {name} cannot be read"))?;
        Ok(all.into_iter().next())
    }

    /// Names of objects (`container`, `network`, `volume`) that match a filter, `label=x=y`.
    pub async fn names(&self, kind: &str, filter: &str) -> Result<Vec<String>> {
        let format = if kind == "container" {
            "{{.Names}}"
        } else {
            "{{.Name}}"
        };
        let text = match kind {
            "container" => {
                self.docker(&["ps", "-a", "--filter", filter, "--format", format])
                    .await?
            }
            _ => {
                self.docker(&[kind, "ls", "--filter", filter, "--format", format])
                    .await?
            }
        };
        Ok(text
            .lines()
            .map(str::to_owned)
            .filter(|l| !l.is_empty())
            .collect())
    }

    /// References of images whose repository matches.
    pub async fn images(&self, repository: &str) -> Result<Vec<String>> {
        let text = self
            .docker(&[
                "images",
                "--filter",
                &format!("reference={repository}"),
                "--format",
                "{{.Repository}}:{{.Tag}}",
            ])
            .await?;
        Ok(text
            .lines()
            .map(str::to_owned)
            .filter(|l| !l.is_empty())
            .collect())
    }

    /// Names of all objects of a kind (`container`, `network`), also of those that do not run.
    pub async fn all(&self, kind: &str) -> Result<Vec<String>> {
        let text = match kind {
            "container" => self.docker(&["ps", "-a", "--format", "{{.Names}}"]).await?,
            _ => self.docker(&[kind, "ls", "--format", "{{.Name}}"]).await?,
        };
        Ok(text
            .lines()
            .map(str::to_owned)
            .filter(|l| !l.is_empty())
            .collect())
    }

    /// Inspects objects; one that went away meanwhile is left out.
    pub async fn inspect_all(&self, kind: &str, names: &[String]) -> Result<Vec<Value>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let args = [kind, "inspect"]
            .into_iter()
            .chain(names.iter().map(String::as_str));
        let command = Command::new("docker", args);
        let mut out = self.run_command(command.clone()).await?;
        let gone = |l: &str| l.trim().is_empty() || says_absent(l);
        if out.code != 0 && !out.stderr.is_empty() && out.stderr.lines().all(gone) {
            out.code = 0;
        }
        let text = answer(out, &command)?;
        serde_json::from_str(&text)
            .context(|| format!("the engine's answer about its {kind}s cannot be read"))
    }

    /// Starts containers that were made before, all at once.
    pub async fn start(&self, names: &[String]) -> Result<()> {
        self.on_each("start", &[], names).await
    }

    /// Asks containers to end, all at once, and ends them after a while.
    pub async fn stop(&self, names: &[String], patience: Duration) -> Result<()> {
        let seconds = patience.as_secs().to_string();
        self.on_each("stop", &["-t", &seconds], names).await
    }

    async fn on_each(&self, verb: &str, options: &[&str], names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let args = [verb]
            .into_iter()
            .chain(options.iter().copied())
            .chain(names.iter().map(String::as_str));
        let command = Command::new("docker", args).within(POWER);
        answer(self.run_command(command.clone()).await?, &command).map(drop)
    }

    /// Removes objects of a kind; gone already is fine. Containers go with their anonymous volumes.
    pub async fn remove(&self, kind: &str, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut args = match kind {
            "container" => vec!["rm".to_owned(), "-f".into(), "-v".into()],
            "image" => vec!["rmi".into(), "-f".into()],
            _ => vec![kind.to_owned(), "rm".into()],
        };
        args.extend(names.iter().cloned());
        let command = Command::new("docker", args).within(REMOVING);
        let out = self.run_command(command.clone()).await?;
        // "already in progress": another process began it, one that was killed in the middle too; the engine goes on.
        let all_harmless = out
            .stderr
            .lines()
            .all(|l| l.trim().is_empty() || says_absent(l) || l.contains("is already in progress"));
        if out.code == 0 || !all_harmless {
            return answer(out, &command).map(drop);
        }
        for name in names {
            for _ in 0..REMOVAL_LOOKS {
                if self.inspect(kind, name).await?.is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
        Ok(())
    }

    /// Runs a container in the background.
    pub async fn run_container(&self, args: Vec<String>) -> Result<()> {
        let mut all = vec!["run".to_owned(), "--detach".into()];
        all.extend(args);
        let command = Command::new("docker", all);
        self.run_command(command.clone())
            .await?
            .success(&command)
            .map(drop)
    }

    /// The last lines a container wrote.
    pub async fn logs(&self, container: &str, lines: u32) -> Result<String> {
        let out = self
            .run_command(Command::new(
                "docker",
                ["logs", "--tail", &lines.to_string(), container],
            ))
            .await?;
        Ok(format!("{}{}", out.stdout, out.stderr))
    }

    /// Loads an image archive that `write` produces.
    pub async fn load(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let command = self
            .environment(Command::new("docker", ["load", "--quiet"]))
            .within(LOADING);
        self.processes
            .feed(&command, Box::new(write))
            .await?
            .success(&command)
            .map(drop)
    }
}

/// True if an engine says that there is no such object. That the command does not find an engine or a context is another thing.
fn says_absent(stderr: &str) -> bool {
    let objects = ["container", "image", "object", "volume", "network"];
    let low = stderr.to_lowercase();
    objects
        .iter()
        .any(|o| low.contains(&format!("no such {o}")))
        || low.contains("network ") && low.contains(" not found")
}

/// The output, or an error; a passing one where the engine cannot be reached, for it may be starting again.
fn answer(out: Output, command: &Command) -> Result<String> {
    let away = [
        "Cannot connect to the Docker daemon",
        "error during connect",
        "connection refused",
        "connection reset",
        "i/o timeout",
    ];
    let is_away = away.iter().any(|a| out.stderr.contains(a));
    out.success(command).map_err(|e| {
        if is_away {
            e.fix("see that the engine runs, then run the same command again")
                .passing()
        } else {
            e
        }
    })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::ports::process::Writer;

    /// An engine that always says the same.
    struct Says(&'static str);

    #[async_trait]
    impl Processes for Says {
        async fn run(&self, _: &Command) -> Result<Output> {
            Ok(Output {
                code: 1,
                stderr: self.0.into(),
                ..Output::default()
            })
        }

        async fn feed(&self, command: &Command, _: Writer) -> Result<Output> {
            self.run(command).await
        }

        async fn settle(&self, _: &std::path::Path) -> Result<()> {
            Ok(())
        }

        fn end_all(&self) {}
    }

    #[tokio::test]
    async fn only_an_engine_can_say_that_something_is_not_there() {
        for (said, absent, passing) in [
            (
                "Error response from daemon: No such container: x",
                true,
                false,
            ),
            ("Error: No such object: x", true, false),
            (
                "Error response from daemon: network x not found",
                true,
                false,
            ),
            (
                "Error response from daemon: get x: no such volume",
                true,
                false,
            ),
            (
                "Failed to initialize: unable to resolve docker endpoint: context \"x\": context not found",
                false,
                false,
            ),
            (
                "error during connect: Get \"http://x\": dial tcp: lookup x: no such host",
                false,
                true,
            ),
            (
                "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
                false,
                true,
            ),
            ("permission denied", false, false),
        ] {
            let docker = Docker::new(Arc::new(Says(said)), None);
            match docker.inspect("container", "x").await {
                Ok(found) => assert!(absent && found.is_none(), "{said}"),
                Err(e) => assert_eq!((false, passing), (absent, e.is_passing()), "{said}"),
            }
        }
    }
}
