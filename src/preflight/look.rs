//! Gathers the facts: asks the engine, reads the kernel's files, tries folders. Must not change anything, nor judge.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, statvfs};
use serde_json::Value;

use super::facts::{
    Answer, Engine, Fact, Facts, Folder, Host, NoAnswer, Proxy, Route, Unknown, Wanted,
};
use crate::{
    Kind, Result,
    config::Cidr,
    env,
    ports::{
        Ports,
        clock::Clock,
        docker::{Docker, LABEL},
        network::Network,
        process::{Command, Output},
    },
    registry::own_image::OwnImage,
    steps::NODE_CONTAINER_LABEL,
};

/// A question to an engine that takes longer is not answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at everything; what cannot be seen is unknown, with the reason.
pub async fn look(mut wanted: Wanted, ports: &Ports, docker: &Docker) -> Facts {
    for (path, there) in &mut wanted.mounts {
        *there = Path::new(path).exists();
    }
    let own = tokio::task::spawn_blocking(OwnImage::of_this_executable);
    let engine = engine(&wanted, docker, ports.clock.as_ref()).await;
    wanted.own_image = match own.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(Unknown(e.line())),
        Err(e) => Err(Unknown(e.to_string())),
    };
    let (network, now) = (ports.network.clone(), ports.clock.now());
    let host = tokio::task::spawn_blocking(move || host(network.as_ref(), now)).await;
    Facts {
        wanted,
        engine,
        host: host.unwrap_or_else(|e| nothing_of_the_host(&e.to_string(), now)),
    }
}

async fn engine(wanted: &Wanted, docker: &Docker, clock: &dyn Clock) -> Engine {
    let address = match &docker.host {
        Some(host) => host.clone(),
        None => context(docker)
            .await
            .unwrap_or_else(|| "the docker command's default".into()),
    };
    let mut answer = info(docker, clock).await;
    if let Ok(answer) = &mut answer {
        let (networks, machines, registry) = tokio::join!(
            networks(docker),
            machines(docker, &wanted.name),
            registry(docker, &wanted.name)
        );
        answer.networks = Some(networks);
        answer.machines = Some(machines);
        answer.registry = Some(registry);
        answer.free = Some(free_for_images(answer));
    }
    Engine { address, answer }
}

async fn ask(docker: &Docker, args: &[&str]) -> Fact<String> {
    let command = Command::new("docker", args.iter().copied()).within(PATIENCE);
    let out = docker
        .run_command(command)
        .await
        .map_err(|e| Unknown(e.line()))?;
    if out.code == 0 {
        Ok(out.stdout)
    } else {
        Err(Unknown(last_line(&out.stderr)))
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|l| !l.is_empty());
    line.unwrap_or("it ended without a word").to_owned()
}

