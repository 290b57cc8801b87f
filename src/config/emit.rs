//! YAML that every reader understands alike, old ones too. Must not know what it writes.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Number, Value};

use super::scalar::{self, Plain};
use crate::error::{Error, Kind, Result};

/// A value as a YAML document in block style; text that some reader takes for something else is in quotes.
pub fn to_yaml(value: &impl Serialize) -> Result<String> {
    let value = serde_json::to_value(value)
        .map_err(|e| Error::new(Kind::Internal, "cannot write YAML").because(&e))?;
    let mut out = String::new();
    match &value {
        Value::Object(_) | Value::Array(_) if !is_empty(&value) => block(&value, 0, &mut out),
        _ => {
            scalar(&value, 0, &mut out);
            out.push('\n');
        }
    }
    Ok(out)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Lines of a map or list; the caller has written the indentation of the first one.
fn block(value: &Value, indent: usize, out: &mut String) {
    let mut first = true;
    let mut start = |out: &mut String| {
        if !std::mem::take(&mut first) {
            out.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                start(out);
                if is_plain(key) && !key.contains(':') {
                    out.push_str(key);
                } else {
                    quoted(key, out);
                }
                out.push(':');
                match value {
                    Value::Object(_) | Value::Array(_) if !is_empty(value) => {
                        out.push('\n');
                        out.extend(std::iter::repeat_n(' ', indent + 2));
                        block(value, indent + 2, out);
                    }
                    _ => {
                        out.push(' ');
                        scalar(value, indent + 2, out);
                        out.push('\n');
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                start(out);
                out.push_str("- ");
                match item {
                    Value::Object(_) | Value::Array(_) if !is_empty(item) => {
                        block(item, indent + 2, out);
                    }
                    _ => {
                        scalar(item, indent + 2, out);
                        out.push('\n');
                    }
                }
            }
        }
        _ => {}
    }
}

/// A value that begins on the line of its key; lines that follow get the indentation.
fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&number(n)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::String(text) if is_plain(text) => out.push_str(text),
        Value::String(text) if is_literal(text) => {
            out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    out.extend(std::iter::repeat_n(' ', indent.max(2)));
                    out.push_str(line);
                }
            }
        }
        Value::String(text) => quoted(text, out),
    }
}

/// YAML 1.1 wants a dot and a sign in numbers with an exponent.
fn number(n: &Number) -> String {
    let text = n.to_string();
    match text.split_once(['e', 'E']) {
        None => text,
        Some((mantissa, exponent)) => {
            let dot = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with(['+', '-']) {
                ""
            } else {
                "+"
            };
            format!("{mantissa}{dot}e{sign}{exponent}")
        }
    }
}

/// Text that no reader takes for anything but itself. Quotes cost nothing, so this is narrow.
fn is_plain(text: &str) -> bool {
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        let fine = match c {
            ' ' => before != ' ' && next.is_some_and(|n| n != ' '),
            ':' => next.is_some_and(|n| n.is_alphanumeric() || n == '/'),
            c => c.is_alphanumeric() || "_-./@+=%,()*$;!?&<>|^~".contains(c),
        };
        if !fine {
            return false;
        }
        before = c;
    }
    let begins_well = text.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '_')
        || text.starts_with("./")
        // A range or a path; no number or date has a slash.
        || text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('/');
    begins_well && scalar::plain(text) == Plain::Text
}

/// Text of several lines that a literal block keeps as it is.
fn is_literal(text: &str) -> bool {
    let inner = text.strip_suffix('\n').unwrap_or(text);
    inner.contains('\n')
        && !inner.ends_with('\n')
        && !inner.starts_with([' ', '\t', '\n'])
        && text
            .chars()
            .all(|c| c == '\n' || c == '\t' || !is_special(c))
}

