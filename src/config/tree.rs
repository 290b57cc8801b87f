//! YAML text as a tree whose every key and value knows its place. Refuses what would surprise readers; must not know the schema.

use std::{borrow::Cow, collections::HashMap};

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle};

use super::{
    problem::{Path, Problem, Span, Step, lines_of, shown},
    scalar::{self, Plain},
    syntax,
};

/// Largest document in bytes; the cluster's own store takes little more in one object.
pub const MAX_BYTES: usize = 512 << 10;
/// Deepest nesting.
const MAX_DEPTH: usize = 48;

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: NodeKind,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    /// Text; plain text may mean a number, a boolean or nothing.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A map without duplicates.
    Map(Vec<Entry>),
    /// Something that was already reported.
    Broken,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
}

impl Node {
    /// No value, or an explicit null.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.kind, NodeKind::Scalar { text, plain: true } if scalar::plain(text) == Plain::Null)
    }

    /// The place of a path: of its value, or of its key; if it is not in the file, of what contains it.
    pub(super) fn locate(&self, path: &Path, at_key: bool) -> Span {
        let mut node = self;
        let mut key = self.span;
        for step in path.steps() {
            let next = match (&node.kind, step) {
                (NodeKind::Map(entries), Step::Key(k)) => {
                    entries.iter().find(|e| e.key == *k).map(|e| {
                        key = e.key_span;
                        &e.value
                    })
                }
                (NodeKind::List(items), Step::Index(i)) => {
                    items.get(*i).inspect(|item| key = item.span)
                }
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return key,
            }
        }
        match node.kind {
            NodeKind::Scalar { .. } if !at_key && node.span.len > 0 => node.span,
            _ => key,
        }
    }
}

/// Reads the text. `Err` when no tree can be made; else the tree and what was wrong beside it.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Problem>), Box<Problem>> {
    let root = |what: String, fix: &str| Box::new(Problem::new(Path::default(), what, fix));
    if text.len() > MAX_BYTES {
        return Err(root(
            format!("the file is larger than {} KiB", MAX_BYTES >> 10),
            "give the document of one management cluster",
        ));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        problems: Vec::new(),
        stack: Vec::new(),
        root: None,
        documents: 0,
    };
    let mut options = granit_parser::options! { disallow_directives: true, emit_unresolved_aliases: true, emit_anchor_events: true };
    options.set_emit_comments(false);
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => builder.event(event, span)?,
            Err(e) => return Err(Box::new(syntax::problem(&e, text))),
        }
    }
    match builder.root {
        Some(node) if !node.is_nothing() => Ok((node, builder.problems)),
        _ => {
            let what = if lines_of(text).all(|l| l.trim().is_empty()) {
                "the file is empty"
            } else {
                "the file has no content"
            };
            Err(root(
                what.into(),
                "write one with `mctl config init --name NAME`",
            ))
        }
    }
}

/// An open list or map.
struct Frame {
    node: Node,
    path: Path,
    /// Line of the first use of every key.
    keys: HashMap<String, usize>,
    /// The key whose value comes next; `None`: a key comes next. Keys that were refused have no text.
    key: Option<(Option<String>, Span)>,
    /// Something stood in place of a key.
    broken: bool,
}

