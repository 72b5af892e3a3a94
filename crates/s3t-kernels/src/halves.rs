//! Products of operands in bfloat16 with sums in single precision.
//!
//! # Proof note
//!
//! *Before*: two matrices, rounded to bfloat16 (nearest, ties to even; numbers below the normal range become 0). *After*: an element of
//! their product has bits that depend on a row of the first and a column of the second alone, with and without instructions for
//! bfloat16. *Why*: the instruction `vdpbf16ps` adds the product of the second of a pair of inputs, then that of the first, each by one
//! fused multiply-add that is rounded to nearest and gives 0 below the normal range (Intel, Software Developer's Manual, volume 2);
//! [`steps`] do just that, one after the other. Chains are cut and added up as in [`tiles`](crate::tiles). A test
//! compares instruction and steps over random bits and at the end of the normal range.
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

#[cfg(target_arch = "x86_64")]
mod instruction;
mod layout;
mod steps;

use std::cell::RefCell;

use rayon::prelude::*;

pub(crate) use layout::{HalfWeights, Halves, LANES, Line};
use steps::Steps;

use crate::buffer::{GRAIN, Unwritten};
use crate::matrix::{Matrix, MatrixMut, Onto, Threads, by_blocks};
use crate::tiles::CUT;

/// Inputs that one step of the instruction adds.
pub(crate) const PAIR: usize = 2;

/// Columns that meet all rows of a block before the next.
pub(crate) const COLUMNS: usize = 64;

/// Rows of the first operand, with zeros behind an odd number of inputs.
pub(crate) struct HalfRows {
    values: Values,
    rows: usize,
    inputs: usize,
}

/// Numbers in bfloat16, as what multiplies them reads them.
enum Values {
    /// For each row, pairs of inputs, the first of a pair in the lower half: for the instruction.
    #[cfg(target_arch = "x86_64")]
    Pairs(Vec<u32>),
    /// For the steps one after the other.
    Steps(Steps),
}

impl HalfRows {
    /// Rounds the rows of a matrix.
    pub(crate) fn of(x: Matrix<'_>) -> Self {
        let [rows, inputs] = x.dims();
        #[cfg(target_arch = "x86_64")]
        if instruction::is_used(rows) {
            let mut pairs = vec![0; rows * inputs.div_ceil(PAIR)];
            by_lines(x, &mut pairs, inputs.div_ceil(PAIR), round_pairs);
            return Self { values: Values::Pairs(pairs), rows, inputs };
        }
        Self { values: Values::Steps(Steps::of(x)), rows, inputs }
    }

    fn width(&self) -> usize {
        self.inputs.div_ceil(PAIR)
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// `out = x w`, or added to `out`, for rows from `row` on and pairs of inputs from `start` on.
    fn multiply(&self, [row, start]: [usize; 2], panel: Panel<'_>, onto: Onto, out: &mut MatrixMut<'_>) {
        match &self.values {
            #[cfg(target_arch = "x86_64")]
            Values::Pairs(pairs) => {
                let width = self.width();
                instruction::run(&instruction::Part { x: &pairs[row * width + start..], width, panel, onto }, out);
            }
            Values::Steps(steps) => steps.multiply([row, start], panel, onto, out),
        }
    }
}

/// Runs `work(values, written)` for each row of a matrix and so many values that are written for it.
fn by_lines<T: Send>(
    x: Matrix<'_>,
    written: &mut [T],
    width: usize,
    work: impl for<'b> Fn(&'b [f32], &'b mut [T]) + Sync,
) {
    let [_, inputs] = x.dims();
    if width == 0 {
        return;
    }
    let rows = written.par_chunks_exact_mut(width).with_min_len((GRAIN / inputs.max(1)).max(1));
    rows.enumerate().for_each(|(row, written)| work(&x.row(row), written));
}

/// Weights that meet rows: so many pairs of inputs of vectors of columns, one vector so far from the next.
#[derive(Clone, Copy)]
struct Panel<'a> {
    lines: &'a [Line],
    distance: usize,
    pairs: usize,
}

impl<'a> Panel<'a> {
    /// The pairs of a vector of columns.
    #[inline(always)]
    fn vector(self, vector: usize) -> &'a [Line] {
        &self.lines[vector * self.distance..][..self.pairs]
    }
}

