//! A first document to start from, with comments made from the schema. Must not know single fields.

use serde_json::{Map, Value, json};

use super::{emit::to_yaml, schema};
use crate::error::{Error, Kind, Result};

/// Columns of comments.
const WIDTH: usize = 100;

/// A commented document: what most people set, or with `full` every field there is. Lines that begin with `#` and no
/// space are fields at work only when the `#` is removed.
pub fn template(name: &str, provider: &str, full: bool) -> Result<String> {
    let schema = schema::document();
    let providers = &schema["properties"]["spec"]["properties"]["provider"]["properties"];
    if providers.get(provider).is_none() {
        let known = providers
            .as_object()
            .map(|p| p.keys().cloned().collect::<Vec<_>>());
        return Err(
            Error::new(Kind::Usage, format!("unknown provider {provider}"))
                .at("--provider")
                .because("this mctl has no provider of that name")
                .fix(format!(
                    "choose one of: {}",
                    known.unwrap_or_default().join(", ")
                ))
                .state("nothing was changed"),
        );
    }
    let shown = json!({
        "apiVersion": schema::API_VERSION,
        "kind": schema::KIND,
        "metadata": { "name": name },
        "spec": {
            "provider": { provider: {} },
            "controlPlane": { "replicas": 1 },
            "nodePools": [{ "name": "default", "replicas": 1 }],
        },
    });
    let mut out = String::from(
        "# A management cluster. Check this file: mctl config validate FILE. Create the cluster: mctl bootstrap --config FILE\n",
    );
    out += if full {
        "# Fields behind a `#` are examples; all other values are the defaults.\n"
    } else {
        "# Every field there is: mctl config init --full\n"
    };
    out += "# Completion in editors: mctl config schema > managementcluster.schema.json, and as the first line here\n";
    out += "#   yaml-language-server: $schema=managementcluster.schema.json\n";
    Writer {
        full,
        out: &mut out,
    }
    .fields(schema, Some(&shown), 0, false)?;
    Ok(out)
}

struct Writer<'a> {
    full: bool,
    out: &'a mut String,
}

impl Writer<'_> {
    /// The fields of an object; `values` are those in force. With `off`, the lines lie in a part that is switched off.
    fn fields(
        &mut self,
        schema: &Value,
        values: Option<&Value>,
        indent: usize,
        off: bool,
    ) -> Result<()> {
        let none = Map::new();
        for (name, field) in schema["properties"].as_object().unwrap_or(&none) {
            let value = values.and_then(|v| v.get(name));
            if value.is_some() || self.full {
                self.field(name, field, value, indent, off)?;
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        name: &str,
        schema: &Value,
        value: Option<&Value>,
        indent: usize,
        off: bool,
    ) -> Result<()> {
        self.comment(schema, indent);
        let inner = indent + 2;
        let has_fields = schema["properties"].is_object();
        let default = schema.get("default").filter(|d| !off && is_scalar(d));
        match (value, default) {
            (Some(value), _) if has_fields => {
                // `{}` says that the object is there when all of its fields are switched off.
                let mut below = String::new();
                let mut writer = Writer {
                    full: self.full,
                    out: &mut below,
                };
                writer.fields(schema, Some(value), inner, off)?;
                let live = below.lines().any(|l| !l.trim_start().starts_with('#'));
                let nothing = match (live, below.is_empty()) {
                    (true, _) => "",
                    (false, true) => " {}",
                    (false, false) => " {} # write no {} here when a field below is in use",
                };
                self.line(indent, false, &format!("{name}:{nothing}"));
                self.out.push_str(&below);
            }
            (Some(Value::Array(items)), _)
                if self.full && schema["items"]["properties"].is_object() =>
            {
                self.line(indent, false, &format!("{name}:"));
                for item in items {
                    self.item(&schema["items"], item, inner)?;
                }
            }
            (Some(value), _) => self.lines(indent, false, name, value)?,
            (None, Some(default)) => self.lines(indent, false, name, default)?,
            // An object that is there by default, with fields that have defaults.
            (None, None) if has_fields && !off && has_live_fields(schema) => {
                self.line(indent, false, &format!("{name}:"));
                self.fields(schema, None, inner, off)?;
            }
            (None, None) if has_fields => {
                let mut below = String::new();
                Writer {
                    full: true,
                    out: &mut below,
                }
                .fields(schema, None, inner, true)?;
                self.line(indent, !off, &format!("{name}:"));
                self.nested(&below, indent, off);
            }
            (None, None) => {
                let example = example(schema);
                self.lines(indent, !off, name, &example)?;
            }
        }
        Ok(())
    }

    /// An item of a list, with its comments.
    fn item(&mut self, schema: &Value, item: &Value, indent: usize) -> Result<()> {
        let mut below = String::new();
        let mut writer = Writer {
            full: self.full,
            out: &mut below,
        };
        writer.fields(schema, Some(item), indent + 2, false)?;
        let mut begun = false;
        for line in below.lines() {
            let text = line.get(indent + 2..).unwrap_or_default();
            let live = !text.starts_with('#');
            match (begun, live) {
                (true, _) => self.line(indent + 2, false, text),
                (false, true) => self.line(indent, false, &format!("- {text}")),
                (false, false) => self.line(indent, false, text),
            }
            begun |= live;
        }
        Ok(())
    }

    /// Lines of a part that is switched off as a whole.
    fn nested(&mut self, lines: &str, indent: usize, off: bool) {
        for line in lines.lines() {
            match (off, line.get(..indent), line.get(indent..)) {
                (false, Some(margin), Some(rest)) => {
                    self.out.push_str(margin);
                    self.out.push('#');
                    self.out.push_str(rest);
                }
                _ => self.out.push_str(line),
            }
            self.out.push('\n');
        }
    }

    fn lines(&mut self, indent: usize, off: bool, name: &str, value: &Value) -> Result<()> {
        for line in to_yaml(&json!({ name: value }))?.lines() {
            self.line(indent, off, line);
        }
        Ok(())
    }

    fn line(&mut self, indent: usize, off: bool, text: &str) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        if off {
            self.out.push('#');
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn comment(&mut self, schema: &Value, indent: usize) {
        let Some(text) = schema["description"].as_str() else {
            return;
        };
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty()
                && indent + 2 + line.chars().count() + 1 + word.chars().count() > WIDTH
            {
                self.line(indent, false, &format!("# {line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(indent, false, &format!("# {line}"));
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

/// Some field below is written without `#`.
fn has_live_fields(schema: &Value) -> bool {
    schema.get("default").is_some()
        && schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .any(|(_, f)| f.get("default").is_some_and(is_scalar) || has_live_fields(f))
}

/// An example with all fields, for a field that has no value.
fn example(schema: &Value) -> Value {
    if let Some(example) = schema["examples"].get(0) {
        return example.clone();
    }
    match schema["type"].as_str() {
        Some("array") => json!([example(&schema["items"])]),
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            Value::Object(fields.map(|(name, f)| (name.clone(), example(f))).collect())
        }
        _ => match schema.get("default").or(schema["enum"].get(0)) {
            Some(value) => value.clone(),
            None => match schema["type"].as_str() {
                Some("boolean") => true.into(),
                Some("integer") => 1.into(),
                _ => "text".into(),
            },
        },
    }
}
