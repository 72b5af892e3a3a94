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
#[cfg(feature = "flex")]
mod by_row;
#[cfg(all(feature = "flex", target_arch = "x86_64"))]
mod by_tiles;
#[cfg(feature = "flex")]
mod bytes;
#[cfg(feature = "flex")]
mod cached;
mod composed;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod halves;
#[cfg(feature = "flex")]
mod heads;
mod instructions;
mod levels;
#[cfg(feature = "flex")]
mod losses;
#[cfg(feature = "flex")]
mod matrix;
#[cfg(feature = "flex")]
mod nibbles;
mod operands;
#[cfg(feature = "flex")]
mod packed;
#[cfg(feature = "flex")]
mod products;
#[cfg(feature = "flex")]
mod rows;
#[cfg(feature = "flex")]
mod streamed;
#[cfg(feature = "flex")]
mod tensors;
#[cfg(feature = "flex")]
mod tiles;
#[cfg(feature = "flex")]
mod turned;
mod weight;

use std::sync::Arc;

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
pub use cached::{CachedHeads, CachedRow, cached_attention};
pub use instructions::Instructions;
pub use operands::{Activation, AttentionShape, CachedPage, LowRankFactors, Norm, PAGE, Targets, Visible};
pub use weight::Weight;

/// The arithmetic of the processor kernels, the same on every machine: raised with every change that changes a bit of a result.
pub const ARITHMETIC: &str = "s3t-arithmetic 1";

/// The product of two matrices, either of which may be trained.
///
/// # Shapes
///
/// - `a`: `[rows, inner]`, `b`: `[inner, columns]`
/// - result: `[rows, columns]`
pub fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if tensors::takes(&a) {
        return flex::matmul(a, b);
    }
    a.matmul(b)
}

/// The product `x W` with weights that are frozen, as [`matmul`] with [`Weight::full`]: `x` is never rounded, whatever form the weights
/// are in. The full weight is made, and kept for the backward pass, only of those that are rounded.
///
/// # Shapes
///
/// - `x`: `[rows, inputs]`, `weight`: `[inputs, outputs]`
/// - result: `[rows, outputs]`
pub fn matmul_frozen(x: Tensor<2>, weight: &Weight) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if weight.is_packed() && tensors::takes(&x) {
        return flex::linear(x, weight, None);
    }
    matmul(x, weight.full())
}

/// The mean loss of rows of outputs: over the rows for [`Targets::Classes`], over all outputs otherwise.
///
/// # Shapes
///
/// - `x`: `[rows, outputs]`
/// - result: `[1]`
///
/// # Panics
///
/// If there are not as many targets as rows or outputs, or a class is none of the outputs.
pub fn loss(x: Tensor<2>, targets: &Arc<Targets>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if tensors::takes(&x) {
        return flex::loss(x, targets);
    }
    composed::loss(x, targets)
}

/// A linear layer, `x W + b`, made for weights that are frozen.
///
/// # Shapes
///
/// - `x`: `[rows, inputs]`, `weight`: `[inputs, outputs]`, `bias`: `[outputs]`
/// - result: `[rows, outputs]`
pub fn linear(x: Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if tensors::takes(&x) {
        return if weight.is_tracked() || is_trained(bias) {
            let y = flex::matmul(x, weight.full());
            match bias {
                Some(bias) => y + bias.clone().unsqueeze::<2>(),
                None => y,
            }
        } else {
            flex::linear(x, weight, bias)
        };
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
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    down: Tensor<2>,
    up: Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if tensors::takes(&x) {
        return if weight.is_tracked() || is_trained(bias) {
            let update = flex::matmul(flex::matmul(x.clone(), down), up).mul_scalar(scale);
            linear(x, weight, bias) + update
        } else {
            flex::linear_low_rank(x, weight, bias, down, up, scale)
        };
    }
    composed::linear_low_rank(x, weight, bias, down, up, scale)
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
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    parts: &[Option<LowRankFactors>],
) -> Tensor<2> {
    assert!(!parts.is_empty() && x.dims()[0].is_multiple_of(parts.len()), "the rows are cut into equal parts");
    #[cfg(feature = "flex")]
    if tensors::takes(x) && !x.is_autodiff() && !(weight.is_tracked() || is_trained(bias)) {
        return flex::linear_low_rank_parts(x, weight, bias, parts);
    }
    composed::linear_low_rank_parts(x, weight, bias, parts)
}

/// As [`linear_low_rank_parts`], with bits of a row that do not depend on how many rows there are. On other devices than the
/// processor that holds as far as it does for their products.
///
/// # Shapes
///
/// - as those of [`linear`]
///
/// # Panics
///
/// If the rows cannot be cut into as many parts.
pub fn linear_by_row(
    x: &Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    parts: &[Option<LowRankFactors>],
) -> Tensor<2> {
    assert!(!parts.is_empty() && x.dims()[0].is_multiple_of(parts.len()), "the rows are cut into equal parts");
    #[cfg(feature = "flex")]
    if tensors::takes(x) && !x.is_autodiff() && !(weight.is_tracked() || is_trained(bias)) {
        return flex::linear_by_row(x, weight, bias, parts);
    }
    composed::linear_low_rank_parts(x, weight, bias, parts)
}

#[cfg(feature = "flex")]
impl<'a> Norm<'a> {
    /// The scale of each channel, and the offsets that layer normalisation has.
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
        if tensors::takes(&x) && !(weight.is_tracked() || is_trained(bias)) {
            return flex::norm(x, residual, weight, bias, epsilon);
        }
    }
    composed::normalise(x, residual, norm, epsilon)
}

/// Applies an activation.
pub fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if tensors::takes(&x) {
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
    if tensors::takes(&query) {
        return flex::attention(query, key, value, shape);
    }
    composed::attention(query, key, value, shape)
}

#[cfg(feature = "flex")]
fn is_trained(bias: Option<&Tensor<1>>) -> bool {
    bias.is_some_and(Tensor::is_tracked)
}

/// The same operations composed of Burn's, on any device: what the kernels are compared with.
pub mod reference {
    pub use crate::composed::{activate, attention, linear, linear_low_rank, linear_low_rank_parts, loss, normalise};
}