#[cfg(target_arch = "x86_64")]
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
pub(crate) fn widened(half: u32) -> f32 {
    let value = f32::from_bits(half << 16);
    if value.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(value) } else { value }
}

/// `out = x w`, or added to `out`. No bit depends on the other rows and columns, the instructions or the threads.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply(out: &mut MatrixMut<'_>, onto: Onto, x: &HalfRows, w: HalfWeights<'_>, threads: Threads) {
    let [rows, columns] = out.dims();
    assert!(rows == x.rows && w.dims() == [x.inputs, columns], "the sizes of a product go together");
    if x.inputs == 0 {
        if onto == Onto::Replace {
            out.fill(0.0);
        }
        return;
    }
    let (width, height) = (x.width(), rows_together(rows, columns, threads));
    by_blocks(out, [height, COLUMNS], threads, |block, panel, out| {
        let lines = &w.lines[panel * COLUMNS / LANES * width..];
        for (cut, start) in (0..width).step_by(CUT / PAIR).enumerate() {
            let pairs = (CUT / PAIR).min(width - start);
            let onto = if cut == 0 { onto } else { Onto::Add };
            let panel = Panel { lines: &lines[start..], distance: width, pairs };
            x.multiply([block * height, start], panel, onto, out);
        }
    });
}

/// Rows of a block: all, where panels of [`COLUMNS`] columns are enough for the threads, so that each panel is read once.
pub(crate) fn rows_together(rows: usize, columns: usize, threads: Threads) -> usize {
    /// Rows of a tile.
    const STEP: usize = 6;
    let panels = columns.div_ceil(COLUMNS).max(1);
    let parts = if threads.are_many() { rayon::current_num_threads().div_ceil(panels) } else { 1 };
    rows.div_ceil(parts).next_multiple_of(STEP)
}

/// The gradient of the rows that were multiplied with `w`, from that of the results: `x w'`.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn gradient(x: Matrix<'_>, w: HalfWeights<'_>) -> Vec<f32> {
    let [inputs, outputs] = w.dims();
    assert!(x.dims()[1] == outputs, "the sizes of a product go together");
    product_with(&HalfRows::of(x), inputs, |start, size, lines| w.turn(start, size, lines))
}

/// The product of `x` with so many columns, which `put` writes as for [`multiply_with`].
pub(crate) fn product_with(
    x: &HalfRows,
    columns: usize,
    put: impl Fn([usize; 2], [usize; 2], &mut [Line]) + Sync,
) -> Vec<f32> {
    let mut out = Unwritten::new(x.rows.checked_mul(columns).expect("no memory is that large"));
    let mut view = MatrixMut::unwritten(out.memory(), x.rows, columns);
    multiply_with(&mut view, Onto::Replace, x, put, Threads::Pool);
    // SAFETY: with `Onto::Replace` every element of the result is written, zeros where nothing is to be added up.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        out.written()
    }
}

/// `out = x w`, or added to `out`, where `put` writes lines of `w`: from a pair of inputs and a column on, so many pairs of inputs of so many
/// columns. The first pair is a multiple of half of [`CUT`], the first column one of [`COLUMNS`].
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply_with(
    out: &mut MatrixMut<'_>,
    onto: Onto,
    x: &HalfRows,
    put: impl Fn([usize; 2], [usize; 2], &mut [Line]) + Sync,
    threads: Threads,
) {
    let [rows, columns] = out.dims();
    assert!(rows == x.rows, "the sizes of a product go together");
    if x.inputs == 0 && onto == Onto::Replace {
        out.fill(0.0);
    }
    let (width, height) = (x.width(), rows_together(rows, columns, threads));
    by_blocks(out, [height, COLUMNS], threads, |block, panel, out| {
        PANEL.with_borrow_mut(|lines| {
            lines.resize(COLUMNS / LANES * CUT / PAIR, Line::default());
            for start in (0..width).step_by(CUT / PAIR) {
                let pairs = (CUT / PAIR).min(width - start);
                put([start, panel * COLUMNS], [pairs, out.dims()[1]], lines);
                let onto = if start == 0 { onto } else { Onto::Add };
                x.multiply([block * height, start], Panel { lines, distance: pairs, pairs }, onto, out);
            }
        });
    });
}

