//! Weights in bfloat16, in the order in which products read them.
//!
//! # Proof note
//!
//! *Before*: a matrix `[inputs, outputs]`. *After*: the same numbers, rounded, each once: a vector of outputs after the other, in it a
//! pair of inputs after the other, with zeros behind an odd number of inputs and behind the last output. *Why*: frozen weights never
//! change, so they are put into this order once, when they are loaded; many rows, few rows and a single row then read them from
//! the first line to the last. A test compares products with their definition.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use super::{PAIR, rounded, widened};
use crate::matrix::Matrix;

/// Outputs of a vector.
pub(crate) const LANES: usize = 16;

/// A pair of inputs of each output of a vector, the first of a pair in the lower half.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; LANES]);

/// The weights of a layer, rounded to bfloat16.
pub(crate) struct Halves {
    lines: Vec<Line>,
    inputs: usize,
    outputs: usize,
}

impl fmt::Debug for Halves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Halves({} by {})", self.inputs, self.outputs)
    }
}

impl Halves {
    /// Rounds weights, `[inputs, outputs]`.
    pub(crate) fn of(weights: Matrix<'_>) -> Self {
        let [inputs, outputs] = weights.dims();
        let width = inputs.div_ceil(PAIR);
        let mut lines = vec![Line::default(); outputs.div_ceil(LANES) * width];
        if width > 0 {
            lines.par_chunks_exact_mut(width).enumerate().for_each(|(vector, lines)| {
                let first = vector * LANES;
                for (pair, line) in lines.iter_mut().enumerate() {
                    for (output, place) in (first..outputs).zip(&mut line.0) {
                        let half = |input: usize| u32::from(rounded(weights.at(input, output)));
                        let second = pair * PAIR + 1;
                        *place = half(pair * PAIR) | if second < inputs { half(second) << 16 } else { 0 };
                    }
                }
            });
        }
        Self { lines, inputs, outputs }
    }

    /// The numbers, `[inputs, outputs]` row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.inputs * self.outputs];
        if self.outputs > 0 {
            values.par_chunks_exact_mut(self.outputs).enumerate().for_each(|(input, row)| {
                for (output, value) in row.iter_mut().enumerate() {
                    let pair = self.lines[output / LANES * self.inputs.div_ceil(PAIR) + input / PAIR].0[output % LANES];
                    *value = widened(if input % PAIR == 0 { pair & 0xffff } else { pair >> 16 });
                }
            });
        }
        values
    }

    pub(crate) fn view(&self) -> HalfWeights<'_> {
        HalfWeights { lines: &self.lines, inputs: self.inputs, outputs: self.outputs }
    }
}

/// Weights in borrowed memory: some outputs of a layer, from the first of a vector on.
#[derive(Clone, Copy)]
pub(crate) struct HalfWeights<'a> {
    pub(super) lines: &'a [Line],
    inputs: usize,
    outputs: usize,
}

impl HalfWeights<'_> {
    /// Inputs and outputs.
    pub(crate) fn dims(self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// Some of the outputs.
    ///
    /// # Panics
    ///
    /// If there are not so many, or they do not begin and end with a vector or the last output.
    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        let Range { start, end } = columns;
        let is_whole = |place: usize| place.is_multiple_of(LANES) || place == self.outputs;
        assert!(start <= end && end <= self.outputs && is_whole(start) && is_whole(end), "outputs {start}..{end}");
        let width = self.inputs.div_ceil(PAIR);
        let lines = &self.lines[start.div_ceil(LANES) * width..end.div_ceil(LANES) * width];
        Self { lines, inputs: self.inputs, outputs: end - start }
    }

    /// Puts inputs side by side in place of outputs: for each vector of inputs from `input` on, so many pairs of outputs from the
    /// pair `start` on.
    pub(super) fn turn(self, [start, input]: [usize; 2], [pairs, inputs]: [usize; 2], lines: &mut [Line]) {
        let width = self.inputs.div_ceil(PAIR);
        for (vector, lines) in lines.chunks_exact_mut(pairs).take(inputs.div_ceil(LANES)).enumerate() {
            let first = (input + vector * LANES) / PAIR;
            // Pairs of inputs that a vector has: half as many as inputs.
            let together = (LANES / PAIR).min(width - first);
            let mut pair = start;
            for lines in lines.chunks_mut(LANES / PAIR) {
                let of_outputs = pair * PAIR / LANES * width + first;
                turn_block(&self.lines[of_outputs..][..together], pair * PAIR % LANES, lines);
                pair += lines.len();
            }
        }
    }
}

crate::rows::vectorised! {
    /// Turns pairs of inputs of two outputs, from `output` of a vector on, into pairs of outputs of inputs.
    fn turn_block(from: &'a [Line], output: usize, into: &'a mut [Line]) {
        for (at, line) in into.iter_mut().enumerate() {
            *line = Line::default();
            for (from, places) in from.iter().zip(line.0.as_chunks_mut::<PAIR>().0) {
                let [first, second] = [from.0[output + at * PAIR], from.0[output + at * PAIR + 1]];
                *places = [first & 0xffff | second << 16, first >> 16 | second & 0xffff_0000];
            }
        }
    }
}
