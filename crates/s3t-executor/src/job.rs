//! The inputs of a stage.

use std::sync::Arc;

use s3t_core::tensors::BlockTensors;
use s3t_core::{Digest, Lineage, Record, StageKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

/// A record with its digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The record's keyed digest.
    pub digest: Digest,
    /// The record.
    #[serde(serialize_with = "record_to_wire", deserialize_with = "record_from_wire")]
    pub record: Arc<Record>,
}

/// All inputs of a stage. A job can travel as bytes: see [`Request`](crate::Request).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageJob {
    /// The stage's lineage.
    #[serde(with = "crate::value")]
    pub lineage: Lineage,
    /// The records of the slices 1..k in sequence order, the records of a slice by ascending digest.
    pub records: Vec<StageRecord>,
    /// The adapters of the stages before this one, which hold the groups 1..k-1.
    pub ancestors: BlockTensors,
}

impl StageJob {
    /// The key of the stage.
    pub fn key(&self) -> StageKey {
        self.lineage.key()
    }

    /// Overwrites the records in memory, except those that somebody else still holds. A worker does this when a job ends.
    pub fn wipe(&mut self) {
        for record in &mut self.records {
            if let Some(record) = Arc::get_mut(&mut record.record) {
                record.zeroize();
            }
        }
        self.records.clear();
    }
}

fn record_to_wire<S: Serializer>(record: &Arc<Record>, serializer: S) -> Result<S::Ok, S::Error> {
    (**record).serialize(serializer)
}

fn record_from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Record>, D::Error> {
    Record::deserialize(deserializer).map(Arc::new)
}
