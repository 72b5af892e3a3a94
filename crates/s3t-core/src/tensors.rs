//! Parameters as tensors in host memory: values that are saved, hashed and compared bit for bit.
//!
//! A stage holds the parameters of the blocks of its own layer group, a head of its own, and the centroid of its records if it is asked for. [`StageTensors`] says so by its type: a
//! block is a number, not a part of a name, and a chain of stages has one head, the last stage's. The names that a stage's file
//! gives to its tensors (`blocks.4.query.a`, `head.weight`) are written and read here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::DigestBuilder;
use crate::{CoreError, Digest};

/// A tensor in host memory, row-major.
///
/// ```
/// use s3t_core::tensors::HostTensor;
///
/// let identity = HostTensor { shape: vec![2, 2], values: vec![1.0, 0.0, 0.0, 1.0] };
/// assert_eq!(identity.to_bytes()[..4], 1.0_f32.to_le_bytes());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostTensor {
    /// The size along each dimension.
    pub shape: Vec<usize>,
    /// The values, as many as the product of the shape.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// The values as little-endian bytes, as they are written and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// Tensors by name; of another kind `T` where they are on a device.
pub type NamedTensors<T = HostTensor> = BTreeMap<String, T>;

/// The adapters' parameters by block, and in a block by the names that their method declares.
pub type BlockTensors<T = HostTensor> = BTreeMap<usize, NamedTensors<T>>;

/// The name of a block's parameter in a stage's file: `blocks.{block}.{name}`.
pub fn parameter_name(block: usize, name: &str) -> String {
    format!("blocks.{block}.{name}")
}

/// The name of a head's parameter in a stage's file: `head.{name}`.
pub fn head_name(name: &str) -> String {
    format!("head.{name}")
}

/// The name of the centroid in a stage's file.
const CENTROID: &str = "centroid";

/// The trained parameters of a stage, or of a chain of stages.
///
/// ```
/// use s3t_core::tensors::{HostTensor, StageTensors};
///
/// let tensor = |value| HostTensor { shape: vec![1], values: vec![value] };
/// let stage = |block, value| {
///     let mut stage = StageTensors::default();
///     stage.insert(block, "scale", tensor(value));
///     stage.insert_head("weight", tensor(value));
///     stage
/// };
/// let chain = StageTensors::of_chain([stage(3, 1.0), stage(2, 2.0)])?;
/// assert_eq!(chain.blocks.keys().collect::<Vec<_>>(), [&2, &3]);
/// assert_eq!(chain.head.unwrap()["weight"], tensor(2.0));
/// # Ok::<(), s3t_core::CoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTensors<T = HostTensor> {
    /// The parameters of the adapters. A block without parameters has no entry.
    pub blocks: BlockTensors<T>,
    /// The parameters of the stage's own head; `None` where the base model's head answers.
    pub head: Option<NamedTensors<T>>,
    /// The mean of the base model's embeddings of the stage's records, `[hidden]`, for aggregators that route by it. It is made of records,
    /// so it belongs to the stage: the lineage covers it, and it is erased with the stage.
    pub centroid: Option<T>,
}

impl<T> Default for StageTensors<T> {
    fn default() -> Self {
        Self { blocks: BTreeMap::new(), head: None, centroid: None }
    }
}

impl<T> StageTensors<T> {
    /// Sets a parameter of a block and returns the one that had its name.
    pub fn insert(&mut self, block: usize, name: impl Into<String>, tensor: T) -> Option<T> {
        self.blocks.entry(block).or_default().insert(name.into(), tensor)
    }

    /// Sets a parameter of the head and returns the one that had its name.
    pub fn insert_head(&mut self, name: impl Into<String>, tensor: T) -> Option<T> {
        self.head.get_or_insert_default().insert(name.into(), tensor)
    }

    /// The parameters of a chain of stages, the first stage first: the blocks of all stages, and the head and the centroid of the last, which
    /// has seen the records of all.
    ///
    /// # Errors
    ///
    /// [`CoreError::OverlappingBlocks`] if two stages hold the same block: the groups of a chain are disjoint.
    pub fn of_chain(stages: impl IntoIterator<Item = Self>) -> Result<Self, CoreError> {
        let mut chain = Self::default();
        for stage in stages {
            for (block, tensors) in stage.blocks {
                if chain.blocks.insert(block, tensors).is_some() {
                    return Err(CoreError::OverlappingBlocks { block });
                }
            }
            (chain.head, chain.centroid) = (stage.head, stage.centroid);
        }
        Ok(chain)
    }

