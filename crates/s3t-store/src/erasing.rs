//! Erasing what was accepted: the records, the stages that saw them, and the keys that open any copy of these. The proof is in
//! [`deletion`](crate::deletion).

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use s3t_core::record::slice_digest;
use s3t_core::{Digest, SliceAddress};
use s3t_ledger::Event;

use crate::catalogue::{ShortId, slice_number};
use crate::clock::now;
use crate::contents::SliceEntry;
use crate::disk::{remove, sync_folder};
use crate::elsewhere::Holds;
use crate::erasure::{ErasedRecord, Erasure};
use crate::names::Generation;
use crate::snapshot::digest_of_stages;
use crate::store::ErasingLock;
use crate::{Store, StoreError};

/// The number of digests that were removed from the catalogue, of which pieces may be left in its file.
const UNSWEPT: &str = "unswept";

/// The number as it is written; 0 before the first.
fn unswept(written: Option<Vec<u8>>) -> u64 {
    u64::from_le_bytes(written.unwrap_or_default().try_into().unwrap_or_default())
}

impl Store {
    /// Erases what was accepted, by whatever process: the records, the stages that saw them, their keys, and what the catalogue
    /// held of them. Waits for another process that erases, as long as the store's patience lasts.
    ///
    /// # Errors
    ///
    /// [`StoreError::Erasing`] while another process has the files in hand, [`StoreError::Reading`] while one reads the catalogue
    /// as it was before, [`StoreError::Elsewhere`] while other machines may remember its records, [`StoreError::Io`]; then the deletion stays accepted, and whatever command comes next finishes it.
    pub fn erase(&self) -> Result<Erasure, StoreError> {
        let (erasure, failed) = self.erase_pending();
        failed.map_or(Ok(erasure), Err)
    }

    /// The same, with what was erased before something failed.
    pub fn erase_pending(&self) -> (Erasure, Option<StoreError>) {
        let mut erasure = Erasure::default();
        let until = Instant::now() + self.patience();
        loop {
            let erased = self.lock_erasing().and_then(|lock| self.erase_with(&lock, &mut erasure));
            match erased {
                Err(StoreError::Elsewhere { .. }) if self.is_forgotten_by(until) => {}
                erased => return (erasure, erased.err()),
            }
        }
    }

