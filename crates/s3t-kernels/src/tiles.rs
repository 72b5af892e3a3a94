//! Products of matrices by tiles that stay in registers.
//!
//! # Proof note
//!
//! *Before*: two matrices in any layout. *After*: an element of their product has bits that depend on a row of the first and a column of
//! the second alone: on no other element, on no instruction set, cache, number of threads or cut into blocks. *Why*: it is a chain of
//! fused multiply-adds along the inputs, in their order, begun anew at every [`CUT`] inputs; the ends of the chains are added up in
//! order. A vector only computes several such chains side by side, and a fused multiply-add is rounded once everywhere (IEEE 754).
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use crate::instructions::dispatch;
use crate::matrix::{Matrix, MatrixMut, Onto};

/// Inputs that a chain is as long as: part of the arithmetic.
pub(crate) const CUT: usize = 256;

/// Rows up to which columns are read where they lie: putting them side by side first pays for more.
const FEW_ROWS: usize = 12;

thread_local! {
    /// Columns of the second matrix, side by side.
    static PANELS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out = scale a b`, or added to `out`, in this thread.
pub(crate) fn multiply(out: &mut MatrixMut<'_>, onto: Onto, scale: f32, a: Matrix<'_>, b: Matrix<'_>) {
    PANELS.with_borrow_mut(|panels| dispatch(Product { out, onto, scale, a, b, panels }));
}

struct Product<'a, 'b> {
    out: &'a mut MatrixMut<'b>,
    onto: Onto,
    scale: f32,
    a: Matrix<'a>,
    b: Matrix<'a>,
    panels: &'a mut Vec<f32>,
}

impl WithSimd for Product<'_, '_> {
    type Output = ();

    // Tiles fill the registers with sums: 32 or 16 of the processor.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 6, 4, 16>(simd),
            8 => self.run::<S, 4, 3, 8>(simd),
            4 => self.run::<S, 6, 4, 4>(simd),
            _ => self.run::<S, 4, 2, 1>(simd),
        }
    }
}

impl Product<'_, '_> {
    /// Works through cuts of the inputs, and through tiles of `ROWS` rows and `VECTORS` vectors of `LANES` columns.
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize, const LANES: usize>(self, simd: S) {
        let Self { out, onto, scale, a, b, panels } = self;
        let ([rows, inputs], [_, columns]) = (a.dims(), b.dims());
        for first in (0..inputs).step_by(CUT) {
            let depth = CUT.min(inputs - first);
            let (a, b) = (a.columns(first..first + depth), b.rows(first..first + depth));
            let onto = if first == 0 { onto } else { Onto::Add };
            // Whole vectors of columns are read where they lie, if they lie side by side and few rows meet them.
            let is_direct = rows <= FEW_ROWS && b.lines().is_some();
            let packed_from = if is_direct { columns / LANES } else { 0 };
            pack::<LANES>(b, packed_from, panels);
            let vectors = columns.div_ceil(LANES);
            let mut vector = 0;
            while vector < vectors {
                let is_packed = vector >= packed_from;
                let end = if is_packed { vectors } else { packed_from };
                let together = VECTORS.min(end - vector);
                let column = vector * LANES;
                let panel = if is_packed {
                    let values = &panels[(vector - packed_from) * LANES * depth..][..together * LANES * depth];
                    Panel { values, vector: LANES * depth, step: LANES }
                } else {
                    let (values, step) = b.lines().unwrap_or_default();
                    Panel { values: &values[column..], vector: LANES, step }
                };
                let width = (together * LANES).min(columns - column);
                let mut row = 0;
                while row < rows {
                    let height = ROWS.min(rows - row);
                    let tile = Tile {
                        a: a.rows(row..row + height),
                        panel,
                        onto,
                        scale,
                        out: out.block(row..row + height, column..column + width),
                    };
                    tile.run_sized::<S, ROWS, LANES>(simd, together);
                    row += height;
                }
                vector += together;
            }
        }
        if inputs == 0 && onto == Onto::Replace {
            out.fill(0.0);
        }
    }
}

/// Puts the columns of `b` from a vector of `LANES` on side by side: vector by vector, input by input, with zeros where a vector is
/// longer than there are columns.
#[inline(always)]
fn pack<const LANES: usize>(b: Matrix<'_>, from: usize, panels: &mut Vec<f32>) {
    let [depth, columns] = b.dims();
    let length = (columns.div_ceil(LANES) - from) * LANES * depth;
    if panels.len() < length {
        panels.resize(length, 0.0);
    }
    for (index, panel) in panels[..length].chunks_exact_mut(LANES * depth).enumerate() {
        let first = (from + index) * LANES;
        let b = b.columns(first..(first + LANES).min(columns));
        let panel = panel.as_chunks_mut::<LANES>().0;
        let is_whole = b.dims()[1] == LANES;
        match (b.lines(), b.transposed().lines()) {
            (Some((values, stride)), _) if is_whole => {
                for (input, panel) in panel.iter_mut().enumerate() {
                    panel.copy_from_slice(&values[input * stride..][..LANES]);
                }
            }
            (_, Some((values, stride))) if is_whole => pack_across(values, stride, panel),
            _ => {
                for (input, panel) in panel.iter_mut().enumerate() {
                    panel.fill(0.0);
                    for column in 0..b.dims()[1] {
                        panel[column] = b.at(input, column);
                    }
                }
            }
        }
    }
}

/// Packs columns whose values follow each other in memory, in squares that the compiler turns in registers.
#[inline(always)]
fn pack_across<const LANES: usize>(values: &[f32], stride: usize, panel: &mut [[f32; LANES]]) {
    const SIDE: usize = 8;
    let (squares, whole) = (LANES / SIDE, panel.len() / SIDE * SIDE);
    for input in (0..whole).step_by(SIDE) {
        for square in 0..squares {
            let column = square * SIDE;
            let lines: [&[f32]; SIDE] =
                std::array::from_fn(|place| &values[(column + place) * stride + input..][..SIDE]);
            for (place, panel) in panel[input..input + SIDE].iter_mut().enumerate() {
                let line: [f32; SIDE] = std::array::from_fn(|column| lines[column][place]);
                panel[column..column + SIDE].copy_from_slice(&line);
            }
        }
    }
    let packed = squares * SIDE;
    for (input, panel) in panel.iter_mut().enumerate() {
        let first = if input < whole { packed } else { 0 };
        for column in first..LANES {
            panel[column] = values[column * stride + input];
        }
    }
}

/// Vectors of columns: vector `v` at input `i` begins at `values[v * vector + i * step]`.
#[derive(Clone, Copy)]
struct Panel<'a> {
    values: &'a [f32],
    vector: usize,
    step: usize,
}

struct Tile<'a, 'b> {
    a: Matrix<'a>,
    panel: Panel<'a>,
    onto: Onto,
    scale: f32,
    out: MatrixMut<'b>,
}

impl Tile<'_, '_> {
    #[inline(always)]
    fn run_sized<S: Simd, const ROWS: usize, const LANES: usize>(self, simd: S, vectors: usize) {
        if self.a.dims()[0] == ROWS {
            return match vectors {
                1 => self.run::<S, ROWS, 1, LANES>(simd),
                2 => self.run::<S, ROWS, 2, LANES>(simd),
                3 => self.run::<S, ROWS, 3, LANES>(simd),
                _ => self.run::<S, ROWS, 4, LANES>(simd),
            };
        }
        match vectors {
            1 => self.run_rows::<S, 1, LANES>(simd),
            2 => self.run_rows::<S, 2, LANES>(simd),
            3 => self.run_rows::<S, 3, LANES>(simd),
            _ => self.run_rows::<S, 4, LANES>(simd),
        }
    }

    #[inline(always)]
    fn run_rows<S: Simd, const VECTORS: usize, const LANES: usize>(self, simd: S) {
        match self.a.dims()[0] {
            1 => self.run::<S, 1, VECTORS, LANES>(simd),
            2 => self.run::<S, 2, VECTORS, LANES>(simd),
            3 => self.run::<S, 3, VECTORS, LANES>(simd),
            4 => self.run::<S, 4, VECTORS, LANES>(simd),
            _ => self.run::<S, 5, VECTORS, LANES>(simd),
        }
    }

    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize, const LANES: usize>(self, simd: S) {
        let Self { a, panel, onto, scale, out } = self;
        let [_, depth] = a.dims();
        let (values, [row_stride, column_stride]) = a.memory();
        assert!(a.dims()[0] == ROWS && LANES == S::F32_LANES && depth > 0);
        let last = (VECTORS - 1) * panel.vector + (depth - 1) * panel.step + LANES;
        assert!(last <= panel.values.len(), "a panel has a vector for each input");
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        let (mut of_a, mut of_panel) = (values.as_ptr(), panel.values.as_ptr());
        for _ in 0..depth {
            // SAFETY: `of_panel` has moved by `panel.step` for each input before this one, so by the assertion above the vectors read
            // here are inside `panel.values`; `S::f32s` is as large as `LANES` values, and it is read unaligned.
            #[allow(unsafe_code, reason = "bounds are checked once for the tile")]
            let columns: [S::f32s; VECTORS] =
                std::array::from_fn(|at| unsafe { of_panel.add(at * panel.vector).cast::<S::f32s>().read_unaligned() });
            for row in 0..ROWS {
                // SAFETY: `of_a` has moved by `column_stride` for each input before this one: this is element (row, input) of `a`, whose
                // elements are all inside its memory.
                #[allow(unsafe_code, reason = "bounds are checked once for the tile")]
                let value = simd.splat_f32s(unsafe { *of_a.add(row * row_stride) });
                for at in 0..VECTORS {
                    sums[row][at] = simd.mul_add_f32s(value, columns[at], sums[row][at]);
                }
            }
            // The last step may go beyond the memory, where nothing is read any more.
            of_a = of_a.wrapping_add(column_stride);
            of_panel = of_panel.wrapping_add(panel.step);
        }
        let factor = simd.splat_f32s(scale);
        if out.dims()[1] == VECTORS * LANES {
            for row in 0..ROWS {
                let out = out.row_pointer(row).cast::<S::f32s>();
                for at in 0..VECTORS {
                    // SAFETY: a row of `out` has `VECTORS` vectors, and `out` is borrowed for writing alone. It is read only if it is
                    // added to: then its owner has written to it.
                    #[allow(unsafe_code, reason = "see above")]
                    unsafe {
                        let out = out.add(at);
                        out.write_unaligned(match onto {
                            Onto::Add => simd.mul_add_f32s(sums[row][at], factor, out.read_unaligned()),
                            Onto::Replace => simd.mul_f32s(sums[row][at], factor),
                        });
                    }
                }
            }
            return;
        }
        let width = out.dims()[1];
        assert!(width <= VECTORS * LANES, "a tile is as wide as its vectors");
        for row in 0..ROWS {
            let mut buffer = [[0.0f32; LANES]; VECTORS];
            for at in 0..VECTORS {
                S::as_mut_simd_f32s(&mut buffer[at]).0[0] = sums[row][at];
            }
            let out = out.row_pointer(row);
            for (column, sum) in buffer.as_flattened()[..width].iter().enumerate() {
                // SAFETY: as above; a row of `out` has `width` values.
                #[allow(unsafe_code, reason = "see above")]
                unsafe {
                    let out = out.add(column);
                    out.write(match onto {
                        Onto::Add => sum.mul_add(scale, out.read()),
                        Onto::Replace => sum * scale,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Instructions;

    /// Values whose sums depend on their order.
    fn values(length: usize, seed: usize) -> Vec<f32> {
        let value = |index: usize| (((index + seed) * 2_654_435_761) % 65_537) as f32 / 32_768.0 - 1.0;
        (0..length).map(value).collect()
    }

    fn laid_out(values: &[f32], [rows, columns]: [usize; 2], is_turned: bool, gap: usize) -> Matrix<'_> {
        if is_turned {
            Matrix::strided(values, [rows, columns], [1, rows + gap])
        } else {
            Matrix::strided(values, [rows, columns], [columns + gap, 1])
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_instruction_set_gives_the_bits_of_the_definition(
            rows in 0..40usize, columns in 0..150usize, inputs in prop_oneof![0..20usize, 250..270usize, 500..800usize],
            (a_turned, b_turned, adds) in any::<(bool, bool, bool)>(), gap in 0..3usize, scale in prop::sample::select(vec![1.0f32, 0.7]),
        ) {
            let (of_a, of_b) = (values((rows + gap + 1) * (inputs + gap + 1), 1), values((inputs + gap + 1) * (columns + gap + 1), 2));
            let (a, b) = (laid_out(&of_a, [rows, inputs], a_turned, gap), laid_out(&of_b, [inputs, columns], b_turned, gap));
            let start = values(rows * (columns + gap), 3);
            let onto = if adds { Onto::Add } else { Onto::Replace };
            let mut expected = start.clone();
            for row in 0..rows {
                for column in 0..columns {
                    let out = &mut expected[row * (columns + gap) + column];
                    if !adds && inputs == 0 {
                        *out = 0.0;
                    }
                    for first in (0..inputs).step_by(CUT) {
                        let chain = |sum: f32, input: usize| a.at(row, input).mul_add(b.at(input, column), sum);
                        let sum = (first..inputs.min(first + CUT)).fold(0.0, chain);
                        *out = if adds || first > 0 { sum.mul_add(scale, *out) } else { sum * scale };
                    }
                }
            }
            for set in Instructions::ALL {
                set.choose();
                let mut found = start.clone();
                multiply(&mut MatrixMut::strided(&mut found, [rows, columns], columns + gap), onto, scale, a, b);
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&found), bits(&expected), "{}", set);
            }
            Instructions::Native.choose();
        }
    }
}
