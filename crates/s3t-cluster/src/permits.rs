//! The permit that is in force.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use s3t_executor::Permit;

/// The permit of a session, which the threads that renew leases share.
#[derive(Default)]
pub(crate) struct Permits(Mutex<Option<Permit>>);

impl Permits {
    pub(crate) fn set(&self, permit: Option<Permit>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }

    /// Returns `true` if records may be remembered elsewhere for this time from now on.
    pub(crate) fn allow(&self, time: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(|permit| permit(time))
    }
}
