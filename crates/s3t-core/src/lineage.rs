//! Stage lineage and keys: everything a stage is a function of, and the hash of it.
//!
//! # Proof note
//!
//! *Before*: a stage's tensors are computed by a deterministic program whose only inputs are its lineage, the records
//! whose digests the lineage names, and the tensors of the parent lineage. *After*: equal keys mean equal tensors, bit
//! for bit, and a tensor whose lineage does not name a slice's digest was computed without the records that make that
//! digest. *Why*: the key hashes every input (BLAKE3, collision resistant); the seed is derived from the key; induction
//! over the parents.
//!
//! # Keys by another program
//!
//! Every hash is BLAKE3 in its mode for deriving keys, with the context `s3t 2026 NAME`. Its input is a list of fields, each preceded
//! by its length in bytes as 64 bits, little-endian. A number is a field of 8 bytes, little-endian.
//!
//! 1. `recipe`: one field, the recipe in [canonical JSON](crate::canonical). The result is the key before the first stage.
//! 2. `stage`, for each stage of the chain: the key before it (32 bytes), the digest of its slice (32 bytes), the first block of its
//!    group and the block after the last. The result is the stage's key.
//! 3. `stage seed`: one field, the key. The result is the seed of everything random in the stage.
//!
//! `xtask/golden/lineages.py` is these three steps in Python; it wrote `tests/golden/lineage-keys.json`, which the tests of this crate
//! read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::DigestBuilder;
use crate::groups::{BlockRange, LayerGroups};
use crate::{CoreError, Digest, Task};

/// The version of the lineage format. It is part of every key: a change in what training computes raises it.
pub const FORMAT: u32 = 2;

/// The key of a stage: the digest of its lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StageKey(pub Digest);

impl StageKey {
    /// The seed of everything random in the stage.
    pub fn seed(&self) -> [u8; 32] {
        *DigestBuilder::new("stage seed").digest(&self.0).finish().as_bytes()
    }

    /// The first twelve hexadecimal digits.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl std::fmt::Display for StageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for StageKey {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        text.parse().map(Self)
    }
}

/// The arithmetic that the bits come from. Equal lineages on equal environments give equal bits; on another environment the
/// same stage has another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumericEnvironment {
    /// The tensor backend: `flex`, `ndarray`, `cuda`, `vulkan`, `wgpu`.
    pub backend: String,
    /// The library and version that computes, for example `burn 0.22.1`.
    pub library: String,
    /// The processor architecture, for example `x86_64`, or the card; [`ANY`](Self::ANY) where bits do not depend on it.
    pub architecture: String,
    /// The vector instructions that change the order of additions, sorted.
    pub instructions: Vec<String>,
    /// The number format of activations and parameters.
    pub precision: String,
    /// A digest of what some fixed computations give; empty where bits are not promised.
    #[serde(default)]
    pub probe: String,
}

impl NumericEnvironment {
    /// The architecture of an arithmetic that every machine has.
    pub const ANY: &str = "any";
}

impl std::fmt::Display for NumericEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backend, library, architecture, instructions, precision, probe } = self;
        if architecture == Self::ANY && instructions.is_empty() {
            write!(f, "{library}, {precision}")?;
            return if probe.is_empty() { Ok(()) } else { write!(f, " (self-test failed: {probe})") };
        }
        write!(f, "{library} {backend} {precision} on {architecture}")?;
        // A card has neither.
        if instructions.is_empty() && probe.is_empty() {
            Ok(())
        } else {
            write!(f, " ({}; {probe})", instructions.join(", "))
        }
    }
}

/// The part of a lineage that all stages of a store share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// [`FORMAT`].
    pub format: u32,
    /// The digest of the base model: weights, configuration, tokenizer and preprocessing constants.
    pub base: Digest,
    /// The PEFT method with all its fields.
    pub peft: Value,
    /// The training settings with all their fields.
    pub training: Value,
    /// The task.
    pub task: Task,
    /// The numeric environment.
    pub environment: NumericEnvironment,
}

impl Recipe {
    fn digest(&self) -> Digest {
        DigestBuilder::new("recipe").json(self).finish()
    }
}

/// Everything stage k of a sequence is a function of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The part that all stages share.
    pub recipe: Recipe,
    /// The layer groups 1..k, the first at the top. The last is the one this stage trains.
    pub groups: Vec<BlockRange>,
    /// The digests of the slices 1..k in sequence order.
    pub slices: Vec<Digest>,
}

impl Lineage {
    /// The stage's depth k, from 1.
    pub fn depth(&self) -> usize {
        self.slices.len()
    }

