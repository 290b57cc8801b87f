//! Hashes every blob of a bundle, on two threads. Must not stop at the first bad one: the user wants the whole list.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Blob, Bundle, Digest, digest::Hasher};
use crate::{Error, Kind, Result};

const THREADS: usize = 2;
const BUFFER: usize = 1024 * 1024;

/// How far a verification has come, or what it covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blobs hashed.
    pub blobs: usize,
    /// Bytes hashed.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

pub(super) fn verify(bundle: &Bundle, report: &(dyn Fn(Progress) + Sync)) -> Result<Progress> {
    let mut work = Vec::new();
    let mut bad = BTreeMap::new();
    for digest in bundle.digests() {
        match bundle.blob(digest) {
            Ok(Some(blob)) => work.push((digest, blob)),
            Ok(None) => drop(bad.insert(digest, "is missing".to_owned())),
            Err(e) => drop(bad.insert(digest, e.line())),
        }
    }
    // Large ones first, so that both threads end together.
    work.sort_by_key(|(digest, blob)| (std::cmp::Reverse(blob.size()), *digest));
    let total = work.iter().map(|(_, blob)| blob.size()).sum();
    let progress = Mutex::new(Progress {
        total,
        ..Progress::default()
    });
    let bad = Mutex::new(bad);
    let next = AtomicUsize::new(0);
    let run = || {
        let mut buffer = vec![0; BUFFER];
        while let Some((digest, blob)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let add = |blobs, bytes| {
                let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                progress.blobs += blobs;
                progress.bytes += bytes;
                report(*progress);
            };
            let problem = match hash(digest, blob, &mut buffer, &|bytes| add(0, bytes)) {
                Ok(found) if found == **digest => None,
                Ok(_) => Some("has other content than its digest says: it is altered".to_owned()),
                Err(e) => Some(format!("cannot be read: {e}")),
            };
            add(1, 0);
            if let Some(problem) = problem {
                let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                bad.insert(digest, problem);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(run);
        }
        run();
    });
    let bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    if bad.is_empty() {
        return Ok(progress
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner));
    }
    let mut error = Error::new(
        Kind::Preflight,
        format!(
            "the bundle is damaged: {} of its blobs cannot be used",
            bad.len()
        ),
    )
    .at(bundle.path().display().to_string())
    .fix("carry the bundle over again; its content differs from what was made");
    for (digest, problem) in bad {
        error = error.because(format!(
            "{digest} {problem} (needed by {})",
            needed_by(bundle, digest)
        ));
    }
    Err(error)
}

fn hash(
    digest: &Digest,
    blob: &Blob,
    buffer: &mut [u8],
    done: &dyn Fn(u64),
) -> std::io::Result<Digest> {
    let mut hasher = Hasher::like(digest);
    let mut offset = 0;
    loop {
        let read = blob.read_at(offset, buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hasher.finish());
        };
        hasher.update(bytes);
        offset += read as u64;
        done(read as u64);
    }
}

fn needed_by(bundle: &Bundle, digest: &Digest) -> String {
    let mut users = bundle.users(digest);
    let more = users.len().saturating_sub(3);
    users.truncate(3);
    let mut text = users.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
