//! Runs a Docker engine of the lab's own when none answers; must not touch an engine that it did not start.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cache::{Cache, remove_tree, write_atomic};
use super::debian::Debian;
use super::firewall;
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

/// What was on the machine before the engine started, kept until it is stopped.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    socket: PathBuf,
    programs: PathBuf,
    exec_root: PathBuf,
    sysctls: BTreeMap<String, String>,
    links: Vec<String>,
    firewall: firewall::Before,
    made_lib_modules: bool,
}

/// The engine that answers at `DOCKER_HOST` or the default socket, else the lab's own, started if need be.
pub fn ensure(cache: &Cache, pins: &Pins, debian: &Debian) -> Result<Engine> {
    let own = load(cache)?;
    let host = std::env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty());
    let asked = host
        .clone()
        .unwrap_or_else(|| format!("unix://{DEFAULT_SOCKET}"));
    let docker = cache.join("docker");
    if answers(&asked) {
        let ours = own
            .as_ref()
            .is_some_and(|b| socket_host(&b.socket) == asked);
        return Ok(Engine {
            host: asked,
            ours,
            started: false,
            bin: own.and_then(|b| client(&b.programs)),
        });
    }
    if let Some(before) = &own
        && answers(&socket_host(&before.socket))
    {
        return Ok(Engine {
            host: socket_host(&before.socket),
            ours: true,
            started: false,
            bin: client(&before.programs),
        });
    }
    let _lock = cache.lock("engine")?;
    let programs = programs(cache, pins, debian)?;
    let before = match own {
        // Dead with its data root intact: the first values are still the ones to go back to.
        Some(before) => Before { programs, ..before },
        None => remember(&docker, programs, pins)?,
    };
    save(cache, &before)?;
    prepare_kernel(pins)?;
    start(&docker, &before)?;
    Ok(Engine {
        host: socket_host(&before.socket),
        ours: true,
        started: true,
        bin: client(&before.programs),
    })
}

/// Stops the engine that the lab started, removes its data and puts the kernel's settings back; false if there is none.
pub fn stop(cache: &Cache) -> Result<bool> {
    let Some(before) = load(cache)? else {
        return Ok(false);
    };
    let _lock = cache.lock("engine")?;
    let docker = cache.join("docker");
    if let Some(pid) = running_pid(&docker, &before) {
        terminate(pid)?;
    }
    unmount_below(&[&docker.join("data"), &before.exec_root])?;
    for dir in [docker.join("data"), before.exec_root.clone()] {
        if dir.exists() {
            remove_tree(&dir)?;
        }
    }
    for link in links()?
        .into_iter()
        .filter(|l| is_docker_bridge(l) && !before.links.contains(l))
    {
        Run::new("ip").args(["link", "delete", &link]).ok()?;
    }
    firewall::restore(&before.firewall)?;
    for (name, value) in &before.sysctls {
        if read_sysctl(name).as_deref() != Some(value) {
            write_sysctl(name, value)?;
        }
    }
    if before.made_lib_modules {
        let _ = fs::remove_dir("/lib/modules"); // only if still empty
    }
    for file in ["engine.pid", "daemon.json", "engine.json"] {
        let _ = fs::remove_file(docker.join(file));
    }
    Ok(true)
}

/// Whether the lab has an engine to stop.
pub fn is_ours(cache: &Cache) -> bool {
    matches!(load(cache), Ok(Some(_)))
}

/// Asks an engine whether it is there.
fn answers(host: &str) -> bool {
    ping(host).unwrap_or(false)
}

fn ping(host: &str) -> Result<bool> {
    let wait = Some(Duration::from_secs(5));
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

fn socket_host(socket: &Path) -> String {
    format!("unix://{}", socket.display())
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
        let mut debs = Vec::new();
        for name in &pins.engine.debs {
            debs.push(debian.fetch(name, &downloads)?);
        }
        for package in &pins.engine.host_debs {
            debs.push(debian.fetch_host(package, &downloads)?);
        }
        debian.unpack(&debs, &dir.join("root"))?;
        remove_tree(&downloads)
    })?;
    Ok(entry.join("root"))
}

