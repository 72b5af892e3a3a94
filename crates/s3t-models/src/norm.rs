//! Normalisations of rows.

use burn::tensor::Tensor;
use s3t_kernels::Norm as Kernel;

/// The kind of a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Layer normalisation (Ba et al. 2016, arXiv 1607.06450), with a weight and a bias.
    Layer,
    /// Root mean square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467), with a weight.
    Rms,
}

/// A normalisation by its module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Its module.
    pub module: &'static str,
    /// Its kind.
    pub kind: NormKind,
    /// The number that is added under the root.
    pub epsilon: f64,
}

/// A normalisation of each row, with its frozen weights.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a model has a few of them, and tensors are handles")]
pub enum Norm {
    /// Layer normalisation.
    Layer {
        /// The scale of each channel, `[hidden]`.
        weight: Tensor<1>,
        /// The offset of each channel, `[hidden]`.
        bias: Tensor<1>,
        /// The number that is added to the variance.
        epsilon: f64,
    },
    /// Root mean square normalisation.
    Rms {
        /// The scale of each channel, `[hidden]`.
        weight: Tensor<1>,
        /// The number that is added to the mean square.
        epsilon: f64,
    },
}

impl Norm {
    /// Normalises rows `[rows, hidden]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.apply(x, None)
    }

    /// Normalises the rows of a sum; both terms are `[rows, hidden]`.
    pub fn of_sum(&self, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        self.apply(x, Some(residual))
    }

    fn apply(&self, x: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
        let (kernel, epsilon) = match self {
            Self::Layer { weight, bias, epsilon } => (Kernel::Layer { weight, bias }, *epsilon),
            Self::Rms { weight, epsilon } => (Kernel::Rms { weight }, *epsilon),
        };
        s3t_kernels::normalise(x, residual, kernel, epsilon)
    }
}