    /// The parameters by the names that they have in a stage's file, in the order of the names.
    pub fn named(&self) -> BTreeMap<String, &T> {
        let mut named = BTreeMap::new();
        for (block, tensors) in &self.blocks {
            named.extend(tensors.iter().map(|(name, tensor)| (parameter_name(*block, name), tensor)));
        }
        named.extend(self.head.iter().flatten().map(|(name, tensor)| (head_name(name), tensor)));
        named.extend(self.centroid.iter().map(|tensor| (CENTROID.to_owned(), tensor)));
        named
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.blocks.values().map(BTreeMap::len).sum::<usize>()
            + self.head.as_ref().map_or(0, BTreeMap::len)
            + usize::from(self.centroid.is_some())
    }

    /// `true` if there is no parameter at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameters, each replaced by a function of itself.
    pub fn map<U>(&self, mut function: impl FnMut(&T) -> U) -> StageTensors<U> {
        let mut named = |tensors: &NamedTensors<T>| -> NamedTensors<U> {
            tensors.iter().map(|(name, tensor)| (name.clone(), function(tensor))).collect()
        };
        StageTensors {
            blocks: self.blocks.iter().map(|(block, tensors)| (*block, named(tensors))).collect(),
            head: self.head.as_ref().map(&mut named),
            centroid: self.centroid.as_ref().map(&mut function),
        }
    }
}

impl StageTensors {
    /// The parameters from the names that they have in a stage's file.
    ///
    /// # Errors
    ///
    /// [`CoreError::TensorName`] for a name other than `blocks.{block}.{name}`, `head.{name}` and `centroid`.
    ///
    /// ```
    /// use s3t_core::tensors::{HostTensor, NamedTensors, StageTensors};
    ///
    /// let tensor = HostTensor { shape: vec![1], values: vec![0.5] };
    /// let of_file = NamedTensors::from([("blocks.11.scale".into(), tensor.clone())]);
    /// assert_eq!(StageTensors::from_named(of_file)?.blocks[&11]["scale"], tensor);
    /// assert!(StageTensors::from_named(NamedTensors::from([("pooler.scale".into(), tensor)])).is_err());
    /// # Ok::<(), s3t_core::CoreError>(())
    /// ```
    pub fn from_named(tensors: NamedTensors) -> Result<Self, CoreError> {
        let mut stage = Self::default();
        for (full, tensor) in tensors {
            if let Some(name) = full.strip_prefix("head.") {
                stage.insert_head(name, tensor);
            } else if let Some((block, name)) = block_and_name(&full) {
                stage.insert(block, name, tensor);
            } else if full == CENTROID {
                stage.centroid = Some(tensor);
            } else {
                return Err(CoreError::TensorName { name: full });
            }
        }
        Ok(stage)
    }

    /// The digest of names, shapes and bits.
    pub fn digest(&self) -> Digest {
        let mut builder = DigestBuilder::new("tensors");
        for (name, tensor) in self.named() {
            builder.bytes(name.as_bytes()).number(tensor.shape.len() as u64);
            for size in &tensor.shape {
                builder.number(*size as u64);
            }
            builder.bytes(&tensor.to_bytes());
        }
        builder.finish()
    }

    /// The first difference in bits from other parameters, in the order of the names; `None` if they are equal.
    ///
    /// Compares bits, not values: `0.0` and `-0.0` differ, and a NaN equals itself.
    pub fn first_difference(&self, other: &Self) -> Option<TensorDifference> {
        let difference =
            |tensor: &str, position, detail: String| TensorDifference { tensor: tensor.into(), position, detail };
        let (one, other) = (self.named(), other.named());
        for (name, left) in &one {
            let Some(right) = other.get(name) else {
                return Some(difference(name, None, "only the first has it".into()));
            };
            if left.shape != right.shape {
                return Some(difference(name, None, format!("shapes {:?} and {:?}", left.shape, right.shape)));
            }
            let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
            if let Some(position) = left.values.iter().zip(&right.values).position(differ) {
                let (a, b) = (left.values[position], right.values[position]);
                let detail = format!("{a:e} ({:08x}) and {b:e} ({:08x})", a.to_bits(), b.to_bits());
                return Some(difference(name, Some(position), detail));
            }
        }
        let extra = other.keys().find(|name| !one.contains_key(*name))?;
        Some(difference(extra, None, "only the second has it".into()))
    }
}

/// The block and the name inside it. A number is read as it is written: `blocks.04.scale` is no parameter of block 4.
fn block_and_name(full: &str) -> Option<(usize, &str)> {
    let (number, name) = full.strip_prefix("blocks.")?.split_once('.')?;
    let block: usize = number.parse().ok()?;
    (parameter_name(block, name) == full).then_some((block, name))
}

