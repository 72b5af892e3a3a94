//! Products of a few rows with weights that are read once, and attention of single queries, in vectors of the processor's width.
//!
//! Every result is summed up in one order, whatever that width is: along the inputs or the tokens one after the other, or for dot products
//! in [`LANES`] lanes that are joined pairwise.
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::instructions::dispatch;

use crate::operands::{CachedPage, PAGE};
use crate::rows::softmax;

/// Independent sums of a dot product.
const LANES: usize = 16;

/// Inputs whose weights are held in registers.
const DEEP: usize = 8;

/// Rows of a matrix, at a distance.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> Lines<'a> {
    #[inline(always)]
    fn line(self, row: usize, length: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..length]
    }
}

/// Adds `x w` to sums `[rows, columns]`, input by input: `x` is `[rows, inputs]` and `w` `[inputs, columns]`.
pub(crate) fn stream(x: Lines<'_>, w: Lines<'_>, inputs: usize, columns: usize, sums: &mut [f32]) {
    dispatch(Stream { x, w, inputs, columns, sums });
}

struct Stream<'a> {
    x: Lines<'a>,
    w: Lines<'a>,
    inputs: usize,
    columns: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Stream<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, w, inputs, columns, sums } = self;
        let whole = inputs / DEEP * DEEP;
        for input in (0..whole).step_by(DEEP) {
            let lines: [&[f32]; DEEP] = std::array::from_fn(|deep| w.line(input + deep, columns));
            add_deep(simd, Lines { values: &x.values[input..], ..x }, lines, sums);
        }
        for input in whole..inputs {
            add_deep(simd, Lines { values: &x.values[input..], ..x }, [w.line(input, columns)], sums);
        }
    }
}

/// Adds the products of some inputs to the sums of every row.
#[inline(always)]
fn add_deep<S: Simd, const N: usize>(simd: S, x: Lines<'_>, w: [&[f32]; N], sums: &mut [f32]) {
    let columns = w[0].len();
    let vectors = w.map(|line| S::as_simd_f32s(line).0);
    let (count, first) = (vectors[0].len(), vectors[0].len() * S::F32_LANES);
    for at in 0..count {
        let weights: [S::f32s; N] = std::array::from_fn(|deep| vectors[deep][at]);
        for (row, sums) in sums.chunks_exact_mut(columns).enumerate() {
            let x = x.line(row, N);
            let sum = &mut S::as_mut_simd_f32s(sums).0[at];
            let mut total = *sum;
            for deep in 0..N {
                total = simd.mul_add_f32s(weights[deep], simd.splat_f32s(x[deep]), total);
            }
            *sum = total;
        }
    }
    for (row, sums) in sums.chunks_exact_mut(columns).enumerate() {
        let x = x.line(row, N);
        for (column, sum) in sums.iter_mut().enumerate().skip(first) {
            for deep in 0..N {
                *sum = w[deep][column].mul_add(x[deep], *sum);
            }
        }
    }
}

/// The dot products of rows of `x` with rows of `w`, each of so many inputs: `[rows, outputs]`.
pub(crate) fn dots(x: Lines<'_>, w: Lines<'_>, inputs: usize, outputs: usize, results: &mut [f32]) {
    dispatch(Dots { x, w, inputs, outputs, results });
}

struct Dots<'a> {
    x: Lines<'a>,
    w: Lines<'a>,
    inputs: usize,
    outputs: usize,
    results: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // The vectors that make the lanes of a sum.
        match LANES / S::F32_LANES {
            1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 16>(simd),
        }
    }
}

impl Dots<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { x, w, inputs, outputs, results } = self;
        let rows = results.len() / outputs.max(1);
        let mut row = 0;
        while row < rows {
            let together = (rows - row).min(4);
            let results = &mut results[row * outputs..];
            let x = Lines { values: &x.values[row * x.stride..], ..x };
            match together {
                1 => dot_rows::<S, N, 1>(simd, x, w, inputs, outputs, results),
                2 => dot_rows::<S, N, 2>(simd, x, w, inputs, outputs, results),
                3 => dot_rows::<S, N, 3>(simd, x, w, inputs, outputs, results),
                _ => dot_rows::<S, N, 4>(simd, x, w, inputs, outputs, results),
            }
            row += together;
        }
    }
}

#[inline(always)]
fn dot_rows<S: Simd, const N: usize, const X: usize>(
    simd: S,
    x: Lines<'_>,
    w: Lines<'_>,
    inputs: usize,
    outputs: usize,
    results: &mut [f32],
) {
    let x: [&[f32]; X] = std::array::from_fn(|row| x.line(row, inputs));
    let mut output = 0;
    while output + 4 <= outputs {
        let tile = dot_tile::<S, N, X, 4>(simd, x, std::array::from_fn(|of| w.line(output + of, inputs)));
        for (row, tile) in tile.into_iter().enumerate() {
            results[row * outputs + output..][..4].copy_from_slice(&tile);
        }
        output += 4;
    }
    while output < outputs {
        for (row, [value]) in dot_tile::<S, N, X, 1>(simd, x, [w.line(output, inputs)]).into_iter().enumerate() {
            results[row * outputs + output] = value;
        }
        output += 1;
    }
}

