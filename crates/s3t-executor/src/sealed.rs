//! Objects: sealed bytes that one process of a launch leaves for another, in a place that both reach.
//!
//! # Proof note
//!
//! *Before*: bytes of a job or of a result lie in object storage, where others may read, copy, change or keep them. *After*: the process
//! that opens an object gets the bytes that were left, or a failure; anybody without the key learns their length and nothing else; when the
//! processes that had the key have dropped it, nobody opens the object any more, whoever kept a copy. *Why*: each object is sealed
//! (XChaCha20-Poly1305) under a key of its own, which travels over the link between the owner and a worker and is in no object. The launch,
//! the name, the kind and the digest are authenticated with it. The nonce is a function of key and content, so that no two contents
//! under one key share it.

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use s3t_core::Digest;
use s3t_core::digest::DigestBuilder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::ExecutorError;

/// The length of the tag of a sealed object.
const TAG: usize = 16;

/// A folder of object storage, of one launch: bytes by name.
///
/// # Contract
///
/// Every call returns within a time of its own. A transient failure is tried again before it is told. After [`delete`](Self::delete) has
/// returned without a failure, no [`get`](Self::get) and no [`list`](Self::list) finds the objects.
pub trait ObjectFolder: Send + Sync {
    /// The address of the folder, for messages.
    fn place(&self) -> String;

    /// Writes an object. An object of the same name is replaced.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Storage`].
    fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExecutorError>;

    /// Reads an object.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::NoObject`] if it is not there, [`ExecutorError::Storage`].
    fn get(&self, name: &str) -> Result<Vec<u8>, ExecutorError>;

    /// Removes objects; those that are not there are no failure.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Storage`]; some of them may be removed then.
    fn delete(&self, names: &[String]) -> Result<(), ExecutorError>;

    /// The names of all objects.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Storage`].
    fn list(&self) -> Result<Vec<String>, ExecutorError>;
}

/// The key of one object. It is overwritten in memory when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectKey([u8; 32]);

impl ObjectKey {
    /// The key of these random bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Drop for ObjectKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectKey(..)")
    }
}

/// The content of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ObjectKind {
    /// Records of a slice.
    Records,
    /// The adapters of a stage.
    Stage,
}

/// The name and the key of an object that is there or may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSlot {
    /// The launch, which is authenticated.
    pub launch: String,
    /// The name, which says nothing of the content.
    pub name: String,
    /// The key.
    pub key: ObjectKey,
}

/// The content of an object that is there: enough to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectContent {
    /// The kind.
    pub kind: ObjectKind,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub length: u64,
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectReference {
    /// Its name and its key.
    pub slot: ObjectSlot,
    /// Its content.
    pub content: ObjectContent,
}

