//! The processor's own instruction for products of bfloat16.
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

use std::arch::x86_64::{
    __cpuid, __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
};
use std::mem::transmute;
use std::sync::LazyLock;

use super::{LANES, Line, Panel, put};
use crate::Instructions;
use crate::by_tiles::by_tiles;
use crate::matrix::{MatrixMut, Onto};

/// Rows up to which a product takes as long as its weights need from memory, so that a slow instruction is fast enough.
const FEW_ROWS: usize = 4;

/// True where so many rows are multiplied by the instruction.
pub(super) fn is_used(rows: usize) -> bool {
    Instructions::chosen() == Instructions::Native && is_there() && (rows <= FEW_ROWS || is_fast())
}

/// True where the processor has the instruction.
fn is_there() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16") && std::arch::is_x86_feature_detected!("avx512bw")
}

/// True where the instruction takes less time than the two fused multiply-adds that do the same. On processors of Intel it takes four times as
/// long as one of them (measured on a Xeon with `avx512_fp16`: 1.22 and 5.15 thousand millions a second).
fn is_fast() -> bool {
    static IS_FAST: LazyLock<bool> = LazyLock::new(|| {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() != b"GenuineIntel"
    });
    *IS_FAST
}

/// Rows with a panel of columns.
pub(super) struct Part<'a> {
    /// Pairs of inputs of the first row on, of which the next is so far away.
    pub(super) x: &'a [u32],
    pub(super) width: usize,
    pub(super) panel: Panel<'a>,
    pub(super) onto: Onto,
}

by_tiles!("avx512f,avx512bw,avx512bf16");

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn tile<const ROWS: usize, const VECTORS: usize>(part: &Part<'_>, out: &mut MatrixMut<'_>, row: usize) {
    let pairs = part.panel.pairs;
    let x: [&[u32]; ROWS] = std::array::from_fn(|at| &part.x[(row + at) * part.width..][..pairs]);
    let w: [&[Line]; VECTORS] = std::array::from_fn(|at| part.panel.vector(at));
    assert!(x.iter().all(|x| x.len() == pairs) && w.iter().all(|w| w.len() == pairs));
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for pair in 0..pairs {
        // SAFETY: every row and every vector has so many pairs, by the assertion above; a line is an aligned vector. The
        // types of the transmutes are of one size, and every bit pattern is a value of them.
        #[allow(unsafe_code, reason = "bounds are checked once for the tile")]
        unsafe {
            // A loop: a closure would not be inlined with these instructions.
            let mut columns = [_mm512_setzero_si512(); VECTORS];
            for vector in 0..VECTORS {
                columns[vector] = _mm512_load_si512(w[vector].as_ptr().add(pair).cast());
            }
            for at in 0..ROWS {
                let value = _mm512_set1_epi32(x[at].get_unchecked(pair).cast_signed());
                for vector in 0..VECTORS {
                    sums[at][vector] = _mm512_dpbf16_ps(
                        sums[at][vector],
                        transmute::<__m512i, __m512bh>(value),
                        transmute::<__m512i, __m512bh>(columns[vector]),
                    );
                }
            }
        }
    }
    let width = out.dims()[1];
    if width == VECTORS * LANES {
        for at in 0..ROWS {
            let out = out.row_pointer(row + at);
            for vector in 0..VECTORS {
                // SAFETY: a row of `out` has so many vectors, and `out` is borrowed for writing alone. It is read only if it is
                // added to: then its owner has written to it.
                #[allow(unsafe_code, reason = "see above")]
                unsafe {
                    let out = out.add(vector * LANES);
                    let sum = match part.onto {
                        Onto::Add => _mm512_add_ps(sums[at][vector], _mm512_loadu_ps(out)),
                        Onto::Replace => sums[at][vector],
                    };
                    _mm512_storeu_ps(out, sum);
                }
            }
        }
        return;
    }
    // In two steps: sums that are reached by an index that is not known would not stay in registers.
    let mut buffers = [[[0.0; LANES]; VECTORS]; ROWS];
    for at in 0..ROWS {
        for vector in 0..VECTORS {
            // SAFETY: a buffer is as long as a vector.
            #[allow(unsafe_code, reason = "see above")]
            unsafe {
                _mm512_storeu_ps(buffers[at][vector].as_mut_ptr(), sums[at][vector]);
            }
        }
    }
    for (at, buffers) in buffers.iter().enumerate() {
        for (vector, buffer) in buffers.iter().enumerate() {
            put(out, part.onto, [row + at, vector * LANES], buffer);
        }
    }
}
