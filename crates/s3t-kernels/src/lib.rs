//! The operations that a transformer block spends its time in, each as one kernel with its own backward pass.
//!
//! On the processor (`flex`) an operation runs as a fused kernel: vectorised, on all threads of the current pool, and with the
//! same bits whatever their number. On every other device, and where a frozen operand is being trained after all, it is
//! composed of Burn's operations; both ways are compared in the tests.
//!
//! # Proof note
//!
//! *Before*: operands are frozen or tracked for gradients. *After*: values and gradients are those of the composed operations
//! up to rounding, and a function of the operands alone. *Why*: rows are independent of each other and each is worked on by
//! one thread in one order; a matrix product adds up each element in an order that depends on the sizes alone; nothing
//! is summed across threads.

#[cfg(feature = "flex")]
mod buffer;
mod composed;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod heads;
#[cfg(feature = "flex")]
mod matrix;
#[cfg(feature = "flex")]
mod rows;

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

/// The version of the kernels' arithmetic: raised with every change that changes a bit of a result.
pub const VERSION: u32 = 1;

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

/// A frozen linear layer, `x W + b`.
///
/// # Shapes
///
/// - `x`: `[rows, inputs]`, `weight`: `[inputs, outputs]`, `bias`: `[outputs]`
/// - result: `[rows, outputs]`
pub fn linear(x: Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if flex::takes(&x) && !is_trained(weight, bias) {
        return flex::linear(x, weight, bias);
    }
    composed::linear(x, weight, bias)
}

/// A frozen linear layer with a low-rank update, `x W + b + scale (x A) B`, without ever making the full weight or its
/// gradient (LoRA: Hu et al. 2021, arXiv 2106.09685, equation 3).
///
/// # Shapes
///
/// - `x`: `[rows, inputs]`, `weight`: `[inputs, outputs]`, `bias`: `[outputs]`
/// - `down`: `[inputs, rank]`, `up`: `[rank, outputs]`
/// - result: `[rows, outputs]`
pub fn linear_low_rank(
    x: Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    down: Tensor<2>,
    up: Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if flex::takes(&x) && !is_trained(weight, bias) {
        return flex::linear_low_rank(x, weight, bias, down, up, scale);
    }
    composed::linear_low_rank(x, weight, bias, down, up, scale)
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

/// A frozen linear layer on the rows of several models, one after the other in equal parts: [`linear_low_rank`] for those with an
/// update, [`linear`] for the others.
///
/// # Shapes
///
/// - as those of [`linear`]
///
/// # Panics
///
/// If the rows cannot be cut into as many parts.
pub fn linear_low_rank_parts(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    parts: &[Option<LowRankFactors>],
) -> Tensor<2> {
    assert!(!parts.is_empty() && x.dims()[0].is_multiple_of(parts.len()), "the rows are cut into equal parts");
    #[cfg(feature = "flex")]
    if flex::takes(x) && !x.is_autodiff() && !is_trained(weight, bias) {
        return flex::linear_low_rank_parts(x, weight, bias, parts);
    }
    composed::linear_low_rank_parts(x, weight, bias, parts)
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

impl<'a> Norm<'a> {
    /// The scale of each channel, and the offsets that layer normalisation has.
    #[cfg(feature = "flex")]
    fn weights(self) -> (&'a Tensor<1>, Option<&'a Tensor<1>>) {
        match self {
            Self::Layer { weight, bias } => (weight, Some(bias)),
            Self::Rms { weight } => (weight, None),
        }
    }
}

/// Normalises the rows of `x`, or of `x + residual`.
///
/// # Shapes
///
/// - `x`, `residual`, result: `[rows, hidden]`
pub fn normalise(x: Tensor<2>, residual: Option<Tensor<2>>, norm: Norm<'_>, epsilon: f64) -> Tensor<2> {
    #[cfg(feature = "flex")]
    {
        let (weight, bias) = norm.weights();
        if flex::takes(&x) && !is_trained(weight, bias) {
            return flex::norm(x, residual, weight, bias, epsilon);
        }
    }
    composed::normalise(x, residual, norm, epsilon)
}

/// Applies an activation.
pub fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if flex::takes(&x) {
        return flex::activate(x, activation);
    }
    composed::activate(x, activation)
}

/// Softmax attention, `softmax(q k' / sqrt(head_dim)) v` head by head. The backward pass computes the shares again instead of
/// keeping them.
///
/// # Shapes
///
/// - `query` and result: `[batch * queries, heads * head_dim]`
/// - `key`, `value`: `[batch * keys, kv_heads * head_dim]`
pub fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, shape: &Arc<AttentionShape>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if flex::takes(&query) {
        return flex::attention(query, key, value, shape);
    }
    composed::attention(query, key, value, shape)
}

#[cfg(feature = "flex")]
fn is_trained<const D: usize>(weight: &Tensor<D>, bias: Option<&Tensor<1>>) -> bool {
    weight.is_tracked() || bias.is_some_and(Tensor::is_tracked)
}

/// The same operations composed of Burn's, on any device: what the kernels are compared with.
pub mod reference {
    pub use crate::composed::{activate, attention, linear, linear_low_rank, linear_low_rank_parts, normalise};
}
