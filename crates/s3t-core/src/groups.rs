//! Layer groups: which transformer blocks each stage of a sequence may train.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::CoreError;

/// The blocks `start..end`, counted from 0 at the input.
///
/// Blocks are matched by index, never by name: a name prefix such as `layer.1` also matches `layer.10`, and then blocks
/// that hold a deleted record stay on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct BlockRange {
    /// The first block.
    pub start: usize,
    /// One past the last block.
    pub end: usize,
}

impl BlockRange {
    /// `true` if the block is in the range.
    pub const fn contains(self, block: usize) -> bool {
        self.start <= block && block < self.end
    }

    /// The number of blocks.
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// `true` if the range has no block.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The blocks as a range.
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start..self.end
    }
}

impl std::fmt::Display for BlockRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.len() == 1 { write!(f, "{}", self.start) } else { write!(f, "{}-{}", self.start, self.end - 1) }
    }
}

/// The L groups of transformer blocks, the first at the TOP (S3T, section 3.2): group k is trained by stage k.
///
/// The groups are disjoint and consecutive. Blocks below the last group are never trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerGroups {
    groups: Vec<BlockRange>,
    blocks: usize,
}

impl LayerGroups {
    /// Splits `blocks` blocks into `count` groups from the top.
    ///
    /// With `per_group` every group gets that many blocks and the rest, at the bottom, stays frozen. Without it all
    /// blocks are spread evenly, the groups at the top getting one more where it does not come out even.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] if there are fewer blocks than the groups need.
    pub fn from_top(blocks: usize, count: u32, per_group: Option<usize>) -> Result<Self, CoreError> {
        let count = count as usize;
        if count == 0 {
            return Err(CoreError::field("slices", "is 0; use at least 1"));
        }
        if per_group == Some(0) {
            return Err(CoreError::field("blocks_per_slice", "is 0; use at least 1, better 2 or more"));
        }
        let needed = count.saturating_mul(per_group.unwrap_or(1));
        if blocks < needed {
            let problem = format!(
                "needs {needed} blocks for {count} slices but the base model has {blocks}; use at most {} slices",
                blocks / per_group.unwrap_or(1)
            );
            return Err(CoreError::field(if per_group.is_some() { "blocks_per_slice" } else { "slices" }, problem));
        }
        let (even, extra) = (blocks / count, blocks % count);
        let mut end = blocks;
        let groups = (0..count)
            .map(|group| {
                let start = end - per_group.unwrap_or(even + usize::from(group < extra));
                let range = BlockRange { start, end };
                end = start;
                range
            })
            .collect();
        Ok(Self { groups, blocks })
    }

    /// The groups, first the one at the top.
    pub fn groups(&self) -> &[BlockRange] {
        &self.groups
    }

    /// The number of blocks of the base model.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The smallest number of blocks in a group. Below two, training is known to collapse (S3T, section 5).
    pub fn smallest(&self) -> usize {
        self.groups.iter().map(|group| group.len()).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(blocks: usize, count: u32, per_group: Option<usize>, expected: &[(usize, usize)]) {
        let groups = LayerGroups::from_top(blocks, count, per_group).unwrap();
        let found: Vec<_> = groups.groups().iter().map(|group| (group.start, group.end)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_are_cut_from_the_top() {
        check(6, 3, None, &[(4, 6), (2, 4), (0, 2)]);
        check(7, 3, None, &[(4, 7), (2, 4), (0, 2)]);
        check(12, 2, Some(3), &[(9, 12), (6, 9)]);
        check(4, 1, None, &[(0, 4)]);
    }

    #[test]
    fn too_few_blocks_are_refused() {
        for (blocks, count, per_group) in [(2, 3, None), (6, 3, Some(3)), (6, 0, None), (6, 2, Some(0))] {
            assert!(LayerGroups::from_top(blocks, count, per_group).is_err());
        }
    }
}
