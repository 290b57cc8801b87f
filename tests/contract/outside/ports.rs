//! The ports of a process in memory: each use of them is a point. Must not decide what happens there.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use mctl::{
    Error, Result,
    ports::{
        clock::Clock,
        files::{Files, Lock},
        kubernetes::{Cluster, Clusters},
        network::{Network, Route},
        process::{Command, Output, Processes, Writer},
    },
};
use tokio::time::Instant;

use super::{Content, Effect, Life, Place, Verdict};
use crate::{
    gate::Gate,
    world::{self, engine::Engine},
};

impl Life {
    /// Runs a change of a program: none of it, half of it or all of it.
    async fn program(
        &self,
        place: Place,
        command: &Command,
        changes: bool,
        work: impl FnOnce(&Self, Effect) -> Result<Output>,
    ) -> Result<Output> {
        let line = shown(command);
        let Some((point, verdict)) = self.meet(place, line, changes) else {
            return std::future::pending().await;
        };
        self.wait(&point).await;
        if self.is_dead() {
            return std::future::pending().await;
        }
        let effect = match verdict {
            Verdict::Crash(effect) => effect,
            Verdict::Command { applied: false, .. } => Effect::None,
            _ => Effect::Whole,
        };
        let output = match effect {
            Effect::None => Ok(Output::default()),
            effect => work(self, effect),
        };
        if effect != Effect::None {
            self.done(&point);
        }
        match verdict {
            Verdict::Crash(_) => {
                self.die();
                std::future::pending().await
            }
            Verdict::Command { hangs: true, .. } => {
                tokio::time::sleep(command.limit).await;
                Err(Error::new(
                    mctl::Kind::Stalled,
                    format!(
                        "`{}` did not end within {} s",
                        command.line(),
                        command.limit.as_secs()
                    ),
                )
                .fix("run it again")
                .state("it was ended with everything that it started"))
            }
            Verdict::Command { .. } => Ok(Output {
                code: 1,
                stdout: String::new(),
                stderr: "Error response from daemon: injected failure".into(),
            }),
            _ => output,
        }
    }

    fn io<T>(
        &self,
        what: &str,
        path: &Path,
        work: impl FnOnce(&mut Content, Effect) -> io::Result<T>,
    ) -> io::Result<T> {
        let what = format!("{what} {}", path.display());
        let Some((point, verdict)) = self.meet(Place::File, what, true) else {
            return Err(io::Error::other("the process is dead"));
        };
        let effect = match verdict {
            Verdict::Crash(effect) => effect,
            Verdict::Disk { torn: true, .. } => Effect::Half,
            Verdict::Disk { torn: false, .. } => Effect::None,
            _ => Effect::Whole,
        };
        let result = match effect {
            Effect::None => None,
            effect => Some(work(&mut self.home.lock(), effect)),
        };
        match verdict {
            Verdict::Crash(_) => {
                self.die();
                Err(io::Error::other("the process is dead"))
            }
            Verdict::Disk { code, .. } => Err(io::Error::from_raw_os_error(code)),
            _ => {
                self.done(&point);
                result.unwrap_or_else(|| Err(io::Error::other("no effect")))
            }
        }
    }
}

