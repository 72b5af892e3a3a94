//! Weights in 4-bit numbers, which products read as numbers of bfloat16.
//!
//! # Proof note
//!
//! *Before*: weights `[inputs, outputs]`. *After*: an element of their product with rows has the bits that it has with the same weights in
//! bfloat16, so it depends on a row and a column alone. *Why*: each run of [`BLOCK`] inputs of an output is divided by its largest
//! absolute value and each number replaced by the nearest of the sixteen [`LEVELS`]; a level times that value, rounded to bfloat16, is a
//! function of the weights alone. Products write these numbers a panel at a time in the order of [`halves`](crate::halves), and run its
//! steps. A test compares both, a golden file the numbers with those of `bitsandbytes`.
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]

#[cfg(target_arch = "x86_64")]
mod instruction;

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use crate::halves::{self, HalfRows, LANES, Line, PAIR, rounded, widened};
use crate::levels::{BLOCK, LEVELS, ZERO, numbers};
use crate::matrix::{Matrix, MatrixMut, Onto, Threads};

/// Inputs of a word.
const EIGHT: usize = 8;

/// The bits in bfloat16 of a number of a word.
#[inline(always)]
fn half(word: u32, at: usize, scale: f32) -> u32 {
    rounded(LEVELS[(word >> (4 * at) & 15) as usize] * scale).into()
}

/// The weights of a layer: a vector of outputs after the other, in it eight inputs after the other, with zeros behind the last.
pub(crate) struct Nibbles {
    lines: Vec<Line>,
    /// For a vector of outputs after the other, block after block of inputs.
    scales: Vec<[f32; LANES]>,
    inputs: usize,
    outputs: usize,
}

impl fmt::Debug for Nibbles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nibbles({} by {})", self.inputs, self.outputs)
    }
}

impl Nibbles {
    /// Rounds weights, `[inputs, outputs]`.
    pub(crate) fn of(weights: Matrix<'_>) -> Self {
        let [inputs, outputs] = weights.dims();
        let (width, blocks, vectors) = (inputs.div_ceil(EIGHT), inputs.div_ceil(BLOCK), outputs.div_ceil(LANES));
        let mut lines = vec![Line([ZERO * 0x1111_1111; LANES]); vectors * width];
        let mut scales = vec![[0.0; LANES]; vectors * blocks];
        if width > 0 {
            let of_vectors = lines.par_chunks_exact_mut(width).zip(scales.par_chunks_exact_mut(blocks));
            of_vectors.enumerate().for_each(|(vector, (lines, scales))| {
                let first = vector * LANES;
                for output in first..outputs.min(first + LANES) {
                    let column: Vec<f32> = (0..inputs).map(|input| weights.at(input, output)).collect();
                    let blocks = column.chunks(BLOCK).zip(scales.iter_mut()).zip(lines.chunks_mut(BLOCK / EIGHT));
                    for ((block, scales), lines) in blocks {
                        let (scale, numbers) = numbers(block);
                        scales[output - first] = scale;
                        for (at, number) in numbers.enumerate() {
                            let (word, shift) = (&mut lines[at / EIGHT].0[output - first], 4 * (at % EIGHT));
                            *word = *word & !(15 << shift) | number << shift;
                        }
                    }
                }
            });
        }
        Self { lines, scales, inputs, outputs }
    }

    /// The numbers that products read, `[inputs, outputs]` row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        let (width, blocks) = (self.inputs.div_ceil(EIGHT), self.inputs.div_ceil(BLOCK));
        let mut values = vec![0.0; self.inputs * self.outputs];
        if self.outputs > 0 {
            values.par_chunks_exact_mut(self.outputs).enumerate().for_each(|(input, row)| {
                for (output, value) in row.iter_mut().enumerate() {
                    let (vector, lane) = (output / LANES, output % LANES);
                    let word = self.lines[vector * width + input / EIGHT].0[lane];
                    *value = widened(half(word, input % EIGHT, self.scales[vector * blocks + input / BLOCK][lane]));
                }
            });
        }
        values
    }

    pub(crate) fn view(&self) -> NibbleWeights<'_> {
        let Self { lines, scales, inputs, outputs } = self;
        NibbleWeights { lines, scales, inputs: *inputs, outputs: *outputs }
    }
}

/// Weights in borrowed memory: some outputs of a layer, from the first of a vector on.
#[derive(Clone, Copy)]
pub(crate) struct NibbleWeights<'a> {
    lines: &'a [Line],
    scales: &'a [[f32; LANES]],
    inputs: usize,
    outputs: usize,
}

