//! Packs a folder as one image layer with always the same bytes; must not know which image it is for.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// A file named by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// `sha256:…`; of an uncompressed layer also its diff id.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

impl Blob {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))),
            size: bytes.len() as u64,
        }
    }

    /// The digest without its algorithm.
    pub fn hex(&self) -> &str {
        self.digest.trim_start_matches("sha256:")
    }
}

/// Packs everything below `root`, sorted by name, every file with the same time.
///
/// Owners and modes are kept, devices and sockets are left out. `capabilities` maps a path to the number of the one
/// capability that its file gets.
pub fn pack(
    root: &Path,
    epoch: u64,
    capabilities: &BTreeMap<String, u32>,
    out: &Path,
) -> Result<Blob> {
    let file = File::create(out).with_context(|| format!("cannot write {}", out.display()))?;
    let mut builder = Builder::new(Hashing {
        inner: BufWriter::with_capacity(1 << 20, file),
        hash: Sha256::new(),
        size: 0,
    });
    let mut packer = Packer {
        root,
        epoch,
        capabilities,
        seen: HashMap::new(),
    };
    packer
        .folder(&mut builder, root)
        .with_context(|| format!("cannot pack {}", root.display()))?;
    let mut written = builder.into_inner()?;
    written.inner.flush()?;
    written.inner.get_ref().sync_all()?;
    Ok(Blob {
        digest: format!("sha256:{}", hex::encode(written.hash.finalize())),
        size: written.size,
    })
}

struct Packer<'a> {
    root: &'a Path,
    epoch: u64,
    capabilities: &'a BTreeMap<String, u32>,
    /// Files with more than one name, by device and inode: the first name.
    seen: HashMap<(u64, u64), PathBuf>,
}

impl Packer<'_> {
    fn folder<W: Write>(&mut self, builder: &mut Builder<W>, dir: &Path) -> Result<()> {
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(dir)? {
            entries.push(entry?.path());
        }
        entries.sort();
        for path in entries {
            self.entry(builder, &path)
                .with_context(|| format!("{}", path.display()))?;
        }
        Ok(())
    }

    fn entry<W: Write>(&mut self, builder: &mut Builder<W>, path: &Path) -> Result<()> {
        let meta = fs::symlink_metadata(path)?;
        let name = path.strip_prefix(self.root)?;
        let kind = meta.file_type();
        let mut header = Header::new_gnu();
        header.set_mode(meta.mode() & 0o7777);
        header.set_uid(meta.uid().into());
        header.set_gid(meta.gid().into());
        header.set_mtime(self.epoch);
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, name.join(""), io::empty())?;
            return self.folder(builder, path);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, name, fs::read_link(path)?)?;
        } else if kind.is_file() {
            if meta.nlink() > 1 {
                if let Some(first) = self.seen.get(&(meta.dev(), meta.ino())) {
                    header.set_entry_type(EntryType::Link);
                    builder.append_link(&mut header, name, first)?;
                    return Ok(());
                }
                self.seen.insert((meta.dev(), meta.ino()), name.to_owned());
            }
            if let Some(number) = self.capabilities.get(&format!("/{}", name.display())) {
                let value = file_capability(*number);
                builder
                    .append_pax_extensions([("SCHILY.xattr.security.capability", &value[..])])?;
            }
            header.set_entry_type(EntryType::Regular);
            header.set_size(meta.len());
            builder.append_data(&mut header, name, File::open(path)?)?;
        } else {
            debug_assert!(
                kind.is_fifo()
                    || kind.is_socket()
                    || kind.is_char_device()
                    || kind.is_block_device()
            );
        }
        Ok(())
    }
}

/// `security.capability`, version 2: one permitted capability, effective.
fn file_capability(number: u32) -> [u8; 20] {
    let mut value = [0; 20];
    value[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    let at = if number < 32 { 4 } else { 12 };
    value[at..at + 4].copy_from_slice(&(1_u32 << (number % 32)).to_le_bytes());
    value
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree(dir: &Path) {
        fs::create_dir_all(dir.join("usr/bin")).unwrap();
        fs::write(dir.join("usr/bin/a"), "program").unwrap();
        fs::set_permissions(dir.join("usr/bin/a"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::hard_link(dir.join("usr/bin/a"), dir.join("usr/bin/b")).unwrap();
        symlink("usr/bin", dir.join("bin")).unwrap();
        let long = "n".repeat(120);
        fs::write(dir.join(&long), "x").unwrap();
    }

    #[test]
    fn equal_trees_make_equal_layers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            tree(&dir.path().join(name));
        }
        let caps = BTreeMap::from([("/usr/bin/a".to_owned(), 10)]);
        let one = pack(
            &dir.path().join("one"),
            1000,
            &caps,
            &dir.path().join("1.tar"),
        )
        .unwrap();
        let two = pack(
            &dir.path().join("two"),
            1000,
            &caps,
            &dir.path().join("2.tar"),
        )
        .unwrap();
        assert_eq!(one, two);
        let bytes = fs::read(dir.path().join("1.tar")).unwrap();
        assert_eq!(one, Blob::of(&bytes));
        let later = pack(
            &dir.path().join("two"),
            1001,
            &caps,
            &dir.path().join("3.tar"),
        )
        .unwrap();
        assert_ne!(one, later);
    }

    #[test]
    fn a_layer_holds_what_the_folder_holds() {
        let dir = tempfile::tempdir().unwrap();
        tree(&dir.path().join("root"));
        let caps = BTreeMap::from([("/usr/bin/a".to_owned(), 10)]);
        let out = dir.path().join("l.tar");
        pack(&dir.path().join("root"), 1000, &caps, &out).unwrap();
        let mut archive = tar::Archive::new(File::open(out).unwrap());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            assert_eq!(entry.header().mtime().unwrap(), 1000);
            if path == "usr/bin/a" {
                let pax: Vec<_> = entry
                    .pax_extensions()
                    .unwrap()
                    .unwrap()
                    .map(|e| e.unwrap().value_bytes().to_vec())
                    .collect();
                assert_eq!(pax, [file_capability(10).to_vec()]);
                assert_eq!(entry.header().mode().unwrap(), 0o755);
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                assert_eq!(text, "program");
            }
            if path == "usr/bin/b" {
                assert_eq!(entry.header().entry_type(), EntryType::Link);
            }
            found.push(path);
        }
        assert_eq!(
            found,
            [
                "bin",
                &"n".repeat(120),
                "usr/",
                "usr/bin/",
                "usr/bin/a",
                "usr/bin/b"
            ]
        );
    }
}
