//! What a base model can do.

use std::ops::Range;

use burn::tensor::Tensor;
use s3t_core::{Digest, Record};
use s3t_peft::{Adapters, BlockShape};

use crate::BackendError;

/// The residual stream between two blocks: `[batch, tokens, hidden]`.
pub type Hidden = Tensor<3>;

/// A classification head: `logits = pooled W^T + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// `[classes, hidden]`, row-major.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
}

/// A frozen base model.
///
/// # Contract
///
/// - Every method is a function of the model and its arguments, and treats each record of a batch the same whatever the
///   others are.
/// - `run(run(h, a..b), b..c)` equals `run(h, a..c)` bit for bit.
/// - Only blocks with an adapter in `adapters` compute anything else than the base model.
pub trait Backbone: Send + Sync {
    /// The `model_type` of its `config.json`.
    fn model_type(&self) -> &str;

    /// The number of transformer blocks.
    fn blocks(&self) -> usize;

    /// The width of the residual stream.
    fn hidden(&self) -> usize;

    /// The number of tokens of every record's residual stream.
    fn tokens(&self) -> usize;

    /// The shape of a block; all blocks have the same.
    fn block_shape(&self) -> BlockShape;

    /// The images that the model takes, as channels and the length of a side in pixels; `None` if it takes no images.
    fn image_input(&self) -> Option<(u8, u32)>;

    /// The digest of weights, configuration and preprocessing constants: all that results depend on.
    fn digest(&self) -> Digest;

    /// The classification head that came with the model.
    fn classifier(&self) -> Option<&Classifier>;

    /// Checks that the model can take a record.
    ///
    /// # Errors
    ///
    /// [`BackendError::WrongInput`] naming the record, what it is and what the model takes.
    fn check(&self, record: &Record) -> Result<(), BackendError>;

    /// The input of block 0 for checked records: `[records, tokens, hidden]`.
    ///
    /// # Panics
    ///
    /// If a record was not checked.
    fn embed(&self, records: &[&Record]) -> Hidden;

    /// Runs the blocks `range` on their input, with the adapters among them switched on.
    fn run(&self, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden;

    /// What the head sees of the last block's output: `[batch, hidden]`.
    fn pool(&self, hidden: Hidden) -> Tensor<2>;
}
