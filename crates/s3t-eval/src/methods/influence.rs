//! Influence functions: one step of Newton's method away from the forgotten records.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use s3t_core::Record;
use s3t_models::Input;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::steps::{batches, classes};
use super::{Adapter, Bench, Learnt, UnlearningMethod};
use crate::EvalError;

/// Influence functions on the adapter (Koh and Liang 2017, arXiv 1703.04730; `LLMEraser`, arXiv 2412.00383): with g the sum of the forgotten
/// records' gradients, n the number of all records and H the Hessian of the mean loss, the adapter moves by `H^-1 g / n`. The system of
/// equations is solved by conjugate gradients, with products by differences of gradients on a sample of what is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Influence {
    /// The number that is added to the diagonal of the Hessian.
    pub damping: f64,
    /// Steps of the solver.
    pub iterations: usize,
    /// Records of what is left that the Hessian is computed on.
    pub sample: usize,
}

impl Default for Influence {
    fn default() -> Self {
        Self { damping: 0.01, iterations: 8, sample: 128 }
    }
}

#[typetag::serde(name = "influence")]
impl UnlearningMethod for Influence {
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, move |bench, adapter, gone| {
            let (tuner, size) = (bench.tuner(), bench.training().batch_size.max(1));
            let (left, gone) = (tuner.prepare(&adapter.records)?, tuner.prepare(gone)?);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let sample: Vec<Vec<&Input<'_>>> =
                batches(&left, size, &mut rng).into_iter().take(self.sample.div_ceil(size)).collect();
            let forgotten: Vec<Vec<&Input<'_>>> = gone.chunks(size).map(|batch| batch.iter().collect()).collect();
            let values = adapter.values.clone();
            let all = (left.len() + gone.len()) as f64;
            let mean_gradient = |at: &[f32], batches: &[Vec<&Input<'_>>]| -> Result<Vec<f32>, EvalError> {
                let records = batches.iter().map(Vec::len).sum::<usize>().max(1) as f64;
                let mut sum = vec![0.0; at.len()];
                for batch in batches {
                    bench.check_stopped()?;
                    let weight = batch.len() as f64 / records;
                    let terms = [classes(batch.clone(), weight)];
                    let (_, gradient) = tuner.gradient(at, &terms)?;
                    sum.iter_mut().zip(gradient).for_each(|(sum, slope)| *sum += slope);
                }
                Ok(sum)
            };
            let share = gone.len() as f64 / all;
            let wanted: Vec<f64> =
                mean_gradient(&values, &forgotten)?.iter().map(|slope| share * f64::from(*slope)).collect();
            let moved = solve(&wanted, self.damping, self.iterations, |direction| {
                hessian_product(&values, direction, |at| mean_gradient(at, &sample))
            })?;
            adapter.values.iter_mut().zip(moved).for_each(|(value, step)| *value += step as f32);
            Ok(())
        })
    }
}

/// The product of a Hessian with a direction, by the difference of two gradients around the point.
///
/// # Errors
///
/// The errors of `gradient`.
///
/// ```
/// use s3t_eval::methods::hessian_product;
///
/// // The loss x^2 + x y has the Hessian [[2, 1], [1, 0]].
/// let product = hessian_product(&[0.5, 2.0], &[1.0, 3.0], |at| Ok(vec![2.0 * at[0] + at[1], at[0]]))?;
/// assert!((product[0] - 5.0).abs() < 1e-4 && (product[1] - 1.0).abs() < 1e-4);
/// # Ok::<(), s3t_eval::EvalError>(())
/// ```
pub fn hessian_product(
    at: &[f32],
    direction: &[f64],
    mut gradient: impl FnMut(&[f32]) -> Result<Vec<f32>, EvalError>,
) -> Result<Vec<f64>, EvalError> {
    let length = norm(direction);
    if length == 0.0 {
        return Ok(vec![0.0; direction.len()]);
    }
    let step = STEP / length;
    let mut moved = |sign: f64| {
        let point: Vec<f32> =
            at.iter().zip(direction).map(|(value, of)| (f64::from(*value) + sign * step * of) as f32).collect();
        gradient(&point)
    };
    let (above, below) = (moved(1.0)?, moved(-1.0)?);
    Ok(above.iter().zip(below).map(|(above, below)| (f64::from(*above) - f64::from(below)) / (2.0 * step)).collect())
}

/// The length of the way to either side at which gradients are compared.
const STEP: f64 = 0.01;

fn norm(of: &[f64]) -> f64 {
    dot(of, of).sqrt()
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// Solves `(H + damping) x = wanted` by conjugate gradients, where `product` multiplies with H. It ends early where the matrix is not positive
/// along a direction, with what it has until then.
///
/// # Errors
///
/// The errors of `product`.
///
/// ```
/// use s3t_eval::methods::solve;
///
/// // H = [[2, 1], [1, 3]], and H x = (1, 2) for x = (1/5, 3/5).
/// let x = solve(&[1.0, 2.0], 0.0, 2, |v| Ok(vec![2.0 * v[0] + v[1], v[0] + 3.0 * v[1]]))?;
/// assert!((x[0] - 0.2).abs() < 1e-12 && (x[1] - 0.6).abs() < 1e-12);
/// # Ok::<(), s3t_eval::EvalError>(())
/// ```
pub fn solve(
    wanted: &[f64],
    damping: f64,
    iterations: usize,
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>, EvalError>,
) -> Result<Vec<f64>, EvalError> {
    let mut x = vec![0.0; wanted.len()];
    let mut rest = wanted.to_vec();
    let mut direction = rest.clone();
    let mut squared = dot(&rest, &rest);
    for _ in 0..iterations {
        if squared == 0.0 {
            break;
        }
        let mut along = product(&direction)?;
        along.iter_mut().zip(&direction).for_each(|(along, of)| *along += damping * of);
        let curvature = dot(&direction, &along);
        if curvature <= 0.0 {
            break;
        }
        let length = squared / curvature;
        x.iter_mut().zip(&direction).for_each(|(x, of)| *x += length * of);
        rest.iter_mut().zip(&along).for_each(|(rest, along)| *rest -= length * along);
        let next = dot(&rest, &rest);
        direction.iter_mut().zip(&rest).for_each(|(of, rest)| *of = rest + next / squared * *of);
        squared = next;
    }
    Ok(x)
}

s3t_core::plugin!(UnlearningMethod, "influence", Influence);
