//! The row of the last block's output that a head reads, and the layer before the head.

use burn::tensor::{Int, Tensor, TensorData};
use s3t_kernels::{Activation, activate};
use s3t_peft::Linear;

use crate::Hidden;

/// The token of a record that a head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PooledToken {
    /// The first token.
    First,
    /// The last token that is not padding.
    Last,
}

impl PooledToken {
    /// The position of the token in each record.
    pub fn positions(self, hidden: &Hidden) -> Vec<usize> {
        match self {
            Self::First => vec![0; hidden.lengths.len()],
            Self::Last => hidden.lengths.iter().map(|length| length - 1).collect(),
        }
    }

    /// The row of each record, `[batch, hidden]`.
    pub(crate) fn rows(self, hidden: Hidden) -> Tensor<2> {
        let [batch, tokens, width] = hidden.states.dims();
        match self {
            Self::First => hidden.states.slice([0..batch, 0..1, 0..width]).reshape([batch, width]),
            Self::Last => {
                let row = |(record, length): (usize, &usize)| (record * tokens + length - 1) as i32;
                let last: Vec<i32> = hidden.lengths.iter().enumerate().map(row).collect();
                let last = Tensor::<1, Int>::from_data(TensorData::new(last, [batch]), &hidden.states.device());
                hidden.states.reshape([batch * tokens, width]).select(0, last)
            }
        }
    }
}

/// A frozen layer with tanh between the pooled row and the head, as BERT has it.
#[derive(Debug)]
pub struct Pooler {
    /// Its module, with the name that a model for a task gives it: `bert.pooler.dense`.
    pub module: &'static str,
    /// The layer.
    pub linear: Linear,
}

/// Applies a pooler's layer, `[batch, hidden]` to `[batch, hidden]`.
pub(crate) fn pooled(rows: Tensor<2>, linear: &Linear) -> Tensor<2> {
    activate(linear.forward(rows), Activation::Tanh)
}
