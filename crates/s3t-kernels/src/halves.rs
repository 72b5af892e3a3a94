//! Products of operands in bfloat16 with sums in single precision.
//!
//! # Proof note
//!
//! *Before*: two matrices, rounded to bfloat16 (nearest, ties to even; numbers below the normal range become 0). *After*: an element of
//! their product has bits that depend on a row of the first and a column of the second alone, with and without instructions for
//! bfloat16. *Why*: the instruction `vdpbf16ps` adds the product of the second of a pair of inputs, then that of the first, each by one
//! fused multiply-add that is rounded to nearest and gives 0 below the normal range (Intel, Software Developer's Manual, volume 2); the
//! other paths do just that, one step after the other. Chains are cut and added up as in [`tiles`](crate::tiles). A test
//! compares instruction and emulation over random bits.
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

#[cfg(target_arch = "x86_64")]
mod instruction;

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffer::{GRAIN, Unwritten};
use crate::instructions::dispatch;
use crate::matrix::{Matrix, MatrixMut, Onto, Threads, by_blocks};
use crate::tiles::CUT;

/// Inputs that one step of the instruction adds.
const PAIR: usize = 2;

/// Columns that are put side by side and meet all rows before the next.
const COLUMNS: usize = 64;

/// The bits of values of bfloat16.
pub(crate) type HalfMatrix<'a> = Matrix<'a, u16>;

/// Rows of the first operand: for each, pairs of inputs, the first of a pair in the lower half; zeros behind an odd number.
pub(crate) struct HalfRows {
    pairs: Vec<u32>,
    rows: usize,
    inputs: usize,
}

impl HalfRows {
    /// Rounds the rows of a matrix.
    pub(crate) fn of(x: Matrix<'_>) -> Self {
        let [rows, inputs] = x.dims();
        let width = inputs.div_ceil(PAIR);
        let mut pairs = vec![0; rows * width];
        let round = |(row, pairs): (usize, &mut [u32])| match x.lines() {
            Some((values, stride)) => round_pairs(&values[row * stride..][..inputs], pairs),
            None => {
                let line: Vec<f32> = (0..inputs).map(|input| x.at(row, input)).collect();
                round_pairs(&line, pairs);
            }
        };
        if width > 0 {
            pairs.par_chunks_exact_mut(width).with_min_len((GRAIN / inputs).max(1)).enumerate().for_each(round);
        }
        Self { pairs, rows, inputs }
    }

    fn width(&self) -> usize {
        self.inputs.div_ceil(PAIR)
    }

    /// At most [`LANES`] rows, pair by pair of all of them, with zeros behind the last row.
    #[cfg(target_arch = "x86_64")]
    fn lanes(&self) -> Vec<[u32; LANES]> {
        let mut lanes = vec![[0; LANES]; self.width()];
        for (row, pairs) in self.pairs.chunks_exact(self.width()).enumerate() {
            for (lanes, pair) in lanes.iter_mut().zip(pairs) {
                lanes[row] = *pair;
            }
        }
        lanes
    }
}

crate::rows::vectorised! {
    /// Rounds a row to pairs of bfloat16.
    fn round_pairs(values: &'a [f32], pairs: &'a mut [u32]) {
        let (whole, rest) = values.as_chunks::<2>();
        for ([first, second], pair) in whole.iter().zip(pairs.iter_mut()) {
            *pair = u32::from(rounded(*first)) | u32::from(rounded(*second)) << 16;
        }
        if let ([last], Some(pair)) = (rest, pairs.last_mut()) {
            *pair = u32::from(rounded(*last));
        }
    }
}

/// The nearest value of bfloat16, ties to even; 0 below the normal range.
#[inline(always)]
pub(crate) fn rounded(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    let zero = bits >> 16 & 0x8000;
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    let is_small = nearest & 0x7f80 == 0;
    (if is_nan {
        quiet
    } else if is_small {
        zero
    } else {
        nearest
    }) as u16
}

/// The value of a number in bfloat16, as the instruction reads it: 0 below the normal range.
#[inline(always)]
fn widened(half: u32) -> f32 {
    normal(f32::from_bits(half << 16))
}

