//! Products of operands in 8-bit integers with integer sums.
//!
//! # Proof note
//!
//! *Before*: rows and weights. *After*: an element of their product has bits that depend on a row and a column alone. *Why*: a row is
//! divided by 1/127 of its largest absolute value and rounded to integers from -127 to 127, and so is each column of the
//! weights, when they are loaded; products of integers are added up in 32 bits, where no sum of at most [`MAX_INPUTS`] of them overflows,
//! so that their order does not matter; the sum becomes a number in single precision and is multiplied by both divisors. The processor's
//! instruction (`vpdpbusd`) takes one operand without a sign: 128 is added to the integers of a row, and 128 times the sum of a
//! column is taken away. Without it they are added up in single precision ([`steps`]). A test compares both with the definition.
//!
//! The gradient of the rows is that of the rounded weights (a straight-through estimator: Bengio et al. 2013, arXiv 1308.3432): integers up
//! to 127 are numbers of bfloat16, so it is the product of the results' gradient, times the divisors and rounded, with these
//! ([`halves`](crate::halves)).
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]

#[cfg(target_arch = "x86_64")]
mod instruction;
mod layout;
mod steps;

use rayon::prelude::*;

pub(crate) use layout::{ByteWeights, Bytes};

use crate::buffer::GRAIN;
use crate::halves::{self, COLUMNS, HalfRows, LANES, Line};
use crate::matrix::{Matrix, MatrixMut, Onto, Threads, by_blocks};

/// Inputs that one step of the instruction adds.
const FOUR: usize = 4;

/// Inputs of a layer whose sums cannot overflow: 255 times 127 times as many is below 2^31.
pub(crate) const MAX_INPUTS: usize = 1 << 16;

/// The number that is added to the integers of a row.
const OFFSET: i32 = 128;

/// A number whose last digit in single precision is 1: adding it rounds a small number to an integer, ties to even, in the lowest bits.
const ROUNDS: f32 = 12_582_912.0;

/// The integer nearest to a number from -127 to 127, ties to even.
#[inline(always)]
fn nearest(value: f32) -> i32 {
    (value + ROUNDS).to_bits().cast_signed().wrapping_sub(ROUNDS.to_bits().cast_signed())
}

/// The divisor of numbers whose largest absolute value has these bits, and its reciprocal. 0 for both where all numbers are so small that
/// they count as 0; NaN for the divisor where a value is not finite.
#[inline(always)]
fn divisor(largest: u32) -> (f32, f32) {
    const SMALLEST: f32 = 1e-30;
    let value = f32::from_bits(largest);
    if !value.is_finite() {
        (f32::NAN, 0.0)
    } else if value < SMALLEST {
        (0.0, 0.0)
    } else {
        (value / 127.0, 127.0 / value)
    }
}

/// Rows of the first operand, each in integers and a divisor, with anything behind the last input up to a multiple of four.
pub(crate) struct ByteRows {
    values: Values,
    divisors: Vec<f32>,
    inputs: usize,
}

/// Integers, as what multiplies them reads them.
enum Values {
    /// For each row, four inputs with [`OFFSET`] added, the first in the lowest byte: for the instruction.
    #[cfg(target_arch = "x86_64")]
    Fours(Vec<u32>),
    /// For each row its integers: for products in single precision.
    Single(Vec<f32>),
}

impl ByteRows {
    /// Rounds the rows of a matrix.
    pub(crate) fn of(x: Matrix<'_>) -> Self {
        let [_, inputs] = x.dims();
        #[cfg(target_arch = "x86_64")]
        if instruction::is_used() {
            let (fours, divisors) = round_rows(x, inputs.div_ceil(FOUR), round_to_fours);
            return Self { values: Values::Fours(fours), divisors, inputs };
        }
        let width = inputs.next_multiple_of(FOUR);
        let (values, divisors) = round_rows(x, width, steps::round);
        Self { values: Values::Single(values), divisors, inputs }
    }
}

