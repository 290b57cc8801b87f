//! Reads just enough of an ELF file to tell whether it is static; must not need any tool of the machine.

use anyhow::{Context, bail, ensure};

const INTERPRETER: u32 = 3;
const DYNAMIC: u32 = 2;
const NEEDED: u64 = 1;

/// Fails when the executable asks for a dynamic loader or a shared library.
pub fn ensure_static(bytes: &[u8]) -> anyhow::Result<()> {
    ensure!(bytes.get(..4) == Some(b"\x7fELF"), "it is no ELF file");
    ensure!(
        bytes.get(4..6) == Some(&[2, 1]),
        "it is not for a 64-bit little-endian machine"
    );
    let table = number(bytes, 32, 8)?;
    let size = number(bytes, 54, 2)?;
    let count = number(bytes, 56, 2)?;
    for index in 0..count {
        let header = table + index * size;
        match u32::try_from(number(bytes, header, 4)?)? {
            INTERPRETER => bail!("it is dynamic: it names a loader"),
            DYNAMIC => {
                let (offset, length) = (
                    number(bytes, header + 8, 8)?,
                    number(bytes, header + 32, 8)?,
                );
                for entry in (offset..offset + length).step_by(16) {
                    ensure!(
                        number(bytes, entry, 8)? != NEEDED,
                        "it is dynamic: it needs a shared library"
                    );
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn number(bytes: &[u8], offset: u64, length: u64) -> anyhow::Result<u64> {
    let (start, end) = (usize::try_from(offset)?, usize::try_from(offset + length)?);
    let part = bytes.get(start..end).context("it is truncated")?;
    Ok(part
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: u32, tag: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56 + 16];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes[72] = 120;
        bytes[96] = 16;
        bytes[120..128].copy_from_slice(&tag.to_le_bytes());
        bytes
    }

    #[test]
    fn static_files_pass_and_dynamic_ones_do_not() {
        ensure_static(&file(1, 0)).unwrap();
        ensure_static(&file(DYNAMIC, 0)).unwrap();
        assert!(ensure_static(&file(DYNAMIC, NEEDED)).is_err());
        assert!(ensure_static(&file(INTERPRETER, 0)).is_err());
    }

    #[test]
    fn other_files_are_named_as_such() {
        assert_eq!(
            ensure_static(b"#!/bin/sh\n").unwrap_err().to_string(),
            "it is no ELF file"
        );
        assert_eq!(
            ensure_static(&file(DYNAMIC, 0)[..70])
                .unwrap_err()
                .to_string(),
            "it is truncated"
        );
    }

    #[test]
    fn this_test_itself_is_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(ensure_static(&own).is_err() || cfg!(target_feature = "crt-static"));
    }
}
