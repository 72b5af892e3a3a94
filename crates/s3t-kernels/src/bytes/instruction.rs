//! The processor's own instruction for products of 8-bit integers.
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

use std::arch::x86_64::{
    _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
};

use super::{OFFSET, Panel};
use crate::Instructions;
use crate::by_tiles::by_tiles;
use crate::halves::{LANES, Line};
use crate::matrix::{MatrixMut, Onto};

pub(super) fn is_used() -> bool {
    Instructions::chosen() == Instructions::Native && is_there()
}

/// True where the processor has the instruction.
fn is_there() -> bool {
    std::arch::is_x86_feature_detected!("avx512vnni") && std::arch::is_x86_feature_detected!("avx512f")
}

/// Rows with a panel of columns.
pub(super) struct Part<'a> {
    /// Fours of inputs of the first row on, and the divisors of the rows.
    pub(super) fours: &'a [u32],
    pub(super) of_rows: &'a [f32],
    pub(super) panel: Panel<'a>,
    pub(super) onto: Onto,
}

by_tiles!("avx512f,avx512vnni");

#[target_feature(enable = "avx512f,avx512vnni")]
fn tile<const ROWS: usize, const VECTORS: usize>(part: &Part<'_>, out: &mut MatrixMut<'_>, row: usize) {
    let width = part.panel.width;
    let x: [&[u32]; ROWS] = std::array::from_fn(|at| &part.fours[(row + at) * width..][..width]);
    let w: [&[Line]; VECTORS] = std::array::from_fn(|at| part.panel.vector(at));
    assert!(x.iter().all(|x| x.len() == width) && w.iter().all(|w| w.len() == width));
    let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
    for four in 0..width {
        // SAFETY: every row and every vector has so many fours, by the assertion above; a line is an aligned vector.
        #[allow(unsafe_code, reason = "bounds are checked once for the tile")]
        unsafe {
            // A loop: a closure would not be inlined with these instructions.
            let mut columns = [_mm512_setzero_si512(); VECTORS];
            for vector in 0..VECTORS {
                columns[vector] = _mm512_load_si512(w[vector].as_ptr().add(four).cast());
            }
            for at in 0..ROWS {
                let value = _mm512_set1_epi32(x[at].get_unchecked(four).cast_signed());
                for vector in 0..VECTORS {
                    sums[at][vector] = _mm512_dpbusd_epi32(sums[at][vector], value, columns[vector]);
                }
            }
        }
    }
    // In two steps: sums that are reached by an index that is not known would not stay in registers.
    let mut buffers = [[[0i32; LANES]; VECTORS]; ROWS];
    for at in 0..ROWS {
        for vector in 0..VECTORS {
            // SAFETY: a buffer is as long as a vector.
            #[allow(unsafe_code, reason = "see above")]
            unsafe {
                _mm512_storeu_si512(buffers[at][vector].as_mut_ptr().cast(), sums[at][vector]);
            }
        }
    }
    for (at, buffers) in buffers.iter().enumerate() {
        for (vector, buffer) in buffers.iter().enumerate() {
            part.panel.put(out, part.onto, [row + at, vector], buffer, (OFFSET, part.of_rows[row + at]));
        }
    }
}
