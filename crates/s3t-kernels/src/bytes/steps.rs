//! Products of 8-bit integers in single precision, for processors without an instruction for them.
//!
//! # Proof note
//!
//! *Before*: rows and columns of integers from -128 to 127. *After*: the integers that the instruction gives. *Why*: single precision has
//! every integer up to 2^24, which no sum of [`EXACT`] products exceeds, so that neither products nor sums are rounded; such sums
//! are added up as integers. A test compares sums that single precision would round.

use std::cell::RefCell;

use super::layout::byte;
use super::{FOUR, OFFSET, Panel, byte_of};
use crate::buffer::aligned;
use crate::halves::{COLUMNS, LANES, Line};
use crate::matrix::{Matrix, MatrixMut, Onto};
use crate::tiles::{CUT, multiply_panel};

/// Inputs whose sums are exact in single precision: 128 times 128 times as many is 2^24.
const EXACT: usize = 1024;

/// Rows whose sums stay in the caches while they grow.
const ROWS: usize = 192;

crate::rows::vectorised! {
    /// Rounds a row to integers.
    fn round(values: &'a [f32], factor: f32, row: &'a mut [f32]) {
        for (value, integer) in values.iter().zip(row) {
            *integer = (byte_of(*value, factor).cast_signed() - OFFSET) as f32;
        }
    }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

#[derive(Default)]
struct Buffers {
    /// A cut of a panel in single precision: [`COLUMNS`] columns for each input.
    wide: Vec<f32>,
    /// The sums of rows over [`EXACT`] inputs, and over all.
    some: Vec<f32>,
    all: Vec<i32>,
}

/// `out = x w`, or added to `out`, for the rows from the first on, whose divisors are `of_rows`.
pub(super) fn multiply(x: &[f32], of_rows: &[f32], panel: Panel<'_>, onto: Onto, out: &mut MatrixMut<'_>) {
    let ([rows, columns], inputs) = (out.dims(), panel.width * FOUR);
    let x = Matrix::new(x, rows, inputs);
    BUFFERS.with_borrow_mut(|Buffers { wide, some, all }| {
        let wide = aligned(wide, CUT * COLUMNS);
        for first_row in (0..rows).step_by(ROWS) {
            let height = ROWS.min(rows - first_row);
            let x = x.rows(first_row..first_row + height);
            some.clear();
            some.resize(height * COLUMNS, 0.0);
            all.clear();
            all.resize(height * COLUMNS, 0);
            for first in (0..inputs).step_by(CUT) {
                let end = inputs.min(first + CUT);
                for vector in 0..columns.div_ceil(LANES) {
                    widen(&panel.vector(vector)[first / FOUR..end / FOUR], wide, vector * LANES);
                }
                let onto = if first % EXACT == 0 { Onto::Replace } else { Onto::Add };
                let mut sums = MatrixMut::strided(some, [height, columns], COLUMNS);
                multiply_panel(&mut sums, onto, x.columns(first..end), wide, COLUMNS);
                if end % EXACT == 0 || end == inputs {
                    add(some, all);
                }
            }
            for (row, sums) in all.as_chunks::<LANES>().0.chunks_exact(COLUMNS / LANES).enumerate() {
                for (vector, sums) in sums.iter().take(columns.div_ceil(LANES)).enumerate() {
                    panel.put(out, onto, [first_row + row, vector], sums, (0, of_rows[first_row + row]));
                }
            }
        }
    });
}

crate::rows::vectorised! {
    /// Writes the integers of a vector of columns, input by input, from a column on.
    fn widen(lines: &'a [Line], wide: &'a mut [f32], column: usize) {
        for (line, inputs) in lines.iter().zip(wide.chunks_exact_mut(FOUR * COLUMNS)) {
            for (at, input) in inputs.chunks_exact_mut(COLUMNS).enumerate() {
                for (value, four) in input[column..][..LANES].iter_mut().zip(&line.0) {
                    *value = f32::from(byte(*four, at));
                }
            }
        }
    }
}

crate::rows::vectorised! {
    /// Adds sums, which are integers.
    fn add(some: &'a [f32], all: &'a mut [i32]) {
        for (all, some) in all.iter_mut().zip(some) {
            *all += *some as i32;
        }
    }
}
