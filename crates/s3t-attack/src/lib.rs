//! Membership inference as pure functions of numbers.
//!
//! An attack gives each record a score: larger means "rather a member of the training data". This crate computes scores from what models
//! say about records ([`signal`], [`lira`], [`rmia`], [`language`], [`memorisation`]), measures how well scores tell members from non-members ([`roc`],
//! [`area`], [`interval`], [`power`], [`epsilon`], [`benchmarks`]), and defines what a report about an attack holds ([`report`]). It reads no models, files or
//! clocks: a function of the same numbers gives the same bits.
//!
//! Inputs are refused by name ([`AttackError`]) when they are empty, not finite, of different lengths, or too small for the question.
//!
//! ```
//! use s3t_attack::roc::Roc;
//!
//! let roc = Roc::new(&[3.0, 2.0, 1.5], &[1.0, 0.5, 1.8])?;
//! assert!((roc.auc() - 8.0 / 9.0).abs() < 1e-15);
//! # Ok::<(), s3t_attack::AttackError>(())
//! ```

pub mod area;
pub mod baseline;
pub mod benchmarks;
pub mod epsilon;
mod error;
mod inputs;
pub mod interval;
pub mod language;
pub mod lira;
pub mod memorisation;
pub mod power;
pub mod report;
pub mod rmia;
pub mod roc;
pub mod signal;
pub mod skew_normal;
pub mod subjects;

pub use error::AttackError;
