//! The outside world as small seams: processes, container engine, Kubernetes API, clock, files, network. Nothing here may know
//! about plans or steps.

pub mod clock;
pub mod docker;
pub mod files;
pub mod json_lines;
pub mod kubernetes;
pub mod network;
pub mod process;
pub mod tied;

use std::sync::Arc;

use crate::{Error, Result};

/// The whole outside; whoever needs any of it is given this.
#[derive(Clone)]
pub struct Ports {
    /// Child processes.
    pub processes: Arc<dyn process::Processes>,
    /// Kubernetes API servers.
    pub clusters: Arc<dyn kubernetes::Clusters>,
    /// Time.
    pub clock: Arc<dyn clock::Clock>,
    /// Files of this host.
    pub files: Arc<dyn files::Files>,
    /// Network of this host.
    pub network: Arc<dyn network::Network>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

impl Ports {
    /// The real outside.
    pub fn real() -> Self {
        Self {
            processes: Arc::new(process::System),
            clusters: Arc::new(kubernetes::Real),
            clock: Arc::new(clock::Wall),
            files: Arc::new(files::Disk),
            network: Arc::new(network::Host),
        }
    }
}

/// What a look found. Not to have seen something is not the same as having seen that it is not there.
#[derive(Debug)]
pub enum Seen<T> {
    /// It is there.
    Is(T),
    /// Whoever must know says that it is not there.
    Absent,
    /// Nobody could be asked, or the answer was none.
    Unknown(Error),
}

impl<T> Seen<T> {
    /// There or not; an error if that is not known.
    pub fn known(self) -> Result<Option<T>> {
        match self {
            Self::Is(value) => Ok(Some(value)),
            Self::Absent => Ok(None),
            Self::Unknown(error) => Err(error),
        }
    }

    /// Changes what was seen.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Is(value) => Seen::Is(change(value)),
            Self::Absent => Seen::Absent,
            Self::Unknown(error) => Seen::Unknown(error),
        }
    }
}

impl<T> From<Result<Option<T>>> for Seen<T> {
    fn from(answer: Result<Option<T>>) -> Self {
        match answer {
            Ok(Some(value)) => Self::Is(value),
            Ok(None) => Self::Absent,
            Err(error) => Self::Unknown(error),
        }
    }
}
