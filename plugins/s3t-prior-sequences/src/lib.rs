//! Sequence strategies that use how likely each slice is to be hit.

mod assignment;
mod auto;
mod bms;
mod conditional;
mod greedy;

pub use auto::Auto;
pub use bms::{Bms, Score};
pub use conditional::Conditional;
pub use greedy::Greedy;
