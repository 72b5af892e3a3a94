//! Linear layers whose rows do not depend on how many rows there are.
//!
//! # Proof note
//!
//! *Before*: rows of any number. *After*: a row's results have the same bits whatever rows stand beside it. *Why*: each result is summed
//! up in one order along its inputs, cut at every [`CUT`] inputs, by whichever of the three ways computes it: streaming the weights
//! past a few rows, [`tiles`](crate::tiles) for many rows and for weights that were laid out before (the same chains of fused
//! multiply-adds along the inputs; a test compares the bits), or dot products where the weights lie the
//! other way round, which depends on the layer alone.

use rayon::prelude::*;

use crate::matrix::{Matrix, MatrixMut, Onto, Threads, by_blocks};
use crate::products::{LowRank, Weights, layer, multiply};
use crate::rows::put_row;
use crate::streamed::{Lines, dots, stream};
use crate::tiles::CUT;

/// Rows up to which the weights are streamed past them; for more rows packing the weights pays.
const FEW: usize = 64;

/// The smallest and the largest number of columns that a thread works on at a time.
const PANELS: [usize; 2] = [64, 512];

/// Sums of all rows that stay in the fastest cache.
const SUMS: usize = 4096;

/// Rows of the weights that a thread takes at a time, where they lie the other way round.
const OUTPUTS: usize = 256;

/// `out = x w`, or `out += scale x w`.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply_by_row(
    out: &mut [f32],
    onto: Onto,
    scale: f32,
    x: Matrix<'_>,
    w: Matrix<'_>,
    bias: Option<&[f32]>,
) {
    let ([rows, inputs], [of_w, outputs]) = (x.dims(), w.dims());
    assert!(inputs == of_w && out.len() == rows * outputs, "the sizes of a layer go together");
    if let Some(bias) = bias {
        out.chunks_exact_mut(outputs.max(1)).for_each(|row| row.copy_from_slice(bias));
    }
    let onto = if bias.is_some() { Onto::Add } else { onto };
    match (x.lines(), w.lines(), w.transposed().lines()) {
        (Some((x_rows, x_stride)), _, Some((w_rows, w_stride))) => {
            // The weights of an output follow each other.
            let mut view = MatrixMut::new(out, rows, outputs);
            by_blocks(&mut view, [rows, OUTPUTS], Threads::Pool, |_, panel, out| {
                let first = panel * OUTPUTS;
                let columns = out.dims()[1];
                let mut results = vec![0.0; rows * columns];
                let w = Lines { values: &w_rows[first * w_stride..], stride: w_stride };
                dots(Lines { values: x_rows, stride: x_stride }, w, inputs, columns, &mut results);
                put(out, &results, onto, scale);
            });
        }
        (Some((x_rows, x_stride)), Some((w_rows, w_stride)), _) if rows <= FEW => {
            let threads = rayon::current_num_threads();
            let largest = (SUMS / rows.max(1)).clamp(PANELS[0], PANELS[1]);
            let panel = outputs.div_ceil(2 * threads).next_multiple_of(16).clamp(PANELS[0], largest);
            let mut view = MatrixMut::new(out, rows, outputs);
            by_blocks(&mut view, [rows, panel], Threads::Pool, |_, index, out| {
                let columns = out.dims()[1];
                let mut sums = vec![0.0; rows * columns];
                for first in (0..inputs.max(1)).step_by(CUT) {
                    let together = CUT.min(inputs - first);
                    sums.fill(0.0);
                    let start = (first * w_stride + index * panel).min(w_rows.len());
                    let x_start = first.min(x_rows.len());
                    let x = Lines { values: &x_rows[x_start..], stride: x_stride };
                    let w = Lines { values: &w_rows[start..], stride: w_stride };
                    stream(x, w, together, columns, &mut sums);
                    put(out, &sums, if first == 0 { onto } else { Onto::Add }, scale);
                }
            });
        }
        _ => multiply(&mut MatrixMut::new(out, rows, outputs), onto, scale, x, w, Threads::Pool),
    }
}

/// Writes sums into a part of the results.
fn put(out: &mut MatrixMut<'_>, sums: &[f32], onto: Onto, scale: f32) {
    let [rows, columns] = out.dims();
    for (row, sums) in (0..rows).zip(sums.chunks_exact(columns.max(1))) {
        put_row(out.row(row), sums, onto == Onto::Add, scale);
    }
}

