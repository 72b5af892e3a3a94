//! Keys and signed checkpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, StandardSigner, StandardVerifier, Verifier, VerifierList};
use zeroize::Zeroizing;

use crate::tree::{of_tlog, to_tlog};
use crate::{Hash, LedgerError};

/// The algorithm's byte in encoded keys: Ed25519.
const ED25519: u8 = 1;

/// The private key of a store, which signs its checkpoints.
pub struct SigningKey {
    origin: String,
    key: ed25519_dalek::SigningKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.origin)
    }
}

impl SigningKey {
    /// The key with this secret. `origin` names the log in every checkpoint.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Key`] for an origin that is empty or holds white space or a plus.
    pub fn new(origin: &str, secret: &[u8; 32]) -> Result<Self, LedgerError> {
        if !signed_note::is_key_name_valid(origin) {
            return Err(LedgerError::Key(format!("the origin `{origin}` is empty or holds white space or a plus")));
        }
        Ok(Self { origin: origin.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(secret) })
    }

    /// The key that checks what this one signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey {
            origin: self.origin.clone(),
            line: signed_note::new_ed25519_verifier_key(&self.origin, &self.key.verifying_key()),
        }
    }

    /// Signs a tree head: the text of a checkpoint.
    ///
    /// ```
    /// use s3t_ledger::leaf_hash;
    /// use s3t_ledger::{SigningKey, VerifyingKey};
    ///
    /// let key = SigningKey::new("example/log", &[7; 32])?;
    /// // A tree of one leaf has the hash of the leaf as its root.
    /// let checkpoint = key.sign(1, &leaf_hash(b"entry"))?;
    ///
    /// // Whoever has the public key, one line of text, checks it.
    /// let public: VerifyingKey = key.verifying_key().to_string().parse()?;
    /// assert_eq!(public.check(&checkpoint)?.size, 1);
    /// assert!(public.check(&checkpoint.replace("1", "2")).is_err());
    /// # Ok::<(), s3t_ledger::LedgerError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LedgerError::Checkpoint`] if it cannot be signed.
    pub fn sign(&self, size: u64, root: &Hash) -> Result<String, LedgerError> {
        let failed = |error: &dyn std::fmt::Display| LedgerError::Checkpoint(error.to_string());
        let head =
            tlog_tiles::Checkpoint::new(&self.origin, size, to_tlog(root), "").map_err(|error| failed(&error))?;
        let mut note = Note::new(&head.to_bytes(), &[]).map_err(|error| failed(&error))?;
        note.add_sigs(&[&self.signer()?]).map_err(|error| failed(&error))?;
        String::from_utf8(note.to_bytes()).map_err(|error| failed(&error))
    }

    fn signer(&self) -> Result<StandardSigner, LedgerError> {
        let public = [&[ED25519], self.key.verifying_key().as_bytes().as_slice()].concat();
        let private = Zeroizing::new([&[ED25519], self.key.as_bytes().as_slice()].concat());
        let (id, origin) = (signed_note::key_id(&self.origin, &public), &self.origin);
        let encoded = Zeroizing::new(STANDARD.encode(&*private));
        let line = Zeroizing::new(format!("PRIVATE+KEY+{origin}+{id:08x}+{}", *encoded));
        StandardSigner::new(&line).map_err(|error| LedgerError::Key(error.to_string()))
    }
}

/// The public key of a store, one line: `NAME+HASH+BASE64` (C2SP signed-note).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    origin: String,
    line: String,
}

impl std::fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::str::FromStr for VerifyingKey {
    type Err = LedgerError;

    fn from_str(line: &str) -> Result<Self, LedgerError> {
        let line = line.trim();
        let key = StandardVerifier::new(line).map_err(|error| LedgerError::Key(error.to_string()))?;
        Ok(Self { origin: key.name().to_owned(), line: line.to_owned() })
    }
}

/// A tree head whose signature was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of entries that the tree has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads the text of a checkpoint without checking its signatures: whether it is one at all.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Checkpoint`] if it is malformed.
    pub fn read(text: &str) -> Result<Self, LedgerError> {
        let refuse = |problem: String| LedgerError::Checkpoint(problem);
        let note = Note::from_bytes(text.as_bytes()).map_err(|error| refuse(error.to_string()))?;
        let head = tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { size: head.size(), root: of_tlog(head.hash()) })
    }
}

impl VerifyingKey {
    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Checks the text of a checkpoint and reads it.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Checkpoint`] if it is malformed, of another log, or not signed by this key.
    pub fn check(&self, checkpoint: &str) -> Result<Checkpoint, LedgerError> {
        let refuse = |problem: String| LedgerError::Checkpoint(problem);
        let key = StandardVerifier::new(&self.line).map_err(|error| refuse(error.to_string()))?;
        let note = Note::from_bytes(checkpoint.as_bytes()).map_err(|error| refuse(error.to_string()))?;
        let known = VerifierList::new(vec![Box::new(key)]);
        note.verify(&known).map_err(|error| refuse(format!("not signed by {}: {error}", self.line)))?;
        let head = tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|error| refuse(error.to_string()))?;
        if head.origin() != self.origin {
            return Err(refuse(format!("is of the log `{}`, not of `{}`", head.origin(), self.origin)));
        }
        Ok(Checkpoint { size: head.size(), root: of_tlog(head.hash()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf_hash;

    #[test]
    fn checkpoints_verify_with_their_key_only_and_unchanged() {
        let key = SigningKey::new("s3t/one", &[7; 32]).unwrap();
        let public: VerifyingKey = key.verifying_key().to_string().parse().unwrap();
        assert_eq!((public.origin(), &public), ("s3t/one", &key.verifying_key()));
        let text = key.sign(3, &leaf_hash(b"x")).unwrap();
        assert!(text.starts_with("s3t/one\n3\n"), "{text}");
        assert_eq!(public.check(&text).unwrap(), Checkpoint { size: 3, root: leaf_hash(b"x") });
        let stranger = SigningKey::new("s3t/one", &[8; 32]).unwrap().verifying_key();
        assert!(stranger.check(&text).is_err());
        for (byte, _) in text.char_indices() {
            let mut changed = text.clone().into_bytes();
            changed[byte] ^= 1;
            let changed = String::from_utf8_lossy(&changed).into_owned();
            assert!(public.check(&changed).is_err(), "{changed}");
        }
        for line in ["", "a+b", "s3t/one+00000000+AAAA", "s3t/one"] {
            assert!(line.parse::<VerifyingKey>().unwrap_err().to_string().contains("NAME+HASH+BASE64"), "{line}");
        }
        assert!(SigningKey::new("a b", &[0; 32]).is_err());
        assert!(!format!("{key:?}").contains("07"));
    }
}
