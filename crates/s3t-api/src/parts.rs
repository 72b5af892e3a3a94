//! The parts that several answers share.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A live prefix of a sequence: the sequence and the number of its stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Serving {
    /// The index of the sequence in the shard's list.
    pub sequence: usize,
    /// The usable depth, at least 1.
    pub depth: usize,
}

impl From<s3t_core::Serving> for Serving {
    fn from(serving: s3t_core::Serving) -> Self {
        let s3t_core::Serving { sequence, depth } = serving;
        Self { sequence, depth }
    }
}

/// A slice of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SliceAddress {
    /// The shard, from 0.
    pub shard: u32,
    /// The slice of the shard, from 0.
    pub slice: u32,
}

impl From<s3t_core::SliceAddress> for SliceAddress {
    fn from(address: s3t_core::SliceAddress) -> Self {
        Self { shard: address.shard.0, slice: address.slice.0 }
    }
}

impl fmt::Display for SliceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        s3t_core::SliceAddress::new(self.shard, self.slice).fmt(f)
    }
}

/// A stage and the slices that it is trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageLabel {
    /// The key: 64 hexadecimal digits.
    pub key: String,
    /// The shard.
    pub shard: u32,
    /// The slices, in the order of training.
    pub slices: Vec<u32>,
}

impl From<s3t_engine::StageLabel> for StageLabel {
    fn from(label: s3t_engine::StageLabel) -> Self {
        let slices = label.slices.iter().map(|slice| slice.0).collect();
        Self { key: label.key.to_string(), shard: label.shard.0, slices }
    }
}

impl fmt::Display for StageLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slices: Vec<String> = self.slices.iter().map(ToString::to_string).collect();
        write!(f, "shard {} slices {}", self.shard, slices.join(" "))
    }
}

/// The place where two sets of tensors first differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorDifference {
    /// The name of the tensor.
    pub tensor: String,
    /// The flat position of the first value that differs; `null` if the tensor is missing or has another shape.
    pub position: Option<usize>,
    /// The difference, in words.
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

/// A stage that was trained again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifiedStage {
    /// The stage.
    pub stage: StageLabel,
    /// The first difference between the tensors on disk and those trained again; `null` if every bit is equal.
    pub difference: Option<TensorDifference>,
}

impl From<s3t_engine::VerifiedStage> for VerifiedStage {
    fn from(verified: s3t_engine::VerifiedStage) -> Self {
        let difference = verified.difference.map(|difference| TensorDifference {
            tensor: difference.tensor,
            position: difference.position,
            detail: difference.detail,
        });
        Self { stage: verified.stage.into(), difference }
    }
}

/// An exported adapter of a dead stage that is still there, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemainingExport {
    /// The folder of the adapter.
    pub folder: String,
    /// The reason why the adapter was not removed, and what to do.
    pub reason: String,
    /// `true` if the store tries again with the next erasure; otherwise its own files are gone, and others are left.
    pub pending: bool,
}

impl From<s3t_store::RemainingExport> for RemainingExport {
    fn from(export: s3t_store::RemainingExport) -> Self {
        Self { folder: export.folder.to_string_lossy().into_owned(), reason: export.reason, pending: export.pending }
    }
}

/// Converts every element.
pub(crate) fn all<A, B: From<A>>(found: impl IntoIterator<Item = A>) -> Vec<B> {
    found.into_iter().map(B::from).collect()
}

/// Writes every element as text.
pub(crate) fn texts<T: ToString>(found: impl IntoIterator<Item = T>) -> Vec<String> {
    found.into_iter().map(|value| value.to_string()).collect()
}

/// A path as text; what is not UTF-8 in it is replaced.
pub(crate) fn path_text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}
