//! The messages between a leader and its followers.

use std::time::Duration;

use s3t_engine::ReplicaState;
use s3t_ledger::Epoch;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The header by which a follower that asks for a stage names itself.
pub(crate) const FOLLOWER: &str = "x-s3t-follower";

/// The time by which a leader counts a lease as longer than its follower does: a tenth of it, for clocks that run at different speeds,
/// and half a second.
pub(crate) fn margin(lease: Duration) -> Duration {
    lease / 10 + Duration::from_millis(500)
}

/// The stages that a leader answers with.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Published {
    /// The name of this state. Send it back as `after` to wait for the next one, and in the confirmation.
    pub(crate) version: String,
    /// The stages.
    #[schema(value_type = Object)]
    pub(crate) state: ReplicaState,
}

/// A follower's word that its answers use no other stages than those of a state.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmation {
    /// The follower's name: 32 hexadecimal digits, drawn anew by each process.
    pub(crate) follower: String,
    /// The version of the state.
    pub(crate) version: String,
    /// The epoch of the state: stages that it does not name are off.
    #[schema(value_type = u64)]
    pub(crate) epoch: Epoch,
    /// The epoch up to which the follower has also forgotten such stages.
    #[schema(value_type = u64)]
    pub(crate) erased: Epoch,
    /// `true` if the follower has stopped answering for good and gives its lease back.
    #[serde(default)]
    pub(crate) leaving: bool,
}

/// The leader's answer to a confirmation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Confirmed {
    /// `true` if the follower may answer for the time of the lease, from the moment before it sent the confirmation; `false` if it
    /// has to get the newest state first.
    pub(crate) granted: bool,
    /// The time of the lease in milliseconds.
    pub(crate) lease_ms: u64,
    /// The leader's epoch.
    #[schema(value_type = u64)]
    pub(crate) epoch: Epoch,
}