/// Characters that YAML does not allow as they are, or that readers change.
fn is_special(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Writing to a string cannot fail.
            c if is_special(c) => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_quoted_when_a_reader_could_take_it_for_something_else() {
        let quoted = [
            "",
            " ",
            "n",
            "y",
            "N",
            "Y",
            "on",
            "off",
            "On",
            "OFF",
            "yes",
            "no",
            "Yes",
            "NO",
            "true",
            "True",
            "TRUE",
            "false",
            "null",
            "Null",
            "NULL",
            "~",
            "012",
            "0644",
            "0o17",
            "0x1F",
            "0b11",
            "1e3",
            "1E3",
            "1_000",
            "1.5",
            ".5",
            "+1",
            "-1",
            "1:30",
            "12:30:45",
            ".inf",
            "-.inf",
            ".nan",
            ".NaN",
            "2026-11-24",
            "2026-11-24T10:00:00Z",
            "=",
            "<<",
            "-",
            "- a",
            "? a",
            ": a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "'a'",
            "\"a\"",
            "{a}",
            "[a]",
            "{{ x }}",
            ",a",
            " a",
            "a ",
            "a\tb",
            "a\\b",
            "---",
            "...",
            "a\r\nb",
            "\u{85}",
            "\u{2028}",
            "\u{feff}a",
            "\0",
            "1.2.3",
            "5",
            "5m",
            ".",
            "..",
        ];
        for text in quoted {
            let yaml = to_yaml(&json!({ "k": text })).unwrap();
            assert!(
                yaml.starts_with("k: \"") && yaml.ends_with("\"\n"),
                "{yaml}"
            );
        }
        let plain = [
            "a",
            "yes please",
            "nothing",
            "v1.36.3",
            "/var/lib",
            "./clusters",
            "./",
            "10.0.0.0/8",
            "https://a.io/b?c=d",
            "registry.k8s.io/pause:3.10",
            "a-b_c.d",
            "e3",
            "x: y".trim_end_matches(": y"),
            "Größe",
        ];
        for text in plain {
            assert_eq!(
                to_yaml(&json!({ "k": text })).unwrap(),
                format!("k: {text}\n")
            );
        }
    }

    #[test]
    fn structure_is_in_block_style() {
        let value = json!({
            "on": { "push": [], "n": {} },
            "list": [1, "a", [true, null], { "x": 1, "y": { "z": 2.5 } }],
            "script": "#!/bin/sh\n\nexit 0\n",
            "text": "a\n  b",
            "big": 1e300,
        });
        let yaml = r##""on":
  push: []
  "n": {}
list:
  - 1
  - a
  - - true
    - null
  - x: 1
    "y":
      z: 2.5
script: |
  #!/bin/sh

  exit 0
text: |-
  a
    b
big: 1.0e+300
"##;
        assert_eq!(to_yaml(&value).unwrap(), yaml);
        assert_eq!(to_yaml(&json!("a")).unwrap(), "a\n");
        assert_eq!(to_yaml(&json!([])).unwrap(), "[]\n");
    }

    fn text() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "y", "no", "1_0", "0x1", "~", "a", " ", "\n", "\n\n", ": ", " #", "- ", "|", "\t",
            "\"", "'", "\\", "{", "[", "é", "\u{85}", "\u{2028}", "\r", "%", "&", "*", "!", "?",
            "---", "1", ".", "e", "b",
        ]);
        prop_oneof![
            ".{0,12}",
            prop::collection::vec(words, 0..6).prop_map(|w| w.concat())
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e18..1e18_f64).prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text(), inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in value()) {
            let yaml = to_yaml(&value).unwrap();
            let new: Value = serde_saphyr::from_str(&yaml).map_err(|e| TestCaseError::fail(format!("{e}\n{yaml}")))?;
            prop_assert_eq!(&new, &value, "{}", yaml);
            let mut old = serde_saphyr::Options::default();
            old.legacy_octal_numbers = true;
            old.strict_booleans = false;
            let old: Value = serde_saphyr::from_str_with_options(&yaml, old).map_err(|e| TestCaseError::fail(format!("{e}\n{yaml}")))?;
            prop_assert_eq!(&old, &value, "as YAML 1.1: {}", yaml);
        }
    }
}
