//! Fast-NTK: the move between two solutions of the linearised model, with and without the forgotten records.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use s3t_core::Record;
use s3t_models::Input;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adapter::class_of;
use super::steps::batches;
use super::{Adapter, Bench, Goal, Learnt, Term, UnlearningMethod, solve};
use crate::EvalError;

/// Fast-NTK (Li et al. 2023, arXiv 2312.14923; Golatkar et al. 2020, arXiv 2003.02960): around an adapter that has not learnt anything the
/// outputs are taken as linear in its numbers. The adapter moves by the difference between two least-squares solutions of that model, towards 1
/// for a record's class and 0 for the others: one on a sample of what is left, and one on the sample and what is forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FastNtk {
    /// The number that is added to the diagonal of the kernel, as a share of its mean.
    pub damping: f64,
    /// Records of what is left.
    pub sample: usize,
    /// Steps of the solver.
    pub iterations: usize,
}

impl Default for FastNtk {
    fn default() -> Self {
        Self { damping: 0.01, sample: 64, iterations: 32 }
    }
}

#[typetag::serde(name = "fast-ntk")]
impl UnlearningMethod for FastNtk {
    fn train<'a>(
        &'a self,
        bench: &'a Bench<'a>,
        records: &[Record],
        seed: u64,
    ) -> Result<Box<dyn Learnt + 'a>, EvalError> {
        Adapter::train(bench, records, seed, move |bench, adapter, gone| {
            let tuner = bench.tuner();
            let (left, gone) = (tuner.prepare(&adapter.records)?, tuner.prepare(gone)?);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let sample: Vec<&Input<'_>> = batches(&left, 1, &mut rng).into_iter().flatten().take(self.sample).collect();
            let start = tuner.initial(adapter.seed);
            let (mut slopes, mut rests) = (Vec::new(), Vec::new());
            for input in sample.iter().copied().chain(&gone) {
                bench.check_stopped()?;
                let outputs = tuner.logits(&start, std::slice::from_ref(input))?.concat();
                let class = class_of(&input.record.target) as usize;
                for (output, value) in outputs.iter().enumerate() {
                    let mut weights = vec![0.0; outputs.len()];
                    weights[output] = 1.0;
                    let goal = Goal::Outputs(vec![weights]);
                    let (_, slope) = tuner.gradient(&start, &[Term { batch: vec![input], goal, weight: 1.0 }])?;
                    slopes.push(slope);
                    rests.push(f64::from(*value) - if output == class { 1.0 } else { 0.0 });
                }
            }
            let of_left = slopes.len() / (sample.len() + gone.len()).max(1) * sample.len();
            let moved = ntk_move(&slopes, &rests, of_left, self.damping, self.iterations)?;
            adapter.values.iter_mut().zip(moved).for_each(|(value, step)| *value += step as f32);
            Ok(())
        })
    }
}

/// The difference between the least-squares solutions of a linear model on its first `left` outputs and on all: `slopes` are the outputs'
/// gradients, `rests` what the outputs are above what is wanted, at the point from which both solutions start.
///
/// # Errors
///
/// The errors of [`solve`].
///
/// ```
/// use s3t_eval::methods::ntk_move;
///
/// // One number, the output twice that number. From 0: wanted are 4 from the first record and 0 from the second, so that the best for both is 1,
/// // and for the first alone 2.
/// let moved = ntk_move(&[vec![2.0], vec![2.0]], &[-4.0, 0.0], 1, 1e-9, 8)?;
/// assert!((moved[0] - 1.0).abs() < 1e-6);
/// # Ok::<(), s3t_eval::EvalError>(())
/// ```
pub fn ntk_move(
    slopes: &[Vec<f32>],
    rests: &[f64],
    left: usize,
    damping: f64,
    iterations: usize,
) -> Result<Vec<f64>, EvalError> {
    let dot =
        |slope: &[f32], of: &[f64]| -> f64 { slope.iter().zip(of).map(|(slope, of)| f64::from(*slope) * of).sum() };
    let numbers = slopes.first().map_or(0, Vec::len);
    // Slopes times their coefficients.
    let combined = |of: &[f64]| {
        let mut sum = vec![0.0; numbers];
        for (slope, of) in slopes.iter().zip(of) {
            sum.iter_mut().zip(slope).for_each(|(sum, slope)| *sum += of * f64::from(*slope));
        }
        sum
    };
    let squares: f64 = slopes.iter().flatten().map(|slope| f64::from(*slope) * f64::from(*slope)).sum();
    let solution = |count: usize| {
        let coefficients = solve(&rests[..count], damping * squares / slopes.len().max(1) as f64, iterations, |of| {
            let sum = combined(of);
            Ok(slopes[..count].iter().map(|slope| dot(slope, &sum)).collect())
        });
        Ok::<_, EvalError>(combined(&coefficients?))
    };
    // A solution is the start less the slopes times its coefficients.
    let (of_all, of_left) = (solution(slopes.len())?, solution(left)?);
    Ok(of_all.into_iter().zip(of_left).map(|(all, left)| all - left).collect())
}

s3t_core::plugin!(UnlearningMethod, "fast-ntk", FastNtk);
