//! Streams content from disk in large pieces. Must not hold more than a few of them, nor wait for a disk on a thread that others need.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;

use crate::bundle::Blob;

/// Large enough that neither system calls nor thread changes count.
const PIECE: u64 = 256 * 1024;

/// The bytes from the first place to before the second.
pub fn stream(blob: Blob, from: u64, to: u64) -> Body {
    let buffers = Buffers::default();
    Body::from_stream(stream::try_unfold(from, move |at| {
        let (blob, buffers) = (blob.clone(), buffers.clone());
        async move {
            if at >= to {
                return Ok(None);
            }
            let bytes = piece(blob, at, (to - at).min(PIECE), buffers).await?;
            let next = at + bytes.len() as u64;
            Ok::<_, io::Error>(Some((bytes, next)))
        }
    }))
}

async fn piece(blob: Blob, at: u64, length: u64, buffers: Buffers) -> io::Result<Bytes> {
    let length = usize::try_from(length).unwrap_or_default();
    let mut buffer = buffers.take(length);
    // Most content is in the page cache; handing it to another thread costs more than the copy.
    if let Some(read) = blob.read_ready(at, &mut buffer[..length]) {
        return Ok(buffers.lend(buffer, read));
    }
    let read = tokio::task::spawn_blocking(move || {
        let read = blob.read_at(at, &mut buffer[..length])?;
        Ok::<_, io::Error>((buffer, read))
    });
    match read.await?? {
        // The file became shorter than it was; a client sees a broken transfer, never wrong content.
        (_, read) if read < length => Err(io::ErrorKind::UnexpectedEof.into()),
        (buffer, read) => Ok(buffers.lend(buffer, read)),
    }
}

/// Buffers of one download, used again and again: fresh memory from the kernel costs more than the content that goes through it.
#[derive(Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self, length: usize) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // Only the last piece is shorter, so one that is free is long enough.
        free.filter(|buffer| buffer.len() >= length)
            .unwrap_or_else(|| vec![0; length])
    }

    fn lend(&self, buffer: Vec<u8>, length: usize) -> Bytes {
        Bytes::from_owner(Lent {
            buffer,
            length,
            home: self.clone(),
        })
    }
}

/// A buffer on its way to a client.
struct Lent {
    buffer: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut free = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(buffer);
    }
}
