//! What several waits at the same time wait for, told as one: the first of those still open and how many more. Must not wait itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::Progress;

/// Gathers what waits tell and passes it on.
pub struct Board<'a> {
    progress: &'a dyn Progress,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    slots: usize,
    open: BTreeMap<usize, String>,
    last: String,
}

/// The place of one wait; it is over when this is dropped.
pub struct Slot<'a> {
    board: &'a Board<'a>,
    index: usize,
}

impl<'a> Board<'a> {
    /// A board that nothing waits on yet.
    pub fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            told: Mutex::default(),
        }
    }

    /// A place for one more wait; earlier ones are told first.
    pub fn slot(&self) -> Slot<'_> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.slots += 1;
        Slot {
            board: self,
            index: told.slots,
        }
    }

    fn tell(&self, index: usize, pending: Option<&str>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match pending {
            Some(text) => told.open.insert(index, text.to_owned()),
            None => told.open.remove(&index),
        };
        let Some(first) = told.open.values().next() else {
            return;
        };
        let text = match told.open.len() {
            1 => first.clone(),
            n => format!("{first}; and {} more", n - 1),
        };
        if text != told.last {
            self.progress.seen(&text);
            told.last = text;
        }
    }
}

impl Progress for Slot<'_> {
    fn seen(&self, evidence: &str) {
        self.board.tell(self.index, Some(evidence));
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.board.tell(self.index, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines(Mutex<Vec<String>>);

    impl Progress for Lines {
        fn seen(&self, evidence: &str) {
            self.0.lock().unwrap().push(evidence.to_owned());
        }
    }

    #[test]
    fn what_is_over_is_told_no_more() {
        let lines = Lines(Mutex::default());
        let board = Board::new(&lines);
        let (one, two, three) = (board.slot(), board.slot(), board.slot());
        two.seen("b");
        one.seen("a");
        one.seen("a");
        drop(one);
        three.seen("c");
        drop(two);
        drop(three);
        let told = lines.0.lock().unwrap();
        assert_eq!(*told, ["b", "a; and 1 more", "b", "b; and 1 more", "c"]);
    }
}
