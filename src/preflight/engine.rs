//! Judgement of the container engine. Must be pure.

use super::{
    Finding, On,
    facts::{Answer, Facts, NoAnswer, Unknown},
    on,
};

/// Oldest Docker engine that runs today's node images on both cgroup versions.
const OLDEST: (u32, u32) = (24, 0);
/// First Kubernetes minor whose kubelet refuses cgroup v1 by itself.
const CGROUP_V2_ONLY: u64 = 35;
/// Oldest kernel that Cilium supports, but for distributions that took its features over.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// Certificates begin five minutes before they are made; beyond that a machine takes them for not yet valid.
const CLOCK_LIMIT: i64 = 270;
/// What a well kept clock differs by at most.
const CLOCK_NOTE: i64 = 10;
const GIB: u64 = 1 << 30;
/// Memory of one machine and of the temporary cluster, measured.
pub(super) const MEMORY_PER_MACHINE: u64 = 3 * GIB / 2;
/// Disk the engine needs for images, unpacked in each machine.
const DISK_PER_MACHINE: u64 = 4 * GIB;

/// A check that needs an engine that answers.
fn ask(
    facts: &Facts,
    id: &'static str,
    what: &str,
    judge: impl FnOnce(On, &Answer) -> Finding,
) -> Finding {
    let on = on(id, facts.engine.address.as_str());
    match &facts.engine.answer {
        Ok(answer) => judge(on, answer),
        Err(_) => on.unknown(what, &Unknown::new("no engine answers")),
    }
}

/// A value that the engine may not tell.
pub(super) fn not_told() -> Unknown {
    Unknown::new("the engine does not say")
}

/// The `docker` command is there: mctl and kind work through it.
pub(super) fn command(facts: &Facts) -> Finding {
    let place = on("docker-command", "PATH");
    match &facts.engine.answer {
        Err(NoAnswer::NoCommand(why)) => place.bad(
            "there is no `docker` command",
            why.as_str(),
            "install Docker's command line (package docker-cli, docker-ce-cli or docker.io) and have it on PATH",
        ),
        _ => place.good("the docker command is there", ""),
    }
}

/// An engine answers.
pub(super) fn answers(facts: &Facts) -> Finding {
    let on = on("engine", facts.engine.address.as_str());
    match &facts.engine.answer {
        Ok(answer) => on.good(
            format!("Docker engine {} answers", answer.version),
            answer.operating_system.as_str(),
        ),
        Err(NoAnswer::NoCommand(_)) => on.unknown(
            "whether an engine runs",
            &Unknown::new("there is no docker command to ask with"),
        ),
        Err(NoAnswer::NoPermission(why)) => on.bad(
            "this user may not use the Docker engine's socket",
            why.as_str(),
            "join its group and log in again: sudo usermod -aG docker $USER",
        ),
        Err(NoAnswer::Silent(why)) => on.bad(
            "no Docker engine answers",
            why.as_str(),
            "start the engine (sudo systemctl start docker), or set DOCKER_HOST to one that runs",
        ),
        Err(NoAnswer::Strange(why)) => on.bad(
            "what answers is not a Docker engine that mctl understands",
            why.as_str(),
            "set DOCKER_HOST to a Docker engine",
        ),
    }
}

/// Podman imitates the command, not what kind and Cluster API use of the engine.
pub(super) fn product(facts: &Facts) -> Finding {
    ask(facts, "engine-product", "whose engine it is", |on, e| {
        if e.podman {
            on.bad(
                "the engine is Podman, which Cluster API's Docker provider cannot use",
                format!("it calls itself {} {}", e.operating_system, e.version),
                "set DOCKER_HOST to a Docker engine",
            )
        } else {
            on.good("it is Docker's engine", "")
        }
    })
}