/// A value in postcard, at one place of memory, which is overwritten when it is dropped.
pub(crate) fn to_bytes(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, ExecutorError> {
    let failed = |error: postcard::Error| ExecutorError::Damaged(format!("an object cannot be written ({error})"));
    // With room for the tag, so that sealing moves nothing.
    let length = postcard::experimental::serialized_size(value).map_err(failed)?;
    let bytes = postcard::to_extend(value, Vec::with_capacity(length + TAG)).map_err(failed)?;
    Ok(Zeroizing::new(bytes))
}

/// The digest by which the content of an object is known.
pub(crate) fn content_digest(bytes: &[u8]) -> Digest {
    DigestBuilder::new("object").bytes(bytes).finish()
}

impl ObjectSlot {
    fn nonce(&self, content: &ObjectContent) -> XNonce {
        let digest = DigestBuilder::new("object nonce").bytes(&self.key.0).digest(&content.digest).finish();
        *XNonce::from_slice(&digest.as_bytes()[..24])
    }

    fn authenticated(&self, content: &ObjectContent) -> Digest {
        let kind = match content.kind {
            ObjectKind::Records => "records",
            ObjectKind::Stage => "stage",
        };
        let mut digest = DigestBuilder::new("object header");
        digest.bytes(self.launch.as_bytes()).bytes(self.name.as_bytes()).bytes(kind.as_bytes());
        digest.digest(&content.digest).number(content.length).finish()
    }

    /// Seals bytes under the key of this slot, in place, and puts them into a folder.
    pub(crate) fn leave(
        &self,
        kind: ObjectKind,
        mut bytes: Zeroizing<Vec<u8>>,
        folder: &dyn ObjectFolder,
    ) -> Result<ObjectContent, ExecutorError> {
        let content = ObjectContent { kind, digest: content_digest(&bytes), length: bytes.len() as u64 };
        let cipher = XChaCha20Poly1305::new((&self.key.0).into());
        let header = self.authenticated(&content);
        let tag = cipher
            .encrypt_in_place_detached(&self.nonce(&content), header.as_bytes(), &mut bytes)
            .map_err(|_| ExecutorError::Damaged(format!("an object of {} bytes is too large", content.length)))?;
        bytes.extend_from_slice(&tag);
        folder.put(&self.name, std::mem::take(&mut *bytes))?;
        Ok(content)
    }
}

impl ObjectReference {
    /// Fetches the object from a folder, checks and opens it.
    pub(crate) fn fetch<T: DeserializeOwned>(&self, folder: &dyn ObjectFolder) -> Result<T, ExecutorError> {
        let Self { slot, content } = self;
        let sealed = folder.get(&slot.name)?;
        let other = |problem: &str| ExecutorError::OtherObject {
            place: folder.place(),
            name: slot.name.clone(),
            problem: problem.to_owned(),
        };
        let length = sealed.len().checked_sub(TAG).filter(|length| *length as u64 == content.length);
        let length = length.ok_or_else(|| {
            other(&format!("it has {} bytes, and {} were left", sealed.len(), content.length + TAG as u64))
        })?;
        let mut bytes = Zeroizing::new(sealed);
        let tag = *Tag::from_slice(&bytes[length..]);
        bytes.truncate(length);
        let cipher = XChaCha20Poly1305::new((&slot.key.0).into());
        let header = slot.authenticated(content);
        let broken = |_| other("its seal is broken");
        cipher.decrypt_in_place_detached(&slot.nonce(content), header.as_bytes(), &mut bytes, &tag).map_err(broken)?;
        if content_digest(&bytes) != content.digest {
            return Err(other("its digest is another"));
        }
        postcard::from_bytes(&bytes).map_err(|error| other(&format!("it cannot be read: {error}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    /// A folder in memory.
    #[derive(Default)]
    pub(crate) struct Memory(pub(crate) Mutex<BTreeMap<String, Vec<u8>>>);

    impl ObjectFolder for Memory {
        fn place(&self) -> String {
            "memory:".into()
        }

        fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), ExecutorError> {
            self.0.lock().unwrap().insert(name.into(), bytes);
            Ok(())
        }

        fn get(&self, name: &str) -> Result<Vec<u8>, ExecutorError> {
            let missing = || ExecutorError::NoObject { place: self.place(), name: name.into() };
            self.0.lock().unwrap().get(name).cloned().ok_or_else(missing)
        }

        fn delete(&self, names: &[String]) -> Result<(), ExecutorError> {
            self.0.lock().unwrap().retain(|name, _| !names.contains(name));
            Ok(())
        }

        fn list(&self) -> Result<Vec<String>, ExecutorError> {
            Ok(self.0.lock().unwrap().keys().cloned().collect())
        }
    }

    fn slot(name: &str, key: u8) -> ObjectSlot {
        ObjectSlot { launch: "launch".into(), name: name.into(), key: ObjectKey::from_bytes([key; 32]) }
    }

    #[test]
    fn an_object_opens_unchanged_under_its_key_and_name_only_and_hides_its_content() {
        let folder = Memory::default();
        let text = "a text that nobody else may read".to_owned();
        let leave = |slot: &ObjectSlot| slot.leave(ObjectKind::Records, to_bytes(&text).unwrap(), &folder).unwrap();
        let content = leave(&slot("a", 1));
        let reference = ObjectReference { slot: slot("a", 1), content };
        assert_eq!(reference.fetch::<String>(&folder).unwrap(), text);
        let sealed = folder.get("a").unwrap();
        assert!(!sealed.windows(4).any(|window| window == b"text"));
        assert!(!format!("{reference:?}").contains("1, 1"), "{reference:?}");
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            folder.put("a", changed).unwrap();
            assert!(matches!(reference.fetch::<String>(&folder), Err(ExecutorError::OtherObject { .. })), "{byte}");
            folder.put("a", sealed[..byte].to_vec()).unwrap();
            let message = reference.fetch::<String>(&folder).unwrap_err().to_string();
            assert!(message.contains(&format!("it has {byte} bytes")), "{message}");
        }
        // Another object that was sealed in the same launch, under its own name and key, put in the place of this one.
        leave(&slot("b", 2));
        folder.put("a", folder.get("b").unwrap()).unwrap();
        assert!(reference.fetch::<String>(&folder).is_err());
        folder.put("a", sealed).unwrap();
        let others = [
            ObjectReference { slot: slot("a", 2), ..reference.clone() },
            ObjectReference { slot: ObjectSlot { launch: "other".into(), ..slot("a", 1) }, ..reference.clone() },
            ObjectReference { content: ObjectContent { kind: ObjectKind::Stage, ..content }, ..reference.clone() },
            ObjectReference { content: ObjectContent { digest: content_digest(b"x"), ..content }, ..reference.clone() },
        ];
        for other in others {
            assert!(other.fetch::<String>(&folder).is_err(), "{other:?}");
        }
        folder.delete(&["a".into()]).unwrap();
        assert!(matches!(reference.fetch::<String>(&folder), Err(ExecutorError::NoObject { .. })));
    }
}
