//! Syntax errors of YAML in the words of people who write it, at the place where the mistake was made. Must not parse.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::problem::{Path, Problem, Span, lines_of};

/// The problem behind a parser's error.
pub(super) fn problem(error: &ScanError, text: &str) -> Problem {
    let lines: Vec<&str> = lines_of(text).collect();
    let mut span = Span {
        line: error.marker().line(),
        column: error.marker().col() + 1,
        len: 1,
    };
    if let Some(tab) = indenting_tab(&lines, span.line) {
        return Problem::new(
            Path::default(),
            "a tab is used for indentation",
            "use spaces; YAML does not allow tabs there",
        )
        .at(tab);
    }
    let (what, fix) = say(error.kind());
    if matches!(error.kind(), ErrorKind::UnknownQuotedScalarEscape)
        && let Some(line) = lines.get(span.line - 1)
    {
        span.column = unknown_escape(line, span.column).unwrap_or(span.column);
    }
    // Errors at the end of the text are shown at its last character.
    if lines.get(span.line - 1).is_none_or(|l| l.trim().is_empty())
        && let Some((n, line)) = lines
            .iter()
            .enumerate()
            .take(span.line)
            .rev()
            .find(|(_, l)| !l.trim().is_empty())
    {
        span.line = n + 1;
        span.column = line.trim_end().chars().count().max(1);
    }
    Problem::new(Path::default(), what, fix).at(span)
}

/// A tab in the indentation of the line of the error or of the one before.
fn indenting_tab(lines: &[&str], line: usize) -> Option<Span> {
    [line, line.saturating_sub(1)].into_iter().find_map(|n| {
        let text = lines.get(n.checked_sub(1)?)?;
        let indent = text.len() - text.trim_start_matches([' ', '\t']).len();
        let tab = text[..indent].find('\t')?;
        Some(Span {
            line: n,
            column: tab + 1,
            len: 1,
        })
    })
}

/// Column of the first unknown escape at or behind a column; the parser tells where the quote began.
fn unknown_escape(line: &str, from: usize) -> Option<usize> {
    let mut chars = (1..).zip(line.chars()).skip(from - 1);
    while let Some((column, c)) = chars.next() {
        let known = |e: char| "0abt\tnvfe \"/\\N_LPxuU".contains(e);
        if c == '\\' && !chars.next().is_some_and(|(_, e)| known(e)) {
            return Some(column);
        }
    }
    None
}

/// What is wrong and what to do, for the mistakes people make; the parser's own words for the rest.
fn say(kind: &ErrorKind) -> (String, &'static str) {
    let (what, fix) = match kind {
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => (
            "a quote is not closed",
            "close the quote at the end of the value",
        ),
        ErrorKind::UnclosedFlowCollection { open: '[' }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::ExpectedFlowSequenceSeparator => (
            "a list in `[…]` is not closed, or a comma is missing in it",
            "separate its items by commas and close it with `]`",
        ),
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator => (
            "a map in `{…}` is not closed, or a comma is missing in it",
            "separate its fields by commas and close it with `}`; put templates (`{{ … }}`) in quotes",
        ),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            return (
                format!("`{open}` is closed by `{close}`"),
                "close `[` with `]` and `{` with `}`",
            );
        }
        ErrorKind::MisplacedFlowCollectionEnd => (
            "there is nothing that this bracket closes",
            "remove it, or put the value in quotes",
        ),
        ErrorKind::MissingAnchorOrAliasName => (
            "a value cannot begin with `*` or `&`",
            "put the value in quotes: `\"*\"`",
        ),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => (
            "a `:` stands where no field can begin",
            "put values with `: ` in quotes, or check the indentation of this line",
        ),
        ErrorKind::MappingKeyNotAllowed => (
            "a field cannot begin here",
            "check the indentation of this line",
        ),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => (
            "expected `name: value`; there is no `:` with a space after it",
            "write a `:` and a space after the name",
        ),
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation
        | ErrorKind::BlockSequenceEntryNotAllowed => (
            "the line does not fit to the ones above it",
            "give fields and items of one level the same indentation",
        ),
        ErrorKind::BlockEntryInFlowCollection => (
            "`- ` is not used inside `[…]`",
            "separate the items by commas",
        ),
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => {
            ("a tab is used where YAML allows spaces only", "use spaces")
        }
        ErrorKind::UnknownQuotedScalarEscape => (
            "unknown escape in a double-quoted text",
            "write `\\\\` for a backslash, or use single quotes",
        ),
        ErrorKind::InvalidTrailingSingleQuotedScalar
        | ErrorKind::InvalidTrailingDoubleQuotedScalar => (
            "text follows the closing quote",
            "put all of the value inside the quotes",
        ),
        ErrorKind::UnexpectedCharacter { character } => {
            return (
                format!("a value cannot begin with `{}`", character.escape_default()),
                "put the value in quotes",
            );
        }
        ErrorKind::DirectiveDisallowed => (
            "YAML directives (`%…`) are not used here",
            "remove the line",
        ),
        ErrorKind::RecursionLimitExceeded => ("nested too deeply", "use fewer levels"),
        ErrorKind::BomInsideDocument => (
            "a byte-order mark stands inside the text",
            "remove it; save the file as UTF-8 without it",
        ),
        other => {
            return (
                format!("not valid YAML: {other}"),
                "correct the YAML of this line",
            );
        }
    };
    (what.to_owned(), fix)
}