/// The divisors of the rows of a matrix, and for each row so many values that `round(row, factor, values)` writes.
fn round_rows<T: Clone + Default + Send>(
    x: Matrix<'_>,
    width: usize,
    round: impl for<'b> Fn(&'b [f32], f32, &'b mut [T]) + Sync,
) -> (Vec<T>, Vec<f32>) {
    let [rows, inputs] = x.dims();
    let (mut rounded, mut divisors) = (vec![T::default(); rows * width], vec![0.0; rows]);
    let round = |(row, (rounded, of_row)): (usize, (&mut [T], &mut f32))| {
        let values = x.row(row);
        let mut bits = 0;
        largest(&values, &mut bits);
        let (divisor, factor) = divisor(bits);
        *of_row = divisor;
        round(&values, factor, rounded);
    };
    if width > 0 {
        let rows = rounded.par_chunks_exact_mut(width).zip(divisors.par_iter_mut());
        rows.with_min_len((GRAIN / inputs).max(1)).enumerate().for_each(round);
    }
    (rounded, divisors)
}

crate::rows::vectorised! {
    /// The bits of the largest absolute value.
    fn largest(values: &'a [f32], bits: &'a mut u32) {
        // Absolute values are ordered as their bits are.
        *bits = values.iter().fold(0, |largest: u32, value| largest.max(value.to_bits() & 0x7fff_ffff));
    }
}

/// The lowest byte of an integer with [`OFFSET`] added, whatever the value is.
#[inline(always)]
fn byte_of(value: f32, factor: f32) -> u32 {
    ((nearest(value * factor) + OFFSET) & 0xff).cast_unsigned()
}

#[cfg(target_arch = "x86_64")]
crate::rows::vectorised! {
    /// Rounds a row to integers, four at a time.
    fn round_to_fours(values: &'a [f32], factor: f32, fours: &'a mut [u32]) {
        let byte = |value: f32| byte_of(value, factor);
        let (whole, rest) = values.as_chunks::<FOUR>();
        for (values, four) in whole.iter().zip(fours.iter_mut()) {
            *four = byte(values[0]) | byte(values[1]) << 8 | byte(values[2]) << 16 | byte(values[3]) << 24;
        }
        if let ([_, ..], Some(four)) = (rest, fours.last_mut()) {
            // The weights behind the last input are 0, so these bytes do not matter.
            *four = rest.iter().rev().fold(0, |four, value| four << 8 | byte(*value));
        }
    }
}

/// `out = x w`, or added to `out`. No bit depends on the other rows and columns, the instructions or the threads.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply(out: &mut MatrixMut<'_>, onto: Onto, x: &ByteRows, w: ByteWeights<'_>, threads: Threads) {
    let [rows, columns] = out.dims();
    assert!(rows == x.divisors.len() && w.dims() == [x.inputs, columns], "the sizes of a product go together");
    let (width, height) = (x.inputs.div_ceil(FOUR), halves::rows_together(rows, columns, threads));
    by_blocks(out, [height, COLUMNS], threads, |block, panel, out| {
        let first = panel * COLUMNS;
        let columns = first..first + out.dims()[1];
        let lines = &w.lines[first / LANES * width..];
        let panel = Panel { lines, width, sums: &w.sums[columns.clone()], divisors: &w.divisors[columns] };
        let of_rows = &x.divisors[block * height..];
        match &x.values {
            #[cfg(target_arch = "x86_64")]
            Values::Fours(fours) => {
                let fours = &fours[block * height * width..];
                instruction::run(&instruction::Part { fours, of_rows, panel, onto }, out);
            }
            Values::Single(values) => {
                steps::multiply(&values[block * height * width * FOUR..], of_rows, panel, onto, out);
            }
        }
    });
}

/// The gradient of the rows that were multiplied with `w`, from that of the results.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn gradient(of_results: Matrix<'_>, w: ByteWeights<'_>) -> Vec<f32> {
    let [rows, outputs] = of_results.dims();
    assert!(w.divisors.len() == outputs, "the sizes of a product go together");
    let mut scaled = vec![0.0; rows * outputs];
    if outputs > 0 {
        scaled.par_chunks_exact_mut(outputs).enumerate().for_each(|(row, scaled)| {
            for (output, (value, divisor)) in scaled.iter_mut().zip(w.divisors).enumerate() {
                *value = of_results.at(row, output) * divisor;
            }
        });
    }
    let [inputs, _] = w.dims();
    let turn = |start: [usize; 2], size: [usize; 2], lines: &mut [Line]| w.turn(start, size, lines);
    halves::product_with(&HalfRows::of(Matrix::new(&scaled, rows, outputs)), inputs, turn)
}

