//! Objectives of the greedy choice.

use s3t_core::{CoreError, Sequence, SliceId};

/// A way to value a set of sequences and to find the best addition to it.
pub(super) trait Objective {
    /// The depth that a set of sequences reaches in every scenario.
    type State;

    fn state(&self, sequences: &[Sequence]) -> Result<Self::State, CoreError>;

    fn value(&self, state: &Self::State) -> f64;

    /// The order that adds most.
    fn best_addition(&self, state: &Self::State) -> Vec<SliceId>;
}
