//! The processor's own instruction for products of bfloat16.
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_maskz_loadu_epi32, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::{CUT, HalfMatrix, HalfRows, LANES, PAIR, Part, put};
use crate::Instructions;
use crate::matrix::{MatrixMut, Onto};

/// Rows and vectors of columns whose sums stay in registers.
const ROWS: usize = 6;
const VECTORS: usize = 4;

pub(super) fn is_used() -> bool {
    Instructions::chosen() == Instructions::Native
        && std::arch::is_x86_feature_detected!("avx512bf16")
        && std::arch::is_x86_feature_detected!("avx512bw")
}

/// Rows up to which the inputs of outputs are turned in registers, so that outputs are the lanes of a vector.
pub(super) const FEW: usize = 8;

/// Vectors of outputs that very few rows are multiplied with at a time.
const TOGETHER: usize = 2;

/// `out = x w`, or added to `out`, for at most [`FEW`] rows, where the inputs of an output follow each other: every weight is read
/// once, where it lies.
pub(super) fn very_few_rows(out: &mut MatrixMut<'_>, onto: Onto, x: &HalfRows, w: HalfMatrix<'_>) {
    assert!(is_used() && w.dims() == [x.inputs, out.dims()[1]] && out.dims()[0] == x.rows);
    // SAFETY: the processor has the instructions.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        match x.rows {
            0 => {}
            1 => turned_rows::<1>(out, onto, x, w),
            2 => turned_rows::<2>(out, onto, x, w),
            3 => turned_rows::<3>(out, onto, x, w),
            4 => turned_rows::<4>(out, onto, x, w),
            5 => turned_rows::<5>(out, onto, x, w),
            6 => turned_rows::<6>(out, onto, x, w),
            7 => turned_rows::<7>(out, onto, x, w),
            _ => turned_rows::<FEW>(out, onto, x, w),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn turned_rows<const ROWS: usize>(out: &mut MatrixMut<'_>, onto: Onto, x: &HalfRows, w: HalfMatrix<'_>) {
    let [inputs, outputs] = w.dims();
    let Some((values, stride)) = w.transposed().lines() else { panic!("the inputs of an output follow each other") };
    assert!(x.rows == ROWS && inputs.is_multiple_of(PAIR));
    for first in (0..outputs).step_by(TOGETHER * LANES) {
        let vectors = (outputs - first).min(TOGETHER * LANES).div_ceil(LANES);
        for start in (0..inputs).step_by(CUT) {
            let pairs = CUT.min(inputs - start) / PAIR;
            let mut sums = [[_mm512_setzero_ps(); ROWS]; TOGETHER];
            for pair in (0..pairs).step_by(LANES) {
                let width = LANES.min(pairs - pair);
                for vector in 0..vectors {
                    let input = start + pair * PAIR;
                    // Behind the last output the last is computed again, and not written.
                    let mut lines = [&values[..0]; LANES];
                    for lane in 0..LANES {
                        let output = (first + vector * LANES + lane).min(outputs - 1);
                        lines[lane] = &values[output * stride + input..][..width * PAIR];
                        // The same inputs of the outputs that come next: so many lines of memory at a time no processor foresees.
                        let ahead = values.as_ptr().wrapping_add((output + TOGETHER * LANES) * stride + input);
                        // Nothing is read: an address behind the memory is ignored.
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                    let columns = turned(&loaded(&lines, width));
                    let mut of_x = [&x.pairs[..0]; ROWS];
                    for row in 0..ROWS {
                        of_x[row] = &x.pairs[row * x.width() + start / PAIR + pair..][..width];
                    }
                    if width == LANES {
                        // A length that is known keeps the columns in registers.
                        let mut whole = [&[0; LANES]; ROWS];
                        for row in 0..ROWS {
                            whole[row] = of_x[row].first_chunk().unwrap_or(&[0; LANES]);
                        }
                        for at in 0..LANES {
                            for row in 0..ROWS {
                                sums[vector][row] = step(sums[vector][row], whole[row][at], columns[at]);
                            }
                        }
                    } else {
                        for at in 0..width {
                            for row in 0..ROWS {
                                sums[vector][row] = step(sums[vector][row], of_x[row][at], columns[at]);
                            }
                        }
                    }
                }
            }
            let onto = if start > 0 { Onto::Add } else { onto };
            for vector in 0..vectors {
                for row in 0..ROWS {
                    let mut found = [0.0; LANES];
                    // SAFETY: `found` is as long as a vector.
                    #[allow(unsafe_code, reason = "see above")]
                    unsafe {
                        _mm512_storeu_ps(found.as_mut_ptr(), sums[vector][row]);
                    }
                    put(out, onto, [row, first + vector * LANES], &found);
                }
            }
        }
    }
}

/// Adds the products of a pair of inputs and of the same pair of [`LANES`] outputs.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn step(sums: __m512, x: u32, columns: __m512i) -> __m512 {
    // SAFETY: the types are of one size, and every bit pattern is a value of them.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        let x = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.cast_signed()));
        _mm512_dpbf16_ps(sums, x, transmute::<__m512i, __m512bh>(columns))
    }
}

