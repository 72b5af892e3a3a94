//! Cosignatures of witnesses on checkpoints (C2SP tlog-cosignature, version 1 with Ed25519).
//!
//! A witness signs that a checkpoint is consistent with every one that it has seen of the log. Whoever trusts a witness therefore need
//! not keep checkpoints to notice that a log shows different people different histories.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Verifier as _;

use crate::LedgerError;

/// The algorithm's byte in encoded keys: Ed25519 with a time.
const COSIGNATURE_V1: u8 = 4;

/// The bytes of a key's id, of a time, and of a signature.
const ID: usize = 4;
const TIME: usize = 8;
const SIGNATURE: usize = 64;

/// The public key of a witness, one line: `NAME+HASH+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: [u8; ID],
    key: ed25519_dalek::VerifyingKey,
    line: String,
}

impl std::fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::str::FromStr for WitnessKey {
    type Err = LedgerError;

    fn from_str(line: &str) -> Result<Self, LedgerError> {
        let line = line.trim();
        let refuse =
            |problem: &str| LedgerError::Key(format!("`{line}` {problem}; a witness's key is NAME+HASH+BASE64"));
        let mut parts = line.splitn(3, '+');
        let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("does not have three parts"));
        };
        if !signed_note::is_key_name_valid(name) {
            return Err(refuse("has a name that is empty or holds white space"));
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| refuse("does not end in base64"))?;
        let Some((&COSIGNATURE_V1, key)) = bytes.split_first() else {
            return Err(refuse("is not of the type cosignature/v1 (4)"));
        };
        let id = signed_note::key_id(name, &bytes);
        if hash != format!("{id:08x}") {
            return Err(refuse("has a hash that is not that of its key"));
        }
        let key = key.try_into().ok().and_then(|key| ed25519_dalek::VerifyingKey::from_bytes(key).ok());
        let key = key.ok_or_else(|| refuse("does not hold a key of Ed25519"))?;
        Ok(Self { name: name.to_owned(), id: id.to_be_bytes(), key, line: line.to_owned() })
    }
}

impl WitnessKey {
    /// The witness's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Finds and checks this witness's cosignature among the signature lines of a checkpoint, or among those that the witness
    /// answered with: its line, and its time in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Checkpoint`] if there is none, or if it is not of this checkpoint.
    pub fn check<'a>(&self, checkpoint: &str, lines: &'a str) -> Result<(&'a str, u64), LedgerError> {
        let refuse = |problem: &str| LedgerError::Checkpoint(format!("the witness `{}` {problem}", self.name));
        let end = checkpoint.find("\n\n").ok_or_else(|| refuse("was asked about something that is no checkpoint"))?;
        let text = &checkpoint[..=end];
        let prefix = format!("\u{2014} {} ", self.name);
        for line in lines.lines() {
            let Some(bytes) = line.strip_prefix(&prefix).and_then(|encoded| STANDARD.decode(encoded).ok()) else {
                continue;
            };
            if bytes.len() != ID + TIME + SIGNATURE || bytes[..ID] != self.id {
                continue;
            }
            let mut time = [0; TIME];
            time.copy_from_slice(&bytes[ID..ID + TIME]);
            let time = u64::from_be_bytes(time);
            let signature = ed25519_dalek::Signature::from_slice(&bytes[ID + TIME..]);
            let signature = signature.map_err(|_| refuse("gave a signature that cannot be read"))?;
            let message = format!("cosignature/v1\ntime {time}\n{text}");
            self.key.verify(message.as_bytes(), &signature).map_err(|_| refuse("did not sign this checkpoint"))?;
            return Ok((line, time));
        }
        Err(refuse("gave no cosignature"))
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer as _;

    use super::*;
    use crate::{SigningKey, leaf_hash};

    /// A witness's key and its cosignature of a checkpoint, made by the letter of the specification.
    fn witness(checkpoint: &str, time: u64) -> (WitnessKey, String) {
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        let public = [&[COSIGNATURE_V1], key.verifying_key().as_bytes().as_slice()].concat();
        let id = signed_note::key_id("witness.example/w1", &public);
        let line = format!("witness.example/w1+{id:08x}+{}", STANDARD.encode(&public));
        let text = &checkpoint[..=checkpoint.find("\n\n").unwrap()];
        let signature = key.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
        let bytes = [&id.to_be_bytes()[..], &time.to_be_bytes(), &signature.to_bytes()].concat();
        (line.parse().unwrap(), format!("\u{2014} witness.example/w1 {}\n", STANDARD.encode(bytes)))
    }

    #[test]
    fn a_cosignature_is_of_one_checkpoint_at_one_time_by_one_witness() {
        let log = SigningKey::new("s3t/one", &[7; 32]).unwrap();
        let checkpoint = log.sign(3, &leaf_hash(b"x")).unwrap();
        let (key, line) = witness(&checkpoint, 1_700_000_000);
        assert_eq!(key.check(&checkpoint, &line).unwrap(), (line.trim_end(), 1_700_000_000));
        // Among the lines of others, and in the note itself.
        let note = format!("{checkpoint}{line}");
        assert!(key.check(&note, &note).is_ok());
        assert!(log.verifying_key().check(&note).is_ok(), "a log's key passes over lines of witnesses");
        let other = log.sign(4, &leaf_hash(b"x")).unwrap();
        assert!(key.check(&other, &line).is_err() && key.check(&checkpoint, "").is_err());
        // No bit of it can be changed.
        let payload = line.trim_end().rsplit(' ').next().unwrap();
        let bytes = STANDARD.decode(payload).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = format!("\u{2014} witness.example/w1 {}\n", STANDARD.encode(changed));
            assert!(key.check(&checkpoint, &changed).is_err(), "byte {index}");
        }
        for bad in ["", "a+b", "w+00000000+BAAA", &log.verifying_key().to_string()] {
            assert!(bad.parse::<WitnessKey>().is_err(), "{bad}");
        }
    }
}