    /// The key: the last of the chain of keys for these slices and groups.
    pub fn key(&self) -> StageKey {
        let keys = StageKeys::new(&self.recipe);
        self.slices
            .iter()
            .zip(&self.groups)
            .fold(keys.root, |parent, (slice, group)| StageKeys::next(parent, slice, *group))
    }

    /// The lineage of the stage before this one; `None` for a first stage.
    pub fn parent(&self) -> Option<Self> {
        let depth = self.depth().checked_sub(1).filter(|depth| *depth > 0)?;
        Some(Self {
            recipe: self.recipe.clone(),
            groups: self.groups[..depth].to_vec(),
            slices: self.slices[..depth].to_vec(),
        })
    }

    /// The blocks this stage trains; empty for a lineage without groups.
    pub fn trained(&self) -> BlockRange {
        self.groups.last().copied().unwrap_or(BlockRange { start: 0, end: 0 })
    }
}

/// Computes the keys of a whole prefix tree, each from its parent's, so that planning hashes the recipe once.
pub(crate) struct StageKeys {
    root: StageKey,
}

impl StageKeys {
    pub(crate) fn new(recipe: &Recipe) -> Self {
        Self { root: StageKey(recipe.digest()) }
    }

    /// The keys of the prefixes of one sequence, given its slices' digests.
    pub(crate) fn chain(&self, slices: &[Digest], groups: &LayerGroups) -> Vec<StageKey> {
        let mut key = self.root;
        let step = |(slice, group): (&Digest, &BlockRange)| {
            key = Self::next(key, slice, *group);
            key
        };
        slices.iter().zip(groups.groups()).map(step).collect()
    }

    fn next(parent: StageKey, slice: &Digest, group: BlockRange) -> StageKey {
        let mut builder = DigestBuilder::new("stage");
        builder.digest(&parent.0).digest(slice).number(group.start as u64).number(group.end as u64);
        StageKey(builder.finish())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn recipe() -> Recipe {
        Recipe {
            format: FORMAT,
            base: DigestBuilder::new("base").finish(),
            peft: json!({"type": "lora", "rank": 4}),
            training: json!({"epochs": 1, "learning_rate": 0.001}),
            task: Task::Classification { classes: 3 },
            environment: NumericEnvironment {
                backend: "flex".into(),
                library: "burn 0.22.1".into(),
                architecture: "x86_64".into(),
                instructions: vec!["avx2".into()],
                precision: "f32".into(),
                probe: String::new(),
            },
        }
    }

    fn digest(number: u64) -> Digest {
        DigestBuilder::new("slice").number(number).finish()
    }

    fn lineage() -> Lineage {
        let groups = LayerGroups::from_top(4, 2, None).unwrap().groups().to_vec();
        Lineage { recipe: recipe(), groups, slices: vec![digest(1), digest(2)] }
    }

    #[test]
    fn key_of_a_lineage_is_the_end_of_its_chain() {
        let groups = LayerGroups::from_top(4, 2, None).unwrap();
        let chain = StageKeys::new(&recipe()).chain(&[digest(1), digest(2)], &groups);
        assert_eq!(chain[1], lineage().key());
        assert_eq!(chain[0], lineage().parent().unwrap().key());
        assert_eq!(lineage().parent().unwrap().parent(), None);
    }

    #[test]
    fn every_part_of_the_lineage_changes_the_key_and_the_seed() {
        let base = lineage();
        let change = |change: &dyn Fn(&mut Lineage)| {
            let mut other = base.clone();
            change(&mut other);
            other
        };
        let others = [
            change(&|l| l.recipe.format += 1),
            change(&|l| l.recipe.base = digest(9)),
            change(&|l| l.recipe.peft = json!({"type": "lora", "rank": 8})),
            change(&|l| l.recipe.training = json!({"epochs": 2, "learning_rate": 0.001})),
            change(&|l| l.recipe.task = Task::MultiLabel { classes: 3 }),
            change(&|l| l.recipe.environment.instructions.push("avx512f".into())),
            change(&|l| l.groups[1].start += 1),
            change(&|l| l.slices.swap(0, 1)),
            change(&|l| l.slices[0] = digest(7)),
            base.parent().unwrap(),
        ];
        for other in others {
            assert_ne!(other.key(), base.key());
            assert_ne!(other.key().seed(), base.key().seed());
        }
    }

    #[test]
    fn a_lineage_survives_json_with_the_same_key() {
        let text = serde_json::to_string(&lineage()).unwrap();
        assert_eq!(serde_json::from_str::<Lineage>(&text).unwrap().key(), lineage().key());
    }
}
