//! Kernel settings and devices that an engine and its clusters change on the machine; must put back what it noted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::firewall;
use super::pins::Engine;
use super::proc::Run;

/// What was there before the engine started.
#[derive(Debug, Serialize, Deserialize)]
pub struct Before {
    sysctls: BTreeMap<String, String>,
    links: Vec<String>,
    firewall: firewall::Before,
    made_lib_modules: bool,
}

/// Notes what will change.
pub fn remember(pins: &Engine) -> Result<Before> {
    let names = pins.sysctls.keys().chain(&pins.restore_sysctls);
    Ok(Before {
        sysctls: names.filter_map(|n| Some((n.clone(), read(n)?))).collect(),
        links: links()?,
        firewall: firewall::before()?,
        made_lib_modules: !Path::new("/lib/modules").exists(),
    })
}

/// Gives clusters what they need of the machine.
pub fn prepare(pins: &Engine) -> Result<()> {
    for (name, least) in &pins.sysctls {
        let now = read(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        if now < *least {
            write(name, &least.to_string())?;
        }
    }
    // Nodes mount it from the host; a kernel without modules has none.
    fs::create_dir_all("/lib/modules").context("cannot make /lib/modules (the lab runs as root)")
}

/// Puts everything back; what cannot be is told and does not keep the rest from it.
pub fn restore(before: &Before) -> Result<()> {
    for link in links()? {
        if is_docker_bridge(&link) && !before.links.contains(&link) {
            Run::new("ip").args(["link", "delete", &link]).ok()?;
        }
    }
    firewall::restore(&before.firewall)?;
    for (name, value) in &before.sysctls {
        if read(name).as_deref() != Some(value)
            && let Err(error) = write(name, value)
        {
            eprintln!(
                "{name} stays at {}: {error:#}",
                read(name).unwrap_or_default()
            );
        }
    }
    if before.made_lib_modules {
        let _ = fs::remove_dir("/lib/modules"); // only if still empty
    }
    Ok(())
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(path(name))
        .ok()
        .map(|v| v.trim().to_owned())
}

fn write(name: &str, value: &str) -> Result<()> {
    fs::write(path(name), value)
        .with_context(|| format!("cannot set {name} to {value} (the lab runs as root)"))
}

fn links() -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/net/dev").context("cannot list network links")?;
    Ok(link_names(&text))
}

/// Names in `/proc/net/dev`: two lines of headings, then one link a line before a colon.
fn link_names(text: &str) -> Vec<String> {
    text.lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

fn is_docker_bridge(name: &str) -> bool {
    name == "docker0"
        || name
            .strip_prefix("br-")
            .is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Unmounts what a killed engine left mounted, the deepest first.
pub fn unmount_below(dirs: &[&Path]) -> Result<()> {
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
    fn links_are_read_below_the_headings() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 2\n  eth0:9 9\n";
        assert_eq!(link_names(text), ["lo", "eth0"]);
    }

    #[test]
    fn settings_are_read_by_their_dotted_name() {
        assert!(read("kernel.ostype").is_some_and(|v| v == "Linux"));
        assert_eq!(read("kernel.no_such_setting"), None);
    }
}
