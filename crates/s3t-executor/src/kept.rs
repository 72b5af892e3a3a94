//! Records that a worker has from its last job, so that they are sent once to each worker.
//!
//! # Proof note
//!
//! *Before*: the owner sends jobs and words to forget, in some order. *After*: a worker trains from the records of its job, or refuses it.
//! *Why*: the owner notes what it has sent, and sends the note's change and the frame under one lock; frames arrive in order, and the
//! worker makes the same changes. What it keeps is what its last job held, less what it was told to forget.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use s3t_core::tensors::BlockTensors;
use s3t_core::{Digest, Lineage, Record};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{StageJob, StageRecord};

/// A job as it travels: records that the worker has are named only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentJob<'a> {
    #[serde(with = "crate::value")]
    lineage: Cow<'a, Lineage>,
    /// All records, in order.
    records: Vec<Digest>,
    /// The records that the worker does not have.
    new: Vec<Cow<'a, StageRecord>>,
    ancestors: Cow<'a, BlockTensors>,
}

impl<'a> SentJob<'a> {
    /// The job for a worker that has these records.
    pub fn new(job: &'a StageJob, kept: &BTreeSet<Digest>) -> Self {
        Self {
            lineage: Cow::Borrowed(&job.lineage),
            records: job.records.iter().map(|record| record.digest).collect(),
            new: job.records.iter().filter(|record| !kept.contains(&record.digest)).map(Cow::Borrowed).collect(),
            ancestors: Cow::Borrowed(&job.ancestors),
        }
    }

    /// The job with its records, of which a worker has kept some.
    ///
    /// # Errors
    ///
    /// A digest of which there is no record.
    pub fn whole(self, kept: &Kept) -> Result<StageJob, Digest> {
        let there: BTreeMap<Digest, Arc<Record>> =
            self.new.into_iter().map(Cow::into_owned).map(|StageRecord { digest, record }| (digest, record)).collect();
        let mut records = Vec::with_capacity(self.records.len());
        for digest in self.records {
            let record = there.get(&digest).or_else(|| kept.0.get(&digest)).ok_or(digest)?;
            records.push(StageRecord { digest, record: Arc::clone(record) });
        }
        Ok(StageJob { lineage: self.lineage.into_owned(), records, ancestors: self.ancestors.into_owned() })
    }
}

/// The records of the last job. They are overwritten in memory when they are dropped.
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<Digest, Arc<Record>>);

impl Kept {
    /// Keeps the records of this job, and no others.
    pub fn keep(&mut self, job: &StageJob) {
        let records = job.records.iter().map(|record| (record.digest, Arc::clone(&record.record))).collect();
        drop(Self(std::mem::replace(&mut self.0, records)));
    }

    /// Drops these records, or all.
    pub(crate) fn forget(&mut self, records: Option<&[Digest]>) {
        match records {
            Some(records) => drop(Self(records.iter().filter_map(|digest| self.0.remove_entry(digest)).collect())),
            None => drop(std::mem::take(self)),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A job that still runs overwrites its own when it ends.
        self.0.values_mut().filter_map(Arc::get_mut).for_each(Zeroize::zeroize);
    }
}