/// Dot products of `X` rows of `x` with `W` rows of `w`, in `N` vectors of lanes.
#[inline(always)]
fn dot_tile<S: Simd, const N: usize, const X: usize, const W: usize>(
    simd: S,
    x: [&[f32]; X],
    w: [&[f32]; W],
) -> [[f32; W]; X] {
    let mut sums = [[[simd.splat_f32s(0.0); N]; W]; X];
    let whole = x[0].len() / LANES * LANES;
    let of_x = x.map(|row| S::as_simd_f32s(&row[..whole]).0);
    let of_w = w.map(|row| S::as_simd_f32s(&row[..whole]).0);
    for at in (0..whole / S::F32_LANES).step_by(N) {
        for n in 0..N {
            let weights: [S::f32s; W] = std::array::from_fn(|output| of_w[output][at + n]);
            for row in 0..X {
                let x = of_x[row][at + n];
                for output in 0..W {
                    sums[row][output][n] = simd.mul_add_f32s(x, weights[output], sums[row][output][n]);
                }
            }
        }
    }
    let mut out = [[0.0; W]; X];
    for row in 0..X {
        for output in 0..W {
            let mut lanes = [0.0f32; LANES];
            for (lanes, vector) in lanes.chunks_exact_mut(S::F32_LANES).zip(sums[row][output]) {
                S::as_mut_simd_f32s(lanes).0[0] = vector;
            }
            for (lane, (x, w)) in lanes.iter_mut().zip(x[row][whole..].iter().zip(&w[output][whole..])) {
                *lane = x.mul_add(*w, *lane);
            }
            out[row][output] = joined(lanes);
        }
    }
    out
}

/// The sum of lanes, pairwise.
#[inline(always)]
fn joined(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
    let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// One head of keys and values.
#[derive(Clone, Copy)]
pub(crate) struct KeyHead {
    pub(crate) index: usize,
    /// The number of such heads.
    pub(crate) count: usize,
    pub(crate) width: usize,
}

/// Softmax attention of the queries that share one head of keys, `[queries, width]`, over pages.
pub(crate) fn attend(
    query: &[f32],
    pages: &[CachedPage<'_>],
    seen: Range<usize>,
    head: KeyHead,
    scale: f32,
    out: &mut [f32],
) {
    let mut scores = vec![0.0; seen.end];
    for (query, out) in query.chunks_exact(head.width).zip(out.chunks_exact_mut(head.width)) {
        dispatch(Score { query, pages, head, scores: &mut scores });
        let share = softmax(&mut scores[seen.clone()], scale);
        dispatch(Mix { pages, seen: seen.clone(), head, shares: &scores, out });
        out.iter_mut().for_each(|value| *value *= share);
    }
}

struct Score<'a> {
    query: &'a [f32],
    pages: &'a [CachedPage<'a>],
    head: KeyHead,
    scores: &'a mut [f32],
}

impl WithSimd for Score<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match PAGE / S::F32_LANES {
            1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 16>(simd),
        }
    }
}

impl Score<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { query, pages, head, scores } = self;
        let size = head.width * PAGE;
        let mut left = scores;
        for CachedPage { page, tokens } in pages {
            let keys = S::as_simd_f32s(&page[head.index * size..][..size]).0;
            let mut sums = [simd.splat_f32s(0.0); N];
            for (keys, query) in keys.chunks_exact(N).zip(query) {
                let query = simd.splat_f32s(*query);
                for n in 0..N {
                    sums[n] = simd.mul_add_f32s(keys[n], query, sums[n]);
                }
            }
            let mut values = [0.0f32; PAGE];
            for (values, vector) in values.chunks_exact_mut(S::F32_LANES).zip(sums) {
                S::as_mut_simd_f32s(values).0[0] = vector;
            }
            let used = (*tokens).min(left.len());
            let (now, rest) = left.split_at_mut(used);
            now.copy_from_slice(&values[..used]);
            left = rest;
            if left.is_empty() {
                return;
            }
        }
    }
}

struct Mix<'a> {
    pages: &'a [CachedPage<'a>],
    seen: Range<usize>,
    head: KeyHead,
    shares: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { pages, seen, head, shares, out } = self;
        let KeyHead { index, count, width } = head;
        let size = PAGE * width;
        out.fill(0.0);
        let (vectors, rest) = S::as_mut_simd_f32s(out);
        let first_of_rest = vectors.len() * S::F32_LANES;
        let mut first = 0;
        for CachedPage { page, tokens } in pages {
            if first >= seen.end {
                break;
            }
            let used = seen.start.saturating_sub(first).min(*tokens)..(*tokens).min(seen.end - first);
            let values = &page[count * size + index * size..][..size];
            for (part, out) in vectors.iter_mut().enumerate() {
                let mut sum = *out;
                for token in used.clone() {
                    let value = S::as_simd_f32s(&values[token * width + part * S::F32_LANES..][..S::F32_LANES]).0[0];
                    sum = simd.mul_add_f32s(value, simd.splat_f32s(shares[first + token]), sum);
                }
                *out = sum;
            }
            for (part, out) in rest.iter_mut().enumerate() {
                for token in used.clone() {
                    *out = values[token * width + first_of_rest + part].mul_add(shares[first + token], *out);
                }
            }
            first += tokens;
        }
    }
}
