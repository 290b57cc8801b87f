//! A bundle of the cluster's own: the registry needs it for as long as the cluster lives, its owner may move it away. Must not change what it is made from.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Error, Result, ports::files::Files};

/// Says what the copy was made from; written last, so a copy without it is not whole.
const ORIGIN: &str = "origin";

/// Where the cluster's own bundle lies below its state, or will lie. The original is asked only before there is one: it
/// may be gone by now.
pub fn place(files: &dyn Files, state: &Path, source: &Path) -> PathBuf {
    let [layout, tar] = ["bundle/layout", "bundle/bundle.tar"].map(|p| state.join(p));
    if files.exists(&layout) || (source.is_dir() && !files.exists(&tar)) {
        layout
    } else {
        tar
    }
}

/// Makes the bundle the cluster's own and returns where it lies; nothing is done if it is there already. A link costs no
/// space; across file systems it is a copy.
pub fn own(files: &dyn Files, state: &Path, source: &Path) -> Result<PathBuf> {
    let folder = state.join("bundle");
    let mark = folder.join(ORIGIN);
    let made = || -> io::Result<()> {
        let kept = files.read(&mark)?;
        let origin = match (origin(source), &kept) {
            (Ok(origin), Some(kept)) if *kept == origin.as_bytes() => return Ok(()),
            (Err(e), Some(_)) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            (origin, _) => origin?,
        };
        files.remove_folder(&folder)?;
        files.folder(&folder)?;
        files.adopt(source, &place(files, state, source))?;
        files.write(&mark, origin.as_bytes(), 0o600)
    };
    made().map_err(|e| {
        Error::failed("the bundle cannot be kept for the cluster")
            .at(folder.display().to_string())
            .because(&e)
            .fix("free space there, then run the same command again")
            .state(format!("{} is as it was", source.display()))
    })?;
    Ok(place(files, state, source))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::files::Disk;

    #[test]
    fn the_original_may_go_away() {
        let folder = tempfile::tempdir().unwrap();
        let (state, source) = (folder.path().join("state"), folder.path().join("a, b:c"));
        let blobs = source.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(source.join("index.json"), "{}").unwrap();
        fs::write(blobs.join("large"), vec![7; 2 << 20]).unwrap();
        let owned = own(&Disk, &state, &source).unwrap();
        assert_eq!(owned, place(&Disk, &state, &source));
        let inode = |p: &Path| fs::metadata(p).unwrap().ino();
        let large = owned.join("blobs/sha256/large");
        assert_eq!(inode(&large), inode(&blobs.join("large")), "linked");
        assert_ne!(
            inode(&owned.join("index.json")),
            inode(&source.join("index.json"))
        );

        // Done once; a bundle that changed is taken anew.
        let before = inode(&owned.join("index.json"));
        own(&Disk, &state, &source).unwrap();
        assert_eq!(inode(&owned.join("index.json")), before);
        fs::write(source.join("index.json"), r#"{"new":1}"#).unwrap();
        own(&Disk, &state, &source).unwrap();
        assert_eq!(
            fs::read_to_string(owned.join("index.json")).unwrap(),
            r#"{"new":1}"#
        );

        fs::remove_dir_all(&source).unwrap();
        assert_eq!(fs::metadata(&large).unwrap().len(), 2 << 20);
        assert!(
            own(&Disk, &state, &source)
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
        let owned = own(&Disk, &state, &source).unwrap();
        assert_eq!(owned.file_name().unwrap(), "bundle.tar");
        // As a crash in the middle leaves it.
        fs::remove_file(state.join("bundle/origin")).unwrap();
        fs::remove_file(&owned).unwrap();
        assert_eq!(own(&Disk, &state, &source).unwrap(), owned);
        assert_eq!(fs::metadata(&owned).unwrap().len(), 2 << 20);
    }
}
