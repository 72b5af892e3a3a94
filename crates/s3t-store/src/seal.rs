//! Files that only their key opens, and of which every changed bit is noticed.
//!
//! # Proof note
//!
//! *Before*: a file was sealed under a key that is nowhere but in the key ring. *After* the key is destroyed: whoever has the file,
//! on this disk, in a backup or in worn flash cells, has nothing of its content. *Why*: XChaCha20-Poly1305 (RFC 8439 with the
//! extended nonce) hides the content from everybody without the key, and each file has a random nonce of 192 bits, so that
//! none repeats.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use s3t_core::StoreSecret;
use zeroize::Zeroizing;

use crate::StoreError;

const SEALED: &[u8; 8] = b"s3tseal1";
const PLAIN: &[u8; 8] = b"s3topen1";
const NONCE: usize = 24;
const CHECKSUM: usize = blake3::OUT_LEN;

/// The key or secret with which files are sealed.
#[derive(Clone)]
pub(crate) enum Seal {
    /// Encrypted and authenticated.
    Key(Zeroizing<[u8; 32]>),
    /// Authenticated only, where encryption is switched off.
    Plain(StoreSecret),
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    /// Seals the content of a file. `name` is bound to it: under another name it does not open.
    pub(crate) fn close(&self, name: &str, content: &[u8]) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Key(key) => {
                let nonce = crate::random::bytes::<NONCE>()?;
                let cipher = XChaCha20Poly1305::new(key.as_slice().into());
                let payload = Payload { msg: content, aad: name.as_bytes() };
                let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload);
                let sealed = sealed.map_err(|_| StoreError::TooLarge(name.to_owned()))?;
                Ok([SEALED.as_slice(), &nonce, &sealed].concat())
            }
            Self::Plain(secret) => Ok([PLAIN.as_slice(), content, checksum(secret, name, content).as_bytes()].concat()),
        }
    }

    /// Opens what [`close`](Self::close) sealed under this name.
    pub(crate) fn open(&self, name: &str, file: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Key(key) => {
                let rest = file.strip_prefix(SEALED).ok_or("it is not a sealed file")?;
                let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or("it is too short")?;
                let cipher = XChaCha20Poly1305::new(key.as_slice().into());
                let opened = cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: name.as_bytes() });
                opened.map_err(|_| "its seal is broken: it was changed, or sealed under another key".to_owned())
            }
            Self::Plain(secret) => {
                let rest = file.strip_prefix(PLAIN).ok_or("it is not a file of an unencrypted store")?;
                let length = rest.len().checked_sub(CHECKSUM).ok_or("it is too short")?;
                let (content, found) = rest.split_at(length);
                if checksum(secret, name, content).as_bytes() != found {
                    return Err("its checksum does not match".into());
                }
                Ok(content.to_vec())
            }
        }
    }
}

fn checksum(secret: &StoreSecret, name: &str, content: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret.as_bytes());
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_open_under_their_key_and_name_and_unchanged_only() {
        let key = |byte| Seal::Key(Zeroizing::new([byte; 32]));
        let plain = |byte| Seal::Plain(StoreSecret::from_bytes([byte; 32]));
        for (seal, other) in [(key(1), key(2)), (plain(1), plain(2)), (key(1), plain(1)), (plain(1), key(1))] {
            let file = seal.close("a", b"the content").unwrap();
            assert_eq!(seal.open("a", &file).unwrap(), b"the content");
            assert!(seal.open("b", &file).is_err() && other.open("a", &file).is_err());
            for byte in 0..file.len() {
                let mut changed = file.clone();
                changed[byte] ^= 4;
                assert!(seal.open("a", &changed).is_err(), "byte {byte}");
                assert!(seal.open("a", &file[..byte]).is_err(), "cut at {byte}");
            }
        }
        let sealed = key(1).close("a", b"the content").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"content"));
        assert_ne!(sealed, key(1).close("a", b"the content").unwrap());
        assert_eq!(format!("{:?}", key(1)), "Seal(..)");
    }
}