thread_local! {
    /// Rows of weights, put side by side as columns.
    static PANEL: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Writes sums into a row from a column on, or adds them: as many as there are columns.
#[inline(always)]
pub(crate) fn put(out: &mut MatrixMut<'_>, onto: Onto, [row, column]: [usize; 2], sums: &[f32; LANES]) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Instructions;
    use crate::instructions::Choosing;

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
    }

    /// Of each set of instructions.
    fn of_each(product: impl Fn() -> Vec<f32>) -> [Vec<f32>; 3] {
        let _turn = Choosing::take();
        Instructions::ALL.map(|set| {
            set.choose();
            product()
        })
    }

    fn product(x: Matrix<'_>, w: &Halves, start: Option<&[f32]>) -> Vec<f32> {
        let (dims, onto) = ([x.dims()[0], w.view().dims()[1]], if start.is_some() { Onto::Add } else { Onto::Replace });
        let mut out = start.map_or_else(|| vec![f32::NAN; dims[0] * dims[1]], <[f32]>::to_vec);
        multiply(&mut MatrixMut::new(&mut out, dims[0], dims[1]), onto, &HalfRows::of(x), w.view(), Threads::Pool);
        out
    }

    /// `x w`, or added to `start`.
    fn definition(x: Matrix<'_>, w: Matrix<'_>, start: Option<&[f32]>) -> Vec<f32> {
        let ([rows, inputs], [_, columns]) = (x.dims(), w.dims());
        let mut out = start.map_or_else(|| vec![0.0; rows * columns], <[f32]>::to_vec);
        for (place, out) in out.iter_mut().enumerate() {
            let (row, column) = (place / columns, place % columns);
            for first in (0..inputs).step_by(CUT) {
                let end = inputs.min(first + CUT);
                let mut sum = 0.0f32;
                for pair in (first..end).step_by(2) {
                    for input in [pair + 1, pair] {
                        if input < end {
                            let [x, w] =
                                [x.at(row, input), w.at(input, column)].map(|value| widened(rounded(value).into()));
                            let next = x.mul_add(w, sum);
                            // In double precision, where a sum near the end of the range is exact: what rounds to less is 0.
                            let exact = f64::from(x) * f64::from(w) + f64::from(sum);
                            let last_place = 2.0f64.powi(-150);
                            let without_end = (exact.abs() / last_place).round_ties_even() * last_place;
                            let is_below = without_end < f64::from(f32::MIN_POSITIVE);
                            sum = if is_below { 0.0f32.copysign(next) } else { next };
                        }
                    }
                }
                *out = if start.is_some() || first > 0 { sum + *out } else { sum };
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_instruction_set_gives_the_bits_of_the_definition(
            rows in 0..20usize, columns in 0..150usize, inputs in prop_oneof![0..20usize, 250..270usize, 510..520usize],
            (x_turned, w_turned, adds) in any::<(bool, bool, bool)>(), seed in any::<u64>(),
            small in prop::sample::select(vec![1.0f32, 1e-18, 1e-20, 1e-24, 0.0]),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            // Some rows, and some columns, lead to sums below the normal range.
            let factor = |place: usize| if place % 3 == 1 { small } else { 1.0 };
            let of_x: Vec<f32> = (0..rows * inputs).map(|place| next() * factor(place / inputs + place % 5)).collect();
            let of_w: Vec<f32> = (0..inputs * columns).map(|place| next() * factor(place / 32)).collect();
            let start: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let x = if x_turned { Matrix::new(&of_x, inputs, rows).transposed() } else { Matrix::new(&of_x, rows, inputs) };
            let w = if w_turned { Matrix::new(&of_w, columns, inputs).transposed() } else { Matrix::new(&of_w, inputs, columns) };
            let (halves, start) = (Halves::of(w), adds.then_some(&start[..]));
            let values: Vec<f32> = (0..inputs * columns).map(|at| widened(rounded(w.at(at / columns, at % columns)).into())).collect();
            prop_assert_eq!(halves.values(), values);
            let expected = definition(x, w, start);
            for (set, found) in Instructions::ALL.into_iter().zip(of_each(|| product(x, &halves, start))) {
                prop_assert_eq!(bits(&found), bits(&expected), "{}", set);
            }
            // With the weights the other way round: outputs are added up.
            let turned = Halves::of(w.transposed());
            let expected = definition(x, w, None);
            for (set, found) in Instructions::ALL.into_iter().zip(of_each(|| gradient(x, turned.view()))) {
                prop_assert_eq!(bits(&found), bits(&expected), "gradient, {}", set);
            }
        }

        #[test]
        fn instruction_and_emulation_agree_on_any_bits(
            values in proptest::collection::vec(any::<u32>(), 64), weights in proptest::collection::vec(any::<u16>(), 64 * 16),
            start in proptest::collection::vec(any::<u32>(), 16),
        ) {
            let values: Vec<f32> = values.into_iter().map(f32::from_bits).collect();
            let start: Vec<f32> = start.into_iter().map(f32::from_bits).collect();
            let weights: Vec<f32> = weights.into_iter().map(|half| f32::from_bits(u32::from(half) << 16)).collect();
            // A few inputs, so that sums do not all end as infinities.
            for inputs in [1, 2, 4, 64] {
                let w = Halves::of(Matrix::new(&weights[..inputs * 16], inputs, 16));
                let found = of_each(|| product(Matrix::new(&values[..inputs], 1, inputs), &w, Some(&start)));
                prop_assert_eq!(bits(&found[0]), bits(&found[1]));
                prop_assert_eq!(bits(&found[0]), bits(&found[2]));
            }
        }
    }

    /// Pairs of numbers, on several rows so that the steps run too where the processor has an instruction for few.
    fn sums(pairs: &[(f32, f32)]) -> [Vec<f32>; 3] {
        const ROWS: usize = 6;
        let (x, w): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        let halves = Halves::of(Matrix::new(&w, w.len(), 1));
        of_each(|| {
            let mut found = product(Matrix::new(&x, 1, x.len()), &halves, None);
            found.extend(product(Matrix::new(&x.repeat(ROWS), ROWS, x.len()), &halves, None));
            found
        })
    }

    /// `mantissa * 2^exponent`, a number of bfloat16 in the normal range.
    fn number(mantissa: u8, exponent: i32) -> f32 {
        f32::from(mantissa) * 2.0f32.powi(exponent)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn instruction_and_emulation_agree_at_the_end_of_the_normal_range(
            pairs in proptest::collection::vec((128..=255u8, 128..=255u8, -169..-130i32, any::<bool>()), 1..8),
        ) {
            let pairs: Vec<_> = pairs.into_iter().map(|(x, w, exponent, is_negative)| {
                let x = number(x, exponent / 2);
                (if is_negative { -x } else { x }, number(w, exponent - exponent / 2))
            }).collect();
            let found = sums(&pairs);
            let expected = found[0][0].to_bits();
            prop_assert!(found.iter().flatten().all(|sum| sum.to_bits() == expected), "{:?}", found);
        }
    }

    #[test]
    fn a_sum_below_the_normal_range_is_zero() {
        let [small, large] = [-75, -63].map(|exponent| 2.0f32.powi(exponent));
        // The first products of pairs are added last. Expected: what `vdpbf16ps` gives on a Xeon.
        for (pairs, expected) in [
            (&[(-1.5 * small, small / 2.0), (large, large)][..], 0.0f32),
            (&[(-small, small / 2.0), (large, large)], f32::MIN_POSITIVE),
            (&[(-1.25 * small, small), (large, large)], 0.0),
            (&[(1.5 * small, -small / 2.0), (-large, -large)], 0.0),
            (&[(1.5 * small, small / 2.0), (-large, large)], -0.0),
            (&[(small, -small)], -0.0),
        ] {
            for found in sums(pairs) {
                assert!(found.iter().all(|sum| sum.to_bits() == expected.to_bits()), "{pairs:?}: {found:?}");
            }
        }
    }

    #[test]
    fn the_smallest_difference_of_two_products_is_kept_in_the_normal_range_alone() {
        // (129 129 - 128 130) 2^exponent.
        for (exponent, expected) in [(-126, f32::MIN_POSITIVE), (-127, 0.0)] {
            let pairs = [(number(129, exponent / 2), number(129, exponent - exponent / 2))];
            let pairs = [pairs[0], (-number(128, exponent / 2), number(130, exponent - exponent / 2))];
            for found in sums(&pairs) {
                assert!(found.iter().all(|sum| *sum == expected), "{exponent}: {found:?}");
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