impl<'a> NibbleWeights<'a> {
    /// Inputs and outputs.
    pub(crate) fn dims(self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// Some of the outputs.
    ///
    /// # Panics
    ///
    /// If there are not so many, or they do not begin with a vector.
    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        let Range { start, end } = columns;
        assert!(start.is_multiple_of(LANES) || start == self.outputs, "outputs {start}..{end}");
        let vectors = start.div_ceil(LANES)..end.div_ceil(LANES);
        let (width, blocks) = (self.inputs.div_ceil(EIGHT), self.inputs.div_ceil(BLOCK));
        Self {
            lines: &self.lines[vectors.start * width..vectors.end * width],
            scales: &self.scales[vectors.start * blocks..vectors.end * blocks],
            inputs: self.inputs,
            outputs: end - start,
        }
    }

    /// The words and the scales of a vector of outputs.
    fn vector(self, vector: usize) -> (&'a [Line], &'a [[f32; LANES]]) {
        let (width, blocks) = (self.inputs.div_ceil(EIGHT), self.inputs.div_ceil(BLOCK));
        (&self.lines[vector * width..][..width], &self.scales[vector * blocks..][..blocks])
    }

    /// Writes weights in bfloat16: for each vector of outputs from `output` on, so many pairs of inputs from the pair `start` on, which
    /// begins a block.
    fn widen(self, [start, output]: [usize; 2], [pairs, outputs]: [usize; 2], lines: &mut [Line]) {
        for (vector, lines) in lines.chunks_exact_mut(pairs).take(outputs.div_ceil(LANES)).enumerate() {
            let (words, scales) = self.vector(output / LANES + vector);
            widen_vector(&words[start * PAIR / EIGHT..], &scales[start * PAIR / BLOCK..], lines);
        }
    }

    /// Puts inputs side by side in place of outputs, in bfloat16: for each vector of inputs from `input` on, so many pairs of outputs
    /// from the pair `start` on.
    fn turn(self, [start, input]: [usize; 2], [pairs, inputs]: [usize; 2], lines: &mut [Line]) {
        for (vector, lines) in lines.chunks_exact_mut(pairs).take(inputs.div_ceil(LANES)).enumerate() {
            let first = input + vector * LANES;
            for (pair, line) in (start..).zip(lines) {
                let (words, scales) = self.vector(pair * PAIR / LANES);
                let words = &words[first / EIGHT..];
                turn_pair(&words[..words.len().min(LANES / EIGHT)], &scales[first / BLOCK], pair * PAIR % LANES, line);
            }
        }
    }
}

/// Writes pairs of inputs of a vector of outputs in bfloat16.
fn widen_vector(words: &[Line], scales: &[[f32; LANES]], into: &mut [Line]) {
    #[cfg(target_arch = "x86_64")]
    let vectors = instruction::Vectors::used();
    let blocks = words.chunks(BLOCK / EIGHT).zip(scales);
    for ((words, scales), lines) in blocks.zip(into.chunks_mut(BLOCK / PAIR)) {
        #[cfg(target_arch = "x86_64")]
        if vectors.is_some_and(|vectors| vectors.widen_block(words, scales, lines)) {
            continue;
        }
        widen_block(words, scales, lines);
    }
}

/// Turns eights of inputs of two outputs, from `output` of a vector on, into a pair of outputs of inputs.
fn turn_pair(from: &[Line], scales: &[f32; LANES], output: usize, into: &mut Line) {
    #[cfg(target_arch = "x86_64")]
    if instruction::Vectors::used().is_some_and(|vectors| vectors.turn_pair(from, scales, output, into)) {
        return;
    }
    turn_words(from, scales, output, into);
}

crate::rows::vectorised! {
    /// [`widen_vector`] for a block, with levels from memory.
    fn widen_block(words: &'a [Line], scales: &'a [f32; LANES], into: &'a mut [Line]) {
        for (words, lines) in words.iter().zip(into.chunks_mut(EIGHT / PAIR)) {
            for (pair, line) in lines.iter_mut().enumerate() {
                for ((place, word), scale) in line.0.iter_mut().zip(&words.0).zip(scales) {
                    *place = half(*word, pair * PAIR, *scale) | half(*word, pair * PAIR + 1, *scale) << 16;
                }
            }
        }
    }
}

crate::rows::vectorised! {
    /// [`turn_pair`] with levels from memory.
    fn turn_words(from: &'a [Line], scales: &'a [f32; LANES], output: usize, into: &'a mut Line) {
        *into = Line::default();
        for (from, places) in from.iter().zip(into.0.as_chunks_mut::<EIGHT>().0) {
            let [first, second] = [from.0[output], from.0[output + 1]];
            for (at, place) in places.iter_mut().enumerate() {
                *place = half(first, at, scales[output]) | half(second, at, scales[output + 1]) << 16;
            }
        }
    }
}

