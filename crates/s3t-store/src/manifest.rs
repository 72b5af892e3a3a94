//! The manifest: what the store is for, and what was deleted from it.

use std::path::Path;

use s3t_core::{Digest, LayerGroups, PartitionShape, Plan, Recipe, Sequence, SliceAddress, SliceDigests};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::files::write_atomically;

/// The format that this program reads and writes. 2: records have targets for several tasks.
pub(crate) const FORMAT: u32 = 2;

/// What a store is made for. It never changes: other settings are another store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreSettings {
    /// What all stages share.
    pub recipe: Recipe,
    /// The layer groups.
    pub groups: LayerGroups,
    /// Shards and slices.
    pub shape: PartitionShape,
    /// The partitioner with its fields.
    pub partitioner: serde_json::Value,
    /// The sequences of each shard.
    pub sequences: Vec<Vec<Sequence>>,
    /// The class names.
    pub labels: Vec<String>,
}

impl StoreSettings {
    /// The first part that differs from `other`, as JSON path and both values; `None` if they are equal.
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let one = serde_json::to_value(self).unwrap_or_default();
        let two = serde_json::to_value(other).unwrap_or_default();
        first_difference("", &one, &two)
    }
}

fn first_difference(path: &str, one: &serde_json::Value, two: &serde_json::Value) -> Option<(String, String, String)> {
    if one == two {
        return None;
    }
    if let (Some(one), Some(two)) = (one.as_object(), two.as_object()) {
        let keys: std::collections::BTreeSet<_> = one.keys().chain(two.keys()).collect();
        return keys.into_iter().find_map(|key| {
            let null = serde_json::Value::Null;
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            first_difference(&path, one.get(key).unwrap_or(&null), two.get(key).unwrap_or(&null))
        });
    }
    Some((path.to_owned(), one.to_string(), two.to_string()))
}

/// A record whose deletion was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The keyed digest of its id.
    pub record: Digest,
    /// The slice it is erased from.
    pub address: SliceAddress,
}

/// The manifest of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format version.
    pub format: u32,
    /// What the store is for.
    pub settings: StoreSettings,
    /// The digest of each slice's records, `[shard][slice]`.
    pub slices: SliceDigests,
    /// How often deletions were made effective.
    pub epoch: u64,
    /// Keyed digests of the ids of deleted records.
    pub deleted_records: Vec<Digest>,
    /// Keyed digests of the ids of deleted subjects.
    pub deleted_subjects: Vec<Digest>,
    /// Records whose deletion was accepted but whose bytes may still be on disk.
    pub pending: Vec<Pending>,
}

impl Manifest {
    /// The stages that the store should hold, derived from the settings and the slices as they are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Core`] if the sequences do not fit the slices.
    pub fn plan(&self) -> Result<Plan, StoreError> {
        let StoreSettings { recipe, groups, sequences, .. } = &self.settings;
        Ok(Plan::new(recipe.clone(), groups.clone(), sequences, self.slices.clone())?)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let damaged = |error: serde_json::Error| StoreError::Damaged { path: path.into(), problem: error.to_string() };
        let body = serde_json::to_value(self).map_err(damaged)?;
        let file = serde_json::json!({ "checksum": checksum(&body), "manifest": body });
        write_atomically(path, format!("{file:#}\n").as_bytes())
    }

    pub(crate) fn read(path: &Path) -> Result<Self, StoreError> {
        let text = std::fs::read_to_string(path).map_err(StoreError::io("read", path))?;
        let damaged = |problem: String| StoreError::Damaged { path: path.into(), problem };
        let mut file: serde_json::Value = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let body = file["manifest"].take();
        // The format comes first: another format may be checked and laid out in another way.
        match body["format"].as_u64().and_then(|format| u32::try_from(format).ok()) {
            Some(found) if found != FORMAT => {
                return Err(StoreError::OtherFormat { path: path.into(), found, known: FORMAT });
            }
            Some(_) => {}
            None => return Err(damaged("it has no format number".into())),
        }
        if file["checksum"].as_str() != Some(&checksum(&body)) {
            return Err(damaged("its checksum does not match".into()));
        }
        serde_json::from_value(body).map_err(|error| damaged(error.to_string()))
    }
}

fn checksum(body: &serde_json::Value) -> String {
    s3t_core::digest::DigestBuilder::new("manifest").json(body).finish().to_string()
}
