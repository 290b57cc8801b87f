//! A bundle of the cluster's own: the registry needs it for as long as the cluster lives, its owner may move it away. Must not change what it is made from.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Content-addressed blobs are linked; anything smaller is copied, since tools write an index anew in its place.
const COPIED: u64 = 1 << 20;
/// Says what the copy was made from; written last, so a copy without it is not whole.
const ORIGIN: &str = "origin";

/// Where the cluster's own bundle lies below its state, or will lie. The original is asked only before there is one: it
/// may be gone by now.
pub fn place(state: &Path, source: &Path) -> PathBuf {
    let [layout, tar] = ["bundle/layout", "bundle/bundle.tar"].map(|p| state.join(p));
    if layout.exists() || (source.is_dir() && !tar.exists()) {
        layout
    } else {
        tar
    }
}

/// Makes the bundle the cluster's own and returns where it lies; nothing is done if it is there already. A link costs no
/// space; across file systems it is a copy.
pub fn own(state: &Path, source: &Path) -> Result<PathBuf> {
    let folder = state.join("bundle");
    let made = || -> io::Result<()> {
        let kept = fs::read_to_string(folder.join(ORIGIN));
        let origin = match (origin(source), &kept) {
            (Ok(origin), Ok(kept)) if *kept == origin => return Ok(()),
            (Err(e), Ok(_)) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            (origin, _) => origin?,
        };
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::create_dir_all(&folder)?;
        take(source, &place(state, source))?;
        fs::write(folder.join(ORIGIN), origin)?;
        File::open(&folder)?.sync_all()
    };
    made().map_err(|e| {
        Error::failed("the bundle cannot be kept for the cluster")
            .at(folder.display().to_string())
            .because(&e)
            .fix("free space there, then run the same command again")
            .state(format!("{} is as it was", source.display()))
    })?;
    Ok(place(state, source))
}

/// Path, size and time of what identifies a bundle: its index, or the whole tar file.
fn origin(source: &Path) -> io::Result<String> {
    let index = if source.is_dir() {
        source.join("index.json")
    } else {
        source.to_owned()
    };
    let data = fs::metadata(index)?;
    Ok(format!(
        "{}\n{} bytes of {}.{}\n",
        source.display(),
        data.len(),
        data.mtime(),
        data.mtime_nsec()
    ))
}

fn take(source: &Path, target: &Path) -> io::Result<()> {
    let data = fs::symlink_metadata(source)?;
    if data.is_dir() {
        fs::create_dir_all(target)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            take(&entry.path(), &target.join(entry.file_name()))?;
        }
        return Ok(());
    }
    // A bundle may itself be named by a link; links inside one are not followed when it is read either.
    let whole = fs::metadata(source)?;
    if data.is_symlink() || !whole.is_file() || whole.len() < COPIED {
        return fs::copy(source, target).map(drop);
    }
    match fs::hard_link(source, target) {
        Ok(()) => Ok(()),
        // Another file system, a file of somebody else, a file system without links.
        Err(_) => fs::copy(source, target).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_may_go_away() {
        let folder = tempfile::tempdir().unwrap();
        let (state, source) = (folder.path().join("state"), folder.path().join("a, b:c"));
        let blobs = source.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(source.join("index.json"), "{}").unwrap();
        fs::write(blobs.join("large"), vec![7; 2 << 20]).unwrap();
        let owned = own(&state, &source).unwrap();
        assert_eq!(owned, place(&state, &source));
        let inode = |p: &Path| fs::metadata(p).unwrap().ino();
        let large = owned.join("blobs/sha256/large");
        assert_eq!(inode(&large), inode(&blobs.join("large")), "linked");
        assert_ne!(
            inode(&owned.join("index.json")),
            inode(&source.join("index.json"))
        );

        // Done once; a bundle that changed is taken anew.
        let before = inode(&owned.join("index.json"));
        own(&state, &source).unwrap();
        assert_eq!(inode(&owned.join("index.json")), before);
        fs::write(source.join("index.json"), r#"{"new":1}"#).unwrap();
        own(&state, &source).unwrap();
        assert_eq!(
            fs::read_to_string(owned.join("index.json")).unwrap(),
            r#"{"new":1}"#
        );

        fs::remove_dir_all(&source).unwrap();
        assert_eq!(fs::metadata(&large).unwrap().len(), 2 << 20);
        assert!(
            own(&state, &source)
                .unwrap_err()
                .to_string()
                .contains("fix:")
        );
    }

    #[test]
    fn a_tar_file_and_a_half_made_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (state, source) = (folder.path().join("state"), folder.path().join("b.tar"));
        fs::write(&source, vec![1; 2 << 20]).unwrap();
        let owned = own(&state, &source).unwrap();
        assert_eq!(owned.file_name().unwrap(), "bundle.tar");
        // As a crash in the middle leaves it.
        fs::remove_file(state.join("bundle/origin")).unwrap();
        fs::remove_file(&owned).unwrap();
        assert_eq!(own(&state, &source).unwrap(), owned);
        assert_eq!(fs::metadata(&owned).unwrap().len(), 2 << 20);
    }
}
