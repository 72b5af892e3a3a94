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
//! This crate has no tensor arithmetic, files, clock, threads or global randomness, so nothing in it can depend on them.
//! Trained parameters are plain numbers here ([`tensors`]).

pub mod aggregate;
#[cfg(feature = "records")]
pub mod availability;
pub mod budget;
#[cfg(feature = "records")]
pub mod canonical;
#[cfg(feature = "records")]
pub mod chat;
#[cfg(feature = "records")]
pub mod digest;
mod error;
pub mod groups;
pub mod ids;
pub mod limits;
#[cfg(feature = "records")]
pub mod lineage;
#[cfg(feature = "records")]
pub mod members;
#[cfg(feature = "records")]
pub mod partition;
mod per_shard;
#[cfg(feature = "records")]
pub mod picture;
#[cfg(feature = "records")]
pub mod placement;
#[cfg(feature = "records")]
pub mod plan;
#[cfg(feature = "records")]
pub mod record;
pub mod registry;
pub mod sequence;
mod shape;
#[cfg(feature = "records")]
pub mod spelling;
#[cfg(feature = "records")]
pub mod task;
#[cfg(feature = "records")]
pub mod tensors;
pub mod wording;

pub use aggregate::{Aggregator, MemberInfo};
#[cfg(feature = "records")]
pub use availability::{Availability, Cut, Serving, Shortened};
pub use budget::prior::Prior;
#[cfg(feature = "records")]
pub use chat::{Message, Role};
#[cfg(feature = "records")]
pub use digest::{Digest, StoreSecret};
pub use error::CoreError;
pub use groups::{BlockRange, LayerGroups};
pub use ids::{RecordId, ShardId, SliceAddress, SliceId, SubjectId};
pub use limits::Limits;
#[cfg(feature = "records")]
pub use lineage::{Lineage, NumericEnvironment, Recipe, StageKey};
#[cfg(feature = "records")]
pub use members::{LivePrefix, Members};
#[cfg(feature = "records")]
pub use partition::Partitioner;
pub use per_shard::PerShard;
#[cfg(feature = "records")]
pub use picture::PictureInput;
#[cfg(feature = "records")]
pub use plan::{Plan, PlannedStage, ShardPlan, SliceDigests};
#[cfg(feature = "records")]
pub use record::{Payload, Record, Target};
pub use registry::{FieldInfo, PluginError, PluginInfo, PluginKind};
pub use sequence::{Sequence, SequenceRequest, SequenceStrategy};
pub use shape::PartitionShape;
#[cfg(feature = "records")]
pub use task::Task;

/// Crates that the plugin macro needs; not part of the interface.
#[doc(hidden)]
pub mod reexport {
    pub use inventory;
}
