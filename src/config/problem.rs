//! What is wrong with a document: where, what, how to mend it, and how that is shown. Must not find problems.

use std::{
    collections::HashSet,
    fmt::{self, Write as _},
};

use unicode_width::UnicodeWidthStr;

use crate::error::{Error, Kind};

/// Problems that are written out; the rest are counted.
const SHOWN: usize = 50;
/// Columns of a source line that are shown.
const WIDTH: usize = 100;

/// Place in the document, such as `spec.nodePools[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// The path from a list of keys without indices, `spec.network.podCidr`.
    pub(super) fn of(keys: &str) -> Self {
        Self(
            keys.split('.')
                .map(|k| Step::Key(k.to_owned()))
                .collect::<Vec<_>>(),
        )
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// True if one of these places is this path or above it.
    pub(super) fn within(&self, places: &HashSet<Self>) -> bool {
        (0..=self.0.len()).any(|n| places.contains(&Self(self.0[..n].to_vec())))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the document");
        }
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(i) => write!(f, "[{i}]")?,
                Step::Key(k)
                    if k.chars()
                        .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
                        && !k.is_empty() =>
                {
                    let dot = if n == 0 { "" } else { "." };
                    write!(f, "{dot}{k}")?;
                }
                Step::Key(k) => write!(f, "[{}]", shown(k))?,
            }
        }
        Ok(())
    }
}

/// Part of one line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters.
    pub len: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Where in the document.
    pub path: Path,
    /// Where in the file, if it was read from one.
    pub span: Option<Span>,
    /// What is wrong, in one sentence without the path.
    pub what: String,
    /// What to do about it.
    pub fix: String,
    /// Other places the finding depends on; it says nothing when one of them is itself broken.
    pub(super) depends: Vec<Path>,
    /// The key is meant, not its value.
    pub(super) at_key: bool,
}

impl Problem {
    pub(super) fn new(path: Path, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            path,
            span: None,
            what: what.into(),
            fix: fix.into(),
            depends: Vec::new(),
            at_key: false,
        }
    }

    pub(super) fn at(mut self, span: Span) -> Self {
        self.span = Some(Span {
            len: span.len.max(1),
            ..span
        });
        self
    }

    pub(super) fn at_key(mut self) -> Self {
        self.at_key = true;
        self
    }

    pub(super) fn depends(mut self, on: Path) -> Self {
        self.depends.push(on);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.what, self.fix)
    }
}

/// All problems of one file, in the order of the file.
#[derive(Clone, Debug)]
pub struct Problems {
    file: String,
    /// Source lines that are needed to show the problems, by number.
    lines: Vec<(usize, String)>,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|p| p.span.map(|s| (s.line, s.column)));
        let mut wanted: Vec<usize> = list
            .iter()
            .take(SHOWN)
            .filter_map(|p| Some(p.span?.line))
            .collect();
        wanted.dedup();
        let mut wanted = wanted.into_iter().peekable();
        let mut lines = Vec::new();
        let mut all = (1..).zip(lines_of(text));
        while wanted.peek().is_some()
            && let Some((n, line)) = all.next()
        {
            if wanted.next_if_eq(&n).is_some() {
                lines.push((n, line.to_owned()));
            }
        }
        Self {
            file: file.to_owned(),
            lines,
            list,
        }
    }

    /// The problems.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// One sentence for all.
    pub fn summary(&self) -> String {
        match self.list.len() {
            1 => format!("{} has a problem", self.file),
            n => format!("{} has {n} problems", self.file),
        }
    }

    fn source(&self, line: usize) -> Option<&str> {
        let found = self.lines.binary_search_by_key(&line, |(n, _)| *n).ok()?;
        Some(&self.lines.get(found)?.1)
    }

    fn render(&self, problem: &Problem, out: &mut String) -> fmt::Result {
        writeln!(out, "{}: {}", problem.path, problem.what)?;
        if let Some(span) = problem.span {
            let gutter = span.line.to_string().len();
            writeln!(
                out,
                "{:gutter$}--> {}:{}:{}",
                "", self.file, span.line, span.column
            )?;
            if let Some(source) = self.source(span.line) {
                let (text, offset, width) = window(source, span);
                writeln!(out, "{:gutter$} |", "")?;
                writeln!(out, "{} | {text}", span.line)?;
                writeln!(out, "{:gutter$} | {:offset$}{:^<width$}", "", "", "")?;
            }
        }
        writeln!(out, "  = fix: {}", problem.fix)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        for (n, problem) in self.list.iter().take(SHOWN).enumerate() {
            if n > 0 {
                out.push('\n');
            }
            self.render(problem, &mut out)?;
        }
        if self.list.len() > SHOWN {
            writeln!(out, "\nand {} more", self.list.len() - SHOWN)?;
        }
        f.write_str(out.trim_end())
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        let mut error = Error::new(Kind::Usage, problems.summary()).detail(problems.to_string());
        for p in problems.list.iter().take(SHOWN) {
            error = error.because(match p.span {
                Some(s) => format!("line {}: {p}", s.line),
                None => p.to_string(),
            });
        }
        error
            .state("nothing was changed")
            .fix("correct the file and run the same command again")
    }
}

