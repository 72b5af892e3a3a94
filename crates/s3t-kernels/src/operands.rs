//! The operands of operations that are more than one tensor.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

/// An element-wise function between the layers of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`, Phi the normal distribution function (Hendrycks and Gimpel 2016, arXiv 1606.08415).
    Gelu,
    /// The approximation of GELU with tanh.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

/// The right outputs of rows, and with them the loss.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// One class a row: cross entropy, `-log softmax(x)[class]`.
    Classes(Vec<u32>),
    /// 1 for each class of a row and 0 for the others, row by row: binary cross entropy.
    Labels(Vec<f32>),
    /// Numbers, row by row: the squared difference.
    Values(Vec<f32>),
}

/// The sizes of an attention and which tokens see which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionShape {
    /// Records.
    pub batch: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` neighbouring heads of queries.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// Queries of a record.
    pub queries: usize,
    /// Keys of a record.
    pub keys: usize,
    /// The end of the keys that each query of each record sees.
    pub visible: Visible,
    /// The largest number of keys that a query sees, at least 1: the last ones before the end. `None` sees from the first.
    pub window: Option<usize>,
}

/// The end of the keys that a query sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// All queries of a record have the same end, at least 1: one number for each record.
    ByRecord(Arc<[usize]>),
    /// The first query sees the keys before this number, which is at least 1; each next query sees one key more.
    Causal(usize),
}

impl AttentionShape {
    /// The keys that a query of a record sees.
    ///
    /// ```
    /// use s3t_kernels::{AttentionShape, Visible};
    ///
    /// // Six tokens of one record, each of which sees itself and the two tokens before it.
    /// let shape = AttentionShape {
    ///     batch: 1,
    ///     heads: 4,
    ///     kv_heads: 2,
    ///     head_dim: 8,
    ///     queries: 6,
    ///     keys: 6,
    ///     visible: Visible::Causal(1),
    ///     window: Some(3),
    /// };
    /// assert_eq!(shape.visible(0, 0), 0..1);
    /// assert_eq!(shape.visible(0, 5), 3..6);
    /// ```
    pub fn visible(&self, record: usize, query: usize) -> Range<usize> {
        let end = match &self.visible {
            Visible::ByRecord(ends) => ends[record],
            Visible::Causal(first) => first + query,
        };
        let end = end.min(self.keys);
        let start = self.window.map_or(0, |window| end.saturating_sub(window));
        start..end
    }
}

/// A low-rank update `scale (x A) B` of a layer's output.
#[derive(Debug, Clone)]
pub struct LowRankFactors {
    /// `[inputs, rank]`.
    pub down: Tensor<2>,
    /// `[rank, outputs]`.
    pub up: Tensor<2>,
    /// The scale.
    pub scale: f64,
}

/// A normalisation of rows with its frozen weights, each `[hidden]`.
#[derive(Debug, Clone, Copy)]
pub enum Norm<'a> {
    /// Layer normalisation (Ba et al. 2016, arXiv 1607.06450).
    Layer {
        /// The scale of each channel.
        weight: &'a Tensor<1>,
        /// The offset of each channel.
        bias: &'a Tensor<1>,
    },
    /// Root mean square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467).
    Rms {
        /// The scale of each channel.
        weight: &'a Tensor<1>,
    },
}

/// Tokens of a page.
pub const PAGE: usize = 16;

/// Some of the keys and values that a row sees.
#[derive(Debug, Clone, Copy)]
pub struct CachedPage<'a> {
    /// The values of `CachedHeads::page_values`.
    pub page: &'a [f32],
    /// The places that are used, from the first.
    pub tokens: usize,
}