    pub(crate) fn erase_with(&self, lock: &ErasingLock, erasure: &mut Erasure) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        let pending: Vec<SliceAddress> = snapshot.hit.iter().copied().collect();
        let _span = tracing::debug_span!("store_erase", epoch = snapshot.epoch().0, slices = pending.len()).entered();
        let (digests, failed) = self.erase_slices(&pending, lock, erasure)?;
        self.remove_unnamed(lock, erasure)?;
        if self.snapshot()?.unerased.is_empty() {
            // A crash may have left the log of an erasure that was finished; nothing that is promised is in it.
            self.own_connection()?.try_to_truncate_log()?;
        } else {
            // Before anything is called erased: the log has pages as they were before.
            let catalogue = self.own_connection()?;
            catalogue.truncate_log()?;
            let removed = unswept(catalogue.get(UNSWEPT)?);
            catalogue.sweep(&digests, removed > digests.len() as u64)?;
            self.finish_erasure()?;
        }
        // What could be erased is erased.
        failed.map_or(Ok(()), Err)?;
        let left = self.remembered_elsewhere()?;
        left.map_or(Ok(()), |left| Err(StoreError::Elsewhere { store: self.path.clone(), left }))
    }

    /// Writes the remaining records of slices anew, under new keys, and makes the catalogue point there in one transaction. Slices
    /// that cannot be read are left as they are; gives the digests that were removed from the catalogue, and the first failure.
    fn erase_slices(
        &self,
        addresses: &[SliceAddress],
        _held: &ErasingLock,
        erasure: &mut Erasure,
    ) -> Result<(Vec<Vec<u8>>, Option<StoreError>), StoreError> {
        if addresses.is_empty() {
            return Ok((Vec::new(), None));
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(addresses.len());
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(address) = addresses.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push(self.rewrite(*address));
            }
            done
        };
        let results: Vec<Result<Option<Rewritten>, StoreError>> = std::thread::scope(|scope| {
            // Where no more threads can be started, those that were do the work; this one always does.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(start).collect();
            let mut results = work();
            for other in others {
                results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            results
        });
        let (mut rewritten, mut failed) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(slice) => rewritten.extend(slice),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        rewritten.sort_by_key(|slice| slice.new);
        // The new files and keys are there for good before anything points to them.
        sync_folder(&*self.disk, &self.records)?;
        self.keys.sync()?;
        let digests = self.change(|change, _| {
            change.check_marks()?;
            let mut digests: Vec<Vec<u8>> = Vec::new();
            for slice in &rewritten {
                let mut row = change.slice(slice_number(self.settings().shape.slices, slice.new.slice))?;
                row.generation = slice.new.number;
                row.digest = slice.digest;
                change.set_slice(&row)?;
                digests.extend(slice.dead.iter().map(|id| id.to_vec()));
                digests.extend(change.remove_records(&slice.dead)?);
            }
            let before = unswept(change.read(|queries| queries.setting(UNSWEPT))?);
            change.set(UNSWEPT, &before.saturating_add(digests.len() as u64).to_le_bytes())?;
            for address in addresses {
                let number = slice_number(self.settings().shape.slices, *address);
                // Those that were accepted since the slice was written anew, or that cannot be erased yet.
                let left = change.read(|queries| queries.has_dead(number))?;
                if !left {
                    let mut row = change.slice(number)?;
                    row.hit = 0;
                    change.set_slice(&row)?;
                }
            }
            Ok(digests)
        })?;
        for slice in rewritten {
            erasure.slices.push(slice.new.slice);
            erasure.records.extend(slice.gone);
        }
        Ok((digests, failed))
    }

    /// Writes the remaining records of a slice to a new file under a new key; `None` if none is dead.
    fn rewrite(&self, address: SliceAddress) -> Result<Option<Rewritten>, StoreError> {
        let number = slice_number(self.settings().shape.slices, address);
        let dead = self.inner().catalogue.read(|queries| queries.dead_in(number))?;
        if dead.is_empty() {
            return Ok(None);
        }
        let snapshot = self.snapshot()?;
        let old = snapshot.generation(address);
        let new = old.next();
        let (gone, left): (Vec<_>, Vec<_>) =
            self.read_slice(old)?.into_iter().partition(|entry| dead.contains_key(&entry.id));
        if gone.len() != dead.len() {
            let problem = format!("it lacks {} of the records that are to be erased from it", dead.len() - gone.len());
            return Err(StoreError::damaged(&self.slice_path(old), problem));
        }
        if self.is_encrypted() {
            self.keys.make_slice(new)?;
        }
        let digest = slice_digest(&self.secret, left.iter().map(|entry| entry.digest));
        if left.is_empty() {
            // An attempt that was interrupted may have written records that have gone since.
            remove(&*self.disk, &self.records, new.records())?;
        } else {
            self.write_slice(new, &left)?;
        }
        let erased = |entry: SliceEntry| {
            let epoch = dead.get(&entry.id).copied().unwrap_or_default();
            ErasedRecord { digest: entry.digest, id: entry.record.id, epoch }
        };
        let gone = gone.into_iter().map(erased).collect();
        let dead = dead.into_keys().collect();
        Ok(Some(Rewritten { new, digest: (!left.is_empty()).then_some(digest), dead, gone }))
    }

    /// Writes into the ledger what is erased. Before it, the log must have been truncated, and the catalogue's file swept.
    fn finish_erasure(&self) -> Result<(), StoreError> {
        let effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let finished = self.change(|change, snapshot| {
            change.check_marks()?;
            change.set(UNSWEPT, &0u64.to_le_bytes())?;
            let holds = Holds::of_change(change)?;
            let mut done = Vec::new();
            for epoch in &snapshot.unerased {
                if change.waiting(*epoch)? > 0 || holds.hold(*epoch) {
                    continue;
                }
                let since = effective.get(epoch).copied().unwrap_or_else(now);
                let index = change.append(now(), Event::Effective { epoch: *epoch, since })?;
                let erased = change.append(now(), Event::Erased { epoch: *epoch })?;
                change.finish_request(*epoch, index, erased)?;
                done.push(*epoch);
            }
            let keys = snapshot.plan().stages().map(|stage| &stage.key);
            let (stages, plan) = (keys.len() as u64, digest_of_stages(keys));
            let all = done.len() == snapshot.unerased.len();
            if all && change.read(|queries| queries.setting("plan"))?.as_deref() != Some(plan.as_bytes()) {
                change.append(now(), Event::Planned { epoch: snapshot.epoch(), stages, plan })?;
                change.set("plan", plan.as_bytes())?;
            }
            Ok(done)
        })?;
        let mut effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
        effective.retain(|epoch, _| !finished.contains(epoch));
        Ok(())
    }
}

/// A slice that was written anew.
struct Rewritten {
    new: Generation,
    digest: Option<Digest>,
    dead: Vec<ShortId>,
    gone: Vec<ErasedRecord>,
}
