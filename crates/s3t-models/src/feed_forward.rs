//! The feed-forward sublayer of a block.

use burn::tensor::Tensor;
use s3t_kernels::{Activation, activate};
use s3t_peft::{BlockAdapter, Linear, LinearSite};

/// A feed-forward sublayer with its frozen layers.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has a few of them, and tensors are handles")]
pub enum FeedForward {
    /// `down(activation(up(x)))`.
    Plain {
        /// `[hidden]` to `[inner]`.
        up: Linear,
        /// `[inner]` to `[hidden]`.
        down: Linear,
        /// The function between the layers.
        activation: Activation,
    },
    /// `down(activation(gate(x)) * up(x))` (Shazeer 2020, arXiv 2002.05202).
    Gated {
        /// `[hidden]` to `[inner]`.
        gate: Linear,
        /// `[hidden]` to `[inner]`.
        up: Linear,
        /// `[inner]` to `[hidden]`.
        down: Linear,
        /// The function of the gate.
        activation: Activation,
    },
}

impl FeedForward {
    /// A linear layer; `None` at a site that this kind does not have.
    pub fn linear(&self, site: LinearSite) -> Option<&Linear> {
        match (self, site) {
            (Self::Gated { gate, .. }, LinearSite::Gate) => Some(gate),
            (Self::Plain { up, .. } | Self::Gated { up, .. }, LinearSite::Up) => Some(up),
            (Self::Plain { down, .. } | Self::Gated { down, .. }, LinearSite::Down) => Some(down),
            _ => None,
        }
    }

    /// Runs the sublayer on rows `[rows, hidden]`.
    pub fn forward(&self, x: Tensor<2>, adapter: &dyn BlockAdapter) -> Tensor<2> {
        let (inner, down) = match self {
            Self::Gated { gate, up, down, activation } => {
                let gate = activate(adapter.linear(LinearSite::Gate, x.clone(), gate), *activation);
                (gate * adapter.linear(LinearSite::Up, x, up), down)
            }
            Self::Plain { up, down, activation } => {
                (activate(adapter.linear(LinearSite::Up, x, up), *activation), down)
            }
        };
        adapter.linear(LinearSite::Down, inner, down)
    }
}
