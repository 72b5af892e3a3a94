//! Threads for tensor operations.
//!
//! A forward pass is hundreds of short parallel parts with a little serial work between them. A thread that falls asleep in each
//! gap and has to be woken again costs as much as many of these parts take, and starting threads for every answer costs more:
//! so threads are kept from one piece of work to the next, and stay awake while one lasts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

use crate::TrainError;

/// Threads that wait for the next piece of work. As many as were ever at work at the same time.
static KEPT: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());

/// How often a thread looks for a part to do before it lets other threads of the machine run.
const LOOKS: u32 = 256;

/// Runs `work` with so many threads for its tensor operations, whatever runs beside it. Its bits do not depend on the number:
/// a test compares them.
///
/// The threads are awake as long as `work` lasts, so it should compute and not wait.
///
/// # Errors
///
/// [`TrainError::Threads`] if the machine would not start a thread.
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R, TrainError> {
    let threads = threads.max(1);
    let pool = match kept(threads) {
        Some(pool) => pool,
        None => ThreadPoolBuilder::new().num_threads(threads).build()?,
    };
    let result = if threads == 1 { pool.install(work) } else { pool.install(|| with_all_awake(work)) };
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    Ok(result)
}

fn kept(threads: usize) -> Option<ThreadPool> {
    let mut pools = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let place = pools.iter().rposition(|pool| pool.current_num_threads() == threads)?;
    Some(pools.remove(place))
}

/// Runs `work` while the other threads of the current pool look for its parts without sleeping.
fn with_all_awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    /// Ends the looking, also if `work` panics.
    struct Done<'a>(&'a AtomicBool);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    let is_done = AtomicBool::new(false);
    let own = rayon::current_thread_index();
    rayon::in_place_scope(|scope| {
        let done = Done(&is_done);
        let is_done = &is_done;
        scope.spawn_broadcast(move |_, context| {
            let mut looks = 0;
            // The thread that works may come by here while it waits for a part: it must not wait for itself.
            while Some(context.index()) != own && !is_done.load(Ordering::Acquire) {
                looks = if rayon::yield_now() == Some(Yield::Executed) { 0 } else { looks + 1 };
                if looks < LOOKS {
                    std::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use rayon::prelude::*;

    use super::*;

    fn squares(threads: usize) -> u64 {
        on_threads(threads, || {
            assert_eq!(rayon::current_num_threads(), threads);
            (0..100).map(|_| (0..1000_u64).into_par_iter().map(|value| value * value).sum::<u64>()).sum()
        })
        .unwrap()
    }

    #[test]
    fn work_runs_on_as_many_threads_as_it_asks_for_again_and_again() {
        for threads in [1, 2, 5, 2, 1] {
            assert_eq!(squares(threads), 33_283_350_000);
        }
        assert_eq!(on_threads(0, rayon::current_num_threads).unwrap(), 1);
    }

    #[test]
    fn work_may_run_beside_and_inside_other_work() {
        let together: Vec<u64> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..4).map(|_| scope.spawn(|| on_threads(3, || squares(2)).unwrap())).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(together, [33_283_350_000; 4]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_next_work_alone() {
        for threads in [1, 3] {
            let panicked = catch_unwind(|| on_threads(threads, || panic!("what `work` says")).map(drop));
            assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"what `work` says"));
            assert_eq!(squares(threads), 33_283_350_000);
        }
    }
}
