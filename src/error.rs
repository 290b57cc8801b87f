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
    /// A bug in mctl.
    Internal,
}

impl Kind {
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
