//! Memorisation as a measure of forgetting: the exposure of canaries, and the share of records that a prefix brings back.

mod canary;
mod file;
mod run;
mod space;

pub use s3t_attack::memorisation::CHANCE;

pub use canary::{Canary, CanaryReport, Comparison};
pub use file::{Canaries, Extraction};
pub use run::{ExtractionReport, Memorisation, measure_memorisation};
pub use space::SecretSpace;
