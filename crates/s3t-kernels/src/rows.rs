//! Element-wise functions and reductions of rows.
//!
//! The loops are written so that the compiler turns them into vector instructions; which, is chosen when the program runs.
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::buffer::{GRAIN, Unwritten};
use crate::{Activation, AttentionShape};

/// Independent sums of a reduction: a fixed number, so that the order of additions is the same on every processor.
const LANES: usize = 16;

/// Defines a function whose body is compiled for each set of vector instructions, and runs for that of this processor.
macro_rules! vectorised {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "the operands of a kernel")]
        pub(crate) fn $name<'a>($($argument: $kind),*) {
            struct Call<'a> {
                $($argument: $kind,)*
                _lifetime: std::marker::PhantomData<&'a ()>,
            }
            impl<'a> pulp::WithSimd for Call<'a> {
                type Output = ();

                // Inlined into a function that has the instructions switched on; so is all that it calls.
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Self { $($argument,)* _lifetime } = self;
                    $body;
                }
            }
            $crate::instructions::dispatch(Call { $($argument,)* _lifetime: std::marker::PhantomData })
        }
    };
}

pub(crate) use vectorised;

/// Cuts `out` into parts of whole rows of `width` and runs `work(first row, part)` for each, side by side.
pub(crate) fn by_rows(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (GRAIN / width.max(1)).max(1);
    if rayon::current_num_threads() == 1 || out.len() <= 2 * GRAIN {
        return work(0, out);
    }
    out.par_chunks_mut(rows * width).enumerate().for_each(|(part, values)| work(part * rows, values));
}

/// `activation(x)`.
pub(crate) fn activate(activation: Activation, x: &[f32]) -> Vec<f32> {
    let mut out = Unwritten::new(x.len());
    let parts = out.memory().par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN));
    parts.for_each(|(out, x)| activate_part(activation, x, out));
    // SAFETY: the parts cover the memory and are as long as those of `x`; `activate_part` writes a value for each.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        out.written()
    }
}

/// `gradient *= activation'(x)`.
pub(crate) fn activate_backward(activation: Activation, x: &[f32], gradient: &mut [f32]) {
    by_rows(gradient, 1, |first, gradient| {
        activate_part_backward(activation, &x[first..first + gradient.len()], gradient);
    });
}

vectorised! {
    fn activate_part(activation: Activation, x: &'a [f32], out: &'a mut [MaybeUninit<f32>]) {
        match activation {
            Activation::Gelu => map(x, out, gelu),
            Activation::GeluTanh => map(x, out, gelu_tanh),
            Activation::Relu => map(x, out, relu),
            Activation::Silu => map(x, out, silu),
            Activation::Tanh => map(x, out, tanh),
        }
    }
}

vectorised! {
    fn activate_part_backward(activation: Activation, x: &'a [f32], gradient: &'a mut [f32]) {
        match activation {
            Activation::Gelu => scale_by(x, gradient, gelu_slope),
            Activation::GeluTanh => scale_by(x, gradient, gelu_tanh_slope),
            Activation::Relu => scale_by(x, gradient, relu_slope),
            Activation::Silu => scale_by(x, gradient, silu_slope),
            Activation::Tanh => scale_by(x, gradient, tanh_slope),
        }
    }
}

#[inline(always)]
fn map(x: &[f32], out: &mut [MaybeUninit<f32>], function: impl Fn(f32) -> f32) {
    assert_eq!(x.len(), out.len());
    for (out, x) in out.iter_mut().zip(x) {
        out.write(function(*x));
    }
}

#[inline(always)]
fn scale_by(x: &[f32], gradient: &mut [f32], slope: impl Fn(f32) -> f32) {
    for (gradient, x) in gradient.iter_mut().zip(x) {
        *gradient *= slope(*x);
    }
}

vectorised! {
    /// Softmax of each row of scores times `scale` over the keys that its query sees, in place; the other shares become 0.
    fn softmax_rows(scores: &'a mut [f32], shape: &'a AttentionShape, record: usize, scale: f32) {
        for (query, row) in scores.chunks_exact_mut(shape.keys).enumerate() {
            let seen = shape.visible(record, query);
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            let seen = &mut row[seen];
            let top = largest(seen);
            for value in seen.iter_mut() {
                *value = exp((*value - top) * scale);
            }
            let share = 1.0 / sum(seen);
            for value in seen.iter_mut() {
                *value *= share;
            }
        }
    }
}

vectorised! {
    /// The gradient of scores from that of their shares, row by row: `share (gradient - sum(share gradient)) scale`, in place.
    fn softmax_rows_backward(shares: &'a [f32], gradient: &'a mut [f32], keys: usize, scale: f32) {
        for (shares, gradient) in shares.chunks_exact(keys).zip(gradient.chunks_exact_mut(keys)) {
            let mean = dot(shares, gradient);
            for (gradient, share) in gradient.iter_mut().zip(shares) {
                *gradient = share * (*gradient - mean) * scale;
            }
        }
    }
}

