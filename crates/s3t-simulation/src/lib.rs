//! Deletion streams against planned systems, before anything is trained.
//!
//! - [`PlannedSystem`] has the figures of a plan: its cost, the requests it lasts, its depths and its upkeep.
//! - [`Simulation`] draws request streams ([`Stream`], [`Trace`]) where no closed form holds, or to check one.
//! - [`PlannedSystem::on`] has the time and the price of a training on a cluster.
//! - [`Comparison`] puts sequence strategies side by side.
//!
//! Everything is a function of shapes, sequences, probabilities and a seed: no record, model or store is needed.

mod compare;
mod depths;
mod error;
mod planned;
mod run;
mod schedule;
mod simulation;
mod source;
mod stream;
mod summary;
mod trace;
mod trial;
mod upkeep;

pub use compare::{Comparison, StrategyFigures};
pub use depths::DepthFigures;
pub use error::SimulationError;
pub use planned::{LifetimeFigures, PlannedSystem};
pub use schedule::{ClusterFigures, Workers};
pub use simulation::Simulation;
pub use stream::Stream;
pub use summary::{CurvePoint, Lifetimes, Summary};
pub use trace::Trace;
pub use upkeep::Upkeep;
