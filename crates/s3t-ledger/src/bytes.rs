//! Values of 32 bytes that are no BLAKE3 digests, so that none is taken for another.

use s3t_core::{CoreError, Digest};
use serde::{Deserialize, Serialize};

/// The SHA-256 hash of a node of the ledger's Merkle tree (RFC 6962), written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

/// The key of a request's commitments: with it, whoever knows a name can see that the request names it. Written as 64 hexadecimal
/// digits in receipts only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Opening([u8; 32]);

macro_rules! of_bytes {
    ($name:ident) => {
        impl $name {
            /// The value with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                Digest::from_bytes(self.0).fmt(f)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = CoreError;

            fn try_from(text: String) -> Result<Self, CoreError> {
                text.parse::<Digest>().map(|digest| Self(*digest.as_bytes()))
            }
        }
    };
}

of_bytes!(Hash);
of_bytes!(Opening);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening(..)")
    }
}
