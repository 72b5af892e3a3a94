//! The mathematics of S3T.
//!
//! A *stage* is a pure function of its [`Lineage`], and its [`StageKey`] is the hash of that lineage. Planning, training,
//! resuming, deletion, repair and verification are all built on this one idea:
//!
//! - a [`Plan`] is the prefix tree of the stages that a set of sequences needs;
//! - training builds every missing key;
//! - a deletion changes the digest of one slice, and every key whose lineage holds that slice is dead;
//! - [`Availability`] says how deep each sequence is still usable.
//!
//! This crate knows no tensor arithmetic, files, clock, threads or global randomness, so nothing in it can depend on them.
//! Trained parameters are plain numbers here ([`tensors`]).

pub mod aggregate;
pub mod availability;
pub mod cost;
pub mod deletion;
pub mod depth;
pub mod digest;
mod error;
pub mod groups;
pub mod ids;
pub mod limits;
pub mod lineage;
pub mod partition;
pub mod picture;
pub mod placement;
pub mod plan;
pub mod planner;
pub mod prior;
pub mod record;
pub mod registry;
pub mod sequence;
pub mod spelling;
pub mod task;
pub mod tensors;
pub mod upkeep;

pub use aggregate::Aggregator;
pub use availability::{Availability, Cut, Serving};
pub use digest::{Digest, StoreSecret};
pub use error::CoreError;
pub use groups::{BlockRange, LayerGroups};
pub use ids::{RecordId, ShardId, SliceAddress, SliceId, SubjectId};
pub use limits::Limits;
pub use lineage::{Lineage, NumericEnvironment, Recipe, StageKey};
pub use partition::{PartitionShape, Partitioner};
pub use picture::PictureInput;
pub use plan::{Plan, PlannedStage, ShardPlan, SliceDigests};
pub use prior::Prior;
pub use record::{Payload, Record, Target};
pub use registry::{FieldInfo, PluginError, PluginInfo, PluginKind};
pub use sequence::{Sequence, SequenceRequest, SequenceStrategy};
pub use task::Task;

/// What the plugin macro needs from other crates; not part of the interface.
#[doc(hidden)]
pub mod reexport {
    pub use inventory;
}
