//! New vectors that are written to once, on all threads: large results cost more to clear, and to bring into memory on one
//! thread, than to compute.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::rows::GRAIN;

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
    repeated(&[0.0; 256], length.div_ceil(256), length)
}

/// A row, repeated.
pub(crate) fn rows_of(row: &[f32], rows: usize) -> Vec<f32> {
    repeated(row, rows, rows * row.len())
}

/// The first `length` values of `row`, repeated `rows` times.
fn repeated(row: &[f32], rows: usize, length: usize) -> Vec<f32> {
    debug_assert!(length <= rows * row.len());
    let mut vector = Unwritten::new(length);
    let together = (GRAIN / row.len().max(1)).max(1) * row.len();
    let fill = |part: &mut [MaybeUninit<f32>]| {
        for out in part.chunks_mut(row.len()) {
            out.write_copy_of_slice(&row[..out.len()]);
        }
    };
    if length > 2 * GRAIN && rayon::current_num_threads() > 1 {
        vector.memory().par_chunks_mut(together).for_each(fill);
    } else if length > 0 {
        fill(vector.memory());
    }
    // SAFETY: the chunks cover the memory, and `write_copy_of_slice` writes all of each.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        vector.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_repeated_and_zeros_are_zero() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for rows in [0, 1, 7, 20_000] {
            let expected: Vec<f32> = std::iter::repeat_n([1.0, 2.0, 3.0, 4.0, 5.0], rows).flatten().collect();
            assert_eq!(rows_of(&[1.0, 2.0, 3.0, 4.0, 5.0], rows), expected);
            assert_eq!(pool.install(|| rows_of(&[1.0, 2.0, 3.0, 4.0, 5.0], rows)), expected);
            assert_eq!(pool.install(|| zeros(rows)), vec![0.0; rows]);
        }
        assert!(rows_of(&[], 3).is_empty());
    }
}
