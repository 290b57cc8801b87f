//! Where a bundle's files lie: in a folder or in one tar file. Must not follow links out of either.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;

use super::{
    Blob, Digest,
    blob::Part,
    tar_index::{self, Entries},
};

/// Files by their path in the layout.
#[derive(Debug)]
pub enum Source {
    /// A folder.
    Folder(PathBuf),
    /// A plain tar file.
    Tar {
        /// The file.
        file: Arc<File>,
        /// What is where in it.
        entries: Entries,
    },
}

impl Source {
    /// Opens a folder or reads a tar's headers; the error is one sentence.
    pub fn open(path: &Path) -> Result<Self, String> {
        let data = fs::metadata(path).map_err(|e| e.to_string())?;
        if data.is_dir() {
            for folder in ["blobs", "blobs/sha256", "blobs/sha512"] {
                match fs::symlink_metadata(path.join(folder)) {
                    Ok(data) if !data.is_dir() => return Err(format!("{folder} is no folder")),
                    _ => {}
                }
            }
            return Ok(Self::Folder(path.to_owned()));
        }
        if !data.is_file() {
            return Err("it is neither a folder nor a file".to_owned());
        }
        let file = File::open(path).map_err(|e| e.to_string())?;
        if let Some(program) = compressed(&file) {
            return Err(format!(
                "it is compressed; mctl reads the plain tar that `{program}` makes of it"
            ));
        }
        let entries = tar_index::read(&file)?;
        Ok(Self::Tar {
            file: Arc::new(file),
            entries,
        })
    }

    /// A file by its path in the layout, if it is there.
    pub fn file(&self, name: &str) -> Result<Option<Blob>, String> {
        match self {
            Self::Folder(root) => open_plain(&root.join(name))
                .map(|found| found.map(|(file, size)| whole(file, size)))
                .map_err(|e| format!("{name}: {e}")),
            Self::Tar { file, entries } => Ok(entries.get(name).map(|stretch| {
                Blob::from(vec![Part::File {
                    file: Arc::clone(file),
                    offset: stretch.offset,
                    length: stretch.size,
                }])
            })),
        }
    }

    /// Content by its digest, if it is there.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, String> {
        self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))
    }
}

fn whole(file: File, length: u64) -> Blob {
    Blob::from(vec![Part::File {
        file: Arc::new(file),
        offset: 0,
        length,
    }])
}

/// Opens a regular file; a link in its place is refused.
fn open_plain(path: &Path) -> io::Result<Option<(File, u64)>> {
    // Not blocking: a pipe in its place must not hold us up.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(io::Error::other("it is a link; a bundle has files only"));
        }
        Err(e) => return Err(e),
    };
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(Some((file, data.len())))
}

/// The program that undoes a common compression, by the file's first bytes.
fn compressed(file: &File) -> Option<&'static str> {
    let mut magic = [0; 6];
    file.read_exact_at(&mut magic, 0).ok()?;
    match magic {
        [0x1f, 0x8b, ..] => Some("gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("unzstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("unxz"),
        [b'B', b'Z', b'h', ..] => Some("bunzip2"),
        _ => None,
    }
}