/// `out = x w`, or added to `out`. No bit depends on the other rows and columns, the instructions or the threads.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply(out: &mut MatrixMut<'_>, onto: Onto, x: &HalfRows, w: HalfMatrix<'_>, threads: Threads) {
    let [rows, columns] = out.dims();
    assert!(rows == x.rows && w.dims() == [x.inputs, columns], "the sizes of a product go together");
    if x.inputs == 0 {
        if onto == Onto::Replace {
            out.fill(0.0);
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if rows <= LANES && w.transposed().lines().is_some() && x.inputs.is_multiple_of(PAIR) && instruction::is_used() {
        if rows <= instruction::FEW {
            return by_blocks(out, [rows, COLUMNS], threads, |_, panel, out| {
                let first = panel * COLUMNS;
                instruction::very_few_rows(out, onto, x, w.columns(first..first + out.dims()[1]));
            });
        }
        let lanes = x.lanes();
        return by_blocks(out, [rows, COLUMNS], threads, |_, panel, out| {
            let first = panel * COLUMNS;
            instruction::few_rows(out, onto, &lanes, w.columns(first..first + out.dims()[1]));
        });
    }
    by_blocks(out, [rows, COLUMNS], threads, |_, panel, out| {
        PANEL.with_borrow_mut(|panel_memory| {
            let first = panel * COLUMNS;
            for (cut, start) in (0..x.inputs).step_by(CUT).enumerate() {
                let depth = CUT.min(x.inputs - start);
                let onto = if cut == 0 { onto } else { Onto::Add };
                pack(w, [start, first], [depth, out.dims()[1]], panel_memory);
                let part = Part { x, start: start / PAIR, pairs: depth.div_ceil(PAIR), panel: panel_memory, onto };
                part.run(out);
            }
        });
    });
}

/// `x w` in new memory.
pub(crate) fn product(x: Matrix<'_>, w: HalfMatrix<'_>) -> Vec<f32> {
    let (x, [_, columns]) = (HalfRows::of(x), w.dims());
    let mut out = Unwritten::new(x.rows.checked_mul(columns).expect("no memory is that large"));
    let mut view = MatrixMut::unwritten(out.memory(), x.rows, columns);
    multiply(&mut view, Onto::Replace, &x, w, Threads::Pool);
    // SAFETY: with `Onto::Replace` every element of the result is written, zeros where nothing is to be added up.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        out.written()
    }
}

thread_local! {
    /// Columns of the second operand: for each vector of columns, pair by pair.
    static PANEL: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Columns of a vector in a panel.
const LANES: usize = 16;

/// Puts a part of `w` side by side: vectors of [`LANES`] columns, in each pair by pair of inputs, with zeros where there are none.
fn pack(w: HalfMatrix<'_>, [input, column]: [usize; 2], [depth, columns]: [usize; 2], panel: &mut Vec<u32>) {
    let (values, [of_inputs, of_columns]) = w.memory();
    let pairs = depth.div_ceil(PAIR);
    let vectors = columns.div_ceil(LANES);
    if panel.len() < COLUMNS * CUT / PAIR {
        panel.resize(COLUMNS * CUT / PAIR, 0);
    }
    for (vector, panel) in panel[..vectors * pairs * LANES].chunks_exact_mut(pairs * LANES).enumerate() {
        let first = column + vector * LANES;
        let width = LANES.min(columns - vector * LANES);
        let lines = panel.as_chunks_mut::<LANES>().0;
        let start = input * of_inputs + first * of_columns;
        if width == LANES && depth.is_multiple_of(PAIR) && of_columns == 1 {
            interleave(&values[start..], of_inputs, lines);
        } else if width == LANES && depth.is_multiple_of(PAIR) && of_inputs == 1 {
            #[cfg(target_arch = "x86_64")]
            if instruction::is_used() {
                instruction::turn(&values[start..], of_columns, lines);
                continue;
            }
            turn(&values[start..], of_columns, lines);
        } else {
            for (pair, line) in lines.iter_mut().enumerate() {
                line.fill(0);
                for (at, value) in line.iter_mut().enumerate().take(width) {
                    let lower = input + pair * PAIR;
                    let half = |input: usize| u32::from(w.at(input, first + at));
                    *value = half(lower) | if pair * PAIR + 1 < depth { half(lower + 1) << 16 } else { 0 };
                }
            }
        }
    }
}

crate::rows::vectorised! {
    /// Pairs of rows whose columns follow each other.
    fn interleave(values: &'a [u16], stride: usize, lines: &'a mut [[u32; LANES]]) {
        for (pair, line) in lines.iter_mut().enumerate() {
            let row = |row: usize| -> &[u16; LANES] { values[(pair * PAIR + row) * stride..].first_chunk().unwrap_or(&[0; LANES]) };
            let (lower, upper) = (row(0), row(1));
            for lane in 0..LANES {
                line[lane] = u32::from(lower[lane]) | u32::from(upper[lane]) << 16;
            }
        }
    }
}

crate::rows::vectorised! {
    /// Columns whose inputs follow each other: pairs are together already and change places.
    fn turn(values: &'a [u16], stride: usize, lines: &'a mut [[u32; LANES]]) {
        const SIDE: usize = 8;
        let whole = lines.len() / SIDE * SIDE;
        for pair in (0..whole).step_by(SIDE) {
            for lane in (0..LANES).step_by(SIDE) {
                let columns: [[u32; SIDE]; SIDE] = std::array::from_fn(|column| {
                    let halves = values[(lane + column) * stride + pair * PAIR..].first_chunk::<{ SIDE * PAIR }>();
                    paired(halves.unwrap_or(&[0; SIDE * PAIR]))
                });
                for (at, line) in lines[pair..pair + SIDE].iter_mut().enumerate() {
                    let row: [u32; SIDE] = std::array::from_fn(|column| columns[column][at]);
                    line[lane..lane + SIDE].copy_from_slice(&row);
                }
            }
        }
        for (pair, line) in lines.iter_mut().enumerate().skip(whole) {
            for (lane, value) in line.iter_mut().enumerate() {
                let halves = &values[lane * stride + pair * PAIR..][..PAIR];
                *value = u32::from(halves[0]) | u32::from(halves[1]) << 16;
            }
        }
    }
}

/// Pairs of values that follow each other, the first in the lower half.
#[inline(always)]
fn paired(halves: &[u16; 16]) -> [u32; 8] {
    #[cfg(target_endian = "little")]
    {
        bytemuck::cast(*halves)
    }
    #[cfg(target_endian = "big")]
    {
        std::array::from_fn(|at| u32::from(halves[2 * at]) | u32::from(halves[2 * at + 1]) << 16)
    }
}

/// Some inputs of all rows, with a panel of columns.
struct Part<'a> {
    x: &'a HalfRows,
    /// The first pair, and the number of pairs.
    start: usize,
    pairs: usize,
    panel: &'a [u32],
    onto: Onto,
}

