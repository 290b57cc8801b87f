//! A bind mount as the `docker` command wants it. Pure.

use std::path::Path;

/// Value of `--mount` for a folder or file of the host, read-only. Unlike `--volume` it refuses a missing path instead of
/// making an empty folder there, and takes any path: its fields are those of a CSV record.
pub fn read_only(source: &Path, target: &str) -> String {
    let source = source.display();
    [
        "type=bind".to_owned(),
        format!("source={source}"),
        format!("target={target}"),
        "readonly".to_owned(),
    ]
    .map(|field| quoted(&field))
    .join(",")
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_one_field() {
        let mount = |path: &str| read_only(Path::new(path), "/bundle");
        assert_eq!(
            mount("/a b:c"),
            "type=bind,source=/a b:c,target=/bundle,readonly"
        );
        assert_eq!(
            mount("/a,\"b\""),
            "type=bind,\"source=/a,\"\"b\"\"\",target=/bundle,readonly"
        );
    }
}
