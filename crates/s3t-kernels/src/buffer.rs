//! New vectors that are written to once, on all threads: large results cost more to clear, and to bring into memory on one
//! thread, than to compute. And memory that begins with a line of the caches.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Values that a thread takes at a time: enough that starting it is cheap beside the work.
pub(crate) const GRAIN: usize = 1 << 14;

/// A vector whose memory nobody has written to yet.
pub(crate) struct Unwritten {
    values: Vec<f32>,
    length: usize,
}

impl Unwritten {
    pub(crate) fn new(length: usize) -> Self {
        Self { values: Vec::with_capacity(length), length }
    }

    /// Its memory.
    pub(crate) fn memory(&mut self) -> &mut [MaybeUninit<f32>] {
        &mut self.values.spare_capacity_mut()[..self.length]
    }

    /// The vector.
    ///
    /// # Safety
    ///
    /// Every value of [`memory`](Self::memory) has been written.
    #[allow(unsafe_code, reason = "only the caller knows that all was written")]
    pub(crate) unsafe fn written(mut self) -> Vec<f32> {
        // SAFETY: the capacity is at least `length`, and the caller promises that so many values are written.
        unsafe { self.values.set_len(self.length) };
        self.values
    }
}

/// So many zeros.
pub(crate) fn zeros(length: usize) -> Vec<f32> {
    let mut vector = Unwritten::new(length);
    if length > 2 * GRAIN && rayon::current_num_threads() > 1 {
        vector.memory().par_chunks_mut(GRAIN).for_each(clear);
    } else {
        clear(vector.memory());
    }
    // SAFETY: the chunks cover the memory, and `clear` writes all of each.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        vector.written()
    }
}

fn clear(values: &mut [MaybeUninit<f32>]) {
    values.fill(MaybeUninit::new(0.0));
}

/// So many values that begin with a line of the caches, so that no vector of them is in two.
pub(crate) fn aligned(values: &mut Vec<f32>, length: usize) -> &mut [f32] {
    const LINE: usize = 64;
    let room = length + LINE / size_of::<f32>();
    if values.len() < room {
        values.resize(room, 0.0);
    }
    let first = values.as_ptr().align_offset(LINE).min(room - length);
    &mut values[first..first + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zero() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for length in [0, 1, 7, 100_000] {
            assert_eq!(zeros(length), vec![0.0; length]);
            assert_eq!(pool.install(|| zeros(length)), vec![0.0; length]);
        }
    }
}
