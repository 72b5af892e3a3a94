//! Measures of texts and of likelihoods, as pure functions. Each equals a published implementation, named at its function.

mod choice;
mod mean;
mod rouge;
mod same;
mod units;

pub use choice::{Choice, Lengths, chosen};
pub use mean::{Estimate, Scale, ratio};
pub use rouge::{Rouge, rouge_l};
pub use same::{Ignored, exact_match};
pub use units::{bytes, words};
