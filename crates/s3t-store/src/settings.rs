//! The settings of a store.

use s3t_core::digest::DigestBuilder;
use s3t_core::{Digest, LayerGroups, PartitionShape, Plan, Recipe, Sequence, SliceDigests};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// The settings that a store is made for. They never change: other settings are another store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreSettings {
    /// The recipe that all stages share.
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

/// A setting in which two stores differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingDifference {
    /// The setting, as a path in the JSON of the settings: `recipe.training.epochs`.
    pub path: String,
    /// The value here, as JSON, or `its default`.
    pub own: String,
    /// The value there.
    pub other: String,
}

impl SettingDifference {
    /// The first place in which two JSON values differ; `None` if they are equal.
    pub fn of(own: &serde_json::Value, other: &serde_json::Value) -> Option<Self> {
        first_difference("", own, other)
    }
}

impl StoreSettings {
    /// The first setting that differs from `other`; `None` if all are equal.
    ///
    /// # Panics
    ///
    /// Never: settings are JSON.
    pub fn difference(&self, other: &Self) -> Option<SettingDifference> {
        let [one, two] = [self, other].map(|settings| serde_json::to_value(settings).expect("settings are JSON"));
        SettingDifference::of(&one, &two)
    }

    /// The stages over slices with these digests.
    ///
    /// # Errors
    ///
    /// [`StoreError::Core`] if the sequences do not fit the slices.
    pub fn plan(&self, slices: SliceDigests) -> Result<Plan, StoreError> {
        Ok(Plan::new(self.recipe.clone(), self.groups.clone(), &self.sequences, slices)?)
    }

    /// The digest that the ledger's first entry holds.
    pub fn digest(&self) -> Digest {
        DigestBuilder::new("store settings").json(self).finish()
    }
}

fn first_difference(path: &str, one: &serde_json::Value, two: &serde_json::Value) -> Option<SettingDifference> {
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
    // A setting that is left out where it is the default.
    let show = |value: &serde_json::Value| if value.is_null() { "its default".to_owned() } else { value.to_string() };
    Some(SettingDifference { path: path.to_owned(), own: show(one), other: show(two) })
}
