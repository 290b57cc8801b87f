//! Judgement of this host: clock, folders, kernel settings, proxies. Must be pure.

use super::{
    Finding,
    engine::{MEMORY_PER_MACHINE, gib},
    facts::{Fact, Facts, Folder},
    on,
};
use crate::config::Cidr;

/// Years in which this program is used; outside them a clock was never set.
const YEARS: std::ops::Range<i16> = 2026..2100;
const MIB: u64 = 1 << 20;
/// State, journals and kind's configuration.
const STATE_NEEDED: u64 = 64 * MIB;
/// Below this, a log or a second cluster fills it.
const STATE_EASY: u64 = 1024 * MIB;
/// Kubelets and Flux of a few machines, measured.
const INOTIFY_INSTANCES: u64 = 512;
const INOTIFY_WATCHES: u64 = 65_536;
/// What mctl itself opens at the same time: connections, blobs, pipes.
const OPEN_FILES: u64 = 1024;

/// The clock was set once.
pub(super) fn year(facts: &Facts) -> Finding {
    let year = facts.host.year;
    let on = on("clock-year", "this host");
    if YEARS.contains(&year) {
        on.good(format!("the clock says {year}"), "")
    } else {
        on.bad(
            format!("the clock says {year}: certificates made now are valid at no other time"),
            format!("year {year}"),
            "set the clock: timedatectl set-ntp true",
        )
    }
}

/// Memory that is free now; machines of others may take it all.
pub(super) fn memory(facts: &Facts) -> Finding {
    let on = on("host-memory", "/proc/meminfo");
    let machines = if facts.wanted.earlier.is_some() {
        0
    } else {
        facts.wanted.machines
    };
    let needed = machines
        .saturating_add(1)
        .saturating_mul(MEMORY_PER_MACHINE);
    match &facts.host.memory {
        Err(why) => on.unknown("how much memory is free", why),
        Ok(free) if *free < needed => on.tight(
            "little memory is free for all machines",
            format!("{} needed, {} free", gib(needed), gib(*free)),
            "end other programs, or make fewer machines",
        ),
        Ok(free) => on.good(format!("{} of memory are free", gib(*free)), ""),
    }
}

fn folder(
    id: &'static str,
    what: &str,
    folder: &Fact<Folder>,
    judge: impl FnOnce(super::On, &Folder) -> Finding,
) -> Finding {
    match folder {
        Ok(folder) => judge(on(id, folder.path.display().to_string()), folder),
        Err(why) => on(id, "the environment").unknown(what, why),
    }
}

fn writable(id: &'static str, what: &str, variable: &str, found: &Fact<Folder>) -> Finding {
    folder(id, what, found, |on, f| match &f.refused {
        None => on.good(format!("{what} can be written"), ""),
        Some(why) => on.bad(
            format!("{what} cannot be written"),
            why.as_str(),
            format!("make it writable for this user, or set {variable} to a folder that is"),
        ),
    })
}

/// State can be kept, and parts of it mounted: the engine reads `:` and `,` in a mount as separators.
pub(super) fn state_folder(facts: &Facts) -> Finding {
    match &facts.host.state {
        Ok(f) if f.path.display().to_string().contains([':', ',']) => {
            on("state-folder", f.path.display().to_string()).bad(
                "folders of the state cannot be mounted",
                "the engine takes `:` and `,` in their path for separators",
                "set XDG_STATE_HOME to a path without them",
            )
        }
        state => writable("state-folder", "the state folder", "XDG_STATE_HOME", state),
    }
}

/// There is room for it.
pub(super) fn state_space(facts: &Facts) -> Finding {
    folder(
        "state-disk",
        "the state folder's disk",
        &facts.host.state,
        |on, f| {
            let evidence = format!("{} MiB are free", f.free / MIB);
            let fix = "free space there, or set XDG_STATE_HOME to another disk";
            if f.refused.is_some() {
                on.unknown(
                    "the state folder's disk",
                    &super::facts::Unknown::new("the folder cannot be written"),
                )
            } else if f.free < STATE_NEEDED {
                on.bad("the disk of the state folder is full", evidence, fix)
            } else if f.free < STATE_EASY {
                on.tight("the disk of the state folder is nearly full", evidence, fix)
            } else {
                on.good("the state folder has room", evidence)
            }
        },
    )
}

/// kind can be unpacked.
pub(super) fn cache_folder(facts: &Facts) -> Finding {
    writable(
        "cache-folder",
        "the cache folder",
        "XDG_CACHE_HOME",
        &facts.host.cache,
    )
}

