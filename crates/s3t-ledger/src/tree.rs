//! The Merkle tree, by the numbers of its stored hashes.

use tlog_tiles::{Error, HashReader};

use crate::{Hash, LedgerError};

/// A source of stored hashes. A tree of n leaves has them numbered as in the Go checksum database's `tlog`.
pub trait HashSource {
    /// The hash of each number, in order.
    ///
    /// # Errors
    ///
    /// Why one cannot be read.
    fn hashes(&self, numbers: &[u64]) -> Result<Vec<Hash>, String>;
}

impl<F: Fn(&[u64]) -> Result<Vec<Hash>, String>> HashSource for F {
    fn hashes(&self, numbers: &[u64]) -> Result<Vec<Hash>, String> {
        self(numbers)
    }
}

pub(crate) struct Reader<'a>(pub(crate) &'a dyn HashSource);

impl HashReader for Reader<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, Error> {
        let hashes = self.0.hashes(indexes).map_err(Error::InvalidInput)?;
        // What calls this takes the number for granted.
        if hashes.len() != indexes.len() {
            return Err(Error::IndexesNotInTree);
        }
        Ok(hashes.iter().map(to_tlog).collect())
    }
}

pub(crate) fn to_tlog(hash: &Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(*hash.as_bytes())
}

pub(crate) fn of_tlog(hash: &tlog_tiles::Hash) -> Hash {
    Hash::from_bytes(hash.0)
}

fn proof(error: &Error) -> LedgerError {
    LedgerError::Proof(error.to_string())
}

/// The hash of a leaf.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    of_tlog(&tlog_tiles::record_hash(entry))
}