/// `x w + b`, with the update of each of equal parts of the rows added.
pub(crate) fn layer_by_row(
    x: Matrix<'_>,
    w: Weights<'_>,
    bias: Option<&[f32]>,
    parts: &[Option<LowRank<'_>>],
) -> Vec<f32> {
    let ([all, _], [_, outputs]) = (x.dims(), w.dims());
    let mut out = match w {
        Weights::Single(w) => {
            let mut out = vec![0.0; all * outputs];
            multiply_by_row(&mut out, Onto::Replace, 1.0, x, w, bias);
            out
        }
        // These never depend on the number of rows.
        Weights::Packed(_) | Weights::Half(_) | Weights::Byte(_) | Weights::Nibble(_) => {
            layer(x, w, bias, |_, _, _| {})
        }
    };
    let rows = all / parts.len().max(1);
    if rows == 0 || outputs == 0 {
        return out;
    }
    out.par_chunks_exact_mut(rows * outputs).zip(parts).enumerate().for_each(|(index, (out, part))| {
        let Some(LowRank { down, up, scale }) = part else { return };
        let x = x.rows(index * rows..(index + 1) * rows);
        let rank = down.dims()[1];
        let mut inner = vec![0.0; rows * rank];
        multiply_by_row(&mut inner, Onto::Replace, 1.0, x, *down, None);
        multiply_by_row(out, Onto::Add, *scale, Matrix::new(&inner, rows, rank), *up, None);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(length: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..length).map(|_| next()).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn the_bits_of_a_row_do_not_depend_on_the_number_of_rows() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for (inputs, outputs) in [(96, 192), (257, 17), (512, 2048), (1500, 300), (8, 96), (64, 1), (700, 48)] {
            let (w, bias) = (values(inputs * outputs, 1), values(outputs, 2));
            let all = values(300 * inputs, 3);
            for other_way in [false, true] {
                let w = if other_way {
                    Matrix::new(&w, outputs, inputs).transposed()
                } else {
                    Matrix::new(&w, inputs, outputs)
                };
                let of = |rows: usize, bias: Option<&[f32]>| {
                    let mut out = vec![0.0; rows * outputs];
                    multiply_by_row(&mut out, Onto::Replace, 1.0, Matrix::new(&all, rows, inputs), w, bias);
                    out
                };
                for bias in [None, Some(&*bias)] {
                    let many = of(300, bias);
                    for rows in [1, 2, 3, 5, 8, 31, 64, 65, 66, 71, 130] {
                        let few = of(rows, bias);
                        let place = format!("{rows} rows, {inputs} by {outputs}, {other_way}");
                        assert_eq!(bits(&few), bits(&many[..rows * outputs]), "{place}");
                        assert_eq!(bits(&pool.install(|| of(rows, bias))), bits(&few), "threads, {place}");
                    }
                    for (row, values) in many.chunks_exact(outputs).enumerate().step_by(97) {
                        for (column, value) in values.iter().enumerate() {
                            let place = |k: usize| if other_way { column * inputs + k } else { k * outputs + column };
                            let memory =
                                if other_way { &w.transposed().lines().unwrap().0 } else { &w.lines().unwrap().0 };
                            let product = |k: usize| f64::from(all[row * inputs + k]) * f64::from(memory[place(k)]);
                            let sum: f64 = (0..inputs).map(product).sum();
                            let sum = sum + bias.map_or(0.0, |bias| f64::from(bias[column]));
                            assert!((sum - f64::from(*value)).abs() < 1e-3, "{sum} {value}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn updates_are_those_of_their_part_whatever_its_size() {
        let (inputs, outputs, rank) = (96, 130, 8);
        let w = values(inputs * outputs, 1);
        let factors: Vec<_> =
            (0..3).map(|seed| (values(inputs * rank, seed), values(rank * outputs, seed + 9))).collect();
        let part = |(down, up): &'static (Vec<f32>, Vec<f32>)| LowRank {
            down: Matrix::new(down, inputs, rank),
            up: Matrix::new(up, rank, outputs),
            scale: 0.7,
        };
        let factors: &'static [_] = factors.leak();
        let w = Matrix::new(&w, inputs, outputs);
        let x = values(40 * inputs, 5);
        let alone = |row: usize, update: &'static (Vec<f32>, Vec<f32>)| {
            layer_by_row(Matrix::new(&x[row * inputs..], 1, inputs), Weights::Single(w), None, &[Some(part(update))])
        };
        for rows in [1, 2, 9, 13, 40] {
            let three: Vec<f32> = x[..rows * inputs].repeat(3);
            let parts: Vec<_> = factors.iter().map(|factors| Some(part(factors))).collect();
            let all = layer_by_row(Matrix::new(&three, 3 * rows, inputs), Weights::Single(w), None, &parts);
            for (index, factors) in factors.iter().enumerate() {
                for row in 0..rows {
                    let place = (index * rows + row) * outputs;
                    assert_eq!(bits(&all[place..place + outputs]), bits(&alone(row, factors)), "{rows} {index} {row}");
                }
            }
        }
    }
}
