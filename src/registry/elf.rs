//! Reads just enough of an ELF file to tell whether it needs a loader. Must not need any tool of the machine.

use crate::bundle::Blob;

const INTERPRETER: u64 = 3;
const DYNAMIC: u64 = 2;
const NEEDED: u64 = 1;
const END: u64 = 0;

/// `Ok` for a static executable, otherwise what is wrong with it.
pub fn check_static(file: &Blob) -> Result<(), String> {
    let mut start = [0; 6];
    match file.read_at(0, &mut start) {
        Ok(6) if start.starts_with(b"\x7fELF") => {}
        Ok(_) => return Err("it is no ELF file".to_owned()),
        Err(e) => return Err(e.to_string()),
    }
    if start[4..] != [2, 1] {
        return Err("it is not for a 64-bit little-endian machine".to_owned());
    }
    let (table, size, count) = (
        number(file, 32, 8)?,
        number(file, 54, 2)?,
        number(file, 56, 2)?,
    );
    for index in 0..count {
        let header = table.saturating_add(index * size);
        match number(file, header, 4)? {
            INTERPRETER => return Err("it is dynamically linked".to_owned()),
            DYNAMIC => {
                let offset = number(file, header.saturating_add(8), 8)?;
                let length = number(file, header.saturating_add(32), 8)?;
                for entry in (0..length.min(file.size())).step_by(16) {
                    match number(file, offset.saturating_add(entry), 8)? {
                        NEEDED => return Err("it is dynamically linked".to_owned()),
                        END => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn number(file: &Blob, offset: u64, length: usize) -> Result<u64, String> {
    let mut bytes = [0; 8];
    match file.read_at(offset, &mut bytes[..length]) {
        Ok(read) if read == length => Ok(u64::from_le_bytes(bytes)),
        Ok(_) => Err("it is truncated".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: u64, tag: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56 + 16];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..72].copy_from_slice(&kind.to_le_bytes());
        bytes[72] = 120;
        bytes[96] = 16;
        bytes[120..128].copy_from_slice(&tag.to_le_bytes());
        bytes
    }

    fn check(bytes: &[u8]) -> Result<(), String> {
        check_static(&bytes.to_vec().into())
    }

    #[test]
    fn static_files_pass_and_others_do_not() {
        let dynamic = Err("it is dynamically linked".to_owned());
        assert_eq!(check(&file(1, 0)), Ok(()));
        assert_eq!(check(&file(DYNAMIC, 5)), Ok(()));
        assert_eq!(check(&file(DYNAMIC, NEEDED)), dynamic);
        assert_eq!(check(&file(INTERPRETER, 0)), dynamic);
        assert_eq!(check(b"#!/bin/sh\n"), Err("it is no ELF file".to_owned()));
        assert_eq!(check(b""), Err("it is no ELF file".to_owned()));
        for length in 6..file(DYNAMIC, NEEDED).len() - 12 {
            assert!(check(&file(DYNAMIC, NEEDED)[..length]).is_err(), "{length}");
        }
    }
}
