//! The one place that writes to standard output and error. Says what became of it; must not end the process.

use std::io::{ErrorKind, Write};

use crate::{Error, Kind, Result};

/// Writes a line of data to standard output.
pub fn out(line: &str) -> Result<()> {
    out_raw(&format!("{line}\n"))
}

/// Writes text as it is to standard output; an error when it did not arrive there.
pub fn out_raw(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    // What stays in the buffer would be lost without a word.
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes a message to standard error. Where that is closed or full there is nobody to tell.
pub fn err(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Shows a question and reads the answer; an error where it cannot be shown, because nobody can answer it then.
pub fn ask(question: &str) -> Result<String> {
    let mut error = std::io::stderr();
    let mut answer = String::new();
    write!(error, "{question} ")
        .and_then(|()| error.flush())
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|e| {
            Error::new(Kind::Usage, "the question cannot be asked")
                .at("the terminal")
                .because(&e)
                .fix("answer it on the command line: see --help")
                .state("nothing was changed")
        })?;
    Ok(answer.trim().to_owned())
}

/// A reader that went away is an error of its own kind: what it did not get cannot be called a success, and nobody has to be told.
fn written(result: std::io::Result<()>) -> Result<()> {
    result.map_err(|e| {
        let closed = e.kind() == ErrorKind::BrokenPipe;
        let kind = if closed { Kind::Closed } else { Kind::Failed };
        Error::new(kind, "the result could not be written")
            .at("standard output")
            .because(&e)
            .fix("make room there, or send the output elsewhere")
            .state("what was printed is not complete")
    })
}

/// Text from elsewhere without control characters, cut to a length; safe to show on a terminal.
pub fn clean(text: &str, limit: usize) -> String {
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limit + 1)
        .collect();
    if clean.chars().count() > limit {
        clean = clean.chars().take(limit.saturating_sub(1)).collect();
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_text_cannot_move_the_cursor() {
        assert_eq!(clean("a\x1b[2Jb\n", 10), "a [2Jb ");
        assert_eq!(clean("abcdef", 4), "abc…");
    }

    #[test]
    fn what_is_not_written_is_an_error() {
        let kind = |kind: ErrorKind| written(Err(kind.into())).unwrap_err().kind();
        assert_eq!(kind(ErrorKind::BrokenPipe), Kind::Closed);
        assert_eq!(kind(ErrorKind::StorageFull), Kind::Failed);
        written(Ok(())).unwrap();
    }
}
