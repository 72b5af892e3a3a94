//! Threads for tensor operations.
//!
//! A forward pass is hundreds of short parallel parts with a little serial work between them. A thread that falls asleep in each
//! gap and has to be woken again costs as much as many of these parts take, and starting threads for every answer costs more:
//! so threads are kept from one piece of work to the next, and stay awake while work lasts.

use std::cell::OnceCell;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rayon::{Scope, ThreadPool, ThreadPoolBuilder, Yield};

use crate::TrainError;

thread_local! {
    /// A pool of this thread alone, where the machine starts no other.
    static ALONE: OnceCell<Option<ThreadPool>> = const { OnceCell::new() };
}

/// Pools that wait for the next piece of work, the pool that waits longest first: at most [`MAX_KEPT`] threads for each core.
static KEPT: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());

/// Threads that are kept for each core of the machine.
const MAX_KEPT: usize = 2;

/// Threads that are awake: more than there are cores would only be in each other's way.
static AWAKE: AtomicUsize = AtomicUsize::new(0);

/// The number of times that a thread looks for a part to do before it lets other threads of the machine run.
const LOOKS: u32 = 256;

/// The longest that a thread looks for parts in one go.
const LOOK: Duration = Duration::from_micros(50);

/// As many threads work may have on fewer cores, which they share: more would only wait for each other.
const SHARED: usize = 8;

/// Runs `work` with so many threads for its tensor operations, whatever runs beside it. Its bits do not depend on the number:
/// a test compares them.
///
/// While there are cores for them the threads are awake as long as `work` lasts, so it should compute and not wait. Where the
/// machine does not start so many, `work` has fewer, down to the caller's own; it never has more than there are cores, or eight where these are fewer.
///
/// # Errors
///
/// [`TrainError::NoThread`] if not even the caller's thread can be used.
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R, TrainError> {
    let threads = threads.clamp(1, cores().max(SHARED));
    let Some(pool) = kept(threads).or_else(|| start(threads)) else { return alone(work) };
    let threads = pool.current_num_threads();
    let run = || {
        let awake = Awake::new(threads);
        let all_fit = awake.total <= cores();
        if threads > 1 && all_fit { pool.install(|| with_all_awake(work)) } else { pool.install(work) }
    };
    let result = if rayon::current_thread_index().is_some() {
        // A worker that waits for another pool takes up other parts of its own in the meantime, on top of this one, which may wait
        // for it. A thread of its own waits for nothing else.
        let run = Mutex::new(Some(run));
        let take = || run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = std::thread::scope(|scope| {
            let started = std::thread::Builder::new().spawn_scoped(scope, || take().map(|run| run())).ok()?;
            started.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        match started {
            Some(result) => result,
            // No thread was started, so the work is still to be done.
            None => take().ok_or(TrainError::NoThread)?(),
        }
    } else {
        run()
    };
    keep(pool);
    Ok(result)
}

/// A pool of so many threads, or of as many as the machine starts; `None` if no thread starts.
fn start(threads: usize) -> Option<ThreadPool> {
    let halves = std::iter::successors(Some(threads), |threads| Some(threads / 2).filter(|half| *half > 0));
    halves.into_iter().find_map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().ok())
}

/// Runs `work` on the caller's thread, which counts as a pool from then on.
fn alone<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, TrainError> {
    if rayon::current_thread_index().is_some() {
        return Ok(work());
    }
    ALONE.with(|pool| {
        let build = || ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().ok();
        match pool.get_or_init(build) {
            Some(pool) => Ok(pool.install(work)),
            None => Err(TrainError::NoThread),
        }
    })
}

/// Starts the threads that work is spread over outside of [`on_threads`]: as many as the machine lets, down to the caller's own.
pub fn start_shared_threads() {
    // It can be tried once only, so the number is found first.
    let builder = match startable(cores()) {
        0 => ThreadPoolBuilder::new().num_threads(1).use_current_thread(),
        threads => ThreadPoolBuilder::new().num_threads(threads),
    };
    // The threads of a program that has started its own are as good.
    drop(builder.build_global());
}

/// Calls a function once on each of the [shared threads](start_shared_threads), to set what a thread has of its own.
pub fn on_each_shared_thread(work: impl Fn() + Sync) {
    rayon::broadcast(|_| work());
}

/// The number of threads that the machine starts, up to `max`.
fn startable(max: usize) -> usize {
    let gate = Mutex::new(());
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let wait = || drop(gate.lock());
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, wait).ok();
        let started = (0..max).map_while(start).count();
        drop(closed);
        started
    })
}

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