/// Major and minor number at the beginning of a text.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '+']).map(|p| p.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Not too old.
pub(super) fn version(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-version",
        "the engine's version",
        |on, e| match numbers(&e.version) {
            None => on.unknown("the engine's version", &not_told()),
            Some(_) if e.podman => on.unknown(
                "the engine's version",
                &Unknown::new("Podman counts its own versions"),
            ),
            Some(found) if found < OLDEST => on.bad(
                format!(
                    "the Docker engine is {}, {}.{} or newer is needed",
                    e.version, OLDEST.0, OLDEST.1
                ),
                format!("it says version {}", e.version),
                "update the Docker engine",
            ),
            Some(_) => on.good(format!("version {} is new enough", e.version), ""),
        },
    )
}

/// Machines are privileged containers.
pub(super) fn rootful(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-rootful",
        "whether the engine is rootless",
        |on, e| {
            if e.security.iter().any(|o| o.contains("rootless")) {
                on.bad(
                "the Docker engine is rootless; machines need privileged containers of a rootful one",
                e.security.join(", "),
                "set DOCKER_HOST to a rootful engine",
            )
            } else {
                on.good("the engine is rootful", "")
            }
        },
    )
}

/// Root in a container must be root for its mounts.
pub(super) fn user_namespaces(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-user-namespaces",
        "whether the engine maps users",
        |on, e| {
            if e.security.iter().any(|o| o.contains("userns")) {
                on.bad(
                "the engine maps users (userns-remap): machines may not be privileged, and the registry cannot read its key",
                e.security.join(", "),
                "remove `userns-remap` from the engine's daemon.json, or use another engine",
            )
            } else {
                on.good("users in containers are those of the host", "")
            }
        },
    )
}

/// Containers are Linux ones.
pub(super) fn system(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-system",
        "the engine's kind of containers",
        |on, e| match e.os_type.as_str() {
            "linux" => on.good("it runs Linux containers", ""),
            "" => on.unknown("the engine's kind of containers", &not_told()),
            other => on.bad(
                format!("the Docker engine runs {other} containers; Linux is needed"),
                format!("it says operating system type {other}"),
                "switch the engine to Linux containers",
            ),
        },
    )
}

/// Folders of this host are mounted, addresses of containers asked from here.
pub(super) fn local(facts: &Facts) -> Finding {
    const WHY: &str = "the registry mounts folders of this host, and machines are reached by their containers' addresses";
    ask(
        facts,
        "engine-local",
        "whether the engine is on this host",
        |on, e| {
            let address = &facts.engine.address;
            let by_network = ["tcp://", "http://", "https://", "ssh://"]
                .iter()
                .any(|scheme| address.starts_with(scheme));
            let names = format!(
                "the engine calls its host `{}`, this host is `{}`",
                e.name, facts.host.name
            );
            if e.operating_system.contains("Docker Desktop") {
                on.tight(
                "the engine runs in Docker Desktop's virtual machine",
                WHY,
                "share the folders of state and bundle with it, or use an engine on the host itself",
            )
            } else if e.name == facts.host.name {
                on.good("the engine is on this host", names)
            } else if by_network {
                on.bad(
                    "the engine is on another host",
                    format!("{WHY}; {names}"),
                    "run mctl on the engine's host, or set DOCKER_HOST to an engine of this one",
                )
            } else if e.name.is_empty() || facts.host.name.is_empty() {
                on.unknown("whether the engine is on this host", &not_told())
            } else {
                on.tight(
                    "the engine may be on another host, or mctl runs in a container of it",
                    format!("{WHY}; {names}"),
                    "run mctl on the engine's host itself",
                )
            }
        },
    )
}

/// Kubelets of today refuse cgroup v1.
pub(super) fn cgroup(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-cgroup",
        "the engine's cgroup version",
        |on, e| {
            let minor = facts
                .wanted
                .kubernetes
                .split('.')
                .nth(1)
                .and_then(|m| m.parse::<u64>().ok());
            let evidence = format!("the engine says cgroup version {}", e.cgroup);
            match e.cgroup.as_str() {
            "2" => on.good("cgroup version 2", ""),
            "1" if facts.wanted.bundle.is_none() && minor.is_some_and(|m| m >= CGROUP_V2_ONLY) => on.bad(
                format!("the host has cgroup v1, which the kubelet of Kubernetes {} refuses", facts.wanted.kubernetes),
                evidence,
                "boot the host with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or use a bundle whose node image allows v1",
            ),
            "1" => on.tight(
                "the host has cgroup v1; only a node image made for it works",
                evidence,
                "boot the host with cgroup v2 (systemd.unified_cgroup_hierarchy=1)",
            ),
            _ => on.unknown("the engine's cgroup version", &not_told()),
        }
        },
    )
}