vectorised! {
    /// Writes `scale` times the sums into a row, or adds them to it.
    fn put_row(row: &'a mut [f32], sums: &'a [f32], is_added: bool, scale: f32) {
        if is_added {
            for (value, sum) in row.iter_mut().zip(sums) {
                *value = sum.mul_add(scale, *value);
            }
        } else {
            for (value, sum) in row.iter_mut().zip(sums) {
                *value = sum * scale;
            }
        }
    }
}

/// Turns scores into their exponentials, in place: the number to multiply these with to get shares of `scale` times the scores.
pub(crate) fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    let mut share = 0.0;
    exponentials(scores, scale, std::slice::from_mut(&mut share));
    share
}

vectorised! {
    /// Softmax without the division: exponentials in place, and one over their sum into `share`.
    fn exponentials(scores: &'a mut [f32], scale: f32, share: &'a mut [f32]) {
        let top = largest(scores);
        for value in scores.iter_mut() {
            *value = exp((*value - top) * scale);
        }
        share[0] = 1.0 / sum(scores);
    }
}

/// The parameters of a normalisation.
#[derive(Clone, Copy)]
pub(crate) struct NormWeights<'a> {
    pub(crate) weight: &'a [f32],
    /// The offsets of layer normalisation; root mean square normalisation has no offsets.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) epsilon: f32,
}

/// Normalised rows, with what the backward pass needs.
pub(crate) struct Normalised {
    pub(crate) out: Vec<f32>,
    /// The rows before weight and bias.
    pub(crate) standard: Vec<f32>,
    /// The factor by which each row was scaled.
    pub(crate) factors: Vec<f32>,
}

/// Normalises all rows of `x`, or of `x + residual`.
pub(crate) fn normalise(x: &[f32], residual: Option<&[f32]>, norm: NormWeights<'_>) -> Normalised {
    let width = norm.weight.len();
    assert!(residual.is_none_or(|residual| residual.len() == x.len()), "the summands are of one size");
    assert!(
        norm.bias.is_none_or(|bias| bias.len() == width) && x.len().is_multiple_of(width),
        "rows are as wide as the weight"
    );
    let rows = (GRAIN / width).max(1);
    let part = rows * width;
    let (mut standard, mut out) = (Unwritten::new(x.len()), Unwritten::new(x.len()));
    let mut factors = vec![0.0; x.len() / width];
    let parts = standard.memory().par_chunks_mut(part).zip(out.memory().par_chunks_mut(part));
    parts.zip(factors.par_chunks_mut(rows)).enumerate().for_each(|(index, ((standard, out), factors))| {
        let place = index * part..index * part + out.len();
        let residual = residual.map(|residual| &residual[place.clone()]);
        norm_rows(&x[place], residual, norm, standard, out, factors);
    });
    // SAFETY: the parts cover the memory in whole rows, and `norm_rows` writes both for each row of each part.
    #[allow(unsafe_code, reason = "see above")]
    let (standard, out) = unsafe { (standard.written(), out.written()) };
    Normalised { out, standard, factors }
}

vectorised! {
    /// Normalises whole rows; writes all of `standard` and `out`.
    fn norm_rows(
        x: &'a [f32],
        residual: Option<&'a [f32]>,
        norm: NormWeights<'a>,
        standard: &'a mut [MaybeUninit<f32>],
        out: &'a mut [MaybeUninit<f32>],
        factors: &'a mut [f32],
    ) {
        let width = norm.weight.len();
        assert!(standard.len() == x.len() && out.len() == x.len() && x.len() == factors.len() * width);
        let share = 1.0 / width as f32;
        let rows = standard.chunks_exact_mut(width).zip(out.chunks_exact_mut(width)).zip(factors).enumerate();
        for (index, ((row, out), factor)) in rows {
            let place = index * width..(index + 1) * width;
            let row = row.write_copy_of_slice(&x[place.clone()]);
            if let Some(residual) = residual {
                for (value, residual) in row.iter_mut().zip(&residual[place]) {
                    *value += residual;
                }
            }
            if norm.bias.is_some() {
                let mean = sum(row) * share;
                for value in row.iter_mut() {
                    *value -= mean;
                }
            }
            *factor = 1.0 / (sum_of_squares(row) * share + norm.epsilon).sqrt();
            for value in row.iter_mut() {
                *value *= *factor;
            }
            match norm.bias {
                Some(bias) => {
                    for (out, (value, (weight, bias))) in out.iter_mut().zip(row.iter().zip(norm.weight.iter().zip(bias))) {
                        out.write(value.mul_add(*weight, *bias));
                    }
                }
                None => {
                    for (out, (value, weight)) in out.iter_mut().zip(row.iter().zip(norm.weight)) {
                        out.write(value * weight);
                    }
                }
            }
        }
    }
}

