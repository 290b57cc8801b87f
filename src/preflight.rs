//! Checks of host, engine and earlier state before anything is changed; all findings at once. Must not change anything.

use std::path::Path;

use crate::{
    Error, Kind, Result,
    cli::input::Read,
    ports::docker::{Docker, LABEL},
    registry::own_image::OwnImage,
    steps::{
        NODE_CONTAINER_LABEL,
        state::{Request, State},
    },
};

/// Oldest Docker engine that runs today's node images on both cgroup versions.
const OLDEST_ENGINE: (u32, u32) = (24, 0);
const GIB: u64 = 1 << 30;
/// Memory of one machine and of the temporary cluster, measured.
const MEMORY_PER_MACHINE: u64 = 3 * GIB / 2;
/// Disk the engine needs for images, unpacked in each machine.
const DISK_PER_MACHINE: u64 = 4 * GIB;

/// One thing that stands in the way.
struct Finding {
    what: String,
    fix: String,
}

fn finding(what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        what: what.into(),
        fix: fix.into(),
    }
}

/// Runs all checks; one error carries every finding with its fix.
pub async fn check(
    read: &Read,
    docker: &Docker,
    state: &State,
    earlier: Option<&Request>,
) -> Result<()> {
    let mut findings = Vec::new();
    // Without an engine nothing else can be asked.
    let info = docker.info().await?;
    findings.extend(engine(&info));
    findings.extend(host(read, &info, earlier.is_some()));
    findings.extend(names(read, docker, earlier.is_some()).await?);
    findings.extend(changed(read, state, earlier));
    if let Err(e) = OwnImage::of_this_executable() {
        findings.push(finding(
            e.line(),
            "use the released executable, or build one: cargo xtask dist",
        ));
    }
    if findings.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(
        Kind::Preflight,
        format!(
            "{} checks failed before anything was changed",
            findings.len()
        ),
    )
    .state("nothing was changed");
    for f in findings {
        error = error.because(f.what).fix(f.fix);
    }
    Err(error)
}

fn engine(info: &crate::ports::docker::Info) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut parts = info
        .server_version
        .split('.')
        .map(|p| p.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST_ENGINE {
        found.push(finding(
            format!(
                "the Docker engine is {}, {}.{} or newer is needed",
                info.server_version, OLDEST_ENGINE.0, OLDEST_ENGINE.1
            ),
            "update the Docker engine",
        ));
    }
    if info
        .security_options
        .iter()
        .flatten()
        .any(|o| o.contains("rootless"))
    {
        found.push(finding(
            "the Docker engine is rootless; machines need privileged containers of a rootful one",
            "set DOCKER_HOST to a rootful engine",
        ));
    }
    if info.os_type != "linux" {
        found.push(finding(
            format!(
                "the Docker engine runs {} containers; Linux is needed",
                info.os_type
            ),
            "switch the engine to Linux containers",
        ));
    }
    found
}

fn host(read: &Read, info: &crate::ports::docker::Info, resumes: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let spec = &read.document.spec;
    let machines = u64::from(
        spec.control_plane.replicas + spec.node_pools.iter().map(|p| p.replicas).sum::<u32>(),
    );
    let memory = (machines + 1) * MEMORY_PER_MACHINE;
    if info.mem_total > 0 && info.mem_total < memory {
        found.push(finding(
            format!("{machines} machines and the temporary cluster need {} GiB of memory; the engine has {}", memory / GIB, info.mem_total / GIB),
            "give the engine more memory, or fewer machines in the document",
        ));
    }
    // What an earlier run already wrote is not needed again.
    if !resumes {
        let disk = (machines + 1) * DISK_PER_MACHINE;
        if let Some(free) = free(Path::new(&info.docker_root_dir)).filter(|f| *f < disk) {
            found.push(finding(
                format!(
                    "{} GiB of disk are needed below {}; {} GiB are free",
                    disk / GIB,
                    info.docker_root_dir,
                    free / GIB
                ),
                "free space there (`docker system df` shows what the engine holds)",
            ));
        }
    }
    for (name, least) in [("max_user_instances", 512u64), ("max_user_watches", 65536)] {
        let path = format!("/proc/sys/fs/inotify/{name}");
        let value = std::fs::read_to_string(&path)
            .ok()
            .and_then(|t| t.trim().parse::<u64>().ok());
        if let Some(value) = value.filter(|v| *v < least) {
            found.push(finding(
                format!("the kernel setting fs.inotify.{name} is {value}; kubelets of several machines need {least} or more"),
                format!("sysctl -w fs.inotify.{name}={}", least * 16),
            ));
        }
    }
    found
}

/// Free bytes of the file system that holds a path; `None` if it cannot be told (a remote engine).
fn free(path: &Path) -> Option<u64> {
    let s = rustix::fs::statvfs(path).ok()?;
    Some(s.f_bavail * s.f_frsize)
}

async fn names(read: &Read, docker: &Docker, resumes: bool) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let name = &read.plan.cluster;
    if !resumes {
        let machines = docker
            .names("container", &format!("label={NODE_CONTAINER_LABEL}={name}"))
            .await?;
        if !machines.is_empty() {
            found.push(finding(
                format!("a cluster `{name}` that mctl does not know has containers on this engine: {}", machines.join(", ")),
                format!("choose another metadata.name, or remove it: kind delete cluster --name {name}, or mctl destroy {name}"),
            ));
        }
    }
    let registry = format!("mctl-{name}-registry");
    if let Some(c) = docker.inspect("container", &registry).await?
        && c["Config"]["Labels"][LABEL] != name.as_str()
    {
        found.push(finding(
            format!("a container `{registry}` that is not mctl's is on this engine"),
            format!("docker rm {registry}, or choose another metadata.name"),
        ));
    }
    Ok(found)
}

/// A run goes on only with the document it began with.
fn changed(read: &Read, state: &State, earlier: Option<&Request>) -> Option<Finding> {
    let earlier = earlier?;
    (earlier.document.spec != read.document.spec).then(|| {
        let name = &read.plan.cluster;
        finding(
            format!("the document differs from the one that `{name}` was begun with ({})", state.file("request.json").display()),
            format!("edit the running cluster's document instead: kubectl -n giantswarm edit managementcluster {name}; or begin anew after: mctl destroy {name}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::docker::Info;

    #[test]
    fn old_and_rootless_engines_are_refused_with_a_fix() {
        let info = Info {
            server_version: "20.10.24+dfsg1".into(),
            security_options: Some(vec!["name=rootless".into()]),
            os_type: "linux".into(),
            ..Info::default()
        };
        let found = engine(&info);
        assert_eq!(found.len(), 2);
        assert!(found[0].what.contains("20.10.24"), "{}", found[0].what);
        assert!(
            engine(&Info {
                server_version: "26.1.5".into(),
                os_type: "linux".into(),
                ..Info::default()
            })
            .is_empty()
        );
    }
}
