//! Weights in 8-bit integers, in the order in which products read them.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use super::{FOUR, MAX_INPUTS, divisor, nearest};
use crate::halves::{LANES, Line, PAIR};
use crate::matrix::Matrix;

/// The weights of a layer, each output's rounded to integers from -127 to 127 times a divisor: a vector of outputs after the other,
/// in it four inputs after the other, with zeros behind the last.
pub(crate) struct Bytes {
    lines: Vec<Line>,
    /// The sum of the integers of each output, and its divisor.
    sums: Vec<i32>,
    divisors: Vec<f32>,
    inputs: usize,
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} by {})", self.inputs, self.divisors.len())
    }
}

impl Bytes {
    /// Rounds weights, `[inputs, outputs]`.
    ///
    /// # Panics
    ///
    /// If there are more than 65,536 inputs.
    pub(crate) fn of(weights: Matrix<'_>) -> Self {
        let [inputs, outputs] = weights.dims();
        assert!(inputs <= MAX_INPUTS, "{inputs} inputs of a layer; the sums of at most {MAX_INPUTS} cannot overflow");
        let width = inputs.div_ceil(FOUR);
        let mut lines = vec![Line::default(); outputs.div_ceil(LANES) * width];
        let (mut sums, mut divisors) = (vec![0; outputs], vec![0.0; outputs]);
        if width > 0 {
            let of_vectors = sums.par_chunks_mut(LANES).zip(divisors.par_chunks_mut(LANES));
            lines.par_chunks_exact_mut(width).zip(of_vectors).enumerate().for_each(|(vector, (lines, of_vector))| {
                for (lane, (sum, of_output)) in of_vector.0.iter_mut().zip(of_vector.1).enumerate() {
                    let column = weights.columns(vector * LANES + lane..vector * LANES + lane + 1);
                    let bits = |input| column.at(input, 0).to_bits() & 0x7fff_ffff;
                    let (divisor, factor) = divisor((0..inputs).map(bits).max().unwrap_or(0));
                    *of_output = divisor;
                    for input in 0..inputs {
                        let integer = nearest(column.at(input, 0) * factor) as i8;
                        *sum += i32::from(integer);
                        lines[input / FOUR].0[lane] |= u32::from(integer.cast_unsigned()) << (8 * (input % FOUR));
                    }
                }
            });
        }
        Self { lines, sums, divisors, inputs }
    }

    /// The rounded numbers, `[inputs, outputs]` row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        let (outputs, width) = (self.divisors.len(), self.inputs.div_ceil(FOUR));
        let mut values = vec![0.0; self.inputs * outputs];
        if outputs > 0 {
            values.par_chunks_exact_mut(outputs).enumerate().for_each(|(input, row)| {
                for (output, (value, divisor)) in row.iter_mut().zip(&self.divisors).enumerate() {
                    let four = self.lines[output / LANES * width + input / FOUR].0[output % LANES];
                    *value = f32::from(byte(four, input % FOUR)) * divisor;
                }
            });
        }
        values
    }

    pub(crate) fn view(&self) -> ByteWeights<'_> {
        ByteWeights { lines: &self.lines, sums: &self.sums, divisors: &self.divisors, inputs: self.inputs }
    }
}

/// Weights in borrowed memory: some outputs of a layer, from the first of a vector on.
#[derive(Clone, Copy)]
pub(crate) struct ByteWeights<'a> {
    pub(super) lines: &'a [Line],
    pub(super) sums: &'a [i32],
    pub(super) divisors: &'a [f32],
    inputs: usize,
}

impl ByteWeights<'_> {
    /// Inputs and outputs.
    pub(crate) fn dims(self) -> [usize; 2] {
        [self.inputs, self.divisors.len()]
    }

    /// Some of the outputs.
    ///
    /// # Panics
    ///
    /// If there are not so many, or they do not begin with a vector.
    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        let Range { start, end } = columns;
        assert!(start.is_multiple_of(LANES) || start == self.divisors.len(), "outputs {start}..{end}");
        let width = self.inputs.div_ceil(FOUR);
        let lines = &self.lines[start.div_ceil(LANES) * width..end.div_ceil(LANES) * width];
        Self { lines, sums: &self.sums[start..end], divisors: &self.divisors[start..end], inputs: self.inputs }
    }

    /// Puts inputs side by side in place of outputs, in bfloat16: for each vector of inputs from `input` on, so many pairs of outputs
    /// from the pair `start` on.
    pub(super) fn turn(self, [start, input]: [usize; 2], [pairs, inputs]: [usize; 2], lines: &mut [Line]) {
        let width = self.inputs.div_ceil(FOUR);
        for (vector, lines) in lines.chunks_exact_mut(pairs).take(inputs.div_ceil(LANES)).enumerate() {
            let first = (input + vector * LANES) / FOUR;
            let together = (LANES / FOUR).min(width - first);
            for (pair, line) in (start..).zip(lines) {
                let (of_outputs, output) = (pair * PAIR / LANES * width + first, pair * PAIR % LANES);
                turn_pair(&self.lines[of_outputs..][..together], output, line);
            }
        }
    }
}

crate::rows::vectorised! {
    /// Turns fours of inputs of two outputs, from `output` of a vector on, into a pair of outputs of inputs.
    fn turn_pair(from: &'a [Line], output: usize, into: &'a mut Line) {
        *into = Line::default();
        for (from, places) in from.iter().zip(into.0.as_chunks_mut::<FOUR>().0) {
            let [first, second] = [from.0[output], from.0[output + 1]];
            for (at, place) in places.iter_mut().enumerate() {
                *place = half(byte(first, at)) | half(byte(second, at)) << 16;
            }
        }
    }
}

/// An integer of the four.
#[inline(always)]
pub(super) fn byte(four: u32, at: usize) -> i8 {
    (four >> (8 * at)) as u8 as i8
}

/// The bits of an integer in bfloat16, which has all of them.
#[inline(always)]
fn half(byte: i8) -> u32 {
    f32::from(byte).to_bits() >> 16
}
