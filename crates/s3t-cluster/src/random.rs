//! Random numbers of the machine.

use ring::rand::{SecureRandom, SystemRandom};

use crate::ClusterError;

/// Fills bytes with random numbers that nobody can foretell. `purpose` is told if this machine gives none.
///
/// # Errors
///
/// [`ClusterError::Machine`].
pub fn fill_randomly(bytes: &mut [u8], purpose: &str) -> Result<(), ClusterError> {
    let failed = |_| ClusterError::Machine(format!("this machine gives no random numbers for {purpose}"));
    SystemRandom::new().fill(bytes).map_err(failed)
}
