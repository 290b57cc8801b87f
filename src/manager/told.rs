//! What a leader knows to stand in the document's status, so that times and events are right after a change of leader and after
//! the document was made anew. Pure.

use crate::config::ManagementClusterStatus;

/// See the module.
#[derive(Debug, Default)]
pub struct Told {
    uid: Option<String>,
    status: Option<ManagementClusterStatus>,
    /// Whether it stands there, not only in memory.
    stored: bool,
}

impl Told {
    /// False before the first look, and when the document is another one than that of the last look.
    pub fn is_of(&self, uid: Option<&str>) -> bool {
        uid.is_some() && self.uid.as_deref() == uid
    }

    /// Takes in what stands in a document that is seen for the first time. One without a status was made anew for a cluster
    /// that lived on: what was said before still counts, but has to be written.
    pub fn begin(&mut self, uid: Option<String>, live: Option<ManagementClusterStatus>) {
        self.uid = uid;
        self.stored = live.is_some();
        if live.is_some() {
            self.status = live;
        }
    }

    /// What a new status is compared with.
    pub fn before(&self) -> Option<&ManagementClusterStatus> {
        self.status.as_ref()
    }

    /// Whether this one has to be written.
    pub fn differs(&self, new: &ManagementClusterStatus) -> bool {
        !self.stored || self.status.as_ref() != Some(new)
    }

    /// It was written.
    pub fn wrote(&mut self, status: ManagementClusterStatus) {
        self.status = Some(status);
        self.stored = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: &str) -> ManagementClusterStatus {
        ManagementClusterStatus {
            phase: Some(phase.into()),
            ..ManagementClusterStatus::default()
        }
    }

    #[test]
    fn a_new_leader_begins_with_what_stands_there() {
        let mut told = Told::default();
        assert!(!told.is_of(Some("a")));
        told.begin(Some("a".into()), Some(status("Ready")));
        assert!(told.is_of(Some("a")));
        assert_eq!(told.before(), Some(&status("Ready")));
        assert!(!told.differs(&status("Ready")));
        assert!(told.differs(&status("Degraded")));
    }

    #[test]
    fn a_document_made_anew_gets_its_status_even_if_nothing_changed() {
        let mut told = Told::default();
        told.begin(Some("a".into()), None);
        told.wrote(status("Degraded"));
        assert!(!told.differs(&status("Degraded")));
        assert!(!told.is_of(Some("b")));
        told.begin(Some("b".into()), None);
        assert_eq!(
            told.before(),
            Some(&status("Degraded")),
            "the cluster lived on"
        );
        assert!(
            told.differs(&status("Degraded")),
            "but nothing stands there"
        );
    }

    #[test]
    fn a_document_without_uid_is_never_known() {
        let mut told = Told::default();
        told.begin(None, None);
        assert!(!told.is_of(None));
    }
}
