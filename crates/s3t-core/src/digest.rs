//! Digests: BLAKE3 over length-prefixed fields, keyed where the input is personal data.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::CoreError;
use crate::canonical::canonical_json;

/// A 256-bit BLAKE3 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve hexadecimal digits, for messages and tables.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = CoreError;

    fn try_from(text: String) -> Result<Self, CoreError> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let invalid = || CoreError::InvalidDigest { text: text.to_owned() };
        if text.len() != 64 || !text.is_ascii() {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

/// Builds a [`Digest`] field by field.
///
/// Every field is preceded by its length, so no two different lists of fields are hashed from the same bytes; the
/// context string separates uses, so a digest made for one purpose never equals one made for another.
pub struct DigestBuilder(blake3::Hasher);

impl DigestBuilder {
    /// An unkeyed digest for `context`.
    pub fn new(context: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(&format!("s3t 2026 {context}")))
    }

    /// A digest under `secret` for `context`: without the secret it identifies nobody.
    pub fn keyed(secret: &StoreSecret, context: &str) -> Self {
        let mut builder = Self(blake3::Hasher::new_keyed(&secret.0));
        builder.bytes(context.as_bytes());
        builder
    }

    /// Adds a field of bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds another digest.
    pub fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.bytes(&digest.0)
    }

    /// Adds a value in [canonical JSON](crate::canonical).
    ///
    /// # Panics
    ///
    /// As [`canonical_json`]: for a value that is not JSON.
    pub fn json(&mut self, value: &(impl Serialize + ?Sized)) -> &mut Self {
        self.bytes(canonical_json(value).as_bytes())
    }

    /// The digest of everything added.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// The secret of one store: it keys the partition and every digest of personal data.
///
/// Two stores with different secrets partition the same records differently and share no record digest.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreSecret([u8; 32]);

impl StoreSecret {
    /// The secret with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, to be written where only the owner can read them.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for StoreSecret {
    fn drop(&mut self) {
        // What was copied on the way is out of reach; what stays in freed memory is not the secret.
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_rejects_anything_else() {
        let digest = DigestBuilder::new("test").bytes(b"x").finish();
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn field_boundaries_and_contexts_matter() {
        let of = |fields: &[&str]| {
            let mut builder = DigestBuilder::new("test");
            for field in fields {
                builder.bytes(field.as_bytes());
            }
            builder.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
        assert_ne!(DigestBuilder::new("a").finish(), DigestBuilder::new("b").finish());
    }

    #[test]
    fn json_is_canonical() {
        let of = |text: &str| {
            DigestBuilder::new("t").json(&serde_json::from_str::<serde_json::Value>(text).unwrap()).finish()
        };
        assert_eq!(of(r#"{"a": 1, "b": {"d": 2, "c": 0.001}}"#), of(r#"{"b":{"c":1e-3,"d":2},"a":1}"#));
        assert_ne!(of(r#"{"a": 1}"#), of(r#"{"a": 1.5}"#));
    }

    #[test]
    fn secrets_never_show_in_debug_output() {
        assert_eq!(format!("{:?}", StoreSecret::from_bytes([7; 32])), "StoreSecret(..)");
    }
}
