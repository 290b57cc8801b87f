//! The one error type: what happened, where, why, what to do next and what state things are in. Must not print or decide control flow.

use std::fmt;

/// Result with mctl's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error means to the caller; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something failed while working; running the same command again goes on.
    Failed,
    /// The command line or the document is wrong; nothing was changed.
    Usage,
    /// A check of the host or the surroundings failed; nothing was changed.
    Preflight,
    /// Credentials were refused.
    Authentication,
    /// Nothing moved within a stall limit; resumable.
    Stalled,
    /// Another run holds the lock.
    Locked,
    /// A comparison found differences.
    Differs,
    /// Stopped by the user; resumable.
    Interrupted,
    /// The reader of standard output went away.
    Closed,
    /// A bug in mctl.
    Internal,
}

impl Kind {
    /// All of them, by exit code.
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::Usage,
        Self::Preflight,
        Self::Authentication,
        Self::Stalled,
        Self::Locked,
        Self::Differs,
        Self::Interrupted,
        Self::Internal,
        Self::Closed,
    ];

    /// In a few words, for the list of exit codes.
    pub fn says(self) -> &'static str {
        match self {
            Self::Failed => "failed while working; the same command again goes on",
            Self::Usage => "command line or document are wrong; nothing was changed",
            Self::Preflight => "a check of host, engine or bundle failed; nothing was changed",
            Self::Authentication => "credentials were refused",
            Self::Stalled => "nothing moved within the limit; the same command again goes on",
            Self::Locked => "another run is at work",
            Self::Differs => "what was compared is not the same",
            Self::Interrupted => "stopped on request; the same command again goes on",
            Self::Internal => "a mistake in mctl",
            Self::Closed => "the reader of standard output went away: what it got is not complete",
        }
    }

    /// Exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Preflight => 3,
            Self::Authentication => 4,
            Self::Stalled => 5,
            Self::Locked => 6,
            Self::Differs => 7,
            Self::Interrupted => 8,
            Self::Internal => 70,
            // What shells report of a program that SIGPIPE ended.
            Self::Closed => 141,
        }
    }

    /// What it means, for an error that knows no cause.
    fn meaning(self) -> &'static str {
        match self {
            Self::Failed => "it failed while working, and nothing more is known",
            Self::Usage => "the command line, or a file named there, is not as it should be",
            Self::Preflight => "a check of this host or its surroundings failed",
            Self::Authentication => "the credentials were refused",
            Self::Stalled => "nothing moved within the limit",
            Self::Locked => "another run is at work",
            Self::Differs => "what was compared is not the same",
            Self::Interrupted => "it was asked to stop",
            Self::Closed => "the reader went away",
            Self::Internal => "this is a mistake in mctl",
        }
    }
}

/// A diagnostic. Never put a secret into any field.
#[derive(Debug)]
pub struct Error(Box<Diagnostic>);

#[derive(Debug)]
struct Diagnostic {
    kind: Kind,
    what: String,
    place: Option<String>,
    causes: Vec<String>,
    fixes: Vec<String>,
    state: Option<String>,
    detail: Option<String>,
    passing: bool,
}

