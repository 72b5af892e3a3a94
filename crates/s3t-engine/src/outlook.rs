//! The deletions that a system still lasts, as it is now.

use std::collections::BTreeMap;

use s3t_core::budget::lifetime::{FirstSlices, Lifetime, Requests};
use s3t_core::{ShardPlan, StageKey};
use s3t_store::{DeletionRequest, Snapshot};

use crate::error::EngineError;
use crate::system::System;

impl System {
    /// The deletion requests that the shards last from this snapshot on, if nothing is repaired: only sequences whose first stage is
    /// there count (S3T, section 4, for the sequences that are left). A shard that is dead already makes `first_dead` 0.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
    /// # let system = s3t_engine::System::create(pipeline, &records, None)?;
    /// # system.train(&s3t_engine::Quiet)?;
    /// use s3t_core::RecordId;
    ///
    /// let before = system.outlook(&*system.snapshot()?)?;
    /// system.delete(&[RecordId::new("record-0")?], &[])?;
    /// let after = system.outlook(&*system.snapshot()?)?;
    /// assert!(after.first_dead <= before.first_dead && after.all_dead < before.all_dead);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for an invalid prior.
    pub fn outlook(&self, snapshot: &Snapshot) -> Result<Lifetime, EngineError> {
        let rates = self.rates()?;
        let of_shard = |shard: &ShardPlan| {
            let rates = rates.get(shard.shard.index());
            FirstSlices { shards: 1, rates: first_rates(snapshot, shard, rates) }
        };
        let system: Vec<FirstSlices> = snapshot.plan().shards().iter().map(of_shard).collect();
        Ok(Lifetime::of(&system, Requests::Independent))
    }

    /// The requests that the weakest of the shards hit by a deletion would survive at worst after it; `None` if it hits no shard
    /// that answers now.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn budget_after(&self, request: &DeletionRequest) -> Result<Option<usize>, EngineError> {
        let mut availability = self.snapshot()?.availability();
        let mut hits = self.store.slices_of(&request.records, &request.subjects)?;
        hits.retain(|address| availability.serving(address.shard).is_some());
        for address in &hits {
            availability.hit(*address);
        }
        Ok(hits.iter().map(|address| availability.adversarial_budget(address.shard)).min())
    }
}

/// The probability that a request hits the first stage of each sequence that is alive. Sequences that begin with the same stage die
/// together.
fn first_rates(snapshot: &Snapshot, shard: &ShardPlan, rates: &[f64]) -> Vec<f64> {
    let firsts = shard.sequences.iter().filter_map(|sequence| sequence.keys.first());
    let alive = firsts.filter(|key| snapshot.has_stage(key)).filter_map(|key| {
        let stage = snapshot.plan().stage(key)?;
        Some((*key, stage.slices.iter().map(|slice| rates[slice.index()]).sum::<f64>()))
    });
    alive.collect::<BTreeMap<StageKey, f64>>().into_values().collect()
}
