//! The steps of the instruction for bfloat16 one after the other, as fused multiply-adds of single precision.
//!
//! # Proof note
//!
//! *Before*: rows and columns of numbers that are 0 or in the normal range of bfloat16. *After*: the bits of the instruction. *Why*: a product
//! of two such numbers is a multiple of 2 to the sum of their exponents less 14, and so is every sum of products, rounded or not, as numbers
//! that are rounded lie closer than the places they are rounded to. With the lowest exponent of a row and that of a panel this shows that
//! no sum but 0 is below the normal range; then a plain fused multiply-add is what the instruction does. Where it does not, each
//! sum is compared with the end of the range, in double precision, which holds it without rounding there: the instruction gives 0 for what
//! would be rounded to a number below it if exponents had no end, so from half of a last place below it on.

use std::cell::RefCell;

use super::{COLUMNS, LANES, PAIR, Panel, by_lines, put, rounded};
use crate::buffer::aligned;
use crate::matrix::{Matrix, MatrixMut, Onto};
use crate::tiles::{CUT, multiply_panel};

/// Biased exponents of a row and a panel whose sum is at least this never give a sum that is 0 for the instruction and not without it.
const SAFE: u32 = 2 * BIAS + 14 - (BIAS - 1);

/// Of an exponent in single precision and in bfloat16.
const BIAS: u32 = 127;

/// The exponent of nothing but zeros: above all others.
const ZEROS: u32 = u32::MAX / 2;

/// Rows in the order of the steps: the second of a pair of inputs, then the first.
pub(super) struct Steps {
    values: Vec<f32>,
    /// The lowest biased exponent of a row, cut after cut.
    lowest: Vec<u32>,
    /// Values of a row.
    width: usize,
}

impl Steps {
    /// Rounds the rows of a matrix.
    pub(super) fn of(x: Matrix<'_>) -> Self {
        let [rows, inputs] = x.dims();
        let width = inputs.next_multiple_of(PAIR);
        let cuts = width.div_ceil(CUT);
        let mut values = vec![0.0; rows * width];
        by_lines(x, &mut values, width, round_steps);
        let mut lowest = vec![ZEROS; rows * cuts];
        by_lines(Matrix::new(&values, rows, width), &mut lowest, cuts, find_lowest);
        Self { values, lowest, width }
    }

    /// `out = x w`, or added to `out`, for rows from `row` on and pairs of inputs from `start` on, which begin a cut.
    pub(super) fn multiply(&self, [row, start]: [usize; 2], panel: Panel<'_>, onto: Onto, out: &mut MatrixMut<'_>) {
        let (rows, depth, first) = (out.dims()[0], panel.pairs * PAIR, start * PAIR);
        let x = Matrix::strided(&self.values, [self.values.len() / self.width, self.width], [self.width, 1]);
        let x = x.rows(row..row + rows).columns(first..first + depth);
        let cuts = self.width.div_ceil(CUT);
        let exponent = |place: usize| self.lowest[(row + place) * cuts + first / CUT];
        WIDE.with_borrow_mut(|wide| {
            let wide = aligned(wide, depth * COLUMNS);
            let mut lowest = ZEROS;
            for vector in 0..out.dims()[1].div_ceil(LANES) {
                widen(panel.vector(vector), wide, vector * LANES, &mut lowest);
            }
            let is_safe = |place: usize| exponent(place) + lowest >= SAFE;
            let mut place = 0;
            while place < rows {
                let safe = (place..rows).take_while(|place| is_safe(*place)).count();
                if safe > 0 {
                    let together = place..place + safe;
                    multiply_panel(&mut out.rows(together.clone()), onto, x.rows(together), wide, COLUMNS);
                    place += safe;
                } else {
                    careful_row(&x.rows(place..place + 1), wide, onto, &mut out.rows(place..place + 1));
                    place += 1;
                }
            }
        });
    }
}

thread_local! {
    /// A panel in single precision: [`COLUMNS`] columns for each step.
    static WIDE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

crate::rows::vectorised! {
    /// Rounds a row.
    fn round_steps(values: &'a [f32], steps: &'a mut [f32]) {
        let value = |value: f32| f32::from_bits(u32::from(rounded(value)) << 16);
        let (whole, rest) = values.as_chunks::<PAIR>();
        let (steps, _) = steps.as_chunks_mut::<PAIR>();
        for ([first, second], step) in whole.iter().zip(steps.iter_mut()) {
            *step = [value(*second), value(*first)];
        }
        if let ([last], Some(step)) = (rest, steps.last_mut()) {
            *step = [0.0, value(*last)];
        }
    }
}

crate::rows::vectorised! {
    /// Finds the lowest exponent of each cut of a row.
    fn find_lowest(steps: &'a [f32], lowest: &'a mut [u32]) {
        for (steps, lowest) in steps.chunks(CUT).zip(lowest) {
            *lowest = steps.iter().fold(ZEROS, |lowest, value| lowest.min(exponent(value.to_bits())));
        }
    }
}

/// The biased exponent of a number; that of 0 is above all others.
#[inline(always)]
fn exponent(bits: u32) -> u32 {
    let exponent = bits << 1 >> 24;
    if exponent == 0 { ZEROS } else { exponent }
}

crate::rows::vectorised! {
    /// Writes the pairs of a vector of columns in the order of the steps, from a column on, and lowers `lowest` to their lowest exponent.
    fn widen(lines: &'a [super::Line], wide: &'a mut [f32], column: usize, lowest: &'a mut u32) {
        let mut of_lanes = [*lowest; LANES];
        for (line, steps) in lines.iter().zip(wide.chunks_exact_mut(PAIR * COLUMNS)) {
            let (second, first) = steps.split_at_mut(COLUMNS);
            for (half, step) in [(16, second), (0, first)] {
                let step = &mut step[column..][..LANES];
                for lane in 0..LANES {
                    let bits = line.0[lane] >> half << 16;
                    of_lanes[lane] = of_lanes[lane].min(exponent(bits));
                    step[lane] = f32::from_bits(bits);
                }
            }
        }
        *lowest = of_lanes.into_iter().fold(ZEROS, u32::min);
    }
}

crate::rows::vectorised! {
    /// The sums of a row, each compared with the end of the normal range.
    fn careful_row(x: &'a Matrix<'a>, wide: &'a [f32], onto: Onto, out: &'a mut MatrixMut<'a>) {
        for column in (0..out.dims()[1]).step_by(LANES) {
            let mut sums = [0.0f32; LANES];
            for (input, step) in wide.chunks_exact(COLUMNS).enumerate() {
                let value = x.at(0, input);
                for (sum, w) in sums.iter_mut().zip(&step[column..][..LANES]) {
                    *sum = step_of(value, *w, *sum);
                }
            }
            put(out, onto, [0, column], &sums);
        }
    }
}

/// The sum after a step of the instruction: `x w + sum`, or 0 with its sign where that is below the normal range.
#[inline(always)]
fn step_of(x: f32, w: f32, sum: f32) -> f32 {
    /// Half of the last place that numbers below 2^-126 had if exponents had no end, below it: a tie, which is rounded up.
    const END: f64 = f32::MIN_POSITIVE as f64 - f32::MIN_POSITIVE as f64 / (1u64 << 25) as f64;
    let result = x.mul_add(w, sum);
    let exact = f64::from(x) * f64::from(w) + f64::from(sum);
    if exact.abs() < END { 0.0f32.copysign(result) } else { result }
}
