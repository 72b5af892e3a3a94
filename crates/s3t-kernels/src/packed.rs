//! Weights in single precision, in the order in which products read them.
//!
//! # Proof note
//!
//! *Before*: a matrix `[inputs, outputs]`. *After*: the same numbers, each once: a vector of outputs after the other, in it an input after
//! the other, with zeros behind the last output. *Why*: frozen weights never change, so they are put into this order once, when they are
//! loaded; many rows, few rows and a single row then read them from the first line to the last, whatever the width of the processor's
//! vectors. They are only copied, so that no bit of a product depends on it: a test compares products with those of the matrix.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::aligned;
use crate::matrix::Matrix;
use crate::turned::copy_turned;

/// Outputs of a vector: a line of the caches.
pub(crate) const LANES: usize = 16;

/// The weights of a layer in single precision.
pub(crate) struct Packed {
    values: Vec<f32>,
    /// The first of the values that counts: it begins a line of the caches.
    first: usize,
    inputs: usize,
    outputs: usize,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} by {})", self.inputs, self.outputs)
    }
}

impl Packed {
    /// Copies weights, `[inputs, outputs]`.
    ///
    /// # Panics
    ///
    /// If no memory is that large: a matrix may have its values more than once.
    pub(crate) fn of(weights: Matrix<'_>) -> Self {
        let [inputs, outputs] = weights.dims();
        let (mut values, distance) = (Vec::new(), inputs.checked_mul(LANES).expect("no memory is that large"));
        let length = outputs.div_ceil(LANES).checked_mul(distance).expect("no memory is that large");
        let packed = aligned(&mut values, length);
        if distance > 0 {
            packed.par_chunks_exact_mut(distance).enumerate().for_each(|(vector, lines)| {
                let of_vector = vector * LANES..outputs.min((vector + 1) * LANES);
                copy_lines(weights.columns(of_vector), lines);
            });
        }
        let first = packed.as_ptr().addr() - values.as_ptr().addr();
        Self { values, first: first / size_of::<f32>(), inputs, outputs }
    }

    /// The numbers, `[inputs, outputs]` row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.inputs * self.outputs];
        let (lines, distance) = (self.view().values, self.inputs * LANES);
        if self.outputs > 0 {
            values.par_chunks_exact_mut(self.outputs).enumerate().for_each(|(input, row)| {
                for (vector, outputs) in row.chunks_mut(LANES).enumerate() {
                    outputs.copy_from_slice(&lines[vector * distance + input * LANES..][..outputs.len()]);
                }
            });
        }
        values
    }

    pub(crate) fn view(&self) -> PackedWeights<'_> {
        let Self { values, first, inputs, outputs } = self;
        PackedWeights { values: &values[*first..], distance: inputs * LANES, inputs: *inputs, outputs: *outputs }
    }
}

/// Copies the columns of a vector: [`LANES`] values for each input.
fn copy_lines(weights: Matrix<'_>, lines: &mut [f32]) {
    let [inputs, outputs] = weights.dims();
    if let Some((values, stride)) = weights.transposed().lines() {
        // As in a file, where the weights of an output follow each other.
        copy_turned(values, stride, lines, LANES, [outputs, inputs]);
        return;
    }
    for (input, line) in lines.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for (output, value) in line[..outputs].iter_mut().enumerate() {
            *value = weights.at(input, output);
        }
    }
}

/// Weights in borrowed memory: some inputs of some outputs of a layer, from the first output of a vector on.
#[derive(Clone, Copy)]
pub(crate) struct PackedWeights<'a> {
    values: &'a [f32],
    /// Values from a vector of outputs to the next.
    distance: usize,
    inputs: usize,
    outputs: usize,
}

impl<'a> PackedWeights<'a> {
    /// Inputs and outputs.
    pub(crate) fn dims(self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// Some of the inputs.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn inputs(self, inputs: Range<usize>) -> Self {
        assert!(inputs.start <= inputs.end && inputs.end <= self.inputs, "inputs {inputs:?} of {}", self.inputs);
        let values = &self.values[(inputs.start * LANES).min(self.values.len())..];
        Self { values, inputs: inputs.len(), ..self }
    }

    /// Some of the outputs.
    ///
    /// # Panics
    ///
    /// If there are not so many, or they do not begin with a vector.
    pub(crate) fn outputs(self, outputs: Range<usize>) -> Self {
        let Range { start, end } = outputs;
        let is_whole = start.is_multiple_of(LANES) || start == self.outputs;
        assert!(start <= end && end <= self.outputs && is_whole, "outputs {start}..{end} of {}", self.outputs);
        let values = &self.values[(start.div_ceil(LANES) * self.distance).min(self.values.len())..];
        Self { values, outputs: end - start, ..self }
    }

    /// The values from an output on, in the order of the module, and the distance of vectors of outputs.
    pub(crate) fn lines_from(self, output: usize) -> (&'a [f32], usize) {
        (&self.values[output / LANES * self.distance + output % LANES..], self.distance)
    }

    /// Puts the inputs side by side in place of the outputs: for each output `step` values, zeros behind the last input.
    ///
    /// # Panics
    ///
    /// If there is no room for so many.
    pub(crate) fn turn(self, panel: &mut [f32], step: usize) {
        if step != self.inputs {
            panel.fill(0.0);
        }
        for first in (0..self.outputs).step_by(LANES) {
            let values = &self.values[first / LANES * self.distance..];
            let size = [self.inputs, LANES.min(self.outputs - first)];
            copy_turned(values, LANES, &mut panel[first * step..], step, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_there_once_whatever_the_order_it_came_in() {
        for [inputs, outputs] in [[1, 1], [3, 16], [7, 17], [40, 31], [16, 64], [0, 5], [5, 0]] {
            let values: Vec<f32> = (0..inputs * outputs).map(|value| value as f32).collect();
            let of_rows = Packed::of(Matrix::new(&values, inputs, outputs));
            assert_eq!(of_rows.values(), values);
            assert_eq!(of_rows.view().values.as_ptr().addr() % 64, 0, "vectors begin with a line of the caches");
            let columns: Vec<f32> =
                (0..inputs * outputs).map(|at| values[at % inputs * outputs + at / inputs]).collect();
            let of_columns = Packed::of(Matrix::new(&columns, outputs, inputs).transposed());
            assert_eq!(of_columns.values(), values);
        }
    }

    #[test]
    #[should_panic(expected = "no memory is that large")]
    fn a_matrix_that_shows_one_value_too_often_is_refused() {
        Packed::of(Matrix::strided(&[0.0], [usize::MAX / 48, 192], [0, 0]));
    }

    #[test]
    #[should_panic(expected = "outputs 8..24 of 32")]
    fn outputs_from_the_middle_of_a_vector_are_refused() {
        Packed::of(Matrix::new(&[0.0; 64], 2, 32)).view().outputs(8..24);
    }
}
