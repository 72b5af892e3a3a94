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
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::buffer::aligned;
use crate::instructions::dispatch;
use crate::matrix::{Matrix, MatrixMut, Onto};
use crate::packed::{self, PackedWeights};
use crate::turned::copy_turned;

/// Inputs that a chain is as long as: part of the arithmetic.
pub(crate) const CUT: usize = 256;

/// Rows up to which columns are read where they lie: putting them side by side first pays for more.
const FEW_ROWS: usize = 12;

/// Inputs of a panel, which takes at most 2 MB: many cuts.
const PANEL_INPUTS: usize = 32 * CUT;

/// Values of a group of panels, 2 MB: rows of a block meet all panels of a group while they are in the caches.
const GROUP: usize = 1 << 19;

/// Rows whose results stay in the caches while the cuts of their inputs are added up: a multiple of the rows of every tile.
const ROWS_TOGETHER: usize = 96;

thread_local! {
    /// Columns of the second matrix, side by side.
    static PANELS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The second matrix of a product.
#[derive(Clone, Copy)]
pub(crate) enum Second<'a> {
    /// In any layout.
    Plain(Matrix<'a>),
    /// Weights in the order in which they are read, `[inputs, outputs]`.
    Packed(PackedWeights<'a>),
    /// The same turned, `[outputs, inputs]`.
    Turned(PackedWeights<'a>),
}

impl<'a> From<Matrix<'a>> for Second<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Plain(matrix)
    }
}

impl Second<'_> {
    /// Rows and columns.
    pub(crate) fn dims(self) -> [usize; 2] {
        match self {
            Self::Plain(matrix) => matrix.dims(),
            Self::Packed(weights) => weights.dims(),
            Self::Turned(weights) => {
                let [inputs, outputs] = weights.dims();
                [outputs, inputs]
            }
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    ///
    /// If there are not so many; with [`Turned`](Self::Turned) also if they do not begin with a vector of outputs.
    fn rows(self, rows: Range<usize>) -> Self {
        match self {
            Self::Plain(matrix) => Self::Plain(matrix.rows(rows)),
            Self::Packed(weights) => Self::Packed(weights.inputs(rows)),
            Self::Turned(weights) => Self::Turned(weights.outputs(rows)),
        }
    }

    /// Some of the columns.
    ///
    /// # Panics
    ///
    /// If there are not so many; with [`Packed`](Self::Packed) also if they do not begin with a vector of outputs.
    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        match self {
            Self::Plain(matrix) => Self::Plain(matrix.columns(columns)),
            Self::Packed(weights) => Self::Packed(weights.outputs(columns)),
            Self::Turned(weights) => Self::Turned(weights.inputs(columns)),
        }
    }

    /// Puts columns side by side, in vectors of `LANES`: `step` values for each row, zeros behind the last column.
    #[inline(always)]
    fn pack<const LANES: usize>(self, columns: Range<usize>, panel: &mut [f32], step: usize) {
        match self {
            Self::Plain(matrix) => pack::<LANES>(matrix.columns(columns), panel, step),
            Self::Turned(weights) => weights.inputs(columns).turn(panel, step),
            Self::Packed(_) => unreachable!("packed weights are read where they lie"),
        }
    }
}

/// Columns that are read where they lie.
#[derive(Clone, Copy)]
enum InPlace<'a> {
    /// The values of a row follow each other, at a distance from those of the next.
    Lines(&'a [f32], usize),
    Packed(PackedWeights<'a>),
}

impl<'a> InPlace<'a> {
    /// The columns of a product with so many rows, and their number: columns behind them are not read where they lie.
    fn of<const LANES: usize>(b: Second<'a>, rows: usize) -> (Option<Self>, usize) {
        let [_, columns] = b.dims();
        let in_place = match b {
            Second::Packed(weights) => Some((Self::Packed(weights), columns)),
            // Whole vectors, if few rows meet them.
            Second::Plain(matrix) if rows <= FEW_ROWS => {
                matrix.lines().map(|(values, stride)| (Self::Lines(values, stride), columns / LANES * LANES))
            }
            Second::Plain(_) | Second::Turned(_) => None,
        };
        in_place.map_or((None, 0), |(in_place, columns)| (Some(in_place), columns))
    }

    /// The columns from one on, at a row and those behind it. For packed weights they are those of one vector, or begin with one.
    #[inline(always)]
    fn panel<const LANES: usize>(self, [row, column]: [usize; 2]) -> Panel<'a> {
        match self {
            Self::Lines(values, stride) => {
                Panel { values: &values[column + row * stride..], vector: LANES, step: stride }
            }
            Self::Packed(weights) => {
                let (values, distance) = weights.lines_from(column);
                // Panels of narrower vectors are parts of a packed vector, those of the widest are several.
                let vector = if LANES < packed::LANES { LANES } else { distance };
                Panel { values: &values[row * packed::LANES..], vector, step: packed::LANES }
            }
        }
    }
}

/// `out = scale a b`, or added to `out`, in this thread.
pub(crate) fn multiply(out: &mut MatrixMut<'_>, onto: Onto, scale: f32, a: Matrix<'_>, b: Second<'_>) {
    multiply_on(out, onto, scale, a, b, |product| dispatch(product));
}

/// As [`multiply`], on the instructions that `run` takes.
fn multiply_on(
    out: &mut MatrixMut<'_>,
    onto: Onto,
    scale: f32,
    a: Matrix<'_>,
    b: Second<'_>,
    run: impl Fn(Filling<Product<'_, '_>>),
) {
    PANELS.with_borrow_mut(|panels| {
        let inputs = a.dims()[1];
        for first in (0..inputs.max(1)).step_by(PANEL_INPUTS) {
            let some = first..inputs.min(first + PANEL_INPUTS);
            let (a, b) = (a.columns(some.clone()), b.rows(some));
            let onto = if first == 0 { onto } else { Onto::Add };
            run(Filling(Product { out, onto, scale, a, b, panels }));
        }
    });
}

struct Product<'a, 'b> {
    out: &'a mut MatrixMut<'b>,
    onto: Onto,
    scale: f32,
    a: Matrix<'a>,
    b: Second<'a>,
    panels: &'a mut Vec<f32>,
}

/// A product that is worked through by tiles.
trait ByTiles {
    /// Runs with tiles of `ROWS` rows and `VECTORS` vectors of `LANES` columns.
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize, const LANES: usize>(self, simd: S);
}

/// A product with tiles that fill the registers of the processor, 32 or 16, with sums.
struct Filling<T>(T);

impl<T: ByTiles> WithSimd for Filling<T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.0.run::<S, 6, 4, 16>(simd),
            // With 4 rows of 3 vectors all 16 registers are taken, and the compiler puts a sum into memory at every step.
            8 => self.0.run::<S, 6, 2, 8>(simd),
            4 => self.0.run::<S, 6, 4, 4>(simd),
            _ => self.0.run::<S, 4, 2, 1>(simd),
        }
    }
}