/// Weights that meet rows: vectors of columns, of so many lines each, and the sum and the divisor of each column.
#[derive(Clone, Copy)]
struct Panel<'a> {
    lines: &'a [Line],
    width: usize,
    sums: &'a [i32],
    divisors: &'a [f32],
}

impl<'a> Panel<'a> {
    #[inline(always)]
    fn vector(self, vector: usize) -> &'a [Line] {
        &self.lines[vector * self.width..][..self.width]
    }

    /// Writes the sums of a row, whose integers have so much added to them, and a vector of columns.
    #[inline(always)]
    fn put(
        self,
        out: &mut MatrixMut<'_>,
        onto: Onto,
        [row, vector]: [usize; 2],
        sums: &[i32; LANES],
        (offset, of_row): (i32, f32),
    ) {
        let columns = vector * LANES..out.dims()[1].min((vector + 1) * LANES);
        let mut values = [0.0; LANES];
        let of_columns = self.sums[columns.clone()].iter().zip(&self.divisors[columns]);
        for ((value, sum), (of_column, divisor)) in values.iter_mut().zip(sums).zip(of_columns) {
            *value = (sum - offset * of_column) as f32 * (of_row * divisor);
        }
        halves::put(out, onto, [row, vector * LANES], &values);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Instructions;
    use crate::instructions::Choosing;

    fn of_each(product: impl Fn() -> Vec<f32>) -> [Vec<f32>; 3] {
        let _turn = Choosing::take();
        Instructions::ALL.map(|set| {
            set.choose();
            product()
        })
    }

    /// The integers of some numbers, and their divisor.
    fn integers(values: &[f32]) -> (Vec<i32>, f32) {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 {
            return (vec![0; values.len()], 0.0);
        }
        let round = |value: &f32| (value * (127.0 / largest)).round_ties_even() as i32;
        (values.iter().map(round).collect(), largest / 127.0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_instruction_set_gives_the_bits_of_the_definition(
            rows in 0..20usize, columns in 0..150usize, inputs in prop_oneof![0..70usize, 250..270usize, 1020..1030usize],
            (x_turned, w_turned, adds) in any::<(bool, bool, bool)>(), seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let of_x: Vec<f32> = (0..rows * inputs).map(|_| next()).collect();
            let of_w: Vec<f32> = (0..inputs * columns).map(|_| next()).collect();
            let start: Vec<f32> = (0..rows * columns).map(|_| next()).collect();
            let x = if x_turned { Matrix::new(&of_x, inputs, rows).transposed() } else { Matrix::new(&of_x, rows, inputs) };
            let w = if w_turned { Matrix::new(&of_w, columns, inputs).transposed() } else { Matrix::new(&of_w, inputs, columns) };
            let bytes = Bytes::of(w);
            let line = |matrix: Matrix<'_>, row: usize| -> Vec<f32> { (0..matrix.dims()[1]).map(|at| matrix.at(row, at)).collect() };
            let of_rows: Vec<_> = (0..rows).map(|row| integers(&line(x, row))).collect();
            let of_columns: Vec<_> = (0..columns).map(|column| integers(&line(w.transposed(), column))).collect();
            let mut expected = Vec::new();
            for (row, of_row) in of_rows.iter().enumerate() {
                for (column, of_column) in of_columns.iter().enumerate() {
                    let sum: i32 = of_row.0.iter().zip(&of_column.0).map(|(x, w)| x * w).sum();
                    let value = sum as f32 * (of_row.1 * of_column.1);
                    expected.push(if adds { value + start[row * columns + column] } else { value });
                }
            }
            for (set, found) in Instructions::ALL.into_iter().zip(of_each(|| {
                let mut out = start.clone();
                let onto = if adds { Onto::Add } else { Onto::Replace };
                multiply(&mut MatrixMut::new(&mut out, rows, columns), onto, &ByteRows::of(x), bytes.view(), Threads::Pool);
                out
            })) {
                prop_assert_eq!(&found, &expected, "{}", set);
            }
            let values: Vec<f32> = (0..inputs * columns).map(|at| {
                let of_column = &of_columns[at % columns];
                of_column.0[at / columns] as f32 * of_column.1
            }).collect();
            prop_assert_eq!(bytes.values(), values);
            // The gradient is the product of bfloat16 with the integers of the columns.
            let scaled: Vec<f32> = (0..rows * columns).map(|at| start[at] * of_columns[at % columns].1).collect();
            let of_integers: Vec<f32> = (0..inputs * columns).map(|at| of_columns[at % columns].0[at / columns] as f32).collect();
            let halved = halves::Halves::of(Matrix::new(&of_integers, inputs, columns));
            let expected = halves::gradient(Matrix::new(&scaled, rows, columns), halved.view());
            for (set, found) in Instructions::ALL.into_iter().zip(of_each(|| {
                gradient(Matrix::new(&start, rows, columns), bytes.view())
            })) {
                prop_assert_eq!(&found, &expected, "gradient, {}", set);
            }
        }
    }

    #[test]
    fn large_sums_are_exact() {
        for inputs in [255, 1024, 1025, 4096, 9000] {
            let x = vec![1.0; inputs * 7];
            // The last digits of these sums would be lost in single precision.
            let w: Vec<f32> = (0..inputs).map(|input| if input % 256 == 0 { 2.0 / 127.0 } else { -1.0 }).collect();
            let small = inputs.div_ceil(256) as i32;
            let w = Bytes::of(Matrix::new(&w, inputs, 1));
            let sum = 127 * (2 * small - 127 * (inputs as i32 - small));
            let expected = sum as f32 * (1.0f32 / 127.0 * (1.0 / 127.0));
            for found in of_each(|| {
                let mut out = vec![7.0; 7];
                let x = ByteRows::of(Matrix::new(&x, 7, inputs));
                multiply(&mut MatrixMut::new(&mut out, 7, 1), Onto::Replace, &x, w.view(), Threads::One);
                out
            }) {
                assert!(found.iter().all(|sum| *sum == expected), "{inputs} inputs: {found:?}");
            }
        }
    }

    #[test]
    fn weights_that_are_not_finite_or_tiny_overflow_nothing() {
        let columns =
            [[f32::NAN, f32::INFINITY, -f32::INFINITY], [0.0, -0.0, 0.0], [1e-31, -1e-38, 0.0], [1e38, -1e38, 1.0]];
        let values: Vec<f32> = columns.concat();
        let w = Bytes::of(Matrix::new(&values, 4, 3).transposed());
        for found in of_each(|| {
            let mut out = vec![7.0; 4];
            let x = ByteRows::of(Matrix::new(&[1.0, 2.0, 4.0], 1, 3));
            multiply(&mut MatrixMut::new(&mut out, 1, 4), Onto::Replace, &x, w.view(), Threads::One);
            out
        }) {
            assert!(found[0].is_nan() && found[1..3] == [0.0; 2] && found[3].is_finite(), "{found:?}");
        }
    }

    #[test]
    fn a_row_that_holds_no_number_gives_none_and_one_of_small_numbers_gives_zero() {
        let w = Bytes::of(Matrix::new(&[1.0; 6], 3, 2));
        for (row, expected) in [
            ([1.0, f32::INFINITY, 2.0], [f32::NAN; 2]),
            ([f32::NAN, 0.0, 0.0], [f32::NAN; 2]),
            ([1e-38, -1e-38, 0.0], [0.0; 2]),
        ] {
            for found in of_each(|| {
                let mut out = vec![7.0; 2];
                let x = ByteRows::of(Matrix::new(&row, 1, 3));
                multiply(&mut MatrixMut::new(&mut out, 1, 2), Onto::Replace, &x, w.view(), Threads::One);
                out
            }) {
                let same = found.iter().zip(expected).all(|(found, expected)| found.is_nan() == expected.is_nan());
                assert!(same && (found[0].is_nan() || found == expected), "{row:?}: {found:?}");
            }
        }
    }
}