impl Part<'_> {
    fn run(&self, out: &mut MatrixMut<'_>) {
        #[cfg(target_arch = "x86_64")]
        if instruction::is_used() {
            return instruction::run(self, out);
        }
        dispatch(Emulated { part: self, out });
    }

    /// The pairs of a row.
    #[inline(always)]
    fn row(&self, row: usize) -> &[u32] {
        &self.x.pairs[row * self.x.width() + self.start..][..self.pairs]
    }

    /// The pairs of a vector of columns.
    #[inline(always)]
    fn vector(&self, vector: usize) -> &[[u32; LANES]] {
        self.panel[vector * self.pairs * LANES..][..self.pairs * LANES].as_chunks().0
    }

    /// Writes the sums of a row and a vector of columns.
    #[inline(always)]
    fn put(&self, out: &mut MatrixMut<'_>, row: usize, vector: usize, sums: &[f32; LANES]) {
        put(out, self.onto, [row, vector * LANES], sums);
    }
}

/// Writes sums into a row from a column on, or adds them: as many as there are columns.
#[inline(always)]
fn put(out: &mut MatrixMut<'_>, onto: Onto, [row, column]: [usize; 2], sums: &[f32; LANES]) {
    let width = LANES.min(out.dims()[1] - column);
    let first = out.row_pointer(row).wrapping_add(column);
    for (at, sum) in sums[..width].iter().enumerate() {
        // SAFETY: row and columns are inside `out`, which is borrowed for writing alone. It is read only if it is added to: then its
        // owner, or the cut before, has written to it.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            let out = first.add(at);
            out.write(match onto {
                Onto::Add => *sum + out.read(),
                Onto::Replace => *sum,
            });
        }
    }
}

/// The steps of the instruction one after the other.
struct Emulated<'a, 'b, 'c> {
    part: &'a Part<'a>,
    out: &'b mut MatrixMut<'c>,
}

