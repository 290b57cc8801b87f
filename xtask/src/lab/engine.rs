//! Runs a Docker engine of the lab's own when none answers; must not touch an engine that it did not start.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cache::{Cache, recipe_hash, remove_tree, write_atomic};
use super::debian::Debian;
use super::kernel;
use super::pins::Pins;
use super::proc::{Run, tail, which};

/// Where docker looks when nothing is said.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// An engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Value for `DOCKER_HOST`.
    pub host: String,
    /// Whether this lab started it, now or in an earlier run.
    pub ours: bool,
    /// Whether it was this very call that started it.
    pub started: bool,
    /// Folder with a `docker` command, for machines that have none.
    pub bin: Option<PathBuf>,
}

/// The lab's engine and what was on the machine before it, kept until it is stopped.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    socket: PathBuf,
    programs: PathBuf,
    exec_root: PathBuf,
    kernel: kernel::Before,
}

impl State {
    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn engine(&self, started: bool) -> Engine {
        Engine {
            host: self.host(),
            ours: true,
            started,
            bin: client(&self.programs),
        }
    }
}

/// The engine that answers at `DOCKER_HOST` or the default socket, else the lab's own, started if need be.
pub fn ensure(cache: &Cache, pins: &Pins, debian: &Debian) -> Result<Engine> {
    let own = load(cache)?;
    if own.is_none() {
        end_orphans(cache)?;
    }
    let asked = std::env::var("DOCKER_HOST")
        .ok()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| format!("unix://{DEFAULT_SOCKET}"));
    let is_asked = |state: &State| state.host() == asked;
    if answers(&asked) && !own.as_ref().is_some_and(is_asked) {
        return Ok(Engine {
            host: asked,
            ours: false,
            started: false,
            bin: None,
        });
    }
    if let Some(state) = &own
        && answers(&state.host())
    {
        return Ok(state.engine(false));
    }
    let _lock = cache.lock("engine")?;
    let docker = cache.join("docker");
    let programs = programs(cache, pins, debian)?;
    let state = match own {
        // Dead with its data root intact: the first values are still the ones to go back to.
        Some(state) => State { programs, ..state },
        None => State {
            socket: free_socket(&docker),
            programs,
            exec_root: exec_root(&docker),
            kernel: kernel::remember(&pins.engine)?,
        },
    };
    save(cache, &state)?;
    kernel::prepare(&pins.engine)?;
    start(&docker, &state)?;
    Ok(state.engine(true))
}

/// Stops the engine that the lab started, removes its data and puts the kernel's settings back; false if there is none.
pub fn stop(cache: &Cache) -> Result<bool> {
    let Some(state) = load(cache)? else {
        return Ok(false);
    };
    let _lock = cache.lock("engine")?;
    let docker = cache.join("docker");
    if running_pid(&docker, &state).is_none() && docker.join("data").exists() {
        // Only a living engine ends its containers; when it cannot live, its processes are ended below.
        let _ = start(&docker, &state);
    }
    if let Some(pid) = running_pid(&docker, &state) {
        terminate(pid)?;
    }
    for pid in leftovers(&state.programs)? {
        terminate(pid)?;
    }
    kernel::unmount_below(&[&docker.join("data"), &state.exec_root])?;
    for dir in [docker.join("data"), state.exec_root.clone()] {
        if dir.exists() {
            remove_tree(&dir)?;
        }
    }
    kernel::restore(&state.kernel)?;
    for file in ["engine.pid", "daemon.json", "engine.json"] {
        let _ = fs::remove_file(docker.join(file));
    }
    let _ = fs::remove_file(&state.socket);
    Ok(true)
}

/// Ends an engine of the lab's own of which nothing is written down any more, because its folder was deleted or written by
/// another version: it may still answer, and has lost its programs or its data.
fn end_orphans(cache: &Cache) -> Result<()> {
    let programs = cache.join("engine");
    if leftovers(&programs)?.is_empty() {
        return Ok(());
    }
    let _lock = cache.lock("engine")?;
    eprintln!("engine: ending one that an earlier run of the lab left behind");
    let mut pids = leftovers(&programs)?;
    // It ends its containers; what serves them goes by itself then.
    pids.sort_by_key(|pid| !is_engine(*pid));
    for pid in pids {
        terminate(pid)?;
    }
    let docker = cache.join("docker");
    let exec_root = exec_root(&docker);
    kernel::unmount_below(&[&docker.join("data"), &exec_root])?;
    if exec_root.exists() {
        remove_tree(&exec_root)?;
    }
    Ok(())
}