impl Error {
    /// An error of this kind; `what` is one sentence in the user's words that names the object.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Diagnostic {
            kind,
            what: what.into(),
            place: None,
            causes: Vec::new(),
            fixes: Vec::new(),
            state: None,
            detail: None,
            passing: false,
        }))
    }

    /// Short for [`Kind::Failed`].
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// Where it happened: file and line, or cluster and object.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.place = Some(place.into());
        self
    }

    /// Adds a cause; with a source error, its whole chain.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.0.causes.extend(cause.into().0);
        self
    }

    /// What to do next; a command ready to paste where there is one.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fixes.push(fix.into());
        self
    }

    /// What state things are in: nothing changed, safe to run again, what is left.
    #[must_use]
    pub fn state(mut self, state: impl Into<String>) -> Self {
        self.0.state = Some(state.into());
        self
    }

    /// A text of several lines, shown as it is in place of the causes: findings with their source lines.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.0.detail = Some(text.into());
        self
    }

    /// Fills in what is missing, so that a user is shown all five: what happened, where, why, what to do next and what
    /// state things are in. What was said where the error arose stays as it is.
    #[must_use]
    pub fn complete(mut self, about: &About) -> Self {
        let d = &mut self.0;
        d.place.get_or_insert_with(|| about.place.to_owned());
        if d.causes.is_empty() && d.detail.is_none() {
            d.causes.push(d.kind.meaning().to_owned());
        }
        d.state.get_or_insert_with(|| about.state.to_owned());
        if d.fixes.is_empty() {
            let fix = match d.kind {
                Kind::Internal => "report it, with what `MCTL_LOG=debug` shows of it",
                _ => about.fix,
            };
            d.fixes.push(fix.to_owned());
        }
        self
    }

    /// Marks what passes by itself: nobody answered, or only for now not. Nothing follows from it about what was asked for.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.0.passing = true;
        self
    }

    /// True if it passes by itself.
    pub fn is_passing(&self) -> bool {
        self.0.passing
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The sentence that says what happened.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The state sentence, if one was given.
    pub fn has_state(&self) -> bool {
        self.0.state.is_some()
    }

    /// What, place and causes in one line, for journals and conditions.
    pub fn line(&self) -> String {
        let mut s = self.0.what.clone();
        if let Some(p) = &self.0.place {
            s.push_str(&format!(" ({p})"));
        }
        for c in &self.0.causes {
            s.push_str(": ");
            s.push_str(c);
        }
        s
    }
}

/// What a command says of every error that does not say it itself.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Where: the command.
    pub place: &'static str,
    /// What it leaves.
    pub state: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// A chain of causes, outermost first.
#[derive(Debug)]
pub struct Cause(Vec<String>);

impl From<String> for Cause {
    fn from(s: String) -> Self {
        Self(vec![s])
    }
}

impl From<&str> for Cause {
    fn from(s: &str) -> Self {
        Self(vec![s.to_owned()])
    }
}

impl<E: std::error::Error> From<&E> for Cause {
    fn from(e: &E) -> Self {
        let mut chain: Vec<String> = Vec::new();
        let mut next: Option<&dyn std::error::Error> = Some(e);
        while let Some(e) = next {
            let text = e.to_string();
            // Some libraries repeat the source in their own text; say it once.
            if chain.last().is_none_or(|last| !last.contains(&text)) {
                chain.push(text);
            }
            next = e.source();
        }
        Self(chain)
    }
}

impl From<Error> for Cause {
    fn from(e: Error) -> Self {
        let mut chain = vec![e.0.what];
        chain.extend(e.0.causes);
        Self(chain)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &self.0;
        write!(f, "{}", d.what)?;
        if let Some(p) = &d.place {
            write!(f, "\n  where: {p}")?;
        }
        match &d.detail {
            Some(text) => write!(f, "\n\n{text}\n")?,
            None => {
                for c in &d.causes {
                    write!(f, "\n  why:   {c}")?;
                }
            }
        }
        if let Some(s) = &d.state {
            write!(f, "\n  state: {s}")?;
        }
        for x in &d.fixes {
            write!(f, "\n  fix:   {x}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns a foreign result into ours with a sentence that says what was tried.
pub trait Context<T> {
    /// Wraps the error as [`Kind::Failed`] with its cause chain.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::failed(what()).because(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About = About {
        place: "mctl plan",
        state: "nothing was changed",
        fix: "run it again",
    };

    #[test]
    fn a_completed_error_says_all_five() {
        for kind in Kind::ALL {
            let said = Error::new(kind, "x").complete(&ABOUT).to_string();
            for part in [
                "x\n",
                "  where: mctl plan",
                "  why:   ",
                "  state: nothing",
                "  fix:   ",
            ] {
                assert!(said.contains(part), "{kind:?}: {said}");
            }
        }
    }

    #[test]
    fn what_was_said_stays() {
        let error = Error::failed("x")
            .at("here")
            .because("so")
            .fix("that")
            .state("kept");
        let before = error.to_string();
        assert_eq!(error.complete(&ABOUT).to_string(), before);
        let detailed = Error::failed("x")
            .detail("lines")
            .complete(&ABOUT)
            .to_string();
        assert!(
            detailed.contains("lines") && !detailed.contains("why:"),
            "{detailed}"
        );
    }
}