/// The first place where two sets of tensors differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorDifference {
    /// The name of the tensor in a stage's file.
    pub tensor: String,
    /// The flat position of the first value that differs; `None` if the tensor is missing or has another shape.
    pub position: Option<usize>,
    /// The difference in words.
    pub detail: String,
}

impl fmt::Display for TensorDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "tensor `{}` position {position}: {}", self.tensor, self.detail),
            None => write!(f, "tensor `{}`: {}", self.tensor, self.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tensors(values: &[(&str, &[f32])]) -> StageTensors {
        let tensor = |values: &[f32]| HostTensor { shape: vec![values.len()], values: values.to_vec() };
        let named = values.iter().map(|(name, values)| ((*name).to_owned(), tensor(values))).collect();
        StageTensors::from_named(named).unwrap()
    }

    #[test]
    fn differences_are_found_in_bits() {
        let (a, b, c) = ("blocks.0.a", "blocks.1.b", "head.c");
        let base = tensors(&[(a, &[1.0, 2.0]), (b, &[0.0])]);
        assert_eq!(base.first_difference(&base.clone()), None);
        for (other, tensor, position) in [
            (tensors(&[(a, &[1.0, 2.5]), (b, &[0.0])]), a, Some(1)),
            (tensors(&[(a, &[1.0, 2.0]), (b, &[-0.0])]), b, Some(0)),
            (tensors(&[(a, &[1.0, 2.0])]), b, None),
            (tensors(&[(a, &[1.0, 2.0]), (b, &[0.0]), (c, &[0.0])]), c, None),
            (tensors(&[(a, &[1.0]), (b, &[0.0])]), a, None),
        ] {
            let found = base.first_difference(&other).unwrap();
            assert_eq!((found.tensor.as_str(), found.position), (tensor, position));
            assert_ne!(base.digest(), other.digest());
        }
    }

    #[test]
    fn names_that_are_no_parameters_are_refused() {
        for name in [
            "pooler.weight",
            "blocks.x.a",
            "blocks.04.a",
            "blocks.+4.a",
            "blocks.4",
            "head",
            "blocks..a",
            "centroid.a",
            "centroids",
        ] {
            let tensor = HostTensor { shape: vec![0], values: Vec::new() };
            let named = NamedTensors::from([(name.to_owned(), tensor)]);
            let error = StageTensors::from_named(named).unwrap_err();
            assert_eq!(error, CoreError::TensorName { name: name.into() });
        }
    }

    #[test]
    fn a_block_belongs_to_one_stage_of_a_chain() {
        let [one, two] = [tensors(&[("blocks.3.a", &[1.0])]), tensors(&[("blocks.3.b", &[1.0])])];
        assert_eq!(StageTensors::of_chain([one, two]), Err(CoreError::OverlappingBlocks { block: 3 }));
    }

    proptest! {
        /// The file's names are read back as what was written, whatever a method calls its parameters.
        #[test]
        fn names_are_read_back(
            blocks in proptest::collection::btree_map(
                any::<usize>(),
                proptest::collection::btree_map(".*", any::<f32>(), 1..4),
                0..4,
            ),
            head in proptest::option::of(proptest::collection::btree_map(".*", any::<f32>(), 1..4)),
            centroid in any::<Option<f32>>(),
        ) {
            let host = |value: &f32| HostTensor { shape: vec![1], values: vec![*value] };
            let stage = StageTensors { blocks, head, centroid }.map(host);
            let named: NamedTensors = stage.named().into_iter().map(|(name, tensor)| (name, tensor.clone())).collect();
            prop_assert_eq!(named.len(), stage.len());
            let read = StageTensors::from_named(named).unwrap();
            prop_assert_eq!(read.first_difference(&stage), None);
            prop_assert_eq!(read.digest(), stage.digest());
        }

        /// Stages of disjoint blocks make the same chain in any order of the blocks, but head and centroid are the last one's.
        #[test]
        fn a_chain_has_all_blocks_and_the_last_head(order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let stage = |block: &usize| {
                let mut stage = StageTensors::default();
                stage.insert(*block, "a", *block);
                stage.insert_head("weight", *block);
                stage.centroid = Some(*block);
                stage
            };
            let chain = StageTensors::of_chain(order.iter().map(stage)).unwrap();
            prop_assert_eq!(chain.blocks.keys().copied().collect::<Vec<_>>(), (0..6).collect::<Vec<_>>());
            prop_assert_eq!(&chain.head.unwrap()["weight"], order.last().unwrap());
            prop_assert_eq!(chain.centroid.as_ref(), order.last());
        }
    }
}
