//! Texts continued token by token by the models of several shards.
//!
//! A [`Batch`] holds texts that are being continued by one set of models. Each [`step`](Batch::step) runs all models on all texts in one
//! pass: the next tokens of the texts that are being continued, and a part of the prompts of those that have just joined. The keys
//! and values of tokens are remembered in pages (Kwon et al. 2023, arXiv 2309.06180), those of the base model below the lowest adapter
//! once for all models, and those of equal beginnings of texts once for all texts.
//!
//! # Proof note
//!
//! *Before*: models whose adapters are low-rank updates. *After*: the logits of a text's token, and so the tokens that are chosen, are a
//! function of the models, the text and its [`Sampling`] alone, to the bit: not of the texts beside it, of how the prompt was cut into
//! parts, or of what was remembered. *Why*: every operation treats each row by itself in an order that does not depend on the number of
//! rows (`s3t_kernels::linear_by_row`, `cached_attention`); a remembered page is a function of the tokens up to its end; chance comes
//! from the text's own seed. Adapters that do more than low-rank updates run each text alone, so the same holds for them on one machine.

mod batch;
mod cache;
mod error;
mod lanes;
mod pass;
mod sampling;
mod settings;
mod stream;
mod text;

pub use batch::{Batch, BatchLimits, PromptRoom};
pub use error::GenerateError;
pub use lanes::Lanes;
pub use sampling::{Chosen, Sampler, TokenScore};
pub use settings::Sampling;
pub use stream::TextStream;
pub use text::{EndReason, Event, EventKind, NewToken, Prompt, Text};
