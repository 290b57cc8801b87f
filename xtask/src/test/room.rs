//! Whether the disks have room for the lanes that are asked for; must not make any.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Room that something needs.
#[derive(Debug, Clone)]
pub struct Need {
    /// Below this folder, which need not be there yet.
    pub folder: PathBuf,
    /// How much more than what is there already.
    pub gib: u64,
    /// What for.
    pub what: &'static str,
    /// How to have it elsewhere.
    pub variable: &'static str,
}

/// Fails with one sentence for each disk that has too little.
pub fn check(needs: &[Need]) -> Result<()> {
    let mut disks = Vec::new();
    for need in needs.iter().filter(|need| need.gib > 0) {
        disks.push((disk(&need.folder)?, need));
    }
    let short = short(&disks);
    if !short.is_empty() {
        bail!("{}", short.join("\n"));
    }
    Ok(())
}

/// A disk and what is free on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Disk {
    device: u64,
    free_gib: u64,
}

fn disk(folder: &Path) -> Result<Disk> {
    use std::os::unix::fs::MetadataExt;
    let there = folder
        .ancestors()
        .find(|f| f.exists())
        .with_context(|| format!("{} is on no disk", folder.display()))?;
    let stat = rustix::fs::statvfs(there)
        .with_context(|| format!("cannot read the free disk of {}", there.display()))?;
    Ok(Disk {
        device: there.metadata()?.dev(),
        free_gib: (stat.f_bavail * stat.f_frsize) >> 30,
    })
}

fn short(disks: &[(Disk, &Need)]) -> Vec<String> {
    let mut by_device: BTreeMap<u64, Vec<(Disk, &Need)>> = BTreeMap::new();
    for (disk, need) in disks {
        by_device
            .entry(disk.device)
            .or_default()
            .push((*disk, need));
    }
    let mut found = Vec::new();
    for needs in by_device.values() {
        let sum: u64 = needs.iter().map(|(_, need)| need.gib).sum();
        let free = needs
            .iter()
            .map(|(disk, _)| disk.free_gib)
            .min()
            .unwrap_or(0);
        if free >= sum {
            continue;
        }
        let parts: Vec<String> = needs
            .iter()
            .map(|(_, n)| {
                format!(
                    "{} GiB for {} in {} ({})",
                    n.gib,
                    n.what,
                    n.folder.display(),
                    n.variable
                )
            })
            .collect();
        found.push(format!(
            "the disk has {free} GiB free and the lanes need {sum}: {}; make room, or set the variable in brackets to a folder on another disk",
            parts.join(", ")
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(folder: &str, gib: u64) -> Need {
        Need {
            folder: folder.into(),
            gib,
            what: "things",
            variable: "SOME_DIR",
        }
    }

    #[test]
    fn needs_on_one_disk_add_up_and_a_short_one_is_named() {
        let (one, other) = (
            Disk {
                device: 1,
                free_gib: 20,
            },
            Disk {
                device: 2,
                free_gib: 20,
            },
        );
        let (a, b) = (need("/a", 15), need("/b", 6));
        assert!(short(&[(one, &a), (other, &b)]).is_empty());
        let said = short(&[(one, &a), (one, &b)]);
        assert_eq!(
            said,
            [
                "the disk has 20 GiB free and the lanes need 21: 15 GiB for things in /a (SOME_DIR), 6 GiB for things in /b (SOME_DIR); make room, or set the variable in brackets to a folder on another disk"
            ]
        );
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_on_its_parents_disk() {
        check(&[need("/tmp/not/there/yet", 0)]).unwrap();
        assert_eq!(
            disk(Path::new("/tmp/not/there")).unwrap().device,
            disk(Path::new("/tmp")).unwrap().device
        );
        let error = check(&[need("/tmp/not/there", 1 << 30)]).unwrap_err();
        assert!(error.to_string().contains("/tmp/not/there"), "{error}");
    }
}