/// And started from there.
pub(super) fn cache_runs(facts: &Facts) -> Finding {
    folder(
        "cache-executable",
        "the cache folder",
        &facts.host.cache,
        |on, f| {
            if f.noexec {
                on.bad(
                    "nothing can be started from the cache folder, where kind is unpacked",
                    "its file system is mounted noexec",
                    "set XDG_CACHE_HOME to a folder on a file system without noexec",
                )
            } else {
                on.good("executables can be started from the cache folder", "")
            }
        },
    )
}

fn inotify(name: &'static str, id: &'static str, found: &Fact<u64>, least: u64) -> Finding {
    let on = on(id, format!("/proc/sys/fs/inotify/{name}"));
    match found {
        Err(why) => on.unknown("a limit of inotify", why),
        Ok(value) if *value < least => on.bad(
            format!("the kernel setting fs.inotify.{name} is {value}; kubelets of several machines need {least} or more"),
            format!("{name} = {value}"),
            format!("sysctl -w fs.inotify.{name}={}", least.saturating_mul(16)),
        ),
        Ok(value) => on.good(format!("fs.inotify.{name} is {value}"), ""),
    }
}

/// Kubelets watch files.
pub(super) fn inotify_instances(facts: &Facts) -> Finding {
    inotify(
        "max_user_instances",
        "inotify-instances",
        &facts.host.inotify_instances,
        INOTIFY_INSTANCES,
    )
}

/// Many of them.
pub(super) fn inotify_watches(facts: &Facts) -> Finding {
    inotify(
        "max_user_watches",
        "inotify-watches",
        &facts.host.inotify_watches,
        INOTIFY_WATCHES,
    )
}

/// This process may open enough files.
pub(super) fn open_files(facts: &Facts) -> Finding {
    let on = on("open-files", "/proc/self/limits");
    match &facts.host.open_files {
        Err(why) => on.unknown("how many files may be open", why),
        Ok(limit) if *limit < OPEN_FILES => on.tight(
            "few files may be open at the same time",
            format!("{limit} may, mctl opens up to {OPEN_FILES}"),
            format!("ulimit -n {}", OPEN_FILES * 16),
        ),
        Ok(limit) => on.good(format!("{limit} files may be open"), ""),
    }
}

/// Containers in machines need overlay file systems.
pub(super) fn overlay(facts: &Facts) -> Finding {
    let on = on("kernel-overlay", "/proc/filesystems");
    match &facts.host.file_systems {
        Err(why) => on.unknown("whether the kernel has overlay file systems", why),
        Ok(all) if all.iter().any(|f| f == "overlay") => on.good("the kernel has overlay file systems", ""),
        // A module that is not loaded yet is not listed either.
        Ok(_) => on.unknown(
            "whether the kernel has overlay file systems",
            &super::facts::Unknown::new("the kernel does not list them; the module may be loaded when it is needed (modprobe overlay)"),
        ),
    }
}

/// Programs that hear of a proxy must not ask it for the cluster.
pub(super) fn proxy(facts: &Facts) -> Finding {
    let on = on("proxy", "the environment");
    let proxy = &facts.host.proxy;
    if proxy.set.is_empty() {
        return on.good("no proxy is set", "");
    }
    let names = proxy.set.join(", ");
    let spared = proxy.spared.as_deref().unwrap_or_default();
    let missing: Vec<String> = super::network::ranges_of_the_cluster(facts)
        .into_iter()
        .filter(|range| !spares(spared, *range))
        .map(|range| range.to_string())
        .collect();
    if !missing.is_empty() {
        let all: Vec<&str> = std::iter::once(spared)
            .filter(|s| !s.is_empty())
            .chain(missing.iter().map(String::as_str))
            .collect();
        return on.tight(
            "a proxy is set, and NO_PROXY does not spare the cluster's own addresses",
            format!("{names}; not spared: {}", missing.join(", ")),
            format!("export NO_PROXY={}", all.join(",")),
        );
    }
    if facts.wanted.bundle.is_none() && !facts.wanted.mirrored {
        return on.tight(
            "a proxy is set; machines of the cluster are not told of it and pull images directly",
            names,
            "give a bundle, or mirrors in spec.registry.mirrors, if registries are reached by the proxy only",
        );
    }
    on.good("the proxy is not asked for the cluster", names)
}

/// Whether a NO_PROXY list holds a whole range.
fn spares(list: &str, range: Cidr) -> bool {
    list.split([',', ' ']).map(str::trim).any(|entry| {
        entry == "*"
            || Cidr::parse(entry).is_some_and(|c| c.prefix() <= range.prefix() && c.overlaps(range))
    })
}
