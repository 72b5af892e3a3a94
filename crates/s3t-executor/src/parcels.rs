//! A job cut into pieces, the large ones of which travel as objects.
//!
//! Records are cut where a slice ends, so that a slice that several workers need is left once for all of them; the adapters of earlier
//! stages are cut by stage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use s3t_core::Digest;
use s3t_core::tensors::{BlockTensors, NamedTensors};

use crate::relay::{Relay, Run};
use crate::sealed::{ObjectReference, ObjectSlot, content_digest, to_bytes};
use crate::{ExecutorError, StageJob, StageRecord};

/// The max length of an object with records, so that nobody holds much more of a job than the job.
const MAX_RECORDS_BYTES: usize = 64 << 20;

/// The pieces of a job on its way to a worker.
pub(crate) struct Parcels<'a> {
    relay: &'a Relay,
    pub(crate) job: &'a StageJob,
    pieces: Vec<Piece<'a>>,
    /// Adapters that are not in an object.
    pub(crate) ancestors: BlockTensors,
    pub(crate) of_stages: Vec<ObjectReference>,
    /// The place for the result.
    pub(crate) result: ObjectSlot,
}

struct Piece<'a> {
    records: &'a [StageRecord],
    run: Arc<Run>,
    is_large: bool,
    placed: Option<ObjectReference>,
}

/// The records of a job as they are sent to a worker that has some of them.
pub(crate) struct Lacking<'a> {
    pub(crate) new: Vec<&'a StageRecord>,
    pub(crate) of_records: Vec<ObjectReference>,
}

/// The records, cut where a slice ends (the records of a slice have ascending digests) or where they are many. Two slices that are not told
/// apart travel as one, which costs space and changes nothing.
fn cut(records: &[StageRecord]) -> Result<Vec<(&[StageRecord], usize)>, ExecutorError> {
    let failed = |error: postcard::Error| ExecutorError::Damaged(format!("a record cannot be written ({error})"));
    let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, record) in records.iter().enumerate() {
        if at > start && (records[at - 1].digest >= record.digest || bytes >= MAX_RECORDS_BYTES) {
            pieces.push((&records[start..at], bytes));
            (start, bytes) = (at, 0);
        }
        bytes += postcard::experimental::serialized_size(record).map_err(failed)?;
    }
    if start < records.len() {
        pieces.push((&records[start..], bytes));
    }
    Ok(pieces)
}

impl<'a> Parcels<'a> {
    /// Cuts a job, and places the adapters of earlier stages.
    pub(crate) fn new(relay: &'a Relay, job: &'a StageJob) -> Result<Self, ExecutorError> {
        let pieces: Vec<Piece<'_>> = cut(&job.records)?
            .into_iter()
            .map(|(records, bytes)| Piece {
                records,
                run: relay.run(records),
                is_large: bytes as u64 >= relay.min(),
                placed: None,
            })
            .collect();
        let runs: Vec<Arc<Run>> = pieces.iter().map(|piece| Arc::clone(&piece.run)).collect();
        let (mut ancestors, mut of_stages) = (BlockTensors::new(), Vec::new());
        let mut left: BTreeMap<usize, &NamedTensors> =
            job.ancestors.iter().map(|(block, named)| (*block, named)).collect();
        for group in &job.lineage.groups {
            let of_group: BTreeMap<usize, &NamedTensors> =
                left.extract_if(group.start..group.end.max(group.start), |_, _| true).collect();
            let bytes = to_bytes(&of_group)?;
            if !of_group.is_empty() && bytes.len() as u64 >= relay.min() {
                let digest = content_digest(&bytes);
                drop(bytes);
                of_stages.push(relay.place_stage(digest, &runs, || to_bytes(&of_group))?);
            } else {
                ancestors.extend(of_group.into_iter().map(|(block, named)| (block, named.clone())));
            }
        }
        ancestors.extend(left.into_iter().map(|(block, named)| (block, named.clone())));
        let result = relay.expect(runs)?;
        Ok(Self { relay, job, pieces, ancestors, of_stages, result })
    }

    /// The min length of a result that is left as an object.
    pub(crate) fn min(&self) -> u64 {
        self.relay.min()
    }

    /// The records that a worker lacks that has these, with the lock under which it was looked: all large pieces among them are placed.
    pub(crate) fn lacking<'k>(
        &mut self,
        kept: impl Fn() -> MutexGuard<'k, BTreeSet<Digest>>,
    ) -> Result<(Lacking<'a>, MutexGuard<'k, BTreeSet<Digest>>), ExecutorError> {
        loop {
            let has = kept();
            let (mut new, mut of_records, mut to_place) = (Vec::new(), Vec::new(), Vec::new());
            for (at, piece) in self.pieces.iter().enumerate() {
                let lacks = piece.records.iter().filter(|record| !has.contains(&record.digest));
                match &piece.placed {
                    _ if lacks.clone().next().is_none() => {}
                    Some(reference) => of_records.push(reference.clone()),
                    None if piece.is_large => to_place.push(at),
                    None => new.extend(lacks),
                }
            }
            if to_place.is_empty() {
                return Ok((Lacking { new, of_records }, has));
            }
            // Whoever has the worker forget something meanwhile is not kept waiting.
            drop(has);
            for at in to_place {
                let piece = &mut self.pieces[at];
                piece.placed = Some(self.relay.place_records(&piece.run, || to_bytes(&piece.records))?);
            }
        }
    }
}

impl Drop for Parcels<'_> {
    fn drop(&mut self) {
        // A result that was taken is not listed any more.
        self.relay.drop_result(&self.result);
    }
}
