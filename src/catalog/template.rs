//! Templates rendered as data: YAML is parsed first, then string leaves are rendered, so a value can never break the document. Must not read files.
//!
//! Rules, for `values.yaml`, `own:` manifests, `patches:` and provider templates:
//! - A string leaf with `{{ … }}` or `{% … %}` is rendered by minijinja; map keys too. Anything else stays as it is.
//! - A leaf that is exactly one `{{ expression }}` becomes the expression's value with its type (number, list, map …).
//!   Quote it: `replicas: "{{ values.replicas }}"`.
//! - `$if: expression` in a map: false drops the map (from its list, from its parent map, or as a document).
//! - `$each: {in: expression, as: name}` in a map repeats it as items of the list (or as documents) with `name` set and
//!   `name_index` counting from 0. A list of such maps nests, first outermost. `$if` is asked for every item.
//! - `$value: anything` in a map replaces the map; with `$if` or `$each` this makes conditional or repeated scalars.
//! - An undefined name is an error; `x is defined` and `x | default(y)` are allowed.
//! - Literal braces: `{% raw %}…{% endraw %}`, or name the whole file with `raw:` instead of `own:`.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior, value::Value as Expression};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, Kind, Result};

const IF: &str = "$if";
const EACH: &str = "$each";
const VALUE: &str = "$value";

/// A set of names and functions that templates may use.
#[derive(Debug)]
pub struct Templates {
    engine: Environment<'static>,
    names: Expression,
}