/// A command line without the place of kind's executable.
fn shown(command: &Command) -> String {
    let program = command.program.rsplit('/').next().unwrap_or_default();
    let program = if program.starts_with("kind-") {
        "kind"
    } else {
        program
    };
    std::iter::once(program)
        .chain(command.args.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ")
}

fn output(answer: world::engine::Answer) -> Output {
    Output {
        code: answer.code,
        stdout: answer.out,
        stderr: answer.err,
    }
}

#[async_trait]
impl Processes for Life {
    async fn run(&self, command: &Command) -> Result<Output> {
        if command.program.contains("kind") {
            return self.kind(command).await;
        }
        if command.program != "docker" {
            return Err(Error::failed(format!(
                "the fake host has no program {}",
                command.program
            )));
        }
        let changes = Engine::changes(&command.args);
        self.program(Place::Engine, command, changes, |life, _| {
            let mut inner = life.world.lock();
            inner.changes += u64::from(changes);
            Ok(output(inner.engine.docker(&command.args)))
        })
        .await
    }

    async fn feed(&self, command: &Command, write: Writer) -> Result<Output> {
        if command.program != "docker" || command.args.first().is_none_or(|a| a != "load") {
            return Err(Error::failed(format!(
                "the fake host cannot feed `{}`",
                command.line()
            )));
        }
        self.program(Place::Load, command, true, |life, effect| {
            let mut archive = Vec::new();
            write(&mut archive)?;
            if effect == Effect::Half {
                archive.truncate(archive.len() / 2);
            }
            let mut inner = life.world.lock();
            inner.changes += 1;
            Ok(output(inner.engine.load(&archive)))
        })
        .await
    }

    async fn settle(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn end_all(&self) {}
}

impl Life {
    async fn kind(&self, command: &Command) -> Result<Output> {
        let words: Vec<&str> = command.args.iter().map(String::as_str).collect();
        let option = |name: &str| {
            let at = words.iter().position(|w| *w == name)?;
            words.get(at + 1).map(|w| (*w).to_owned())
        };
        let (Some(name), Some(image), Some(kubeconfig)) =
            (option("--name"), option("--image"), option("--kubeconfig"))
        else {
            return Err(Error::failed(format!(
                "the fake kind does not know `{}`",
                command.line()
            )));
        };
        if words.get(..2) != Some(&["create", "cluster"]) {
            return Err(Error::failed(format!(
                "the fake kind does not know `{}`",
                command.line()
            )));
        }
        let config = option("--config").map(PathBuf::from);
        self.program(Place::Kind, command, true, |life, effect| {
            if let Some(config) = config
                && !life.home.lock().files.contains_key(&config)
            {
                return Ok(Output {
                    code: 1,
                    stdout: String::new(),
                    stderr: format!("ERROR: failed to read {}", config.display()),
                });
            }
            let made = life
                .world
                .lock()
                .kind_create(&name, &image, effect == Effect::Whole);
            Ok(match made {
                Ok(text) => {
                    if let Some(text) = text {
                        let path = PathBuf::from(kubeconfig);
                        life.home
                            .lock()
                            .files
                            .insert(path, (text.into_bytes(), 0o600));
                    }
                    Output::default()
                }
                Err(stderr) => Output {
                    code: 1,
                    stdout: String::new(),
                    stderr,
                },
            })
        })
        .await
    }
}

#[async_trait]
impl Clusters for Life {
    async fn connect(&self, name: &str, kubeconfig: &str) -> Result<Cluster> {
        let Some(token) = world::token(kubeconfig) else {
            return Err(Error::failed(format!(
                "the kubeconfig of the {name} cannot be used"
            )));
        };
        let client = kube::Client::new(Gate::new(self.clone(), token), "default");
        Ok(Cluster::new(name, client))
    }
}

#[async_trait]
impl Clock for Life {
    fn now(&self) -> Timestamp {
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        begin + jiff::SignedDuration::from_millis(self.begin.elapsed().as_millis() as i64)
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

impl Files for Life {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self
            .home
            .lock()
            .files
            .get(path)
            .map(|(bytes, _)| bytes.clone()))
    }

    fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        self.io("write", path, |home, effect| {
            // Written beside it and renamed: half of it is nothing of it.
            if effect == Effect::Whole {
                home.need_folder(path)?;
                home.files.insert(path.to_owned(), (content.to_vec(), mode));
            }
            Ok(())
        })
    }

    fn append(&self, path: &Path, at: u64, record: &[u8]) -> io::Result<()> {
        // What is recorded belongs to the trace: it must not differ from run to run.
        let what = format!(
            "append {}",
            String::from_utf8_lossy(&record[..record.len().min(200)]).trim_end()
        );
        self.io(&what, path, |home, effect| {
            home.need_folder(path)?;
            let (bytes, _) = home
                .files
                .entry(path.to_owned())
                .or_insert((Vec::new(), 0o600));
            bytes.truncate(at as usize);
            let part = match effect {
                Effect::Whole => record.len(),
                _ => record.len() / 2,
            };
            bytes.extend_from_slice(&record[..part]);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.home.lock().files.contains_key(path) {
            return Ok(());
        }
        self.io("remove", path, |home, effect| {
            if effect == Effect::Whole {
                home.files.remove(path);
            }
            Ok(())
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.io("remove folder", path, |home, effect| {
            let mut inside: Vec<PathBuf> = home
                .files
                .keys()
                .filter(|p| p.starts_with(path))
                .cloned()
                .collect();
            if effect == Effect::Half {
                inside.truncate(inside.len() / 2);
            } else {
                home.folders.retain(|f| !f.starts_with(path));
            }
            for file in inside {
                home.files.remove(&file);
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.io("rename to", to, |home, effect| {
            if effect == Effect::Whole {
                let found = home.files.remove(from);
                let content = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
                home.files.insert(to.to_owned(), content);
            }
            Ok(())
        })
    }

    fn exists(&self, path: &Path) -> bool {
        let home = self.home.lock();
        home.files.contains_key(path) || home.folders.contains(path)
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        if self.home.lock().folders.contains(path) {
            return Ok(());
        }
        self.io("folder", path, |home, effect| {
            if effect == Effect::Whole {
                home.folders.extend(path.ancestors().map(Path::to_owned));
            }
            Ok(())
        })
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let home = self.home.lock();
        let names: BTreeSet<String> = home
            .files
            .keys()
            .chain(&home.folders)
            .filter_map(|p| p.strip_prefix(path).ok()?.components().next())
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
            .collect();
        Ok(names.into_iter().collect())
    }

    fn adopt(&self, _: &Path, to: &Path) -> io::Result<()> {
        self.folder(to)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.inner.lock().unwrap().locked.insert(path.to_owned());
        Ok(Some(Lock::of_nothing()))
    }
}

impl Content {
    fn need_folder(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(folder) if !self.folders.contains(folder) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no folder {}", folder.display()),
            )),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Network for Life {
    async fn reach(&self, address: SocketAddr, limit: Duration) -> io::Result<()> {
        let what = format!("reach {}", address.ip());
        let Some((point, verdict)) = self.meet(Place::Network, what, false) else {
            return std::future::pending().await;
        };
        self.wait(&point).await;
        match verdict {
            Verdict::Silence { .. } => {
                tokio::time::sleep(limit).await;
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            Verdict::Reset { .. } => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            _ => {}
        }
        let inner = self.world.lock();
        let there = inner
            .engine
            .containers
            .values()
            .any(|c| c.running && c.address == address.ip().to_string());
        if there {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::ConnectionRefused))
        }
    }

    fn routes(&self) -> io::Result<Vec<Route>> {
        Ok(Vec::new())
    }
}
