//! Checks a tree against the schema and reports everything at once; a new field needs no code here. Must not hold rules between fields.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    hint,
    problem::{Path, Problem, Span, shown},
    scalar::{self, Plain},
    tree::{Entry, Node, NodeKind},
};

/// Problems that get a hint; nobody reads more, and a file may be made of nothing else.
const HINTED: usize = 200;

/// Result of a check.
pub(super) struct Checked {
    /// The document without its broken parts; missing required fields are filled with something of their type.
    pub(super) value: Value,
    pub(super) problems: Vec<Problem>,
    /// Places that were left out or filled in: nothing can be concluded from them.
    pub(super) broken: HashSet<Path>,
}

/// Checks all of the tree.
pub(super) fn check(root: &Node, schema: &Value) -> Checked {
    let mut checker = Checker {
        document: schema,
        problems: Vec::new(),
        broken: HashSet::new(),
    };
    let spot = Spot {
        path: Path::default(),
        name: None,
        place: root.span,
    };
    let value = checker.node(root, schema, &spot).unwrap_or(Value::Null);
    Checked {
        value,
        problems: checker.problems,
        broken: checker.broken,
    }
}

/// Where the checker is.
struct Spot<'a> {
    path: Path,
    /// Name of the field, if it is one.
    name: Option<&'a str>,
    /// Place to point at when the value itself has none: the key, or the item.
    place: Span,
}

struct Checker<'a> {
    document: &'a Value,
    problems: Vec<Problem>,
    broken: HashSet<Path>,
}

