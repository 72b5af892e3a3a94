//! Budget mathematics: the cost of sequences, the requests they last, and the search for a shape.
//!
//! | room | question |
//! |---|---|
//! | [`cost`] | the training and storage that a set of sequences takes |
//! | [`lifetime`] | the requests that a system lasts |
//! | [`depth`] | the law of the best depth after some requests |
//! | [`upkeep`] | the training that a stream of requests makes necessary |
//! | [`prior`] | the probability that a request hits each slice |
//! | [`search`] | the shards, slices, budget and strategy to choose |
//!
//! Everything here is a function of shapes, sequences and probabilities. No record, digest or file is an argument.

pub mod cost;
pub mod depth;
pub mod lifetime;
pub mod prior;
pub mod search;
pub mod upkeep;

use serde::{Deserialize, Deserializer};

/// Reads a number whose infinity is `null` in JSON, as lifetimes of systems that cannot die are: for
/// `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// As the deserialiser.
pub fn null_is_infinite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}