fn is_engine(pid: Pid) -> bool {
    fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).is_ok_and(|exe| {
        exe.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("dockerd"))
    })
}

/// The default socket, unless somebody listens there; what is there and does not answer is a leftover.
fn free_socket(docker: &Path) -> PathBuf {
    let default = PathBuf::from(DEFAULT_SOCKET);
    match UnixStream::connect(&default) {
        Ok(_) => docker.join("docker.sock"),
        Err(_) => default,
    }
}

/// Short, because socket paths are limited; below /run, because it must not outlive the machine's boot.
fn exec_root(docker: &Path) -> PathBuf {
    let tag = &recipe_hash(&json!(docker.to_string_lossy()))[..8];
    PathBuf::from(format!("/run/mctl-lab-{tag}"))
}

/// Asks an engine whether it is there.
fn answers(host: &str) -> bool {
    ping(host).unwrap_or(false)
}

fn ping(host: &str) -> Result<bool> {
    let wait = Some(Duration::from_secs(20)); // a busy machine answers late, a dead engine refuses at once
    let ask = "GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n";
    let mut reply = String::new();
    if let Some(path) = host.strip_prefix("unix://") {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(wait)?;
        stream.write_all(ask.as_bytes())?;
        stream.read_to_string(&mut reply)?;
    } else if let Some(address) = host.strip_prefix("tcp://")
        && std::env::var_os("DOCKER_TLS_VERIFY").is_none()
    {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(wait)?;
        stream.write_all(ask.as_bytes())?;
        stream.read_to_string(&mut reply)?;
    } else {
        // TLS and ssh are docker's own business.
        return Ok(Run::new("docker")
            .args(["version", "--format", "{{.Server.Version}}"])
            .output()
            .is_ok());
    }
    Ok(reply.starts_with("HTTP/1") && reply.contains(" 200 "))
}

fn client(programs: &Path) -> Option<PathBuf> {
    let bin = programs.join("usr/bin");
    (which("docker").is_none() && bin.join("docker").exists()).then_some(bin)
}

/// The engine's programs: docker from the pinned suite, the rest from the machine's own release, unpacked aside.
fn programs(cache: &Cache, pins: &Pins, debian: &Debian) -> Result<PathBuf> {
    let recipe = json!({"engine": 1, "debs": debian.locked(&pins.engine.debs)?, "host": pins.engine.host_debs});
    let entry = cache.get_or_make("engine", &recipe, |dir| {
        let downloads = dir.join("debs");
        let mut debs = debian.fetch(&pins.engine.debs, &downloads)?;
        debs.extend(debian.fetch_host(&pins.engine.host_debs, &downloads)?);
        debian.unpack(&debs, &dir.join("root"))?;
        remove_tree(&downloads)
    })?;
    Ok(entry.join("root"))
}