impl Checker<'_> {
    /// The value as JSON, or `None` when it was reported as unusable.
    fn node(&mut self, node: &Node, schema: &Value, spot: &Spot<'_>) -> Option<Value> {
        let value = match (schema["type"].as_str(), &node.kind) {
            (_, NodeKind::Broken) => None,
            _ if node.is_nothing() => {
                self.no_value(schema, spot);
                None
            }
            (Some("object"), NodeKind::Map(_)) if is_free(schema) => self.free(node, spot),
            (Some("object"), NodeKind::Map(entries)) => Some(self.map(entries, schema, spot)),
            (Some("array"), NodeKind::List(items)) => Some(self.list(items, schema, spot)),
            (
                Some(expected @ ("string" | "integer" | "boolean")),
                NodeKind::Scalar { text, plain },
            ) => self.scalar(text, *plain, expected, node.span, schema, spot),
            (Some(expected), _) => {
                self.wrong_type(node, expected, schema, spot);
                None
            }
            (None, _) => self.free(node, spot),
        };
        if value.is_none() {
            self.broken.insert(spot.path.clone());
        }
        value
    }

    fn map(&mut self, entries: &[Entry], schema: &Value, spot: &Spot<'_>) -> Value {
        let none = Map::new();
        let fields = schema["properties"].as_object().unwrap_or(&none);
        let others = Some(&schema["additionalProperties"]).filter(|s| s.is_object());
        let mut out = Map::new();
        let mut unknown: Vec<&Entry> = Vec::new();
        for entry in entries {
            let Some(schema) = fields.get(&entry.key).or(others) else {
                unknown.push(entry);
                continue;
            };
            let spot = Spot {
                path: spot.path.key(&entry.key),
                name: Some(&entry.key),
                place: entry.key_span,
            };
            if let Some(value) = self.node(&entry.value, schema, &spot) {
                out.insert(entry.key.clone(), value);
            }
        }
        let given: HashSet<&str> = entries.iter().map(|e| e.key.as_str()).collect();
        // A misspelt field that must be there is one problem, not two.
        let mut meant: Vec<String> = Vec::new();
        for entry in unknown {
            let absent = fields
                .keys()
                .map(String::as_str)
                .filter(|f| !given.contains(f));
            let field = if self.problems.len() < HINTED {
                hint::unknown_field(self.document, fields, absent, &spot.path, &entry.key)
            } else {
                hint::Unknown::plain(&entry.key)
            };
            meant.extend(field.meant.clone());
            self.problems.push(
                Problem::new(spot.path.key(&entry.key), field.what, field.fix).at(entry.key_span),
            );
            self.broken.insert(spot.path.key(&entry.key));
            self.broken.extend(field.meant.map(|m| spot.path.key(&m)));
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            let field = &fields[name];
            if !given.contains(name) && !meant.iter().any(|m| m == name) {
                let fix = format!("add `{name}: {}`", hint::example(field));
                let problem = Problem::new(spot.path.clone(), format!("`{name}` is missing"), fix);
                self.problems.push(problem.at(spot.place));
            }
            if !out.contains_key(name) {
                out.insert(name.to_owned(), filler(field));
                self.broken.insert(spot.path.key(name));
            }
        }
        self.count(entries, fields, &meant, schema, spot);
        Value::Object(out)
    }

    /// `minProperties` and `maxProperties`; 1 and 1 mean a choice.
    fn count(
        &mut self,
        entries: &[Entry],
        fields: &Map<String, Value>,
        meant: &[String],
        schema: &Value,
        spot: &Spot<'_>,
    ) {
        let max = schema["maxProperties"]
            .as_u64()
            .map_or(usize::MAX, |n| n as usize);
        let choice = max == 1 && schema["minProperties"] == 1;
        let known: Vec<&Entry> = entries
            .iter()
            .filter(|e| !choice || fields.contains_key(&e.key))
            .collect();
        let names = || hint::either(fields.keys().map(|k| format!("`{k}`")));
        if choice && known.is_empty() && entries.is_empty() && meant.is_empty() {
            let fix = match fields.iter().next() {
                Some((name, field)) => format!("add `{name}: {}`", hint::example(field)),
                None => "add one".to_owned(),
            };
            let what = format!("one of {} is missing", names());
            let problem = Problem::new(spot.path.clone(), what, fix).at(spot.place);
            self.problems.push(problem);
            self.broken.insert(spot.path.clone());
        }
        if let Some(surplus) = known.get(max) {
            let (what, fix) = if choice {
                (
                    format!("only one of {} can be given", names()),
                    "remove all but one".to_owned(),
                )
            } else {
                (
                    format!("{} entries, at most {max} are allowed", known.len()),
                    format!("remove {}", known.len() - max),
                )
            };
            let path = spot.path.key(&surplus.key);
            self.problems
                .push(Problem::new(path, what, fix).at(surplus.key_span));
            self.broken.insert(spot.path.clone());
        }
    }

    fn list(&mut self, items: &[Node], schema: &Value, spot: &Spot<'_>) -> Value {
        let size = |key: &str| schema[key].as_u64().map(|n| n as usize);
        let mut items = items;
        if let Some(max) = size("maxItems").filter(|max| items.len() > *max) {
            let what = format!("{} items, at most {max} are allowed", items.len());
            let problem = Problem::new(
                spot.path.clone(),
                what,
                format!("remove {}", items.len() - max),
            );
            self.problems.push(problem.at(spot.place));
            self.broken.insert(spot.path.clone());
            items = &items[..max];
        }
        if size("minItems").is_some_and(|min| items.len() < min) {
            let fix = format!("write `{}`", hint::example(schema));
            let problem = Problem::new(spot.path.clone(), "the list is empty", fix);
            self.problems.push(problem.at(spot.place));
        }
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let spot = Spot {
                path: spot.path.index(i),
                name: None,
                place: item.span,
            };
            // A hole would shift the paths of the items after it.
            let value = self.node(item, &schema["items"], &spot);
            out.push(value.unwrap_or_else(|| filler(&schema["items"])));
        }
        self.duplicates(items, &out, schema, spot);
        Value::Array(out)
    }

    /// Items that must differ: by a key, or as a whole.
    fn duplicates(&mut self, items: &[Node], values: &[Value], schema: &Value, spot: &Spot<'_>) {
        let key = schema["x-kubernetes-list-map-keys"][0].as_str();
        if key.is_none() && schema["x-kubernetes-list-type"] != "set" {
            return;
        }
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (i, value) in values.iter().enumerate() {
            let item = spot.path.index(i);
            let path = key.map_or(item.clone(), |k| item.key(k));
            let value = key.map_or(value, |k| &value[k]);
            let Some(text) = value.as_str() else { continue };
            if self.broken.contains(&item) || self.broken.contains(&path) {
                continue;
            }
            let Some(before) = first.get(text) else {
                first.insert(text, i);
                continue;
            };
            let steps = key.map_or_else(Path::default, Path::of);
            let place = items[i].locate(&steps, false);
            let line = items[*before].span.line;
            let other = spot.path.index(*before);
            let what = format!("{} is already used by {other} in line {line}", shown(text));
            let fix = match key {
                Some(key) => format!("give every item its own `{key}`"),
                None => "remove one of them".to_owned(),
            };
            self.problems
                .push(Problem::new(path.clone(), what, fix).at(place));
            self.broken.insert(path);
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        plain: bool,
        expected: &str,
        span: Span,
        schema: &Value,
        spot: &Spot<'_>,
    ) -> Option<Value> {
        let meaning = if plain {
            scalar::plain(text)
        } else {
            Plain::Text
        };
        let value = match (expected, meaning) {
            ("string", Plain::Text) => Value::from(text),
            ("integer", Plain::Int(n)) => Value::from(n),
            ("boolean", Plain::Bool(b)) => Value::from(b),
            _ => {
                let (what, fix) = hint::wrong_scalar(text, plain, expected, schema);
                self.problems
                    .push(Problem::new(spot.path.clone(), what, fix).at(span));
                return None;
            }
        };
        let Some((what, fix)) = hint::unfit(&value, schema, spot.name) else {
            return Some(value);
        };
        self.problems
            .push(Problem::new(spot.path.clone(), what, fix).at(span));
        None
    }

    fn no_value(&mut self, schema: &Value, spot: &Spot<'_>) {
        let name = spot
            .name
            .map_or("the item".to_owned(), |n| format!("`{n}`"));
        let fix = match (spot.name, schema["type"].as_str()) {
            (None, _) => "remove the `-`, or write a value after it".to_owned(),
            (Some(n), Some("object")) if schema.get("required").is_none() => {
                format!("remove it, or write `{n}: {{}}`")
            }
            (Some(n), Some("array")) => format!("remove it, or write `{n}: []`"),
            (Some(n), _) => format!("remove it, or write `{n}: {}`", hint::example(schema)),
        };
        let problem = Problem::new(spot.path.clone(), format!("{name} has no value"), fix);
        self.problems.push(problem.at(spot.place));
    }

    fn wrong_type(&mut self, node: &Node, expected: &str, schema: &Value, spot: &Spot<'_>) {
        let (found, place) = match &node.kind {
            NodeKind::Scalar { text, plain } => (hint::found(text, *plain), node.span),
            NodeKind::List(_) => ("a list".to_owned(), spot.place),
            _ => ("fields".to_owned(), spot.place),
        };
        let what = format!("expected {}, found {found}", hint::expected(expected));
        let fix = match (expected, &node.kind) {
            ("array", NodeKind::Map(_)) => "put `- ` in front of the first field".to_owned(),
            ("array", _) if schema["items"]["type"] == "string" => {
                format!("write `[{}]`", hint::example(&schema["items"]))
            }
            ("object", NodeKind::List(_)) => "remove the `- ` in front of the fields".to_owned(),
            ("object", _) => match hint::fields(schema) {
                Some(fields) => format!("write fields below it: {fields}"),
                None => "write `name: value` below it".to_owned(),
            },
            _ => format!("write a value such as `{}`", hint::example(schema)),
        };
        self.problems
            .push(Problem::new(spot.path.clone(), what, fix).at(place));
    }

    /// A value that the schema says nothing about.
    fn free(&mut self, node: &Node, spot: &Spot<'_>) -> Option<Value> {
        Some(match &node.kind {
            NodeKind::Broken => return None,
            NodeKind::Scalar { text, plain: false } => Value::from(text.as_str()),
            NodeKind::Scalar { text, .. } => match scalar::plain(text) {
                Plain::Null => Value::Null,
                Plain::Bool(b) => b.into(),
                Plain::Int(n) => n.into(),
                Plain::Float(n) => n.into(),
                Plain::Text => text.as_str().into(),
                Plain::Unclear(other) => {
                    let (what, fix) = hint::unclear(text, other);
                    self.problems
                        .push(Problem::new(spot.path.clone(), what, fix).at(node.span));
                    return None;
                }
            },
            NodeKind::List(items) => {
                let item = |(i, item): (usize, &Node)| {
                    let spot = Spot {
                        path: spot.path.index(i),
                        name: None,
                        place: item.span,
                    };
                    self.free(item, &spot).unwrap_or(Value::Null)
                };
                Value::Array(items.iter().enumerate().map(item).collect())
            }
            NodeKind::Map(entries) => {
                let field = |e: &Entry| {
                    let spot = Spot {
                        path: spot.path.key(&e.key),
                        name: Some(&e.key),
                        place: e.key_span,
                    };
                    (
                        e.key.clone(),
                        self.free(&e.value, &spot).unwrap_or(Value::Null),
                    )
                };
                Value::Object(entries.iter().map(field).collect())
            }
        })
    }
}

fn is_free(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Something of the schema's type that deserialises.
fn filler(schema: &Value) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    match schema["type"].as_str() {
        Some("string") => "".into(),
        Some("integer") => 0.into(),
        Some("boolean") => false.into(),
        Some("array") => Value::Array(Vec::new()),
        _ => {
            let required = schema["required"].as_array().into_iter().flatten();
            let fields = required.filter_map(Value::as_str);
            Value::Object(
                fields
                    .map(|f| (f.to_owned(), filler(&schema["properties"][f])))
                    .collect(),
            )
        }
    }
}
