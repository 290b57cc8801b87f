//! Content that lies in memory, in files, or partly in both, readable at any place. Must not hash or interpret it.

use std::{
    fs::File,
    io::{self, IoSliceMut, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;

/// A piece of content.
#[derive(Clone, Debug)]
pub enum Part {
    /// In memory.
    Memory(Bytes),
    /// A stretch of a file.
    File {
        /// The file, open for reading.
        file: Arc<File>,
        /// Where the stretch starts.
        offset: u64,
        /// Its length.
        length: u64,
    },
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// Fills the buffer from inside one part.
fn read_part(part: &Part, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    match part {
        Part::Memory(bytes) => {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let source = bytes.get(from..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
        Part::File {
            file,
            offset: start,
            ..
        } => file.read_exact_at(buffer, start + offset),
    }
}

/// Content of known size; cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    parts: Arc<[Part]>,
    size: u64,
}

impl From<Vec<Part>> for Blob {
    fn from(parts: Vec<Part>) -> Self {
        Self {
            size: parts.iter().map(Part::length).sum(),
            parts: parts.into(),
        }
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self::from(vec![Part::Memory(bytes)])
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl Blob {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills the buffer from this place on and says how much came; less than asked for only at the end. Blocks.
    pub fn read_at(&self, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        for part in self.parts.iter() {
            let length = part.length();
            if offset >= length {
                offset -= length;
                continue;
            }
            let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let take = rest
                .len()
                .min(usize::try_from(length - offset).unwrap_or(usize::MAX));
            read_part(part, offset, &mut rest[..take])?;
            filled += take;
            offset = 0;
        }
        Ok(filled)
    }

    /// Like [`Blob::read_at`] without waiting for a disk: what is in memory already, possibly less than asked for; none when the rest has to be waited for.
    pub fn read_ready(&self, mut offset: u64, buffer: &mut [u8]) -> Option<usize> {
        for part in self.parts.iter() {
            let length = part.length();
            if offset >= length {
                offset -= length;
                continue;
            }
            let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
            let take = buffer.len().min(left);
            let buffer = buffer.get_mut(..take)?;
            return match part {
                Part::Memory(_) => read_part(part, offset, buffer).ok().map(|()| take),
                Part::File {
                    file,
                    offset: start,
                    ..
                } => {
                    let mut buffers = [IoSliceMut::new(buffer)];
                    let flags = ReadWriteFlags::NOWAIT;
                    // Where a file system cannot tell, the other way is taken.
                    rustix::io::preadv2(file, &mut buffers, start + offset, flags)
                        .ok()
                        .filter(|read| *read > 0)
                }
            };
        }
        None
    }

    /// All of it, for small content; `limit` guards memory.
    pub fn read_all(&self, limit: u64) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.size.min(limit + 1)).unwrap_or(usize::MAX);
        if self.size > limit {
            return Err(io::Error::other(format!("more than {limit} bytes")));
        }
        let mut bytes = vec![0; size];
        let read = self.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads it from the start. Blocks.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            blob: self,
            offset: 0,
        }
    }
}

/// Reads a blob in order.
pub struct Reader<'a> {
    blob: &'a Blob,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read_at(self.offset, buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}
