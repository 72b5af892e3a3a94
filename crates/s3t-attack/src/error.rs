/// Inputs that an attack or a measure cannot use.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// A list without an entry.
    #[error("`{what}` is empty; at least one is needed")]
    Empty {
        /// The name of the list.
        what: &'static str,
    },
    /// An entry that is NaN or infinite.
    #[error("`{what}` holds {value} at position {position}; only finite numbers can be used")]
    NotFinite {
        /// The name of the list.
        what: &'static str,
        /// The position, from 0.
        position: usize,
        /// The entry.
        value: f64,
    },
    /// An entry outside of its range.
    #[error("`{what}` is {value}; allowed is {allowed}")]
    OutOfRange {
        /// The name of the parameter or list.
        what: &'static str,
        /// The value.
        value: f64,
        /// The allowed range in words.
        allowed: &'static str,
    },
    /// Two lists that must be equally long.
    #[error("`{what}` has {found} entries, expected {expected}: one for each of `{of}`")]
    Length {
        /// The name of the list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that it must have.
        expected: usize,
        /// The name of the list that it goes with.
        of: &'static str,
    },
    /// Too few shadow models for a deviation.
    #[error(
        "`{set}` has {found} shadow values of example {example}, needed are {needed}; use `Deviation::Pooled` with few shadow models"
    )]
    TooFewShadows {
        /// `inside` or `outside`.
        set: &'static str,
        /// The position of the example, from 0.
        example: usize,
        /// The number of values.
        found: usize,
        /// The number of values needed.
        needed: usize,
    },
    /// Shadow values without any spread.
    #[error(
        "`{set}` of example {example} has deviation 0, so no likelihood can be computed; use `Deviation::Pooled`, or more and different shadow models"
    )]
    NoSpread {
        /// `inside` or `outside`.
        set: &'static str,
        /// The position of the example, from 0.
        example: usize,
    },
    /// Too few non-members for a false positive rate.
    #[error("a false positive rate of {rate} needs at least {needed} non-members, there are {found}")]
    TooFewNonMembers {
        /// The false positive rate.
        rate: f64,
        /// The number of non-members needed.
        needed: u64,
        /// The number of non-members.
        found: u64,
    },
    /// A ratio whose denominator is 0.
    #[error("`{what}` has no value: {reason}")]
    Undefined {
        /// The name of the figure.
        what: &'static str,
        /// The reason, with an alternative.
        reason: &'static str,
    },
}
