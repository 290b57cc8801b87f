//! Reads manifests as kubectl reads them: YAML 1.1 booleans and octal numbers, many documents. Must not render.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// All documents of a text; empty ones are left out.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options::<Value>(text, options)
        .map(|all| all.into_iter().filter(|d| !d.is_null()).collect())
        .map_err(|e| e.to_string())
}

/// The one document of a file of ours, as a typed value.
pub fn one<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
    };
    serde_saphyr::from_slice_with_options(bytes, options).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_like_kubectl() {
        assert_eq!(
            documents("a: 0644\nb: yes\nc: \"no\"\n---\n# nothing\n---\nd: [1.5, ~]\n").unwrap(),
            [
                json!({"a": 420, "b": true, "c": "no"}),
                json!({"d": [1.5, null]})
            ]
        );
    }

    #[test]
    fn says_where_it_is_wrong() {
        assert!(documents("a: [").unwrap_err().contains("line"));
    }
}
