//! The brake on deletions that would bring a shard too low.

/// The say that the budget of shards has in a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brake {
    /// Held if a shard that it hits would have too little left.
    Hit,
    /// Held if a shard has so little left that any request may bring it too low, whatever this one names: so nobody learns from
    /// it who is among the records.
    Weakest,
    /// Done all the same: released, or due.
    Released,
}
