//! Products of matrices and layers on the threads of a pool.

use std::ops::Range;

use crate::buffer::Unwritten;
use crate::bytes::{self, ByteRows, ByteWeights};
use crate::halves::{self, HalfRows, HalfWeights};
use crate::matrix::{Matrix, MatrixMut, Onto, Threads, by_blocks};
use crate::nibbles::{self, NibbleWeights};
use crate::packed::PackedWeights;
use crate::tiles::{self, Second};

/// `out = scale a b`, or added to `out`, by [`tiles`]: no bit of an element depends on the other rows and columns, or on threads.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply<'b>(
    out: &mut MatrixMut<'_>,
    onto: Onto,
    scale: f32,
    a: Matrix<'_>,
    b: impl Into<Second<'b>>,
    threads: Threads,
) {
    let b = b.into();
    assert!(
        a.dims()[1] == b.dims()[0] && out.dims()[0] == a.dims()[0] && out.dims()[1] == b.dims()[1],
        "a product of {} by {} and {} by {} does not go into {} by {}",
        a.dims()[0],
        a.dims()[1],
        b.dims()[0],
        b.dims()[1],
        out.dims()[0],
        out.dims()[1]
    );
    let [height, width] = if threads.are_many() { block_size(a, b) } else { [out.dims()[0], out.dims()[1]] };
    by_blocks(out, [height, width], threads, |row, column, out| {
        let (row, column) = (row * height, column * width);
        let (a, b) = (a.rows(row..row + out.dims()[0]), b.columns(column..column + out.dims()[1]));
        tiles::multiply(out, onto, scale, a, b);
    });
}

/// Blocks of a product for each thread: fewer leave threads waiting for the last, more put the same values side by side more often.
const BLOCKS: usize = 3;

/// Multiplications that are worth a block.
const BLOCK_WORK: usize = 1 << 19;

/// Rows and columns are cut into multiples of so many, which fill tiles of every kind of vectors.
const BLOCK_STEP: [usize; 2] = [12, 192];

/// The rows and columns of the blocks that threads compute a product in; no bit depends on them.
fn block_size(a: Matrix<'_>, b: Second<'_>) -> [usize; 2] {
    let [rows, columns] = [a.dims()[0], b.dims()[1]];
    let work = rows * columns * a.dims()[1];
    let blocks = (BLOCKS * rayon::current_num_threads()).min(work / BLOCK_WORK).max(1);
    // Every block of columns reads all rows again, every block of rows puts all columns side by side again, or reads them.
    let across = (1..=blocks).filter(|across| blocks.is_multiple_of(*across) && columns / across >= BLOCK_STEP[1]);
    let across = across.min_by_key(|across| rows * across / 4 + columns * (blocks / across)).unwrap_or(1);
    let size = |all: usize, parts: usize, step: usize| all.div_ceil(parts).next_multiple_of(step);
    [size(rows, blocks / across, BLOCK_STEP[0]), size(columns, across, BLOCK_STEP[1])]
}

/// `scale a b`, in new memory.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn product<'b>(scale: f32, a: Matrix<'_>, b: impl Into<Second<'b>>) -> Vec<f32> {
    let b = b.into();
    let (rows, columns) = (a.dims()[0], b.dims()[1]);
    let length = rows.checked_mul(columns).expect("no memory is that large");
    let mut out = Unwritten::new(length);
    let mut view = MatrixMut::unwritten(out.memory(), rows, columns);
    multiply(&mut view, Onto::Replace, scale, a, b, Threads::Pool);
    // SAFETY: with `Onto::Replace` each element of the result is written, zeros where nothing is to be added up, and it covers
    // the memory.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        out.written()
    }
}

/// Results with at most so many rows are worked on by panels of columns.
const FEW_ROWS: usize = 512;

/// The largest number of columns of a panel, and a number that fills tiles of every kind of vectors but the widest.
const PANEL: usize = 192;
const PANEL_STEP: usize = 64;