impl ByTiles for Product<'_, '_> {
    /// Works through groups of panels of `VECTORS` vectors of `LANES` columns, for each through rows whose results stay in the caches, for
    /// these through cuts of the inputs, and for a cut through the panels of the group.
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize, const LANES: usize>(self, simd: S) {
        const {
            assert!(
                LANES == packed::LANES || packed::LANES.is_multiple_of(VECTORS * LANES),
                "a panel is inside a vector"
            );
        }
        let Self { out, onto, scale, a, b, panels } = self;
        let ([rows, inputs], [_, columns]) = (a.dims(), b.dims());
        if inputs == 0 {
            if onto == Onto::Replace {
                out.fill(0.0);
            }
            return;
        }
        let width = VECTORS * LANES;
        let (in_place, columns_in_place) = InPlace::of::<LANES>(b, rows);
        // Rows that stay in the caches anyway meet one panel after the other, which is read while it is there too.
        let together = if rows <= ROWS_TOGETHER { 1 } else { (GROUP / (inputs * width)).max(1) };
        let mut column = 0;
        while column < columns {
            let in_place = in_place.filter(|_| column < columns_in_place);
            let end = if in_place.is_some() { columns_in_place } else { columns };
            let group = column..end.min(column + together * width);
            // The steps of a panel, and the place of its values in those of its group.
            let placed = |of: &Range<usize>| (of.len().next_multiple_of(LANES), (of.start - group.start) * inputs);
            let of_panels = || (group.clone()).step_by(width).map(|first| first..group.end.min(first + width));
            let mut packed: &[f32] = &[];
            if in_place.is_none() {
                let values = aligned(panels, group.len().next_multiple_of(LANES) * inputs);
                for of_panel in of_panels() {
                    let (step, first) = placed(&of_panel);
                    b.pack::<LANES>(of_panel, &mut values[first..][..step * inputs], step);
                }
                packed = values;
            }
            for first_row in (0..rows).step_by(ROWS_TOGETHER) {
                let of_rows = first_row..rows.min(first_row + ROWS_TOGETHER);
                for first in (0..inputs).step_by(CUT) {
                    let a = a.rows(of_rows.clone()).columns(first..inputs.min(first + CUT));
                    let onto = if first == 0 { onto } else { Onto::Add };
                    for of_panel in of_panels() {
                        let panel = match in_place {
                            Some(in_place) => in_place.panel::<LANES>([first, of_panel.start]),
                            None => {
                                let (step, place) = placed(&of_panel);
                                Panel { values: &packed[place + first * step..], vector: LANES, step }
                            }
                        };
                        let vectors = of_panel.len().div_ceil(LANES);
                        let out = out.block(of_rows.clone(), of_panel);
                        Tile { a, panel, onto, scale, out }.run_rows_of::<S, ROWS, LANES>(simd, vectors);
                    }
                }
            }
            column = group.end;
        }
    }
}