/// Lines as YAML counts them: ended by `\n`, `\r\n` or `\r`.
pub(super) fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let now = rest?;
        let Some(end) = now.find(['\n', '\r']) else {
            rest = None;
            return Some(now);
        };
        let skip = if now[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&now[end + skip..]);
        Some(&now[..end])
    })
}

/// The part of a source line around the span that fits on a screen, with the offset and width of the mark below it in columns.
fn window(source: &str, span: Span) -> (String, usize, usize) {
    let masked = mask(source);
    let chars: Vec<char> = masked.chars().map(harmless).collect();
    let start = (span.column - 1).min(chars.len());
    let end = (start + span.len.max(1)).min(chars.len().max(start));
    // Long lines: begin a little before the mark.
    let from = if chars.len() <= WIDTH {
        0
    } else {
        start.saturating_sub(WIDTH / 4)
    };
    let to = chars.len().min(from + WIDTH);
    let width = |range: std::ops::Range<usize>| {
        let range = range.start.min(to)..range.end.min(to);
        let text: String = chars[range].iter().collect();
        text.width()
    };
    let (head, tail) = (
        if from > 0 { "…" } else { "" },
        if to < chars.len() { "…" } else { "" },
    );
    let text: String = chars[from..to].iter().collect();
    let text = format!("{head}{text}{tail}").trim_end().to_owned();
    (
        text,
        head.width() + width(from..start),
        width(start..end).max(1),
    )
}

/// Nothing in a file may steer the terminal.
fn harmless(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        // Marks that turn the direction of text can make it look different from what it is.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '\u{fffd}',
        '\u{feff}' | '\u{2028}' | '\u{2029}' => '\u{fffd}',
        c => c,
    }
}

/// Hides the credentials of addresses, character by character so that columns stay.
fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let authority = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\''))
            .unwrap_or(after.len());
        let (host, tail) = after.split_at(authority);
        match host.rfind('@') {
            Some(at) if host[..at].contains(':') => {
                out.extend(host[..at].chars().map(|_| '*'));
                out.push_str(&host[at..]);
            }
            _ => out.push_str(host),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// A value of the document as messages show it: in back quotes, short, harmless, without credentials.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let masked = mask(text);
    let mut out: String = masked
        .chars()
        .map(|c| if c == '\n' { '⏎' } else { harmless(c) })
        .take(MOST)
        .collect();
    if masked.chars().count() > MOST {
        out.push('…');
    }
    format!("`{out}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_people_write_them() {
        let path = Path::of("spec.nodePools")
            .index(0)
            .key("labels")
            .key("a.b/c");
        assert_eq!(path.to_string(), "spec.nodePools[0].labels[`a.b/c`]");
        let places = HashSet::from([Path::of("spec.nodePools")]);
        assert!(path.within(&places) && Path::of("spec.nodePools").within(&places));
        assert!(!Path::of("spec.node").within(&places) && !Path::of("spec").within(&places));
    }

    #[test]
    fn lines_end_as_in_yaml() {
        let lines: Vec<&str> = lines_of("a\r\nb\rc\n\nd").collect();
        assert_eq!(lines, ["a", "b", "c", "", "d"]);
    }

    #[test]
    fn credentials_and_control_characters_are_not_shown() {
        assert_eq!(
            mask("url: https://me:secret@host/x y://a@b c://d:e@f"),
            "url: https://*********@host/x y://a@b c://***@f"
        );
        assert_eq!(shown("a\u{1b}[31mb"), "`a\u{fffd}[31mb`");
        assert_eq!(shown(&"x".repeat(99)), format!("`{}…`", "x".repeat(60)));
    }

    #[test]
    fn the_mark_stays_below_the_text_in_long_and_wide_lines() {
        let line = format!("{}: bad", "長".repeat(90));
        let span = Span {
            line: 1,
            column: 93,
            len: 3,
        };
        assert_eq!(window(&line, span), (line.clone(), 182, 3));
        let line = format!("a: [{}]", "1, ".repeat(1_000));
        let span = Span {
            line: 1,
            column: 2_000,
            len: 1,
        };
        let (text, offset, width) = window(&line, span);
        assert!(text.starts_with('…') && text.ends_with('…') && text.chars().count() <= 102);
        assert_eq!((offset, width), (26, 1));
    }
}