/// The hashes to be stored for leaf `index`, with the number of the first; the others follow.
///
/// # Errors
///
/// [`LedgerError::Proof`] if earlier hashes are missing.
pub fn new_hashes(index: u64, entry: &[u8], stored: &dyn HashSource) -> Result<(u64, Vec<Hash>), LedgerError> {
    let hashes = tlog_tiles::stored_hashes(index, entry, &Reader(stored)).map_err(|error| proof(&error))?;
    Ok((tlog_tiles::stored_hash_index(0, index), hashes.iter().map(of_tlog).collect()))
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
///
/// [`LedgerError::Proof`] if hashes are missing.
pub fn root(size: u64, stored: &dyn HashSource) -> Result<Hash, LedgerError> {
    tlog_tiles::tree_hash(size, &Reader(stored)).map(|hash| of_tlog(&hash)).map_err(|error| proof(&error))
}

/// The audit path of leaf `index` in the tree of `size` leaves.
///
/// # Errors
///
/// [`LedgerError::Proof`] for a leaf that is not in the tree, or missing hashes.
pub fn inclusion_proof(size: u64, index: u64, stored: &dyn HashSource) -> Result<Vec<Hash>, LedgerError> {
    if index >= size {
        return Err(LedgerError::Proof(format!("entry {index} is not among {size}")));
    }
    let path = tlog_tiles::prove_record(size, index, &Reader(stored)).map_err(|error| proof(&error))?;
    Ok(path.iter().map(of_tlog).collect())
}

/// The proof that the tree of the first `old` leaves is the beginning of the tree of the first `size`; empty for `old` 0.
///
/// # Errors
///
/// [`LedgerError::Proof`] if `old` is larger than `size`, or for missing hashes.
pub fn consistency_proof(old: u64, size: u64, stored: &dyn HashSource) -> Result<Vec<Hash>, LedgerError> {
    if old > size {
        return Err(LedgerError::Proof(format!("a tree of {old} entries is not the beginning of one of {size}")));
    }
    if old == 0 || old == size {
        return Ok(Vec::new());
    }
    let path = tlog_tiles::prove_tree(size, old, &Reader(stored)).map_err(|error| proof(&error))?;
    Ok(path.iter().map(of_tlog).collect())
}

/// Checks that a leaf with this hash is at `index` of the tree with this size and root.
///
/// # Errors
///
/// [`LedgerError::Proof`] if it is not.
pub fn check_inclusion(path: &[Hash], size: u64, root: &Hash, index: u64, leaf: &Hash) -> Result<(), LedgerError> {
    let path = path.iter().map(to_tlog).collect();
    tlog_tiles::check_record(&path, size, to_tlog(root), index, to_tlog(leaf)).map_err(|error| proof(&error))
}

/// Checks that the tree of `old_size` leaves with this root is the beginning of the tree of `size` leaves with that root, from
/// the stored hashes of the latter.
///
/// # Errors
///
/// [`LedgerError::Proof`] if it is not.
pub fn check_consistency(
    old_size: u64,
    old_root: &Hash,
    size: u64,
    root_hash: &Hash,
    stored: &dyn HashSource,
) -> Result<(), LedgerError> {
    if old_size > size {
        return Err(LedgerError::Proof(format!("the log has {size} entries, but {old_size} were signed before")));
    }
    // The stored hashes must be those of the signed root before they say anything about an older one.
    for (size, expected) in [(size, root_hash), (old_size, old_root)] {
        if root(size, stored)? != *expected {
            return Err(LedgerError::Proof(format!("the first {size} entries are not those that were signed")));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log in memory.
    #[derive(Default)]
    pub(crate) struct Memory {
        pub(crate) entries: Vec<Vec<u8>>,
        pub(crate) hashes: Vec<Hash>,
    }

    impl HashSource for Memory {
        fn hashes(&self, numbers: &[u64]) -> Result<Vec<Hash>, String> {
            let get = |number: &u64| self.hashes.get(*number as usize).copied().ok_or("a hash is missing".to_owned());
            numbers.iter().map(get).collect()
        }
    }

    impl Memory {
        pub(crate) fn push(&mut self, entry: &[u8]) {
            let (first, hashes) = new_hashes(self.entries.len() as u64, entry, self).unwrap();
            assert_eq!(first, self.hashes.len() as u64);
            self.hashes.extend(hashes);
            self.entries.push(entry.to_vec());
        }

        pub(crate) fn of(entries: &[&[u8]]) -> Self {
            let mut log = Self::default();
            entries.iter().for_each(|entry| log.push(entry));
            log
        }
    }

    #[test]
    fn roots_are_those_of_the_standard() {
        // The test vectors of the reference implementation of RFC 6962 (certificate-transparency, merkle_tree_test).
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let log = Memory::of(&leaves);
        for (size, expected) in (0..).zip(roots) {
            assert_eq!(root(size, &log).unwrap().to_string(), expected, "{size} leaves");
        }
    }

    proptest! {
        #[test]
        fn every_leaf_is_proven_and_no_other(size in 1u64..70, index in 0u64..70, other in 0u64..70, bit in 0usize..256) {
            let mut log = Memory::default();
            (0..size).for_each(|leaf| log.push(&leaf.to_le_bytes()));
            let head = root(size, &log).unwrap();
            let index = index % size;
            let path = inclusion_proof(size, index, &log).unwrap();
            let leaf = leaf_hash(&log.entries[index as usize]);
            check_inclusion(&path, size, &head, index, &leaf).unwrap();
            if other != index {
                prop_assert!(check_inclusion(&path, size, &head, other, &leaf).is_err());
            }
            let mut bytes = *leaf.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check_inclusion(&path, size, &head, index, &Hash::from_bytes(bytes)).is_err());
            prop_assert!(check_inclusion(&path[1.min(path.len())..], size, &head, index, &leaf).is_err() || path.is_empty());
        }

        #[test]
        fn older_heads_are_prefixes_and_changed_logs_are_not(size in 1u64..70, old in 0u64..70, changed in 0u64..70) {
            let (mut log, mut forged) = (Memory::default(), Memory::default());
            let (old, changed) = (old % (size + 1), changed % size);
            for leaf in 0..size {
                log.push(&leaf.to_le_bytes());
                forged.push(&(if leaf == changed { 1000 } else { leaf }).to_le_bytes());
            }
            let (head, old_head) = (root(size, &log).unwrap(), root(old, &log).unwrap());
            check_consistency(old, &old_head, size, &head, &log).unwrap();
            let forged_head = root(size, &forged).unwrap();
            let forged = check_consistency(old, &old_head, size, &forged_head, &forged);
            prop_assert_eq!(forged.is_err(), changed < old);
            prop_assert!(check_consistency(size + 1, &head, size, &head, &log).is_err());
        }
    }
}