/// `out = x w`, or added to `out`. No bit depends on the other rows and columns, the instructions or the threads.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply(out: &mut MatrixMut<'_>, onto: Onto, x: &HalfRows, w: NibbleWeights<'_>, threads: Threads) {
    assert!(out.dims()[1] == w.outputs && x.inputs() == w.inputs, "the sizes of a product go together");
    halves::multiply_with(out, onto, x, |start, size, lines| w.widen(start, size, lines), threads);
}

/// The gradient of the rows that were multiplied with `w`, from that of the results: `x w'`.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn gradient(of_results: Matrix<'_>, w: NibbleWeights<'_>) -> Vec<f32> {
    assert!(of_results.dims()[1] == w.outputs, "the sizes of a product go together");
    halves::product_with(&HalfRows::of(of_results), w.inputs, |start, size, lines| w.turn(start, size, lines))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Instructions;
    use crate::halves::Halves;
    use crate::instructions::Choosing;

    fn product(
        x: Matrix<'_>,
        columns: usize,
        onto: Onto,
        multiply: impl Fn(&mut MatrixMut<'_>, &HalfRows),
    ) -> Vec<u32> {
        let rows = x.dims()[0];
        let mut out = vec![if onto == Onto::Add { 0.5 } else { f32::NAN }; rows * columns];
        multiply(&mut MatrixMut::new(&mut out, rows, columns), &HalfRows::of(x));
        out.into_iter().map(f32::to_bits).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn products_and_gradients_have_the_bits_of_the_same_weights_in_bfloat16(
            rows in 0..20usize, outputs in 0..150usize, inputs in prop_oneof![0..20usize, 60..70usize, 250..330usize, 510..520usize],
            adds in any::<bool>(), seed in any::<u64>(), odd in prop::sample::select(vec![1.0f32, 0.0, 1e-37, 1e-31, 1e34]),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let of_x: Vec<f32> = (0..rows * inputs).map(|_| next()).collect();
            // Some outputs have scales that the instructions leave to the steps one after the other.
            let factor = |place: usize| if place % 3 == 1 { odd } else { 1.0 };
            let of_w: Vec<f32> = (0..inputs * outputs).map(|place| next() * factor(place % outputs)).collect();
            let of_results: Vec<f32> = (0..rows * outputs).map(|_| next()).collect();
            let (x, onto) = (Matrix::new(&of_x, rows, inputs), if adds { Onto::Add } else { Onto::Replace });
            let nibbles = Nibbles::of(Matrix::new(&of_w, inputs, outputs));
            let values = nibbles.values();
            let halves = Halves::of(Matrix::new(&values, inputs, outputs));
            prop_assert_eq!(&halves.values(), &values);
            // The nearest level is at most half of the widest gap away, and the rounding to bfloat16 adds less than 1/256.
            let near = |place: usize| (values[place] - of_w[place]).abs() <= 0.16 * factor(place % outputs);
            prop_assert!((0..values.len()).all(near));
            let of_results = Matrix::new(&of_results, rows, outputs);
            let turn = Choosing::take();
            for set in Instructions::ALL {
                set.choose();
                for threads in [Threads::One, Threads::Pool] {
                    let expected =
                        product(x, outputs, onto, |out, x| halves::multiply(out, onto, x, halves.view(), threads));
                    let found = product(x, outputs, onto, |out, x| multiply(out, onto, x, nibbles.view(), threads));
                    prop_assert_eq!(found, expected, "{}", set);
                }
                let expected = halves::gradient(of_results, halves.view());
                prop_assert_eq!(gradient(of_results, nibbles.view()), expected, "gradient, {}", set);
            }
            drop(turn);
            // Some columns of a layer.
            let some = 64.min(outputs)..outputs;
            let whole = product(x, outputs, Onto::Replace, |out, x| {
                multiply(out, Onto::Replace, x, nibbles.view(), Threads::One);
            });
            let part = product(x, some.len(), Onto::Replace, |out, x| {
                multiply(out, Onto::Replace, x, nibbles.view().columns(some.clone()), Threads::One);
            });
            for row in 0..rows {
                prop_assert_eq!(&part[row * some.len()..][..some.len()], &whole[row * outputs..][some.clone()]);
            }
        }
    }

    #[test]
    fn the_largest_of_a_block_and_zeros_keep_their_values() {
        let weights: Vec<f32> = (0..130).map(|input| if input < 64 { 0.0 } else { input as f32 }).collect();
        let values = Nibbles::of(Matrix::new(&weights, 130, 1)).values();
        assert!(values[..64].iter().all(|value| *value == 0.0));
        assert_eq!((values[127], values[129]), (127.0, 129.0));
    }
}