/// `out = a b`, or added to `out`, in this thread, for at most [`CUT`] inputs. The columns of `b` at an input follow each other from
/// `b[input * step]` on, with anything behind them up to whole vectors.
pub(crate) fn multiply_panel(out: &mut MatrixMut<'_>, onto: Onto, a: Matrix<'_>, b: &[f32], step: usize) {
    dispatch(Filling(OnPanel { out, onto, a, b, step }));
}

struct OnPanel<'a, 'b> {
    out: &'a mut MatrixMut<'b>,
    onto: Onto,
    a: Matrix<'a>,
    b: &'a [f32],
    step: usize,
}

impl ByTiles for OnPanel<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize, const LANES: usize>(self, simd: S) {
        let Self { out, onto, a, b, step } = self;
        let [rows, columns] = out.dims();
        for first in (0..columns).step_by(VECTORS * LANES) {
            let columns = first..columns.min(first + VECTORS * LANES);
            let vectors = columns.len().div_ceil(LANES);
            let panel = Panel { values: &b[first..], vector: LANES, step };
            let out = out.block(0..rows, columns);
            Tile { a, panel, onto, scale: 1.0, out }.run_rows_of::<S, ROWS, LANES>(simd, vectors);
        }
    }
}

/// Puts columns side by side, in vectors of `LANES`: `step` values for each input, zeros behind the last column.
#[inline(always)]
fn pack<const LANES: usize>(b: Matrix<'_>, panel: &mut [f32], step: usize) {
    let [_, columns] = b.dims();
    if let Some((values, stride)) = b.lines()
        && columns == step
    {
        for (input, panel) in panel.chunks_exact_mut(step).enumerate() {
            // Vector by vector: a copy of a length that is known is a few instructions, not a call.
            let values = values[input * stride..][..step].as_chunks::<LANES>().0;
            for (panel, values) in panel.as_chunks_mut::<LANES>().0.iter_mut().zip(values) {
                *panel = *values;
            }
        }
        return;
    }
    for first in (0..columns).step_by(LANES) {
        let b = b.columns(first..columns.min(first + LANES));
        match (b.lines(), b.transposed().lines()) {
            (Some((values, stride)), _) if b.dims()[1] == LANES => {
                for (input, panel) in panel.chunks_exact_mut(step).enumerate() {
                    panel[first..][..LANES].copy_from_slice(&values[input * stride..][..LANES]);
                }
            }
            (_, Some((values, stride))) if b.dims()[1] == LANES => {
                copy_turned(values, stride, &mut panel[first..], step, [LANES, b.dims()[0]]);
            }
            _ => {
                for (input, panel) in panel.chunks_exact_mut(step).enumerate() {
                    let panel = &mut panel[first..][..LANES];
                    panel.fill(0.0);
                    for column in 0..b.dims()[1] {
                        panel[column] = b.at(input, column);
                    }
                }
            }
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
    /// Works through tiles of `ROWS` rows.
    #[inline(always)]
    fn run_rows_of<S: Simd, const ROWS: usize, const LANES: usize>(mut self, simd: S, vectors: usize) {
        let [rows, columns] = self.out.dims();
        for first in (0..rows).step_by(ROWS) {
            let rows = first..rows.min(first + ROWS);
            let out = self.out.block(rows.clone(), 0..columns);
            Tile { a: self.a.rows(rows), out, ..self }.run_sized::<S, ROWS, LANES>(simd, vectors);
        }
    }

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
    use crate::instructions::Choosing;
    use crate::packed::Packed;

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
            rows in prop_oneof![4 => 0..40usize, 1 => 95..110usize], columns in 0..150usize,
            inputs in prop_oneof![4 => 0..20usize, 4 => 250..270usize, 4 => 500..800usize, 1 => 8190..8200usize],
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
            // The same numbers as weights that were laid out before.
            let (packed, turned) = (Packed::of(b), Packed::of(b.transposed()));
            let forms = [Second::Plain(b), Second::Packed(packed.view()), Second::Turned(turned.view())];
            let check = |place: &str, run: &dyn Fn(Filling<Product<'_, '_>>)| -> Result<(), TestCaseError> {
                for (form, b) in forms.into_iter().enumerate() {
                    let mut found = start.clone();
                    let mut out = MatrixMut::strided(&mut found, [rows, columns], columns + gap);
                    multiply_on(&mut out, onto, scale, a, b, run);
                    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                    prop_assert_eq!(bits(&found), bits(&expected), "{}, form {}", place, form);
                }
                Ok(())
            };
            let _turn = Choosing::take();
            for set in Instructions::ALL {
                set.choose();
                check(set.name(), &|product| dispatch(product))?;
            }
            // The tiles of vectors that this processor may lack.
            check("vectors of 4", &|product| product.with_simd(pulp::Scalar128b))?;
            check("vectors of 16", &|product| product.with_simd(pulp::Scalar512b))?;
        }
    }
}