fn load(cache: &Cache) -> Result<Option<Before>> {
    let path = cache.join("docker/engine.json");
    match fs::read(&path) {
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged", path.display())
            })?))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn save(cache: &Cache, before: &Before) -> Result<()> {
    write_atomic(
        &cache.join("docker/engine.json"),
        &serde_json::to_vec_pretty(before)?,
    )
}

/// Notes what the engine and the clusters in it will change.
fn remember(docker: &Path, programs: PathBuf, pins: &Pins) -> Result<Before> {
    let names = pins
        .engine
        .sysctls
        .keys()
        .chain(&pins.engine.restore_sysctls);
    let default = PathBuf::from(DEFAULT_SOCKET);
    // The default one was asked already: what is there and does not answer is a leftover, unless somebody listens.
    let socket = if UnixStream::connect(&default).is_err() {
        default
    } else {
        docker.join("docker.sock")
    };
    let tag = &super::cache::recipe_hash(&json!(docker.to_string_lossy()))[..8];
    let made_lib_modules = !Path::new("/lib/modules").exists();
    if made_lib_modules {
        // Nodes mount it from the host; a kernel without modules has none.
        fs::create_dir_all("/lib/modules")
            .context("cannot make /lib/modules (the lab runs as root)")?;
    }
    Ok(Before {
        socket,
        programs,
        // Short, because socket paths are limited; below /run, because it must not outlive the machine's boot.
        exec_root: PathBuf::from(format!("/run/mctl-lab-{tag}")),
        sysctls: names
            .filter_map(|n| Some((n.clone(), read_sysctl(n)?)))
            .collect(),
        links: links()?,
        firewall: firewall::before()?,
        made_lib_modules,
    })
}

fn prepare_kernel(pins: &Pins) -> Result<()> {
    for (name, least) in &pins.engine.sysctls {
        let now = read_sysctl(name)
            .and_then(|v| v.parse::<u64>().ok())
            .unwrap_or(0);
        if now < *least {
            write_sysctl(name, &least.to_string())?;
        }
    }
    Ok(())
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

fn read_sysctl(name: &str) -> Option<String> {
    fs::read_to_string(sysctl_path(name))
        .ok()
        .map(|v| v.trim().to_owned())
}

fn write_sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(sysctl_path(name), value)
        .with_context(|| format!("cannot set {name} to {value} (the lab runs as root)"))
}

fn links() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn is_docker_bridge(name: &str) -> bool {
    name == "docker0"
        || name
            .strip_prefix("br-")
            .is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Starts the engine in a session of its own and waits until it answers.
fn start(docker: &Path, before: &Before) -> Result<()> {
    fs::create_dir_all(docker)?;
    let usr = before.programs.join("usr");
    let settings = json!({
        "data-root": docker.join("data"),
        "exec-root": before.exec_root,
        "pidfile": docker.join("engine.pid"),
        "hosts": [socket_host(&before.socket)],
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
    if running_pid(docker, before).is_none() {
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
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if answers(&socket_host(&before.socket)) {
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
                "the Docker engine does not answer after 90 s; its log: {}",
                log_path.display()
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Process of the lab's engine, if it is one: a number in a file may be another program's by now.
fn running_pid(docker: &Path, before: &Before) -> Option<i32> {
    let pid: i32 = fs::read_to_string(docker.join("engine.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let ours =
        exe.starts_with(&before.programs) || exe.to_string_lossy().ends_with("usr/sbin/dockerd");
    ours.then_some(pid)
}

fn terminate(pid: i32) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    kill_process(pid, Signal::TERM).context("cannot stop the Docker engine")?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while test_kill_process(pid).is_ok() {
        if Instant::now() > deadline {
            kill_process(pid, Signal::KILL)?;
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Unmounts what a killed engine left mounted, the deepest first.
fn unmount_below(dirs: &[&Path]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut points: Vec<&str> = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(1))
        .filter(|p| dirs.iter().any(|d| Path::new(p).starts_with(d)))
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for point in points {
        Run::new("umount").args(["-l", point]).ok()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_docker_bridges_are_taken_for_such() {
        assert!(is_docker_bridge("docker0"));
        assert!(is_docker_bridge("br-0123456789ab"));
        assert!(!is_docker_bridge("br-lan"));
        assert!(!is_docker_bridge("eth0"));
    }

    #[test]
    fn an_engine_that_is_not_there_does_not_answer() {
        assert!(!answers("unix:///nonexistent/docker.sock"));
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
}
