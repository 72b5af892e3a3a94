//! The names of a store's files and folders, and of its keys'.

use std::path::{Path, PathBuf};

use s3t_core::{SliceAddress, StageKey};

pub(crate) const CATALOGUE: &str = "catalogue.db";
pub(crate) const RECORDS: &str = "records";
pub(crate) const STAGES: &str = "stages";
pub(crate) const LEDGER: &str = "ledger";
pub(crate) const TILES: &str = "tile";
pub(crate) const BUILDING: &str = "building.lock";
pub(crate) const ERASING: &str = "erasing.lock";
pub(crate) const ADDING: &str = "stages.lock";
pub(crate) const PUBLIC_KEY: &str = "key.pub";
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The lock of an export that is being written.
pub(crate) const WRITING: &str = "export.lock";
/// The description of a store of format 1 or 2.
pub(crate) const MANIFEST: &str = "manifest.json";

pub(crate) const SECRET: &str = "store.secret";
pub(crate) const SIGNING: &str = "signing.key";
pub(crate) const SLICES: &str = "slices";

/// The start of a file's name until the file is whole.
pub(crate) const TEMPORARY: &str = ".unfinished-";

/// A slice and how often its records were written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation {
    pub(crate) slice: SliceAddress,
    pub(crate) number: u64,
}

impl Generation {
    /// The generation that the next erasure makes.
    pub(crate) fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }

    /// The name of the file of the slice's records.
    pub(crate) fn records(self) -> String {
        self.with(".records")
    }

    /// The name of the file of the slice's key.
    pub(crate) fn key(self) -> String {
        self.with(".key")
    }

    fn with(self, ending: &str) -> String {
        let Self { slice, number } = self;
        format!("{}-{}.{number}{ending}", slice.shard, slice.slice)
    }

    /// The slice whose records are in a file of this name; `None` for other files.
    pub(crate) fn of_records(name: &str) -> Option<Self> {
        Self::parse(name, ".records")
    }

    /// The slice whose key is in a file of this name; `None` for other files.
    pub(crate) fn of_key(name: &str) -> Option<Self> {
        Self::parse(name, ".key")
    }

    fn parse(name: &str, ending: &str) -> Option<Self> {
        let (address, number) = name.strip_suffix(ending)?.split_once('.')?;
        let (shard, slice) = address.split_once('-')?;
        let slice = SliceAddress::new(shard.parse().ok()?, slice.parse().ok()?);
        let parsed = Self { slice, number: number.parse().ok()? };
        // One name a file: `+1` and `01` are nobody's.
        (parsed.with(ending) == name).then_some(parsed)
    }
}

/// The name of a stage's file.
pub(crate) fn stage_name(key: &StageKey) -> String {
    format!("{key}.stage")
}

/// The key of the stage in a file of this name; `None` for other files.
pub(crate) fn parse_stage_name(name: &str) -> Option<StageKey> {
    let key = name.strip_suffix(".stage")?.parse().ok()?;
    (stage_name(&key) == name).then_some(key)
}

/// The name that an unfinished file will have; `None` for a finished one.
pub(crate) fn of_unfinished(name: &str) -> Option<&str> {
    name.strip_prefix(TEMPORARY)
}

/// The name of a file, finished or not.
pub(crate) fn finished(name: &str) -> &str {
    of_unfinished(name).unwrap_or(name)
}

/// `true` if a file of this name may be in the store's folder itself.
pub(crate) fn is_top(name: &str) -> bool {
    let database = name.strip_prefix(CATALOGUE).is_some_and(|end| ["", "-wal", "-shm", "-journal"].contains(&end));
    database || [ADDING, BUILDING, ERASING, MANIFEST].contains(&name)
}

/// `true` if a folder or file of the ledger's tiles may have this name.
pub(crate) fn is_tile(name: &str) -> bool {
    let digits = name.strip_prefix('x').unwrap_or(name);
    let digits = digits.strip_suffix(".p").unwrap_or(digits);
    name == "entries" || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `true` if a file of this name may be in the folder of keys itself.
pub(crate) fn is_key_ring_file(name: &str) -> bool {
    [SECRET, SIGNING, CHECKPOINT].contains(&name)
}

/// The folder that a store's keys are in unless the pipeline says otherwise: beside the store.
pub(crate) fn keys_beside(store: &Path) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push(".keys");
    store.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_read_back_and_no_other_is(shard: u32, slice: u32, number: u64, byte: [u8; 32], other in ".*") {
            let generation = Generation { slice: SliceAddress::new(shard, slice), number };
            prop_assert_eq!(Generation::of_records(&generation.records()), Some(generation));
            prop_assert_eq!(Generation::of_key(&generation.key()), Some(generation));
            prop_assert_eq!(Generation::of_key(&generation.records()), None);
            let stage = StageKey(s3t_core::Digest::from_bytes(byte));
            prop_assert_eq!(parse_stage_name(&stage_name(&stage)), Some(stage));
            for name in [other.clone(), format!("0{}", generation.records()), format!("+{}", generation.key())] {
                prop_assert_eq!(Generation::of_records(&name).map(Generation::records).unwrap_or(name.clone()), name.clone());
                prop_assert_eq!(Generation::of_key(&name).map(Generation::key).unwrap_or(name.clone()), name);
            }
        }
    }
}
