//! Methods of unlearning under one roof: exact ones, and approximate ones as their authors describe them.
//!
//! A method is a plugin of the kind `unlearning-method`. It [trains](UnlearningMethod::train) a model on records, which then
//! [forgets](Learnt::forget) some of them and [answers](Learnt::answer). The approximate methods change one adapter over all blocks of the
//! pipeline's base model; [`Bench`] has what they need.

mod adapter;
mod approximate;
mod bench;
mod exact;
mod fast_ntk;
mod influence;
mod scrub;
mod steps;

use std::fmt::Debug;
use std::time::Duration;

use s3t_core::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use adapter::{Goal, Term, Tuner};
pub use approximate::{FineTuning, NegGradPlus, RandomLabels, TaskVector};
pub use bench::{Adapter, Bench, with_bench};
pub use exact::{FullRetraining, S3t, Sisa};
pub use fast_ntk::{FastNtk, ntk_move};
pub use influence::{Influence, hessian_product, solve};
pub use scrub::Scrub;
pub use steps::{AdamW, Passes};

use crate::EvalError;

/// The guarantee of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// The model is, bit for bit, the one that training without the records gives.
    EqualBits,
    /// A model that is meant to be near that one, with no bound for a single record.
    Nothing,
}

impl Guarantee {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::EqualBits => "equal bits",
            Self::Nothing => "nothing",
        }
    }
}

/// A method of unlearning.
///
/// # Contract
///
/// [`train`](Self::train) and what it returns are functions of the bench's pipeline, the records, the method's fields and the seed: the same
/// gives the same bits.
#[typetag::serde(tag = "type")]
pub trait UnlearningMethod: Debug + Send + Sync {
    /// The guarantee about a model that has forgotten: nothing, unless the method proves more.
    fn guarantee(&self) -> Guarantee {
        Guarantee::Nothing
    }

    /// Trains a model on records.
    ///
    /// # Errors
    ///
    /// [`EvalError`] of any kind; [`EvalError::Stopped`] if the bench says so.
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError>;
}

/// A model that has learnt records and can forget some of them.
pub trait Learnt {
    /// Forgets records: afterwards the model answers as well as it will. The time until then is measured by the caller; a model that stops
    /// using the records earlier returns the time until that.
    ///
    /// # Errors
    ///
    /// As [`UnlearningMethod::train`].
    fn forget(&mut self, records: &[Record]) -> Result<Option<Duration>, EvalError>;

    /// The seconds of its training, where it was trained once for several methods; otherwise the caller measures them.
    fn train_seconds(&self) -> Option<f64> {
        None
    }

    /// Scores for records, in their order: one for each class, logits or logarithms of shares.
    ///
    /// # Errors
    ///
    /// [`EvalError::Engine`] for a record that the model cannot take.
    fn answer(&self, records: &[Record]) -> Result<Vec<Vec<f32>>, EvalError>;
}

/// The guide, whose code is compiled and run with the examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guide/writing-an-unlearning-method.md")]
struct Guide;
