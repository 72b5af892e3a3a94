//! Mean losses of rows of outputs, and their gradients.
//!
//! # Proof note
//!
//! *Before*: rows of outputs and what they should be. *After*: the mean loss and its gradient, with bits that depend on these alone.
//! *Why*: each row is worked on by one thread, its exponentials are added up in [`rows`](crate::rows)' lanes, logarithms are those of a
//! library that every machine compiles from one source, and the rows' losses are added up in double precision in their order.
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]

use rayon::prelude::*;

use crate::Targets;
use crate::rows::{exp, fold, largest, sigmoid, sum, vectorised};

/// The mean loss of rows of so many outputs.
///
/// # Panics
///
/// If there are not as many targets as rows or outputs, or a class is none of the outputs.
pub(crate) fn mean(x: &[f32], width: usize, targets: &Targets) -> f32 {
    check(x, width, targets);
    let of_rows: Vec<f64> = match targets {
        Targets::Classes(classes) => {
            let of_row = |(row, class): (&[f32], &u32)| {
                let mut normaliser = [0.0; 2];
                log_normaliser(row, &mut normaliser);
                let [top, total] = normaliser.map(f64::from);
                libm::log(total) + top - f64::from(row[*class as usize])
            };
            x.par_chunks_exact(width).zip(classes).map(of_row).collect()
        }
        // max(x, 0) - x y + log(1 + exp(-|x|)): the stable form of binary cross entropy.
        Targets::Labels(labels) => {
            let of_one = |(x, label): (&f32, &f32)| {
                let (x, label) = (f64::from(*x), f64::from(*label));
                x.max(0.0) - x * label + libm::log1p(libm::exp(-x.abs()))
            };
            x.iter().zip(labels).map(of_one).collect()
        }
        Targets::Values(values) => {
            let of_one = |(x, value): (&f32, &f32)| {
                let apart = f64::from(*x) - f64::from(*value);
                apart * apart
            };
            x.iter().zip(values).map(of_one).collect()
        }
    };
    (of_rows.iter().sum::<f64>() / of_rows.len() as f64) as f32
}

/// The gradient of the mean loss by the outputs, times `scale`.
///
/// # Panics
///
/// As [`mean`].
pub(crate) fn gradient(x: &[f32], width: usize, targets: &Targets, scale: f32) -> Vec<f32> {
    check(x, width, targets);
    let mut out = x.to_vec();
    match targets {
        Targets::Classes(classes) => {
            let share = scale / classes.len() as f32;
            out.par_chunks_exact_mut(width).zip(classes).for_each(|(row, class)| {
                shares(row, share);
                row[*class as usize] -= share;
            });
        }
        Targets::Labels(labels) => label_gradient(&mut out, labels, scale / labels.len() as f32),
        Targets::Values(values) => {
            let share = 2.0 * scale / values.len() as f32;
            out.iter_mut().zip(values).for_each(|(x, value)| *x = (*x - value) * share);
        }
    }
    out
}

fn check(x: &[f32], width: usize, targets: &Targets) {
    let fits = match targets {
        Targets::Classes(classes) => width > 0 && x.len() == classes.len() * width,
        Targets::Labels(values) | Targets::Values(values) => x.len() == values.len(),
    };
    assert!(fits, "there are {} outputs in rows of {width}, and other targets", x.len());
}

vectorised! {
    /// The largest value, and the sum of the exponentials of the differences from it.
    fn log_normaliser(row: &'a [f32], out: &'a mut [f32; 2]) {
        let top = largest(row);
        *out = [top, fold(row, 0.0, |sum, value| sum + exp(value - top), |a, b| a + b)];
    }
}

vectorised! {
    /// The softmax of a row times `scale`, in place.
    fn shares(row: &'a mut [f32], scale: f32) {
        let top = largest(row);
        for value in row.iter_mut() {
            *value = exp(*value - top);
        }
        let share = scale / sum(row);
        for value in row.iter_mut() {
            *value *= share;
        }
    }
}

vectorised! {
    /// `(sigmoid(x) - label) scale`, in place.
    fn label_gradient(x: &'a mut [f32], labels: &'a [f32], scale: f32) {
        for (x, label) in x.iter_mut().zip(labels) {
            *x = (sigmoid(*x) - label) * scale;
        }
    }
}