/// Address that the command uses by itself.
async fn context(docker: &Docker) -> Option<String> {
    let format = "{{.Endpoints.docker.Host}}";
    let text = ask(docker, &["context", "inspect", "--format", format])
        .await
        .ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

async fn info(docker: &Docker, clock: &dyn Clock) -> Result<Answer, NoAnswer> {
    let command = Command::new("docker", ["info", "--format", "{{json .}}"]).within(PATIENCE);
    let before = clock.now();
    let out = match docker.run_command(command).await {
        Ok(out) => out,
        Err(e) if e.kind() == Kind::Preflight => return Err(NoAnswer::NoCommand(e.line())),
        Err(e) => return Err(NoAnswer::Silent(e.line())),
    };
    answer(&out, before, clock.now())
}

/// Reads what `docker info` printed between two moments.
pub(super) fn answer(
    out: &Output,
    before: Timestamp,
    after: Timestamp,
) -> Result<Answer, NoAnswer> {
    let value: Value = serde_json::from_str(out.stdout.trim()).unwrap_or_default();
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |key: &str| -> Vec<String> {
        let all = value[key].as_array().into_iter().flatten();
        all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let said = format!("{} {}", list("ServerErrors").join(" "), out.stderr);
    let version = text("ServerVersion");
    if out.code != 0 || version.is_empty() {
        if said.to_lowercase().contains("permission denied") {
            return Err(NoAnswer::NoPermission(last_line(&said)));
        }
        if value["host"].is_object() && value["version"].is_object() {
            let what = "it answers as Podman does".to_owned();
            return Err(NoAnswer::Strange(what));
        }
        if out.code == 0 {
            return Err(NoAnswer::Strange("it tells no version".into()));
        }
        return Err(NoAnswer::Silent(last_line(&said)));
    }
    let status = value["DriverStatus"].to_string();
    Ok(Answer {
        name: text("Name"),
        operating_system: text("OperatingSystem"),
        os_type: text("OSType"),
        security: list("SecurityOptions"),
        cgroup: text("CgroupVersion"),
        storage: text("Driver"),
        containerd_store: status.contains("io.containerd.snapshotter"),
        podman: text("DockerRootDir").contains("/containers/storage"),
        root: PathBuf::from(text("DockerRootDir")),
        memory: value["MemTotal"].as_u64().unwrap_or_default(),
        processors: value["NCPU"].as_u64().unwrap_or_default(),
        kernel: text("KernelVersion"),
        forwards: value["IPv4Forwarding"].as_bool(),
        ahead: text("SystemTime")
            .parse()
            .ok()
            .map(|at| ahead(at, before, after)),
        version,
        ..Answer::default()
    })
}

/// Seconds that a clock is ahead, when it was read between two moments of ours.
fn ahead(at: Timestamp, before: Timestamp, after: Timestamp) -> i64 {
    if at > after {
        at.duration_since(after).as_secs()
    } else if at < before {
        at.duration_since(before).as_secs()
    } else {
        0
    }
}

async fn networks(docker: &Docker) -> Fact<BTreeMap<String, Vec<Cidr>>> {
    let names = ask(docker, &["network", "ls", "--format", "{{.Name}}"]).await?;
    let names: Vec<&str> = names.lines().filter(|n| !n.is_empty()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let args = [["network", "inspect"].as_slice(), names.as_slice()].concat();
    let text = ask(docker, &args).await?;
    let all: Vec<Value> = serde_json::from_str(&text)
        .map_err(|e| Unknown(format!("its answer cannot be read: {e}")))?;
    Ok(all
        .iter()
        .map(|n| (n["Name"].as_str().unwrap_or_default().to_owned(), ranges(n)))
        .collect())
}

fn ranges(network: &Value) -> Vec<Cidr> {
    let all = network["IPAM"]["Config"].as_array().into_iter().flatten();
    all.filter_map(|c| Cidr::parse(c["Subnet"].as_str()?))
        .collect()
}

async fn machines(docker: &Docker, name: &str) -> Fact<Vec<String>> {
    let filter = format!("label={NODE_CONTAINER_LABEL}={name}");
    let text = ask(
        docker,
        &["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"],
    )
    .await?;
    Ok(text
        .lines()
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect())
}

async fn registry(docker: &Docker, name: &str) -> Fact<Option<bool>> {
    match docker
        .inspect("container", &format!("mctl-{name}-registry"))
        .await
    {
        Ok(found) => Ok(found.map(|c| c["Config"]["Labels"][LABEL] == name)),
        Err(e) => Err(Unknown(e.line())),
    }
}

/// Free bytes where the engine keeps images: with containerd's store that is not its own folder.
fn free_for_images(answer: &Answer) -> Fact<u64> {
    if answer.name != host_name() {
        return Err(Unknown::new(
            "the engine is not on this host, or in a container of its own",
        ));
    }
    let own = answer.root.as_path();
    let store = Path::new("/var/lib/containerd");
    let folder = if answer.containerd_store && store.exists() {
        store
    } else {
        own
    };
    match statvfs(folder) {
        Ok(s) => Ok(s.f_bavail.saturating_mul(s.f_frsize)),
        Err(e) => Err(Unknown(format!(
            "{} cannot be looked at: {e}",
            folder.display()
        ))),
    }
}

fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

fn host(network: &dyn Network, now: Timestamp) -> Host {
    Host {
        name: host_name(),
        year: year(now),
        state: env::state_folder()
            .map(|f| folder(&f))
            .map_err(|e| Unknown(e.line())),
        cache: env::cache_folder()
            .map(|f| folder(&f))
            .map_err(|e| Unknown(e.line())),
        memory: available_memory(),
        inotify_instances: number("/proc/sys/fs/inotify/max_user_instances"),
        inotify_watches: number("/proc/sys/fs/inotify/max_user_watches"),
        open_files: Ok(
            rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .current
                .unwrap_or(u64::MAX),
        ),
        file_systems: read("/proc/filesystems").map(|t| {
            let names = t.lines().filter_map(|l| l.split_whitespace().last());
            names.map(str::to_owned).collect()
        }),
        routes: routes(network),
        resolvers: resolvers(),
        proxy: Proxy {
            set: ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
                .into_iter()
                .filter(|name| env::proxy(name).is_some())
                .map(str::to_owned)
                .collect(),
            spared: env::proxy("NO_PROXY"),
        },
    }
}

fn nothing_of_the_host(why: &str, now: Timestamp) -> Host {
    let why = Unknown::new(why);
    Host {
        name: String::new(),
        year: year(now),
        state: Err(why.clone()),
        cache: Err(why.clone()),
        memory: Err(why.clone()),
        inotify_instances: Err(why.clone()),
        inotify_watches: Err(why.clone()),
        open_files: Err(why.clone()),
        file_systems: Err(why.clone()),
        routes: Err(why.clone()),
        resolvers: Err(why),
        proxy: Proxy::default(),
    }
}

fn year(now: Timestamp) -> i16 {
    now.to_zoned(jiff::tz::TimeZone::UTC).year()
}

fn read(path: &str) -> Fact<String> {
    fs::read_to_string(path).map_err(|e| Unknown(format!("{path} cannot be read: {e}")))
}

fn number(path: &str) -> Fact<u64> {
    let text = read(path)?;
    text.trim()
        .parse()
        .map_err(|_| Unknown(format!("{path} holds no number")))
}

fn available_memory() -> Fact<u64> {
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|k| k.saturating_mul(1024))
        .ok_or_else(|| Unknown::new("/proc/meminfo does not tell"))
}

/// Routes of the host, as the port has them.
fn routes(network: &dyn Network) -> Fact<Vec<Route>> {
    let all = network
        .routes()
        .map_err(|e| Unknown(format!("the host's routes cannot be read: {e}")))?;
    Ok(all
        .into_iter()
        .filter_map(|r| {
            Some(Route {
                to: Cidr::parse(&format!("{}/{}", r.network, r.prefix))?,
                device: r.interface,
            })
        })
        .collect())
}

/// Name servers; behind systemd's own address, those that it asks.
fn resolvers() -> Fact<Vec<Ipv4Addr>> {
    let own = name_servers(&read("/etc/resolv.conf")?);
    if own.iter().any(Ipv4Addr::is_loopback)
        && let Ok(text) = read("/run/systemd/resolve/resolv.conf")
    {
        return Ok(name_servers(&text));
    }
    Ok(own.into_iter().filter(|a| !a.is_loopback()).collect())
}

fn name_servers(text: &str) -> Vec<Ipv4Addr> {
    let words = text.lines().map(|l| l.split_whitespace());
    words
        .filter_map(|mut w| (w.next() == Some("nameserver")).then(|| w.next()?.parse().ok())?)
        .collect()
}

/// A folder that may not be there yet: what counts is the nearest one above that is.
pub(super) fn folder(path: &Path) -> Folder {
    let mut found = Folder {
        path: path.to_owned(),
        ..Folder::default()
    };
    let Some(there) = path.ancestors().find(|p| p.exists()) else {
        found.refused = Some("no folder above it is there".into());
        return found;
    };
    if !there.is_dir() {
        found.refused = Some(format!("{} is not a folder", there.display()));
        return found;
    }
    match statvfs(there) {
        Ok(s) => {
            found.free = s.f_bavail.saturating_mul(s.f_frsize);
            found.noexec = s.f_flag.contains(StatVfsMountFlags::NOEXEC);
            if s.f_flag.contains(StatVfsMountFlags::RDONLY) {
                found.refused = Some(format!("{} is mounted read-only", there.display()));
            }
        }
        Err(e) => found.refused = Some(format!("{}: {e}", there.display())),
    }
    if found.refused.is_none() {
        found.refused = try_write(there)
            .err()
            .map(|e| format!("{}: {e}", there.display()));
    }
    found
}

/// A file without a name is made and gone at once: permission, quota and read-only file systems show, nothing stays.
fn try_write(folder: &Path) -> rustix::io::Result<()> {
    use rustix::{fs::Access, io::Errno};
    match rustix::fs::open(
        folder,
        OFlags::TMPFILE | OFlags::WRONLY,
        Mode::RUSR | Mode::WUSR,
    ) {
        Ok(_) => Ok(()),
        // Some file systems have no such files; then only permission can be asked for. Those of the kernel have no files of ours.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {
            if folder.starts_with("/proc") || folder.starts_with("/sys") {
                return Err(Errno::PERM);
            }
            rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(e) => Err(e),
    }
}
