//! Turns: requests of one id are taken in one after the other.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The ids that are being taken in.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// The turn of an id, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    id: String,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else has the turn of an id, and takes it.
    pub(super) fn of(&self, id: &str) -> Turn<'_> {
        let mut taken = self.lock();
        while taken.contains(id) {
            taken = self.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        taken.insert(id.to_owned());
        Turn { turns: self, id: id.to_owned() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.id);
        self.turns.freed.notify_all();
    }
}