impl Templates {
    /// Templates that see the fields of `names`.
    pub fn new(names: impl Serialize) -> Self {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_keep_trailing_newline(true);
        engine.set_trim_blocks(true);
        engine.set_lstrip_blocks(true);
        engine.add_filter("to_json", to_json);
        engine.add_filter("base64", |s: &str| {
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, s)
        });
        Self {
            engine,
            names: Expression::from_serialize(names),
        }
    }

    /// Adds a function of one string argument.
    pub fn add_function<R: Into<Expression>>(
        &mut self,
        name: &'static str,
        function: impl Fn(&str) -> std::result::Result<R, String> + Send + Sync + 'static,
    ) {
        self.engine.add_function(
            name,
            move |argument: &str| -> std::result::Result<Expression, minijinja::Error> {
                function(argument)
                    .map(Into::into)
                    .map_err(|e| minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, e))
            },
        );
    }

    /// Renders documents; `$if` may drop and `$each` may repeat them. `place` names the file in errors.
    pub fn documents(&self, place: &str, documents: Vec<Value>) -> Result<Vec<Value>> {
        let mut all = Vec::with_capacity(documents.len());
        for (n, document) in documents.into_iter().enumerate() {
            let mut at = At::new(place, n);
            all.extend(self.item(document, &self.names, &mut at)?);
        }
        Ok(all)
    }

    /// Renders one value; `None` when its own `$if` drops it.
    pub fn value(&self, place: &str, value: Value) -> Result<Option<Value>> {
        self.single(value, &self.names, &mut At::new(place, 0))
    }

    /// Evaluates a condition.
    pub fn condition(&self, place: &str, expression: &str) -> Result<bool> {
        self.truth(expression, &self.names, &At::new(place, 0))
    }

    /// What a list item (or document) becomes: nothing, itself, or many.
    fn item(&self, value: Value, names: &Expression, at: &mut At) -> Result<Vec<Value>> {
        let Value::Object(mut map) = value else {
            return Ok(vec![self.plain(value, names, at)?]);
        };
        let Some(each) = map.shift_remove(EACH) else {
            return Ok(self
                .single(Value::Object(map), names, at)?
                .into_iter()
                .collect());
        };
        let mut all = Vec::new();
        let loops = self.loops(each, at)?;
        self.repeat(&loops, &map, names, at, &mut all)?;
        Ok(all)
    }

    fn loops(&self, each: Value, at: &At) -> Result<Vec<(String, String)>> {
        let list = match each {
            Value::Array(list) => list,
            one => vec![one],
        };
        list.into_iter()
            .map(|one| {
                let text = |key: &str| one.get(key).and_then(Value::as_str).map(str::to_owned);
                match (text("in"), text("as"), one.as_object().map(Map::len)) {
                    (Some(list), Some(name), Some(2)) => Ok((list, name)),
                    _ => Err(at.error("$each wants {in: expression, as: name}")),
                }
            })
            .collect()
    }

    fn repeat(
        &self,
        loops: &[(String, String)],
        body: &Map<String, Value>,
        names: &Expression,
        at: &mut At,
        all: &mut Vec<Value>,
    ) -> Result<()> {
        let Some(((list, name), inner)) = loops.split_first() else {
            all.extend(self.single(Value::Object(body.clone()), names, at)?);
            return Ok(());
        };
        let items = self.evaluate(list, names, at)?;
        let items = items
            .try_iter()
            .map_err(|e| at.error(format!("$each in `{list}`")).because(&e))?;
        for (index, item) in items.enumerate() {
            let own = BTreeMap::from([
                (name.clone(), item),
                (format!("{name}_index"), Expression::from(index)),
            ]);
            let scope = minijinja::value::merge_maps([names.clone(), Expression::from(own)]);
            self.repeat(inner, body, &scope, at, all)?;
        }
        Ok(())
    }

    /// What the value of a map's key becomes; `None` drops the key.
    fn single(&self, value: Value, names: &Expression, at: &mut At) -> Result<Option<Value>> {
        let Value::Object(mut map) = value else {
            return self.plain(value, names, at).map(Some);
        };
        if map.contains_key(EACH) {
            return Err(at.error("$each is only for items of a list and for documents"));
        }
        if let Some(condition) = map.shift_remove(IF) {
            let keep = match &condition {
                Value::String(expression) => self.truth(expression, names, at)?,
                Value::Bool(b) => *b,
                _ => return Err(at.error("$if wants an expression")),
            };
            if !keep {
                return Ok(None);
            }
        }
        if let Some(value) = map.shift_remove(VALUE) {
            if !map.is_empty() {
                return Err(at.error("$value stands alone or with $if and $each"));
            }
            return self.plain(value, names, at).map(Some);
        }
        self.plain(Value::Object(map), names, at).map(Some)
    }

    fn plain(&self, value: Value, names: &Expression, at: &mut At) -> Result<Value> {
        Ok(match value {
            Value::String(s) => self.leaf(s, names, at)?,
            Value::Array(list) => {
                let mut all = Vec::with_capacity(list.len());
                for (n, item) in list.into_iter().enumerate() {
                    at.enter(format!("[{n}]"));
                    all.extend(self.item(item, names, at)?);
                    at.leave();
                }
                Value::Array(all)
            }
            Value::Object(map) => {
                let mut all = Map::with_capacity(map.len());
                for (key, value) in map {
                    at.enter(format!(".{key}"));
                    if let Some(value) = self.single(value, names, at)? {
                        let key = match self.leaf(key, names, at)? {
                            Value::String(key) => key,
                            other => other.to_string(),
                        };
                        all.insert(key, value);
                    }
                    at.leave();
                }
                Value::Object(all)
            }
            other => other,
        })
    }

    fn leaf(&self, text: String, names: &Expression, at: &At) -> Result<Value> {
        if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
            return Ok(Value::String(text));
        }
        if let Some(expression) = lone_expression(&text) {
            let value = self.evaluate(expression, names, at)?;
            return serde_json::to_value(&value)
                .map_err(|e| at.error(format!("`{text}` is not data")).because(&e));
        }
        self.engine
            .render_str(&text, names)
            .map(Value::String)
            .map_err(|e| at.error(format!("cannot render `{text}`")).because(&e))
    }

    fn truth(&self, expression: &str, names: &Expression, at: &At) -> Result<bool> {
        Ok(self.evaluate(expression, names, at)?.is_true())
    }

    fn evaluate(&self, expression: &str, names: &Expression, at: &At) -> Result<Expression> {
        let value = self
            .engine
            .compile_expression(expression)
            .and_then(|e| e.eval(names))
            .map_err(|e| {
                at.error(format!("cannot evaluate `{expression}`"))
                    .because(&e)
            })?;
        if value.is_undefined() {
            return Err(at.error(format!("`{expression}` is undefined")));
        }
        Ok(value)
    }
}

/// RFC 7386: `over` wins, `null` removes.
pub fn merge(base: &mut Value, over: &Value) {
    let Value::Object(over) = over else {
        *base = over.clone();
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    if let Value::Object(base) = base {
        for (key, value) in over {
            if value.is_null() {
                base.shift_remove(key);
            } else {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

fn lone_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let lone = !inner.contains("{{") && !inner.contains("}}") && !inner.starts_with('-');
    lone.then(|| inner.trim())
}

fn to_json(value: &Expression) -> std::result::Result<String, minijinja::Error> {
    serde_json::to_string(value)
        .map_err(|e| minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, e.to_string()))
}

/// Where in a file rendering is.
struct At {
    place: String,
    path: Vec<String>,
}

impl At {
    fn new(place: &str, document: usize) -> Self {
        Self {
            place: if document == 0 {
                place.to_owned()
            } else {
                format!("{place}, document {}", document + 1)
            },
            path: Vec::new(),
        }
    }

    fn enter(&mut self, part: String) {
        self.path.push(part);
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn error(&self, what: impl Into<String>) -> Error {
        let path = self.path.concat();
        let place = match path.trim_start_matches('.') {
            "" => self.place.clone(),
            path => format!("{} at {path}", self.place),
        };
        Error::new(Kind::Failed, what).at(place)
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