vectorised! {
    /// The gradient of normalised rows' inputs from that of their outputs, in place. `standard` and `factors` are those of
    /// [`normalise`]; `centred` is whether there was a bias.
    fn norm_rows_backward(
        gradient: &'a mut [f32],
        standard: &'a [f32],
        factors: &'a [f32],
        weight: &'a [f32],
        centred: bool,
    ) {
        let width = weight.len();
        let share = 1.0 / width as f32;
        let rows = gradient.chunks_exact_mut(width).zip(standard.chunks_exact(width)).zip(factors);
        for ((gradient, standard), factor) in rows {
            for (gradient, weight) in gradient.iter_mut().zip(weight) {
                *gradient *= weight;
            }
            let mean = if centred { sum(gradient) * share } else { 0.0 };
            let along = dot(gradient, standard) * share;
            for (gradient, value) in gradient.iter_mut().zip(standard) {
                *gradient = factor * (-value).mul_add(along, *gradient - mean);
            }
        }
    }
}

/// Folds values in [`LANES`] lanes, and joins these in order.
#[inline(always)]
pub(crate) fn fold(values: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], chunk[lane]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *value);
    }
    lanes.into_iter().reduce(join).unwrap_or(start)
}

#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    fold(values, 0.0, |a, b| a + b, |a, b| a + b)
}

#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f32 {
    fold(values, 0.0, |sum, value| value.mul_add(value, sum), |a, b| a + b)
}

#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, f32::max, f32::max)
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = a.mul_add(*b, *lane);
    }
    lanes.into_iter().sum()
}

/// `exp(x)` to 2 units in the last place between -87 and 88, and clamped to these outside: `2^n p(r)` with
/// `x = n ln 2 + r`, the polynomial that of Taylor to the seventh power.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let r = whole.mul_add(-LN2_LOW, whole.mul_add(-LN2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, coefficient);
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(1.0f32.to_bits()));
    p * power
}

#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `(Phi(x), exp(-x^2 / 2))`: the normal distribution function and the unscaled density.
///
/// For t >= 0, `erfc(t) = exp(-t^2) P(1 / (1 + 0.3 t))` with a polynomial P without constant term; its coefficients give the
/// least relative error, 2e-8, for t from 0 to 10 (iteratively weighted least squares on `scipy.special.erfcx`).
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    const P: [f32; 9] = [
        -0.129_523_63,
        0.485_566_9,
        -0.512_286_1,
        0.547_729_7,
        -0.094_657_76,
        0.214_929_24,
        0.148_338_3,
        0.170_715_36,
        0.169_188,
    ];
    let t = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let k = 1.0 / t.mul_add(0.3, 1.0);
    let mut p = P[0];
    for coefficient in &P[1..] {
        p = p.mul_add(k, *coefficient);
    }
    let density = exp(-0.5 * x * x);
    let tail = 0.5 * density * p * k;
    (if x < 0.0 { tail } else { 1.0 - tail }, density)
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    x.max(0.0)
}

#[inline(always)]
fn relu_slope(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let share = sigmoid(x);
    share * x.mul_add(1.0 - share, 1.0)
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * normal(x).0
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    // 1 / sqrt(2 pi)
    const DENSITY: f32 = 0.398_942_3;
    let (share, density) = normal(x);
    (x * density).mul_add(DENSITY, share)
}

/// Small arguments by the polynomial of the Cephes library (`tanhf.c`), the others by the exponential.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    const P: [f32; 5] = [-5.704_988_7e-3, 2.063_908_8e-2, -5.373_971_5e-2, 0.133_314_42, -0.333_332_8];
    let square = x * x;
    let mut p = P[0];
    for coefficient in &P[1..] {
        p = p.mul_add(square, *coefficient);
    }
    let size = x.abs();
    let large = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    if size < 0.625 { (p * square).mul_add(x, x) } else { large.copysign(x) }
}

#[inline(always)]
fn tanh_slope(x: f32) -> f32 {
    let y = tanh(x);
    (-y).mul_add(y, 1.0)
}

/// `sqrt(2 / pi)` and the cubic coefficient of the approximation, both doubled: `(1 + tanh(u)) / 2 = sigmoid(2 u)`.
const TANH: (f32, f32) = (1.595_769, 0.071_354_814);

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let doubled = x * (x * x).mul_add(TANH.1, TANH.0);
    x * sigmoid(doubled)
}

#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    let square = x * x;
    let share = sigmoid(x * square.mul_add(TANH.1, TANH.0));
    let slope = square.mul_add(3.0 * TANH.1, TANH.0);
    share * (x * slope).mul_add(1.0 - share, 1.0)
}