/// Layers of machines are shared.
pub(super) fn storage(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-storage",
        "how the engine stores layers",
        |on, e| {
            let evidence = format!("storage driver {}", e.storage);
            let fix = "set `\"storage-driver\": \"overlay2\"` in the engine's daemon.json; images must be pulled or loaded again";
            match e.storage.as_str() {
            "overlay2" | "overlayfs" | "overlay" => on.good("layers are shared", evidence),
            "" => on.unknown("how the engine stores layers", &not_told()),
            "vfs" => on.tight(
                "the engine copies every layer (vfs): machines start slowly and need several times the disk",
                evidence,
                fix,
            ),
            "devicemapper" | "aufs" => on.bad(
                "the engine's storage driver is one that today's engines and node images have given up",
                evidence,
                fix,
            ),
            _ => on.tight(
                "the engine's storage driver is rarely used with machines in containers",
                evidence,
                fix,
            ),
        }
        },
    )
}

/// What Cilium needs of the kernel.
pub(super) fn kernel(facts: &Facts) -> Finding {
    ask(
        facts,
        "kernel",
        "the kernel's version",
        |on, e| match numbers(&e.kernel) {
            None => on.unknown("the kernel's version", &not_told()),
            Some(found) if found < OLDEST_KERNEL => on.tight(
                format!(
                    "the kernel is {}; Cilium is made for {}.{} and newer",
                    e.kernel, OLDEST_KERNEL.0, OLDEST_KERNEL.1
                ),
                "some distributions bring its features in older kernels",
                "update the kernel",
            ),
            Some(_) => on.good(format!("kernel {} is new enough", e.kernel), ""),
        },
    )
}

/// Packets pass between containers and the world.
pub(super) fn forwarding(facts: &Facts) -> Finding {
    ask(
        facts,
        "ip-forwarding",
        "whether the host forwards packets",
        |on, e| match e.forwards {
            Some(true) => on.good("packets of containers are forwarded", ""),
            Some(false) => on.bad(
                "the host does not forward packets: containers reach nothing outside",
                "the engine says IPv4Forwarding is off",
                "sysctl -w net.ipv4.ip_forward=1",
            ),
            None => on.unknown("whether the host forwards packets", &not_told()),
        },
    )
}

/// Certificates are made here and read there.
pub(super) fn clock(facts: &Facts) -> Finding {
    ask(
        facts,
        "clock-engine",
        "how far the clocks are apart",
        |on, e| {
            let Some(ahead) = e.ahead else {
                return on.unknown("how far the clocks are apart", &not_told());
            };
            let evidence = format!("the engine's clock is {ahead} s ahead of this host's");
            let fix = "let both follow one time server: timedatectl set-ntp true";
            if ahead.abs() > CLOCK_LIMIT {
                on.bad(
                "the clocks of host and engine differ so much that certificates are not valid on machines",
                evidence,
                fix,
            )
            } else if ahead.abs() > CLOCK_NOTE {
                on.tight("the clocks of host and engine differ", evidence, fix)
            } else {
                on.good("host and engine have the same time", evidence)
            }
        },
    )
}

/// Enough to work with.
pub(super) fn processors(facts: &Facts) -> Finding {
    ask(
        facts,
        "processors",
        "how many processors there are",
        |on, e| match e.processors {
            0 => on.unknown("how many processors there are", &not_told()),
            1 => on.tight(
                "the engine has one processor; a control plane is made for two and more",
                "1 processor",
                "give it more processors",
            ),
            n => on.good(format!("{n} processors"), ""),
        },
    )
}

