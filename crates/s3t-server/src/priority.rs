//! Priorities where there are fewer processors than work: requests and deletions before answers, answers before repair.

/// The steps by which threads that compute answers stand behind those that take requests and accept deletions.
pub(crate) const ANSWERS: i32 = 5;

/// The steps for threads that train: repair and audits.
pub(crate) const TRAINING: i32 = 10;

/// Puts the calling thread some steps behind others. On Linux, where a thread has a priority of its own; elsewhere nothing happens.
pub(crate) fn step_back(steps: i32) {
    #[cfg(target_os = "linux")]
    {
        // Where it is not allowed all stay alike.
        let _ = rustix::process::nice(steps);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = steps;
}
