//! The one place that writes to standard output and error. A closed pipe is a quiet end, not a failure.

use std::io::{ErrorKind, Write};

/// Writes a line of data to standard output.
pub fn out(line: &str) {
    finish(writeln!(std::io::stdout(), "{line}"));
}

/// Writes text as it is to standard output.
pub fn out_raw(text: &str) {
    finish(write!(std::io::stdout(), "{text}"));
}

/// Writes a message to standard error.
pub fn err(line: &str) {
    finish(writeln!(std::io::stderr(), "{line}"));
}

fn finish(result: std::io::Result<()>) {
    if let Err(e) = result
        && e.kind() == ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
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
    #[test]
    fn remote_text_cannot_move_the_cursor() {
        assert_eq!(super::clean("a\x1b[2Jb\n", 10), "a [2Jb ");
        assert_eq!(super::clean("abcdef", 4), "abc…");
    }
}
