//! The phases of a server's life.

use std::sync::atomic::{AtomicU8, Ordering};

/// The phase of a server's life.
#[derive(Default)]
pub(crate) struct Life(AtomicU8);

impl Life {
    /// New requests are refused soon; those that came are answered.
    pub(crate) fn stopping(&self) {
        self.0.fetch_max(1, Ordering::SeqCst);
    }

    /// Nothing goes on any more.
    pub(crate) fn over(&self) {
        self.0.fetch_max(2, Ordering::SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }
}
