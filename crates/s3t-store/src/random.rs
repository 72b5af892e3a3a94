//! Random bytes from the operating system: keys, nonces, openings. Nothing that training sees comes from here.

use rand::TryRng;
use rand::rngs::SysRng;
use s3t_core::StoreSecret;

use crate::StoreError;

/// A secret from the operating system.
///
/// # Errors
///
/// [`StoreError::Io`] if it gives no random bytes.
pub fn random_secret() -> Result<StoreSecret, StoreError> {
    bytes().map(StoreSecret::from_bytes)
}

pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    let failed = |error: rand::rngs::SysError| std::io::Error::other(error.to_string());
    SysRng.try_fill_bytes(&mut bytes).map_err(failed).map_err(StoreError::io("draw random bytes for", "a key"))?;
    Ok(bytes)
}