fn load(cache: &Cache) -> Result<Option<State>> {
    let path = cache.join("docker/engine.json");
    match fs::read(&path) {
        Ok(bytes) => Ok(match serde_json::from_slice(&bytes) {
            Ok(state) => Some(state),
            Err(error) => {
                // Cut off, or of another version: what it says cannot be put back, and must not keep every run from starting.
                let aside = path.with_extension("unreadable");
                eprintln!(
                    "{} cannot be read ({error}); it is now {}",
                    path.display(),
                    aside.display()
                );
                fs::rename(&path, &aside)?;
                None
            }
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn save(cache: &Cache, state: &State) -> Result<()> {
    write_atomic(
        &cache.join("docker/engine.json"),
        &serde_json::to_vec_pretty(state)?,
    )
}

/// Starts the engine in a session of its own and waits until it answers.
fn start(docker: &Path, state: &State) -> Result<()> {
    fs::create_dir_all(docker)?;
    let usr = state.programs.join("usr");
    let settings = json!({
        "data-root": docker.join("data"),
        "exec-root": state.exec_root,
        "pidfile": docker.join("engine.pid"),
        "hosts": [state.host()],
        "storage-driver": "overlay2",
        "init-path": usr.join("bin/tini-static"),
        "userland-proxy-path": usr.join("sbin/docker-proxy"),
        "containerd-namespace": "mctl-lab",
        "log-opts": {"max-size": "20m", "max-file": "2"},
        "shutdown-timeout": 5,
        "log-level": "warn"
    });
    let config = docker.join("daemon.json");
    write_atomic(&config, &serde_json::to_vec_pretty(&settings)?)?;
    if running_pid(docker, state).is_none() {
        let _ = fs::remove_file(docker.join("engine.pid")); // of a dead engine; its number may be another's by now
    }
    let log_path = docker.join("engine.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)?;
    let own_path = std::env::join_paths(
        [usr.join("sbin"), usr.join("bin")]
            .into_iter()
            .chain(std::env::split_paths(
                &std::env::var_os("PATH").unwrap_or_default(),
            ))
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from)),
    )?;
    let mut child = Command::new("setsid")
        .arg(usr.join("sbin/dockerd"))
        .arg("--config-file")
        .arg(&config)
        // Not accepted in the file, under any of its names.
        .arg("--containerd-plugins-namespace=mctl-lab-plugins")
        .env("PATH", own_path)
        .env_remove("DOCKER_HOST")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the Docker engine")?;
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        if answers(&state.host()) {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!(
                "the Docker engine ended ({status}):\n{}\nfull log: {}",
                tail(&log_path, 15),
                log_path.display()
            );
        }
        if Instant::now() > deadline {
            bail!(
                "the Docker engine does not answer after 180 s; its log: {}",
                log_path.display()
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Process of the lab's engine, if it is one: a number in a file may be another program's by now.
fn running_pid(docker: &Path, state: &State) -> Option<Pid> {
    let text = fs::read_to_string(docker.join("engine.pid")).ok()?;
    let pid = text.trim().parse().ok()?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    exe.starts_with(&state.programs)
        .then(|| Pid::from_raw(pid))
        .flatten()
}

/// Processes of the engine's programs that a killed engine left behind.
fn leftovers(programs: &Path) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.starts_with(programs)) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// Whether a process runs; a dead one that its parent (this very program) has not fetched yet does not.
fn alive(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else {
        return false;
    };
    !stat
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

fn terminate(pid: Pid) -> Result<()> {
    if kill_process(pid, Signal::TERM).is_err() {
        return Ok(()); // gone already
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while alive(pid) {
        if Instant::now() > deadline {
            kill_process(pid, Signal::KILL).context("cannot stop the Docker engine")?;
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_there_does_not_answer() {
        assert!(!answers("unix:///nonexistent/docker.sock"));
    }

    #[test]
    fn a_dead_child_that_nobody_fetched_is_not_alive() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let deadline = Instant::now() + Duration::from_secs(5);
        while alive(pid) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!alive(pid));
        child.wait().unwrap();
    }

    #[test]
    fn a_socket_that_answers_is_an_engine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut s, _) = listener.accept().unwrap();
            let mut buf = [0; 256];
            let _ = s.read(&mut buf).unwrap();
            s.write_all(b"HTTP/1.0 200 OK\r\n\r\nOK").unwrap();
        });
        assert!(answers(&format!("unix://{}", path.display())));
    }

    #[test]
    fn an_engine_whose_folder_was_deleted_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("lab")).unwrap();
        let bin = cache.join("engine/old/root/usr/sbin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(which("sleep").unwrap(), bin.join("dockerd")).unwrap();
        let mut engine = Command::new(bin.join("dockerd")).arg("60").spawn().unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        remove_tree(&cache.join("engine")).unwrap();
        let reaper = std::thread::spawn(move || engine.wait().unwrap());
        end_orphans(&cache).unwrap();
        assert!(!reaper.join().unwrap().success());
        assert!(alive(Pid::from_child(&other)), "somebody else's goes on");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_state_that_cannot_be_read_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("lab")).unwrap();
        assert!(load(&cache).unwrap().is_none());
        fs::create_dir_all(cache.join("docker")).unwrap();
        fs::write(cache.join("docker/engine.json"), "{\"socket\": ").unwrap();
        assert!(load(&cache).unwrap().is_none());
        assert!(cache.join("docker/engine.unreadable").exists());
        assert!(!cache.join("docker/engine.json").exists());
    }
}