fn kept(threads: usize) -> Option<ThreadPool> {
    let mut pools = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let place = pools.iter().rposition(|pool| pool.current_num_threads() == threads)?;
    Some(pools.remove(place))
}

fn keep(pool: ThreadPool) {
    let mut pools = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    pools.push(pool);
    let mut excess =
        pools.iter().map(ThreadPool::current_num_threads).sum::<usize>().saturating_sub(MAX_KEPT * cores());
    let mut dropped = Vec::new();
    while excess > 0 && pools.len() > 1 {
        excess = excess.saturating_sub(pools[0].current_num_threads());
        dropped.push(pools.remove(0));
    }
    // Their threads end when nobody waits for this.
    drop(pools);
}

/// Threads that count as awake until this value is dropped.
struct Awake {
    threads: usize,
    total: usize,
}

impl Awake {
    fn new(threads: usize) -> Self {
        Self { threads, total: AWAKE.fetch_add(threads, Ordering::Relaxed) + threads }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        AWAKE.fetch_sub(self.threads, Ordering::Relaxed);
    }
}

/// Runs `work` while the other threads of the current pool look for its parts without sleeping.
///
/// # Proof note
///
/// *Before*: a thread may come to look on top of a part of `work` that it has taken up and that waits for a part of its own. *After*: the
/// part goes on, and `work` ends. *Why*: a look is short, whatever it finds, and the next is a task of its own: between two looks the
/// part sees whether it can go on. (A look that lasted until the end of `work` would wait for the part that it lies on.)
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
        let looking = Looking { is_done: &is_done, own };
        scope.spawn_broadcast(move |scope, context| {
            if Some(context.index()) != own {
                looking.look(scope, 0);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Looking for parts of some work until it has ended: a task that makes itself anew, one for each thread but that of the work.
#[derive(Clone, Copy)]
struct Looking<'a> {
    is_done: &'a AtomicBool,
    /// The thread of the work.
    own: Option<usize>,
}

impl<'a> Looking<'a> {
    /// Looks for a moment. `looks` in a row have found nothing so far.
    fn look(self, scope: &Scope<'a>, mut looks: u32) {
        if rayon::current_thread_index() == self.own {
            // The thread of the work has taken the task up while it waits for a part: it does another, and leaves the task to the others.
            rayon::yield_now();
        } else {
            let begun = Instant::now();
            while !self.is_done.load(Ordering::Acquire) && begun.elapsed() < LOOK {
                looks = if rayon::yield_now() == Some(Yield::Executed) { 0 } else { looks + 1 };
                if looks < LOOKS {
                    std::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
            }
        }
        if !self.is_done.load(Ordering::Acquire) {
            scope.spawn(move |scope| self.look(scope, looks));
        }
    }
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
        // From the workers of another pool, one of which would take up the next while it waits.
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let lock = Mutex::new(());
        let one_at_a_time = |_| {
            let _guard = lock.lock().unwrap();
            squares(2)
        };
        let all: Vec<u64> = pool.install(|| (0..8).into_par_iter().map(one_at_a_time).collect());
        assert_eq!(all, [33_283_350_000; 8]);
        let kept: usize = KEPT.lock().unwrap().iter().map(ThreadPool::current_num_threads).sum();
        assert!(kept <= (MAX_KEPT * cores()).max(5), "{kept} threads are kept");
    }

    #[test]
    fn a_part_goes_on_whose_thread_has_begun_to_look_on_top_of_it() {
        let (taken, begun, ended) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let wait_for = |flag: &AtomicBool| {
            let until = Instant::now() + Duration::from_secs(10);
            while !flag.load(Ordering::Acquire) && Instant::now() < until {
                std::thread::yield_now();
            }
            flag.load(Ordering::Acquire)
        };
        let part = || {
            taken.store(true, Ordering::Release);
            assert!(wait_for(&begun));
            // As a part does that waits for one of its own: it takes up what there is, here the request to look.
            rayon::yield_now();
            ended.store(true, Ordering::Release);
        };
        let work = || {
            begun.store(true, Ordering::Release);
            wait_for(&ended)
        };
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let beside = || {
            assert!(wait_for(&taken));
            with_all_awake(work)
        };
        assert!(pool.install(|| rayon::join(beside, part)).0, "the part has not ended");
    }

    #[test]
    fn work_of_many_short_parts_ends_every_time() {
        fn spread(depth: u32) -> u64 {
            if depth == 0 {
                return 1;
            }
            let (left, right) = rayon::join(|| spread(depth - 1), || spread(depth - 1));
            left + right
        }
        for round in 0..20_000 {
            // At times the other thread has gone to sleep before the next work.
            if round % 500 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(on_threads(2, || spread(5) + spread(3)).unwrap(), 40);
        }
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