impl WithSimd for Emulated<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { part, out } = self;
        let [rows, columns] = out.dims();
        for vector in 0..columns.div_ceil(LANES) {
            let panel = part.vector(vector);
            for row in 0..rows {
                let mut sums = [0.0f32; LANES];
                for (x, w) in part.row(row).iter().zip(panel) {
                    let (lower, upper) = (widened(x & 0xffff), widened(x >> 16));
                    for lane in 0..LANES {
                        let (of_lower, of_upper) = (widened(w[lane] & 0xffff), widened(w[lane] >> 16));
                        sums[lane] = normal(lower.mul_add(of_lower, normal(upper.mul_add(of_upper, sums[lane]))));
                    }
                }
                part.put(out, row, vector, &sums);
            }
        }
    }
}

/// 0 with the sign of a number below the normal range; other numbers as they are.
#[inline(always)]
fn normal(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(value) } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Instructions;

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
    }

    /// Of each set of instructions.
    fn products(x: Matrix<'_>, w: HalfMatrix<'_>, start: Option<&[f32]>) -> [Vec<f32>; 3] {
        let found = Instructions::ALL.map(|set| {
            set.choose();
            match start {
                None => product(x, w),
                Some(start) => {
                    let mut out = start.to_vec();
                    let mut view = MatrixMut::new(&mut out, x.dims()[0], w.dims()[1]);
                    multiply(&mut view, Onto::Add, &HalfRows::of(x), w, Threads::Pool);
                    out
                }
            }
        });
        Instructions::Native.choose();
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_instruction_set_gives_the_bits_of_the_definition(
            rows in 0..20usize, columns in 0..150usize, inputs in prop_oneof![0..20usize, 250..270usize, 510..520usize],
            (x_turned, w_turned, adds) in any::<(bool, bool, bool)>(), seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let of_x: Vec<f32> = (0..rows * inputs).map(|_| next()).collect();
            let of_w: Vec<u16> = (0..inputs * columns).map(|_| rounded(next())).collect();
            let start: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let x = if x_turned { Matrix::new(&of_x, inputs, rows).transposed() } else { Matrix::new(&of_x, rows, inputs) };
            let strides = if w_turned { [1, inputs.max(1)] } else { [columns.max(1), 1] };
            let w = HalfMatrix::strided(&of_w, [inputs, columns], strides);
            let mut expected = if adds { start.clone() } else { vec![0.0; rows * columns] };
            for row in 0..rows {
                for column in 0..columns {
                    let out = &mut expected[row * columns + column];
                    for first in (0..inputs).step_by(CUT) {
                        let end = inputs.min(first + CUT);
                        let mut sum = 0.0f32;
                        for pair in (first..end).step_by(2) {
                            for input in [pair + 1, pair] {
                                if input < end {
                                    let value = widened(rounded(x.at(row, input)).into());
                                    sum = value.mul_add(widened(w.at(input, column).into()), sum);
                                }
                            }
                        }
                        *out = if adds || first > 0 { sum + *out } else { sum };
                    }
                }
            }
            for (set, found) in Instructions::ALL.into_iter().zip(products(x, w, adds.then_some(&start))) {
                prop_assert_eq!(bits(&found), bits(&expected), "{}", set);
            }
        }

        #[test]
        fn instruction_and_emulation_agree_on_any_bits(
            values in proptest::collection::vec(any::<u32>(), 64), weights in proptest::collection::vec(any::<u16>(), 64 * 16),
            start in proptest::collection::vec(any::<u32>(), 16),
        ) {
            let values: Vec<f32> = values.into_iter().map(f32::from_bits).collect();
            let start: Vec<f32> = start.into_iter().map(f32::from_bits).collect();
            // A few inputs, so that sums do not all end as infinities.
            for inputs in [1, 2, 4, 64] {
                let w = HalfMatrix::strided(&weights[..inputs * 16], [inputs, 16], [16, 1]);
                let found = products(Matrix::new(&values[..inputs], 1, inputs), w, Some(&start));
                prop_assert_eq!(bits(&found[0]), bits(&found[1]));
                prop_assert_eq!(bits(&found[0]), bits(&found[2]));
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_with_ties_to_even() {
        for (value, expected) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (-1.0 - 1.1 / 256.0, 0xbf81),
            (f32::MAX, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
            (f32::MIN_POSITIVE / 2.0, 0),
            (-f32::MIN_POSITIVE / 2.0, 0x8000),
            (f32::MIN_POSITIVE, 0x0080),
        ] {
            assert_eq!(rounded(value), expected, "{value}");
        }
        assert!(f32::from_bits(u32::from(rounded(f32::NAN)) << 16).is_nan());
    }
}
