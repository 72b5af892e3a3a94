//! Records that a worker has from its last job, so that they are sent once to each worker, and the job as it travels.
//!
//! # Proof note
//!
//! *Before*: the owner sends jobs and words to forget, in some order. *After*: a worker trains from the records of its job, or refuses it.
//! *Why*: the owner notes what it has sent, and sends the note's change and the frame under one lock; frames arrive in order, and the
//! worker makes the same changes: it notes at once which records come in objects, and keeps those of them that it was not told to forget when
//! they have come. A worker that could not fetch them says so, and the owner takes it that it has none. What it keeps is what its last job
//! held, less what it was told to forget.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use s3t_core::tensors::BlockTensors;
use s3t_core::{Digest, Lineage, Record};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::parcels::Parcels;
use crate::sealed::{ObjectFolder, ObjectReference, ObjectSlot};
use crate::{ExecutorError, StageJob, StageRecord};

/// A job as it travels: records that the worker has are named only, and large parts may be objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentJob<'a> {
    #[serde(with = "crate::value")]
    lineage: Cow<'a, Lineage>,
    /// All records, in order.
    records: Vec<Digest>,
    /// The records that the worker does not have.
    new: Vec<Cow<'a, StageRecord>>,
    ancestors: Cow<'a, BlockTensors>,
    /// Objects with records that the worker does not have.
    of_records: Vec<ObjectReference>,
    /// Objects with adapters that are not in `ancestors`.
    of_stages: Vec<ObjectReference>,
    /// The place where a large result is left.
    result: Option<ResultPlace>,
}

/// The place for a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResultPlace {
    pub(crate) slot: ObjectSlot,
    /// A result of fewer bytes goes over the link.
    pub(crate) min: u64,
}

impl<'a> SentJob<'a> {
    /// The job for a worker that has these records.
    pub fn new(job: &'a StageJob, kept: &BTreeSet<Digest>) -> Self {
        Self {
            lineage: Cow::Borrowed(&job.lineage),
            records: job.records.iter().map(|record| record.digest).collect(),
            new: job.records.iter().filter(|record| !kept.contains(&record.digest)).map(Cow::Borrowed).collect(),
            ancestors: Cow::Borrowed(&job.ancestors),
            of_records: Vec::new(),
            of_stages: Vec::new(),
            result: None,
        }
    }

    /// The job of these parcels for a worker that lacks these records.
    pub(crate) fn in_parcels(
        parcels: &'a Parcels<'a>,
        new: Vec<&'a StageRecord>,
        of_records: Vec<ObjectReference>,
    ) -> Self {
        Self {
            lineage: Cow::Borrowed(&parcels.job.lineage),
            records: parcels.job.records.iter().map(|record| record.digest).collect(),
            new: new.into_iter().map(Cow::Borrowed).collect(),
            ancestors: Cow::Borrowed(&parcels.ancestors),
            of_records,
            of_stages: parcels.of_stages.clone(),
            result: Some(ResultPlace { slot: parcels.result.clone(), min: parcels.min() }),
        }
    }

    /// The job with its records, of which a worker has kept some.
    ///
    /// # Errors
    ///
    /// A digest of which there is no record.
    pub fn whole(self, kept: &Kept) -> Result<StageJob, Digest> {
        let mut coming = self.coming(kept);
        match coming.missing() {
            Some(missing) => Err(missing),
            None => Ok(coming.job()),
        }
    }

    /// The job with the records that came with it or were kept.
    pub(crate) fn coming(self, kept: &Kept) -> Coming {
        let mut there: BTreeMap<Digest, Arc<Record>> =
            self.new.into_iter().map(Cow::into_owned).map(|StageRecord { digest, record }| (digest, record)).collect();
        for digest in &self.records {
            if let (false, Some(Some(record))) = (there.contains_key(digest), kept.0.get(digest)) {
                there.insert(*digest, Arc::clone(record));
            }
        }
        Coming {
            lineage: self.lineage.into_owned(),
            records: self.records,
            there,
            ancestors: self.ancestors.into_owned(),
            of_records: self.of_records,
            of_stages: self.of_stages,
            result: self.result,
        }
    }
}

/// A job of which parts may be in objects yet. Its records are overwritten when it is dropped.
pub(crate) struct Coming {
    lineage: Lineage,
    records: Vec<Digest>,
    there: BTreeMap<Digest, Arc<Record>>,
    ancestors: BlockTensors,
    of_records: Vec<ObjectReference>,
    of_stages: Vec<ObjectReference>,
    pub(crate) result: Option<ResultPlace>,
}

impl Coming {
    /// Fetches what is in objects, unless the job is cancelled meanwhile.
    pub(crate) fn fetch(
        &mut self,
        folder: Option<&dyn ObjectFolder>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), ExecutorError> {
        if self.of_records.is_empty() && self.of_stages.is_empty() {
            return Ok(());
        }
        let folder =
            folder.ok_or_else(|| ExecutorError::Damaged("it names objects, and there is no storage".into()))?;
        for reference in std::mem::take(&mut self.of_records) {
            if is_cancelled() {
                return Err(ExecutorError::Cancelled(self.lineage.key()));
            }
            let records: Vec<StageRecord> = reference.fetch(folder)?;
            self.there.extend(records.into_iter().map(|StageRecord { digest, record }| (digest, record)));
        }
        for reference in std::mem::take(&mut self.of_stages) {
            if is_cancelled() {
                return Err(ExecutorError::Cancelled(self.lineage.key()));
            }
            self.ancestors.extend(reference.fetch::<BlockTensors>(folder)?);
        }
        Ok(())
    }

    /// A record that has not come.
    pub(crate) fn missing(&self) -> Option<Digest> {
        self.records.iter().find(|digest| !self.there.contains_key(digest)).copied()
    }

    /// The job, of which every record has come.
    pub(crate) fn job(&mut self) -> StageJob {
        let record = |digest: &Digest| {
            let record = Arc::clone(self.there.get(digest)?);
            Some(StageRecord { digest: *digest, record })
        };
        StageJob {
            records: self.records.iter().filter_map(record).collect(),
            lineage: self.lineage.clone(),
            ancestors: std::mem::take(&mut self.ancestors),
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.there.values_mut().filter_map(Arc::get_mut).for_each(Zeroize::zeroize);
    }
}

/// The records of the last job; `None` for one that comes in an object. They are overwritten in memory when they are dropped.
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<Digest, Option<Arc<Record>>>);

impl Kept {
    /// Keeps the records of this job, and no others.
    pub fn keep(&mut self, job: &StageJob) {
        let records = job.records.iter().map(|record| (record.digest, Some(Arc::clone(&record.record)))).collect();
        drop(Self(std::mem::replace(&mut self.0, records)));
    }

    /// Keeps the records of a job that have come, and notes those that will.
    pub(crate) fn expect(&mut self, coming: &Coming) {
        let records = coming.records.iter().map(|digest| (*digest, coming.there.get(digest).cloned())).collect();
        drop(Self(std::mem::replace(&mut self.0, records)));
    }

    /// Keeps the records that have come and were not forgotten meanwhile.
    pub(crate) fn fill(&mut self, job: &StageJob) {
        for StageRecord { digest, record } in &job.records {
            if let Some(place @ None) = self.0.get_mut(digest) {
                *place = Some(Arc::clone(record));
            }
        }
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
        self.0.values_mut().flatten().filter_map(Arc::get_mut).for_each(Zeroize::zeroize);
    }
}
