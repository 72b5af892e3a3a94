//! Values of shards, where one entry may stand for all shards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::CoreError;

/// One value for each shard, or one value that stands for all shards.
///
/// Most systems have shards that are alike, and figures of 10,000 equal shards should cost as much as those of one. In JSON it
/// is the list of the entries: one entry, or one for each shard.
///
/// ```
/// use s3t_core::PerShard;
///
/// let alike = PerShard::alike(vec![100_u64, 100]);
/// assert_eq!(alike.get(7), &[100, 100]);
/// let each = PerShard::each(vec![vec![100_u64, 100], vec![90, 110]])?;
/// assert_eq!(each.get(1), &[90, 110]);
/// assert_eq!(serde_json::to_string(&alike).unwrap(), "[[100,100]]");
/// # Ok::<(), s3t_core::CoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(with = "Vec<T>")]
#[serde(try_from = "Vec<T>", into = "Vec<T>", bound(serialize = "T: Clone + Serialize"))]
pub struct PerShard<T>(
    /// Never empty.
    Vec<T>,
);

impl<T> PerShard<T> {
    /// The same value for all shards.
    pub fn alike(value: T) -> Self {
        Self(vec![value])
    }

    /// A value for each shard, in the order of the shards. A list with one entry stands for all shards.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] for an empty list.
    pub fn each(values: Vec<T>) -> Result<Self, CoreError> {
        if values.is_empty() {
            return Err(CoreError::field("shards", "have no entries; give one for all shards, or one for each"));
        }
        Ok(Self(values))
    }

    /// The entries: one, or one for each shard.
    pub fn entries(&self) -> &[T] {
        &self.0
    }

    /// `true` if one entry stands for all shards.
    pub fn is_alike(&self) -> bool {
        self.0.len() == 1
    }

    /// The value of a shard, counted from 0.
    ///
    /// # Panics
    ///
    /// If there is an entry for each shard, and the shard is not among them.
    pub fn get(&self, shard: usize) -> &T {
        if self.is_alike() { &self.0[0] } else { &self.0[shard] }
    }

    /// The value of shard 0.
    pub fn first(&self) -> &T {
        &self.0[0]
    }

    /// The same entries, each changed by a function.
    #[must_use]
    pub fn map<U>(&self, function: impl FnMut(&T) -> U) -> PerShard<U> {
        PerShard(self.0.iter().map(function).collect())
    }

    /// One entry in place of many that are equal.
    #[must_use]
    pub fn collapsed(mut self) -> Self
    where
        T: PartialEq,
    {
        if self.0.windows(2).all(|pair| pair[0] == pair[1]) {
            self.0.truncate(1);
        }
        self
    }

    /// Checks the number of entries against the number of shards.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] naming `field`, unless there is one entry or one for each shard.
    pub fn check(&self, field: &str, shards: u32) -> Result<(), CoreError> {
        if self.is_alike() || self.0.len() == shards as usize {
            return Ok(());
        }
        Err(CoreError::field(field, format!("are given for {} shards, not for 1 or {shards}", self.0.len())))
    }
}

impl<T> TryFrom<Vec<T>> for PerShard<T> {
    type Error = CoreError;

    fn try_from(values: Vec<T>) -> Result<Self, CoreError> {
        Self::each(values)
    }
}

impl<T> From<PerShard<T>> for Vec<T> {
    fn from(values: PerShard<T>) -> Self {
        values.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_list_of_entries_both_ways() {
        for text in ["[[1,2]]", "[[1,2],[3,4]]"] {
            let read: PerShard<Vec<u64>> = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        let refusal = serde_json::from_str::<PerShard<u64>>("[]").unwrap_err().to_string();
        assert!(refusal.contains("no entries"), "{refusal}");
    }

    #[test]
    fn entries_are_one_for_all_or_one_for_each() {
        let each = PerShard::each(vec![1, 2, 3]).unwrap();
        assert_eq!((each.get(2), each.is_alike(), each.check("sizes", 3)), (&3, false, Ok(())));
        let refusal = each.check("sizes", 5).unwrap_err().to_string();
        assert!(refusal.contains("`sizes` are given for 3 shards, not for 1 or 5"), "{refusal}");
        let alike = PerShard::each(vec![7; 3]).unwrap().collapsed();
        assert_eq!((alike.entries(), alike.get(9), alike.check("sizes", 5)), (&[7][..], &7, Ok(())));
        assert_eq!(each.clone().collapsed(), each);
    }
}
