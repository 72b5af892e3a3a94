//! A PEFT method, a sequence strategy and a model family ([`electra`]) from outside the project.
//!
//! A third party would write them like this: no crate of the project knows them, and each depends on one trait crate alone
//! (`s3t-peft`, which re-exports `s3t-core`, or `s3t-models`). `src/main.rs` is the command line with all of them in it.

pub mod electra;

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::s3t_core::{CoreError, Sequence, SequenceRequest, SequenceStrategy, SliceId, plugin, sequence};
use s3t_peft::{BlockAdapter, BlockParameters, BlockShape, Init, ParameterSpec, PeftError, PeftMethod, Sublayer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scales the output of each sublayer by one learnt factor a channel.
///
/// # Proof note
///
/// *Before*: the base weights are frozen. *After* the adapter is dropped: the block computes what it computed before, bit
/// for bit. *Why*: the factors are applied to the sublayer's output and never merged into its weights. At the start they
/// are one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// True if the feed-forward sublayer is scaled too.
    pub feed_forward: bool,
}

impl Default for Scale {
    fn default() -> Self {
        Self { feed_forward: true }
    }
}

#[typetag::serde(name = "scale")]
impl PeftMethod for Scale {
    fn check(&self, _block: &BlockShape) -> Result<(), PeftError> {
        Ok(())
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        let names = ["attention.scale", "feed_forward.scale"];
        let used = if self.feed_forward { 2 } else { 1 };
        names[..used].iter().map(|name| ParameterSpec::new(*name, [block.hidden], Init::Ones)).collect()
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        let factor = |name: &str| parameters.get(name, [1, block.hidden]);
        Ok(Box::new(ScaleAdapter {
            attention: factor("attention.scale")?,
            feed_forward: self.feed_forward.then(|| factor("feed_forward.scale")).transpose()?,
        }))
    }
}

plugin!(PeftMethod, "scale", Scale);

struct ScaleAdapter {
    /// `[1, hidden]`.
    attention: Tensor<2>,
    /// `[1, hidden]`.
    feed_forward: Option<Tensor<2>>,
}

impl BlockAdapter for ScaleAdapter {
    fn sublayer(&self, place: Sublayer, y: Tensor<2>) -> Tensor<2> {
        match (place, &self.feed_forward) {
            (Sublayer::Attention, _) => y * self.attention.clone(),
            (Sublayer::FeedForward, Some(factor)) => y * factor.clone(),
            (Sublayer::FeedForward, None) => y,
        }
    }
}

/// Two sequences: the slices in order, and in reverse.
///
/// # Proof note
///
/// *After*: one or two distinct permutations. *Why*: the reverse of `0..L` differs from it for L of 2 or more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThereAndBack {}

#[typetag::serde(name = "there-and-back")]
impl SequenceStrategy for ThereAndBack {
    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        let possible = request.slices.min(2) as usize;
        if request.budget > possible {
            return Err(sequence::out_of_range("there-and-back", request, format!("it makes 1 to {possible}")));
        }
        let there = Sequence::new((0..request.slices).map(SliceId).collect(), request.slices)?;
        let back = Sequence::new((0..request.slices).rev().map(SliceId).collect(), request.slices)?;
        Ok([there, back].into_iter().take(request.budget).collect())
    }
}

plugin!(SequenceStrategy, "there-and-back", ThereAndBack);