/// Columns of a panel, so that the threads of the pool have about as many panels each; no bit depends on it.
fn panel_width(columns: usize) -> usize {
    let panels = columns.div_ceil(PANEL).next_multiple_of(rayon::current_num_threads());
    columns.div_ceil(panels).next_multiple_of(PANEL_STEP)
}

/// A low-rank update, `scale (x A) B`.
pub(crate) struct LowRank<'a> {
    /// `A`, `[inputs, rank]`.
    pub(crate) down: Matrix<'a>,
    /// `B`, `[rank, outputs]`.
    pub(crate) up: Matrix<'a>,
    pub(crate) scale: f32,
}

/// The weights of a layer, `[inputs, outputs]`.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// In single precision, as a matrix lies in memory.
    Single(Matrix<'a>),
    /// In single precision, in the order in which they are read.
    Packed(PackedWeights<'a>),
    /// In bfloat16: inputs are rounded to it too.
    Half(HalfWeights<'a>),
    /// In 8-bit integers: inputs are rounded to them too.
    Byte(ByteWeights<'a>),
    /// In 4-bit numbers, which are read as numbers of bfloat16: inputs are rounded to that too.
    Nibble(NibbleWeights<'a>),
}

impl Weights<'_> {
    /// Inputs and outputs.
    pub(crate) fn dims(self) -> [usize; 2] {
        match self {
            Self::Single(weights) => weights.dims(),
            Self::Packed(weights) => weights.dims(),
            Self::Half(weights) => weights.dims(),
            Self::Byte(weights) => weights.dims(),
            Self::Nibble(weights) => weights.dims(),
        }
    }

    /// The gradient of the inputs from that of the results.
    pub(crate) fn gradient(self, of_results: Matrix<'_>) -> Vec<f32> {
        match self {
            Self::Single(weights) => product(1.0, of_results, weights.transposed()),
            Self::Packed(weights) => product(1.0, of_results, Second::Turned(weights)),
            Self::Half(weights) => halves::gradient(of_results, weights),
            Self::Byte(weights) => bytes::gradient(of_results, weights),
            Self::Nibble(weights) => nibbles::gradient(of_results, weights),
        }
    }
}

/// Some columns of a layer's product.
type Product<'a> = dyn Fn(&mut MatrixMut<'_>, Onto, Range<usize>, Threads) + Sync + 'a;

/// A layer's results `bias + x w`, in new memory. `then` may change them: it is given some of the columns, their numbers,
/// and the threads that it may run on. With few rows that is each panel of columns in turn, so that threads meet once a layer and each
/// reads, or puts side by side, its own part of `w`.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn layer(
    x: Matrix<'_>,
    w: Weights<'_>,
    bias: Option<&[f32]>,
    then: impl Fn(&mut MatrixMut<'_>, Range<usize>, Threads) + Sync,
) -> Vec<f32> {
    let (rows, [_, columns]) = (x.dims()[0], w.dims());
    assert!(bias.is_none_or(|bias| bias.len() == columns), "a bias has a value for each of {columns} outputs");
    let mut out = Unwritten::new(rows.checked_mul(columns).expect("no memory is that large"));
    let mut view = MatrixMut::unwritten(out.memory(), rows, columns);
    let product: Box<Product<'_>> = match w {
        Weights::Single(w) => {
            Box::new(move |out, onto, columns, threads| multiply(out, onto, 1.0, x, w.columns(columns), threads))
        }
        Weights::Packed(w) => Box::new(move |out, onto, columns, threads| {
            multiply(out, onto, 1.0, x, Second::Packed(w.outputs(columns)), threads);
        }),
        Weights::Half(w) => {
            let x = HalfRows::of(x);
            Box::new(move |out, onto, columns, threads| halves::multiply(out, onto, &x, w.columns(columns), threads))
        }
        Weights::Byte(w) => {
            let x = ByteRows::of(x);
            Box::new(move |out, onto, columns, threads| bytes::multiply(out, onto, &x, w.columns(columns), threads))
        }
        Weights::Nibble(w) => {
            let x = HalfRows::of(x);
            Box::new(move |out, onto, columns, threads| nibbles::multiply(out, onto, &x, w.columns(columns), threads))
        }
    };
    let panel = |out: &mut MatrixMut<'_>, columns: Range<usize>, threads: Threads| {
        if let Some(bias) = bias {
            out.fill_rows(&bias[columns.clone()], threads);
        }
        product(out, if bias.is_some() { Onto::Add } else { Onto::Replace }, columns.clone(), threads);
        then(out, columns, threads);
    };
    if rows <= FEW_ROWS && columns > PANEL {
        let width = panel_width(columns);
        by_blocks(&mut view, [rows, width], Threads::Pool, |_, index, out| {
            let columns = index * width..index * width + out.dims()[1];
            panel(out, columns, Threads::One);
        });
    } else {
        panel(&mut view, 0..columns, Threads::Pool);
    }
    // SAFETY: the panels cover the memory, and each is filled, or written by `Onto::Replace`.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        out.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_and_transposed_matrices_are_those_of_the_definition() {
        // a is 5 by 3 inside rows of 4; b is the transpose of 2 by 3; the result goes into rows of 6.
        let a: Vec<f32> = (0..20).map(|value| (value % 7) as f32 - 3.0).collect();
        let b: Vec<f32> = (0..6).map(|value| value as f32 * 0.5).collect();
        let start: Vec<f32> = (0..30).map(|value| value as f32).collect();
        for (onto, keep) in [(Onto::Replace, 0.0), (Onto::Add, 1.0)] {
            let mut out = start.clone();
            let a_view = Matrix::strided(&a[1..], [5, 3], [4, 1]);
            let b_view = Matrix::new(&b, 2, 3).transposed();
            multiply(&mut MatrixMut::strided(&mut out[2..], [5, 2], 6), onto, 2.0, a_view, b_view, Threads::Pool);
            for row in 0..5 {
                for column in 0..6 {
                    let place = row * 6 + column;
                    let expected = if (2..4).contains(&column) {
                        let sum: f32 = (0..3).map(|k| a[1 + row * 4 + k] * b[(column - 2) * 3 + k]).sum();
                        keep * start[place] + 2.0 * sum
                    } else {
                        start[place]
                    };
                    assert_eq!(out[place], expected, "{row} {column}");
                }
            }
        }
    }

    #[test]
    fn blocks_cover_a_matrix_once_and_a_layer_is_its_definition() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut seen = vec![0.0; 7 * 5];
        pool.install(|| {
            by_blocks(&mut MatrixMut::new(&mut seen, 7, 5), [3, 2], Threads::Pool, |row, column, block| {
                assert_eq!([block.dims()[0], block.dims()[1]], [[3, 3, 1][row], [2, 2, 1][column]]);
                block.fill_rows(&[1.0, 2.0][..block.dims()[1]], Threads::One);
            });
        });
        assert!(seen.chunks(5).all(|row| row == [1.0, 2.0, 1.0, 2.0, 1.0]));
        let (a, b, bias) = ([1.0, 2.0, 3.0, 4.0], [0.5; 2 * 400], [1.0; 400]);
        let doubled = |rows: &mut MatrixMut<'_>, columns: Range<usize>, threads: Threads| {
            let (ones, identity) = ([1.0; 2], vec![1.0; columns.len()]);
            multiply(rows, Onto::Add, 1.0, Matrix::new(&ones, 2, 1), Matrix::new(&identity, 1, columns.len()), threads);
        };
        let found = layer(Matrix::new(&a, 2, 2), Weights::Single(Matrix::new(&b, 2, 400)), Some(&bias), doubled);
        assert!(found[..400].iter().all(|value| *value == 3.5) && found[400..].iter().all(|value| *value == 5.5));
        let (none, nothing) = (Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3));
        for _ in 0..20 {
            // Memory that held something else before.
            drop(vec![7.0_f32; 6]);
            assert_eq!(layer(none, Weights::Single(nothing), None, |_, _, _| {}), [0.0; 6]);
            assert_eq!(product(2.0, none, nothing), [0.0; 6]);
        }
    }
}
