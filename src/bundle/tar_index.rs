//! Finds the files of a plain tar by one pass over its headers. Strict, because a bundle comes from outside; must not extract anything.

use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt};

const BLOCK: u64 = 512;
/// Path and size records need a fraction of this.
const MAX_EXTENSION: u64 = 64 * 1024;
const MAX_ENTRIES: usize = 500_000;
/// Writers pad to their record size, 10 KiB as a rule.
const MAX_PADDING: u64 = 1024 * 1024;

/// Where a file's content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
}

/// Files by their clean relative path.
pub type Entries = HashMap<String, Stretch>;

/// What an extension header said about the next entry.
#[derive(Default)]
struct Extension {
    path: Option<String>,
    size: Option<u64>,
}

/// Reads the headers; the error is one sentence about what is wrong with the file.
pub fn read(file: &File) -> Result<Entries, String> {
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut entries = Entries::new();
    let mut folders = 0_usize;
    let mut extension = Extension::default();
    let mut at = 0;
    loop {
        let header = match block(file, at, length)? {
            Some(header) => header,
            None if at == 0 => return Err("it is empty".to_owned()),
            None => return Err("it ends in the middle: it is truncated".to_owned()),
        };
        if header.iter().all(|byte| *byte == 0) {
            padding(file, at, length)?;
            return Ok(entries);
        }
        check_sum(&header, at)?;
        // What an extension says is about the next file, not about another extension.
        let told = match header[156] {
            b'x' | b'g' | b'L' => None,
            _ => extension.size.take(),
        };
        let size = told.map_or_else(|| number(&header[124..136]), Ok)?;
        let data = at + BLOCK;
        let end = data
            .checked_add(size)
            .filter(|end| *end <= length)
            .ok_or("an entry is longer than the file: it is truncated or lies about a size")?;
        match header[156] {
            b'0' | 0 => {
                let path = clean(&extension.path.take().map_or_else(|| name(&header), Ok)?)?;
                let stretch = Stretch { offset: data, size };
                if entries.insert(path.clone(), stretch).is_some() {
                    return Err(format!("it has two entries named {path:?}"));
                }
            }
            b'5' => {
                let path = extension.path.take().map_or_else(|| name(&header), Ok)?;
                clean(path.trim_end_matches('/')).or_else(|e| match path.as_str() {
                    "." | "./" => Ok(String::new()),
                    _ => Err(e),
                })?;
                folders += 1;
            }
            b'x' => extension = extended(&text(file, data, size)?, extension)?,
            // Comments of some writers; a size or path for all entries would be nonsense.
            b'g' => {
                let all = extended(&text(file, data, size)?, Extension::default())?;
                if all.path.is_some() || all.size.is_some() {
                    return Err("it sets a path or size for all entries".to_owned());
                }
            }
            b'L' => {
                let long = text(file, data, size)?;
                extension.path = Some(long.trim_end_matches('\0').to_owned());
            }
            b'1' | b'2' => return Err("it has a link; a bundle has files only".to_owned()),
            kind => {
                return Err(format!(
                    "it has an entry of type {:?}; a bundle has files only",
                    char::from(kind)
                ));
            }
        }
        if entries.len() + folders > MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} entries"));
        }
        at = end.div_ceil(BLOCK) * BLOCK;
    }
}

fn block(file: &File, at: u64, length: u64) -> Result<Option<[u8; 512]>, String> {
    if at + BLOCK > length {
        return Ok(None);
    }
    let mut block = [0; 512];
    read_at(file, &mut block, at)?;
    Ok(Some(block))
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> Result<(), String> {
    file.read_exact_at(buffer, at)
        .map_err(|e: io::Error| format!("it cannot be read: {e}"))
}

/// After the end mark only zeroes may follow: other readers would see more than we do.
fn padding(file: &File, at: u64, length: u64) -> Result<(), String> {
    if length - at > MAX_PADDING {
        return Err("something follows its end".to_owned());
    }
    // At most MAX_PADDING.
    let mut rest = vec![0; usize::try_from(length - at).unwrap_or_default()];
    read_at(file, &mut rest, at)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err("something follows its end".to_owned());
    }
    Ok(())
}

fn check_sum(header: &[u8; 512], at: u64) -> Result<(), String> {
    let told = number(&header[148..156])?;
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(i, byte)| {
            if (148..156).contains(&i) {
                32
            } else {
                u64::from(*byte)
            }
        })
        .sum();
    if told == sum {
        Ok(())
    } else if at == 0 {
        Err("it is no tar file".to_owned())
    } else {
        Err("a header's checksum is wrong: it is altered or truncated".to_owned())
    }
}

/// Octal, or binary with the top bit set for sizes above 8 GiB.
fn number(field: &[u8]) -> Result<u64, String> {
    let wrong = || "a header has a malformed number".to_owned();
    if let Some((first @ 0x80.., rest)) = field.split_first() {
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        if *first != 0x80 || high.iter().any(|byte| *byte != 0) {
            return Err(wrong());
        }
        return Ok(low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).map_err(|_| wrong())?;
    let digits = text.trim_matches(|c| c == ' ' || c == '\0');
    if digits.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(digits, 8).map_err(|_| wrong())
}

fn name(header: &[u8; 512]) -> Result<String, String> {
    let field = |bytes: &[u8]| {
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).map_err(|_| "a name is no UTF-8 text".to_owned())
    };
    let name = field(&header[..100])?;
    // Only the POSIX format has a prefix; GNU's keeps other things there.
    if &header[257..263] != b"ustar\0" || header[345] == 0 {
        return Ok(name);
    }
    Ok(format!("{}/{name}", field(&header[345..500])?))
}

fn text(file: &File, at: u64, size: u64) -> Result<String, String> {
    if size > MAX_EXTENSION {
        return Err("an extension header is too long".to_owned());
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    read_at(file, &mut bytes, at)?;
    String::from_utf8(bytes).map_err(|_| "an extension header is no UTF-8 text".to_owned())
}

/// PAX records, `<length> <key>=<value>\n`.
fn extended(mut text: &str, mut extension: Extension) -> Result<Extension, String> {
    let wrong = || "an extension header is malformed".to_owned();
    while !text.is_empty() {
        let (length, _) = text.split_once(' ').ok_or_else(wrong)?;
        let (head, length) = (
            length.len() + 1,
            length.parse::<usize>().map_err(|_| wrong())?,
        );
        let record = text
            .get(head..length)
            .and_then(|r| r.strip_suffix('\n'))
            .ok_or_else(wrong)?;
        let (key, value) = record.split_once('=').ok_or_else(wrong)?;
        match key {
            "path" => extension.path = Some(value.to_owned()),
            "size" => extension.size = Some(value.parse().map_err(|_| wrong())?),
            "linkpath" => return Err("it has a link; a bundle has files only".to_owned()),
            key if key.starts_with("GNU.sparse") => {
                return Err("it has a sparse file, which mctl does not read".to_owned());
            }
            _ => {}
        }
        text = text.get(length..).ok_or_else(wrong)?;
    }
    Ok(extension)
}

/// A relative path without tricks, or what is wrong with it.
fn clean(path: &str) -> Result<String, String> {
    let relative = path.strip_prefix("./").unwrap_or(path);
    let sound = !relative.is_empty()
        && !relative.contains(['\0', '\\'])
        && relative
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
    if sound {
        Ok(relative.to_owned())
    } else {
        Err(format!("it has an entry with the unsafe path {path:?}"))
    }
}