/// The first pairs of each line, with zeros behind the last.
#[target_feature(enable = "avx512f")]
#[inline]
fn loaded(lines: &[&[u16]; LANES], pairs: usize) -> [__m512i; LANES] {
    let mask = if pairs < LANES { (1 << pairs) - 1 } else { u16::MAX };
    let mut found = [_mm512_setzero_si512(); LANES];
    for lane in 0..LANES {
        assert!(lines[lane].len() == pairs * PAIR && pairs <= LANES);
        // SAFETY: a line has so many pairs, and what the mask leaves out is not read.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            found[lane] = _mm512_maskz_loadu_epi32(mask, lines[lane].as_ptr().cast());
        }
    }
    found
}

/// Rows become columns: element `j` of vector `i` becomes element `i` of vector `j`.
#[target_feature(enable = "avx512f")]
#[inline]
fn turned(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let (mut pairs, mut fours, mut found) = (*rows, *rows, *rows);
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Of four rows: in each quarter of a vector the four elements of a column.
    for at in (0..LANES).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    for at in 0..4 {
        let (a, b, c, d) = (fours[at], fours[at + 4], fours[at + 8], fours[at + 12]);
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (more_even, more_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        found[at] = _mm512_shuffle_i32x4::<0x88>(even, more_even);
        found[at + 4] = _mm512_shuffle_i32x4::<0x88>(odd, more_odd);
        found[at + 8] = _mm512_shuffle_i32x4::<0xdd>(even, more_even);
        found[at + 12] = _mm512_shuffle_i32x4::<0xdd>(odd, more_odd);
    }
    found
}

/// Columns whose inputs follow each other, pair by pair of all columns.
pub(super) fn turn(values: &[u16], stride: usize, lines: &mut [[u32; LANES]]) {
    assert!(is_used());
    // SAFETY: the processor has the instructions.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        turn_all(values, stride, lines);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn turn_all(values: &[u16], stride: usize, lines: &mut [[u32; LANES]]) {
    let pairs = lines.len();
    for first in (0..pairs).step_by(LANES) {
        let width = LANES.min(pairs - first);
        let mut columns = [&values[..0]; LANES];
        for lane in 0..LANES {
            columns[lane] = &values[lane * stride + first * PAIR..][..width * PAIR];
        }
        let found = turned(&loaded(&columns, width));
        for (line, found) in lines[first..first + width].iter_mut().zip(found) {
            // SAFETY: a line is as long as a vector.
            #[allow(unsafe_code, reason = "see above")]
            unsafe {
                _mm512_storeu_si512(line.as_mut_ptr().cast(), found);
            }
        }
    }
}

/// Outputs that few rows are multiplied with at a time.
const OUTPUTS: usize = 12;

/// `out = x w`, or added to `out`, where the inputs of an output follow each other: these are read where they lie, and the rows of
/// `x` are the lanes of a vector.
pub(super) fn few_rows(out: &mut MatrixMut<'_>, onto: Onto, x: &[[u32; LANES]], w: HalfMatrix<'_>) {
    let ([inputs, outputs], [rows, columns]) = (w.dims(), out.dims());
    let Some((values, stride)) = w.transposed().lines() else { panic!("the inputs of an output follow each other") };
    assert!(is_used() && inputs == x.len() * PAIR && rows <= LANES && outputs == columns);
    for first in (0..outputs).step_by(OUTPUTS) {
        let count = OUTPUTS.min(outputs - first);
        // Behind the last output the last is computed again, and not written.
        let lines: [&[u16]; OUTPUTS] = std::array::from_fn(|at| {
            let output = first + at.min(count - 1);
            &values[output * stride..][..inputs]
        });
        for (cut, x) in x.chunks(CUT / PAIR).enumerate() {
            let start = cut * CUT;
            // SAFETY: the processor has the instructions.
            #[allow(unsafe_code, reason = "see above")]
            let sums = unsafe { tile_of_outputs(x, &lines, start) };
            let is_added = cut > 0 || onto == Onto::Add;
            for row in 0..rows {
                let out = out.row_pointer(row).wrapping_add(first);
                for (at, sums) in sums[..count].iter().enumerate() {
                    // SAFETY: row and output are inside `out`, which is borrowed for writing alone. It is read only if it is added
                    // to: then its owner, or the cut before, has written to it.
                    #[allow(unsafe_code, reason = "see above")]
                    unsafe {
                        let out = out.add(at);
                        out.write(if is_added { sums[row] + out.read() } else { sums[row] });
                    }
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn tile_of_outputs(x: &[[u32; LANES]], lines: &[&[u16]; OUTPUTS], start: usize) -> [[f32; LANES]; OUTPUTS] {
    for line in lines {
        assert!(start + x.len() * PAIR <= line.len(), "an output has every input");
    }
    let mut sums = [_mm512_setzero_ps(); OUTPUTS];
    for (pair, x) in x.iter().enumerate() {
        // SAFETY: every line has this pair of values, by the assertion above, and it is read unaligned; `x` is a whole vector. The types
        // of the transmutes are of one size, and every bit pattern is a value of them.
        #[allow(unsafe_code, reason = "bounds are checked once for the tile")]
        unsafe {
            let rows = _mm512_loadu_si512(x.as_ptr().cast());
            for at in 0..OUTPUTS {
                let weights = lines[at].as_ptr().add(start + pair * PAIR).cast::<i32>().read_unaligned();
                sums[at] = _mm512_dpbf16_ps(
                    sums[at],
                    transmute::<__m512i, __m512bh>(_mm512_set1_epi32(weights)),
                    transmute::<__m512i, __m512bh>(rows),
                );
            }
        }
    }
    let mut found = [[0.0; LANES]; OUTPUTS];
    for at in 0..OUTPUTS {
        // SAFETY: a row of `found` is as long as a vector.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            _mm512_storeu_ps(found[at].as_mut_ptr(), sums[at]);
        }
    }
    found
}

pub(super) fn run(part: &Part<'_>, out: &mut MatrixMut<'_>) {
    let [rows, columns] = out.dims();
    let vectors = columns.div_ceil(LANES);
    assert!(is_used() && vectors <= VECTORS, "a panel is as wide as the tiles");
    for row in (0..rows).step_by(ROWS) {
        let height = ROWS.min(rows - row);
        // SAFETY: the processor has the instructions.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            match vectors {
                1 => rows_of::<1>(part, out, row, height),
                2 => rows_of::<2>(part, out, row, height),
                3 => rows_of::<3>(part, out, row, height),
                _ => rows_of::<4>(part, out, row, height),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn rows_of<const VECTORS: usize>(part: &Part<'_>, out: &mut MatrixMut<'_>, row: usize, height: usize) {
    match height {
        1 => tile::<1, VECTORS>(part, out, row),
        2 => tile::<2, VECTORS>(part, out, row),
        3 => tile::<3, VECTORS>(part, out, row),
        4 => tile::<4, VECTORS>(part, out, row),
        5 => tile::<5, VECTORS>(part, out, row),
        _ => tile::<ROWS, VECTORS>(part, out, row),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn tile<const ROWS: usize, const VECTORS: usize>(part: &Part<'_>, out: &mut MatrixMut<'_>, row: usize) {
    let x: [&[u32]; ROWS] = std::array::from_fn(|at| part.row(row + at));
    let w: [&[[u32; LANES]]; VECTORS] = std::array::from_fn(|at| part.vector(at));
    let pairs = part.pairs;
    assert!(x.iter().all(|x| x.len() == pairs) && w.iter().all(|w| w.len() == pairs));
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for pair in 0..pairs {
        // SAFETY: every row and every vector has so many pairs, by the assertion above; a vector of a pair is [`LANES`] values
        // of 4 bytes, read unaligned. The types of the transmutes are of one size, and every bit pattern is a value of them.
        #[allow(unsafe_code, reason = "bounds are checked once for the tile")]
        unsafe {
            // A loop: a closure would not be inlined with these instructions.
            let mut columns = [_mm512_setzero_si512(); VECTORS];
            for vector in 0..VECTORS {
                columns[vector] = _mm512_loadu_si512(w[vector].as_ptr().add(pair).cast());
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
            part.put(out, row + at, vector, buffer);
        }
    }
}
