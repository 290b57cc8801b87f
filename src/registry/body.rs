//! Streams content from disk in large pieces. Must not hold more than a few of them.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;

use crate::bundle::Blob;

/// Large enough that neither system calls nor thread changes count.
const PIECE: u64 = 1024 * 1024;

/// The bytes from the first place to before the second.
pub fn stream(blob: Blob, from: u64, to: u64) -> Body {
    Body::from_stream(stream::try_unfold(from, move |at| {
        let blob = blob.clone();
        async move {
            if at >= to {
                return Ok(None);
            }
            let bytes = tokio::task::spawn_blocking(move || piece(&blob, at, to)).await??;
            let next = at + bytes.len() as u64;
            Ok::<_, io::Error>(Some((bytes, next)))
        }
    }))
}

fn piece(blob: &Blob, at: u64, to: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from((to - at).min(PIECE)).unwrap_or_default()];
    match blob.read_at(at, &mut buffer)? {
        // The file became shorter than it was; a client sees a broken transfer, never wrong content.
        read if read < buffer.len() => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(buffer.into()),
    }
}
