//! Random bytes of the operating system.

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::ServerError;

/// A random name of `2 * N` hexadecimal digits.
pub(crate) fn random_name<const N: usize>() -> Result<String, ServerError> {
    use std::fmt::Write as _;
    let mut name = String::with_capacity(2 * N);
    for byte in random_bytes::<N>()? {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    Ok(name)
}

pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], ServerError> {
    let mut bytes = [0; N];
    let failed =
        |_| ServerError::System { action: "draw random numbers", problem: "the operating system gave none".to_owned() };
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