struct Builder {
    problems: Vec<Problem>,
    stack: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: granit_parser::Span) -> Result<(), Box<Problem>> {
        let at = place(span.start, span.end);
        let tagged = match &event {
            Event::Scalar(_, _, _, tag)
            | Event::SequenceStart(_, _, tag)
            | Event::MappingStart(_, _, tag) => tag.is_some(),
            _ => false,
        };
        if tagged {
            self.report(
                span.tag_span().map_or(at, |t| place(t.start, t.end)),
                "YAML tags (`!…`) are not used here",
                "remove the tag; put text in quotes",
            );
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Box::new(
                        Problem::new(
                            Path::default(),
                            "a second document begins here",
                            "keep one document in a file",
                        )
                        .at(at),
                    ));
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.report(
                    at,
                    "YAML aliases (`*…`) are not used here",
                    "write the value itself",
                );
                self.value(at, NodeKind::Broken);
            }
            Event::Anchor(..) => self.report(
                at,
                "YAML anchors (`&…`) are not used here",
                "remove the anchor and write the value where it is needed",
            ),
            Event::Scalar(..) if tagged && !self.awaits_key() => self.value(at, NodeKind::Broken),
            Event::Scalar(text, style, ..) => self.scalar(text, style, at),
            Event::SequenceStart(..) => self.open(at, NodeKind::List(Vec::new()))?,
            Event::MappingStart(..) => self.open(at, NodeKind::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.stack.pop() {
                    let kind = if frame.broken {
                        NodeKind::Broken
                    } else {
                        frame.node.kind
                    };
                    self.value(frame.node.span, kind);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, at: Span) {
        let plain = style == ScalarStyle::Plain;
        if self.awaits_key() {
            self.key(text.into_owned(), plain, at);
        } else {
            let text = text.into_owned();
            self.value(at, NodeKind::Scalar { text, plain });
        }
    }

    /// The next node is the key of a map.
    fn awaits_key(&self) -> bool {
        self.stack
            .last()
            .is_some_and(|f| matches!(f.node.kind, NodeKind::Map(_)) && f.key.is_none())
    }

    fn key(&mut self, text: String, plain: bool, at: Span) {
        let trouble = match scalar::plain(&text) {
            _ if !plain => None,
            _ if text == "<<" => Some((
                "YAML merge keys (`<<`) are not used here".to_owned(),
                "write the fields themselves".to_owned(),
            )),
            Plain::Text | Plain::Int(_) => None,
            Plain::Null => Some((
                "a field has no name".to_owned(),
                "write `name: value`".to_owned(),
            )),
            Plain::Bool(_) | Plain::Float(_) | Plain::Unclear(_) => Some((
                format!("the key {} is not clearly text", shown(&text)),
                format!("put it in quotes: `\"{text}\"`"),
            )),
        };
        let usable = trouble.is_none();
        if let Some((what, fix)) = trouble {
            self.report(at, &what, &fix);
        }
        let Some(frame) = self.stack.last_mut() else {
            return;
        };
        if !usable {
            frame.key = Some((None, at));
            return;
        }
        if let Some(first) = frame.keys.get(&text) {
            let problem = Problem::new(
                frame.path.key(&text),
                format!("{} is given twice", shown(&text)),
                format!("keep one of them; the first is in line {first}"),
            )
            .at(at);
            self.problems.push(problem);
            frame.key = Some((None, at));
            return;
        }
        frame.keys.insert(text.clone(), at.line);
        frame.key = Some((Some(text), at));
    }

    fn open(&mut self, at: Span, kind: NodeKind) -> Result<(), Box<Problem>> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Box::new(
                Problem::new(
                    Path::default(),
                    format!("nested deeper than {MAX_DEPTH} levels"),
                    "use fewer levels",
                )
                .at(at),
            ));
        }
        if self.awaits_key() {
            // The value of this node will be dropped; see `value`.
            self.report(
                at,
                "a list or map cannot be the name of a field",
                "write `name: value`; put templates (`{{ … }}`) in quotes",
            );
        }
        self.stack.push(Frame {
            path: self.path(),
            node: Node { span: at, kind },
            keys: HashMap::new(),
            key: None,
            broken: false,
        });
        Ok(())
    }

    fn value(&mut self, mut span: Span, kind: NodeKind) {
        if span.len == 0 && matches!(kind, NodeKind::Scalar { .. }) {
            // Nothing stands there: point to the `-` or `:` before it.
            span.column = span.column.saturating_sub(1).max(1);
        }
        let node = Node { span, kind };
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut frame.node.kind {
            NodeKind::List(items) => items.push(node),
            NodeKind::Map(entries) => match frame.key.take() {
                Some((Some(key), key_span)) => entries.push(Entry {
                    key,
                    key_span,
                    value: node,
                }),
                Some((None, _)) => {}
                // A list, map or alias in place of a key; it was reported.
                None => {
                    frame.key = Some((None, span));
                    frame.broken = true;
                }
            },
            _ => {}
        }
    }

    /// Path of the value that comes next.
    fn path(&self) -> Path {
        let Some(frame) = self.stack.last() else {
            return Path::default();
        };
        match (&frame.node.kind, &frame.key) {
            (NodeKind::List(items), _) => frame.path.index(items.len()),
            (_, Some((Some(key), _))) => frame.path.key(key),
            _ => frame.path.clone(),
        }
    }

    fn report(&mut self, at: Span, what: &str, fix: &str) {
        let problem = Problem::new(self.path(), what, fix).at(at);
        self.problems.push(problem);
    }
}

fn place(start: Marker, end: Marker) -> Span {
    Span {
        line: start.line(),
        column: start.col() + 1,
        len: if end.line() == start.line() {
            end.col().saturating_sub(start.col())
        } else {
            1
        },
    }
}
