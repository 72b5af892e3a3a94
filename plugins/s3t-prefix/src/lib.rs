//! Prefix tuning (Li and Liang 2021, arXiv 2101.00190) and deep prompt tuning (Jia et al. 2022, arXiv 2203.12119).
//!
//! Both give every block of a layer group parameters of its own, so that switching the group off takes all of them with it.
//! (Prompt tokens at the input alone would lie below all blocks: they would belong to no group, and every stage would have
//! to share tokens that some of them may not have seen.)
//!
//! # Proof note
//!
//! *Before*: the base weights are frozen and shared. *After* an adapter is dropped: the block computes what it computed
//! before, bit for bit. *Why*: a prefix stands beside the block's own keys and values, and prompt tokens are put before the
//! block's input and taken off its output; neither touches a weight. With either of them a block does not start as the
//! base model's: attention sees more than the tokens from the first step on.

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::{
    BlockAdapter, BlockParameters, BlockShape, Init, Interchange, KeyValuePrefix, ParameterSpec, PeftError, PeftMethod,
    s3t_core,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The standard deviation of the starting values, as of the embeddings of transformers.
const STD: f64 = 0.02;

/// The largest length: far above useful lengths, far below an overflow.
const MAX_LENGTH: usize = 4096;

/// Prefix tuning: attention of every adapted block sees `length` learnt keys and values before those of the tokens. Parameters
/// of a block: `2 length kv_heads head_dim`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prefix {
    /// Learnt keys and values of a block, at least 1.
    pub length: usize,
}

impl Default for Prefix {
    fn default() -> Self {
        Self { length: 8 }
    }
}

#[typetag::serde(name = "prefix")]
impl PeftMethod for Prefix {
    fn check(&self, _block: &BlockShape) -> Result<(), PeftError> {
        check_length(self.length)
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        let shape = [block.kv_heads, self.length, block.head_dim];
        ["prefix.keys", "prefix.values"].map(|name| ParameterSpec::new(name, shape, Init::Normal { std: STD })).into()
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        let shape = [block.kv_heads, self.length, block.head_dim];
        let (keys, values) = (parameters.get("prefix.keys", shape)?, parameters.get("prefix.values", shape)?);
        Ok(Box::new(PrefixAdapter(KeyValuePrefix { keys, values })))
    }

    fn interchange(&self, _block: &BlockShape) -> Result<Interchange, PeftError> {
        let reason = "PEFT gives every block a prefix and moves the positions of the tokens, but here only the live blocks have one";
        Err(PeftError::NoInterchange { method: "prefix".into(), reason: reason.into() })
    }
}

s3t_core::plugin!(PeftMethod, "prefix", Prefix);

struct PrefixAdapter(KeyValuePrefix);

impl BlockAdapter for PrefixAdapter {
    fn key_value_prefix(&self) -> Option<KeyValuePrefix> {
        Some(self.0.clone())
    }
}

/// Deep prompt tuning: every adapted block gets `length` learnt tokens before its input, which are taken off its output.
/// Parameters of a block: `length hidden`.
///
/// # Proof note
///
/// *After* the adapter is dropped: the block's own tokens are what they were, because the learnt ones were cut off its
/// output before the next block saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prompt {
    /// Learnt tokens of a block, at least 1.
    pub length: usize,
}

impl Default for Prompt {
    fn default() -> Self {
        Self { length: 8 }
    }
}

#[typetag::serde(name = "prompt")]
impl PeftMethod for Prompt {
    fn check(&self, _block: &BlockShape) -> Result<(), PeftError> {
        check_length(self.length)
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        vec![ParameterSpec::new("prompt.tokens", [self.length, block.hidden], Init::Normal { std: STD })]
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        Ok(Box::new(PromptAdapter(parameters.get("prompt.tokens", [self.length, block.hidden])?)))
    }

    fn interchange(&self, _block: &BlockShape) -> Result<Interchange, PeftError> {
        let reason = "PEFT puts one prompt before the input of the whole model, but here each live block has its own";
        Err(PeftError::NoInterchange { method: "prompt".into(), reason: reason.into() })
    }
}

s3t_core::plugin!(PeftMethod, "prompt", Prompt);

/// `[length, hidden]`.
struct PromptAdapter(Tensor<2>);

impl BlockAdapter for PromptAdapter {
    fn prompt(&self) -> Option<Tensor<2>> {
        Some(self.0.clone())
    }
}

fn check_length(length: usize) -> Result<(), PeftError> {
    if (1..=MAX_LENGTH).contains(&length) {
        Ok(())
    } else {
        Err(PeftError::field("length", format!("is {length}; it takes 1 to {MAX_LENGTH}")))
    }
}
