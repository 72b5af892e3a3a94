//! Work side by side on the threads of this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use s3t_models::Input;
use s3t_train::{TrainError, by_padded_length, on_threads};

use crate::{EngineError, ensemble};

/// Runs `work` for every item on `jobs` threads, and gives the results in the order of the items. Where there are fewer items,
/// each has more threads for its tensor operations.
///
/// # Errors
///
/// The first error in item order.
pub fn parallel<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, EngineError> + Sync,
) -> Result<Vec<R>, EngineError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<R, EngineError>>> = Mutex::default();
    let workers = jobs.clamp(1, items.len().max(1));
    let worker = || {
        on_threads(jobs / workers, || {
            while let Some((index, item)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                items.get(index).map(|item| (index, item))
            } {
                let result = work(item);
                lock(&results).insert(index, result);
            }
        })
    };
    let ended: Vec<Result<(), TrainError>> = std::thread::scope(|scope| {
        // The caller's thread works too. Where the machine starts no more threads, those that were started do the work.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, worker).ok();
        let others: Vec<_> = (1..workers).map_while(start).collect();
        let own = worker();
        let join = |other: std::thread::ScopedJoinHandle<'_, _>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        std::iter::once(own).chain(others.into_iter().map(join)).collect()
    });
    ended.into_iter().collect::<Result<(), _>>()?;
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Answers for inputs, batch by batch on `jobs` threads, in the order of the inputs. A batch holds inputs of one padded
/// length.
///
/// # Errors
///
/// [`EngineError::Train`] if the machine would not start a thread.
///
/// # Panics
///
/// If `answer` does not give one answer an input.
pub fn in_batches<T: Send>(
    jobs: usize,
    inputs: &[Input<'_>],
    answer: impl Fn(&[&Input<'_>]) -> Vec<T> + Sync,
) -> Result<Vec<T>, EngineError> {
    let batches = by_padded_length(inputs.iter().map(|input| input.padded).enumerate(), ensemble::BATCH);
    let answers = parallel(jobs, &batches, |batch| {
        let of_batch: Vec<&Input<'_>> = batch.iter().map(|index| &inputs[*index]).collect();
        let answers = answer(&of_batch);
        assert_eq!(answers.len(), batch.len(), "one answer an input");
        Ok(answers)
    })?;
    let mut indexed: Vec<(usize, T)> = batches.into_iter().flatten().zip(answers.into_iter().flatten()).collect();
    indexed.sort_by_key(|(index, _)| *index);
    Ok(indexed.into_iter().map(|(_, answer)| answer).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded values are changed in single steps, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