/// Memory of the engine against the machines.
pub(super) fn memory(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-memory",
        "how much memory the engine has",
        |on, e| {
            let machines = facts.wanted.machines;
            let needed = machines
                .saturating_add(1)
                .saturating_mul(MEMORY_PER_MACHINE);
            if e.memory == 0 {
                return on.unknown("how much memory the engine has", &not_told());
            }
            let evidence = format!("{} needed, {} there", gib(needed), gib(e.memory));
            if e.memory < needed {
                on.bad(
                format!(
                    "{machines} machines and the temporary cluster need {} of memory; the engine has {}",
                    gib(needed),
                    gib(e.memory)
                ),
                evidence,
                "give the engine more memory, or fewer machines in the document",
            )
            } else {
                on.good("the engine has memory for all machines", evidence)
            }
        },
    )
}

/// Disk of the engine against the machines; what an earlier run wrote is not needed again.
pub(super) fn disk(facts: &Facts) -> Finding {
    ask(
        facts,
        "engine-disk",
        "how much disk the engine has",
        |mut on, e| {
            on.place = e.root.display().to_string();
            let needed = facts
                .wanted
                .machines
                .saturating_add(1)
                .saturating_mul(DISK_PER_MACHINE);
            let free = match &e.free {
                Some(Ok(free)) => *free,
                Some(Err(why)) => return on.unknown("how much disk the engine has", why),
                None => return on.unknown("how much disk the engine has", &not_told()),
            };
            let evidence = format!("{} needed, {} free", gib(needed), gib(free));
            if free >= needed {
                on.good("the engine has disk for all machines", evidence)
            } else if facts.wanted.earlier.is_some() {
                on.tight(
                    "the engine has little disk left for what an earlier run did not make yet",
                    evidence,
                    "free space there (`docker system df` shows what the engine holds)",
                )
            } else {
                on.bad(
                    format!("{} of disk are needed; {} are free", gib(needed), gib(free)),
                    evidence,
                    "free space there (`docker system df` shows what the engine holds)",
                )
            }
        },
    )
}

/// Machines of another run or tool must not be taken for ours.
pub(super) fn foreign_machines(facts: &Facts) -> Finding {
    ask(
        facts,
        "foreign-machines",
        "whether others use the name",
        |on, e| {
            let name = &facts.wanted.name;
            match &e.machines {
            None => on.unknown("whether others use the name", &not_told()),
            Some(Err(why)) => on.unknown("whether others use the name", why),
            Some(Ok(all)) if all.is_empty() => on.good(format!("nobody else has machines of `{name}`"), ""),
            Some(Ok(all)) if facts.wanted.earlier.is_some() => {
                on.good(format!("machines of `{name}` are those of the earlier run"), all.join(", "))
            }
            Some(Ok(all)) => on.bad(
                format!("a cluster `{name}` that mctl does not know has containers on this engine"),
                all.join(", "),
                format!("choose another metadata.name, or remove it: kind delete cluster --name {name}, or mctl destroy {name}"),
            ),
        }
        },
    )
}

/// The registry's name is free or ours.
pub(super) fn foreign_registry(facts: &Facts) -> Finding {
    ask(
        facts,
        "foreign-registry",
        "whether others use the registry's name",
        |on, e| {
            let registry = format!("mctl-{}-registry", facts.wanted.name);
            match &e.registry {
                None => on.unknown("whether others use the registry's name", &not_told()),
                Some(Err(why)) => on.unknown("whether others use the registry's name", why),
                Some(Ok(Some(false))) => on.bad(
                    format!("a container `{registry}` that is not mctl's is on this engine"),
                    "it does not carry the cluster's label",
                    format!("docker rm {registry}, or choose another metadata.name"),
                ),
                Some(Ok(_)) => on.good("the registry's name is free or this cluster's", ""),
            }
        },
    )
}

/// Bytes for people, with one digit where it matters.
pub(super) fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / GIB;
    if tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{} GiB", tenths / 10)
    } else {
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    }
}
