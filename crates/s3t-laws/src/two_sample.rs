//! A two-sample test with an exact error rate: the energy statistic under random permutations.
//!
//! The statistic is the energy distance of Székely and Rizzo, "Testing for equal distributions in high dimension" (2004),
//! equation 5 up to a factor; each coordinate is divided by its deviation over both samples. Under the hypothesis of one distribution
//! every assignment of the points to the samples is equally likely, so `(1 + at least as large) / (1 + permutations)` is at most a with
//! probability at most a (Phipson and Smyth, "Permutation p-values should never be zero", 2010).

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// The result of a two-sample test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TwoSample {
    /// The energy distance of the samples, 0 for equal samples.
    pub distance: f64,
    /// The probability of at least this distance between samples of one distribution.
    pub p_value: f64,
}

/// Tests two samples of points for one distribution.
///
/// Points are lists of numbers; missing ones count as 0. The number of permutations must be so large that 1 / (permutations + 1) is below the
/// error rate of interest.
///
/// ```
/// use s3t_laws::energy_test;
///
/// let low: Vec<Vec<f64>> = (0..12).map(|i| vec![f64::from(i)]).collect();
/// let high: Vec<Vec<f64>> = (0..12).map(|i| vec![f64::from(i) + 20.0]).collect();
/// assert!(energy_test(&low, &high, 999, 1).p_value <= 0.001);
/// assert_eq!(energy_test(&low, &low, 999, 1).p_value, 1.0);
/// ```
pub fn energy_test(left: &[Vec<f64>], right: &[Vec<f64>], permutations: u32, seed: u64) -> TwoSample {
    let points = standardised(left, right);
    let count = points.len();
    let mut distances = vec![0.0; count * count];
    for (row, one) in points.iter().enumerate() {
        for (column, other) in points.iter().enumerate().take(row) {
            let squares: f64 = one.iter().zip(other).map(|(one, other)| (one - other).powi(2)).sum();
            distances[row * count + column] = squares.sqrt();
            distances[column * count + row] = squares.sqrt();
        }
    }
    let mut places: Vec<usize> = (0..count).collect();
    let observed = energy(&distances, &places, left.len());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Sums of the same numbers in another order differ in last bits, which must not count as smaller.
    let threshold = observed - 1e-9 * observed.abs() - 1e-12;
    let mut at_least = 0_u32;
    for _ in 0..permutations {
        places.shuffle(&mut rng);
        at_least += u32::from(energy(&distances, &places, left.len()) >= threshold);
    }
    TwoSample { distance: observed.max(0.0), p_value: (1.0 + f64::from(at_least)) / (1.0 + f64::from(permutations)) }
}

/// Both samples, one after the other, with deviation 1 (or 0) in each coordinate.
fn standardised(left: &[Vec<f64>], right: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut points: Vec<Vec<f64>> = left.iter().chain(right).cloned().collect();
    let width = points.iter().map(Vec::len).max().unwrap_or(0);
    points.iter_mut().for_each(|point| point.resize(width, 0.0));
    let count = points.len() as f64;
    for coordinate in 0..width {
        let mean = points.iter().map(|point| point[coordinate]).sum::<f64>() / count;
        let variance = points.iter().map(|point| (point[coordinate] - mean).powi(2)).sum::<f64>() / count;
        let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        points.iter_mut().for_each(|point| point[coordinate] = (point[coordinate] - mean) / deviation);
    }
    points
}

/// Twice the mean distance between the samples less the mean distances within them; the first places are those of the left sample.
fn energy(distances: &[f64], places: &[usize], left: usize) -> f64 {
    let count = places.len();
    let (mut between, mut within_left, mut within_right) = (0.0, 0.0, 0.0);
    for (rank, place) in places.iter().enumerate() {
        for (other_rank, other) in places.iter().enumerate().take(rank) {
            let distance = distances[place * count + other];
            match (rank < left, other_rank < left) {
                (true, true) => within_left += distance,
                (false, false) => within_right += distance,
                _ => between += distance,
            }
        }
    }
    let (left, right) = (left as f64, (count - left) as f64);
    2.0 * between / (left * right) - 2.0 * within_left / (left * left) - 2.0 * within_right / (right * right)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    fn sample(rng: &mut ChaCha8Rng, count: usize, shift: f64) -> Vec<Vec<f64>> {
        (0..count).map(|_| vec![rng.random_range(0.0..1.0) + shift, rng.random_range(0.0..1.0)]).collect()
    }

    #[test]
    fn false_alarms_come_at_the_stated_rate() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let trials = 1000;
        let alarms = (0..trials).filter(|trial| {
            let (left, right) = (sample(&mut rng, 8, 0.0), sample(&mut rng, 8, 0.0));
            energy_test(&left, &right, 199, *trial).p_value <= 0.05
        });
        // The rate is 0.05 exactly; 1000 trials have a deviation of 0.007.
        let rate = alarms.count() as f64 / trials as f64;
        assert!((0.03..0.07).contains(&rate), "{rate}");
    }

    #[test]
    fn a_shift_is_seen_and_its_size_does_not_depend_on_units() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (left, right) = (sample(&mut rng, 20, 0.0), sample(&mut rng, 20, 1.0));
        let seen = energy_test(&left, &right, 1999, 3);
        assert!(seen.p_value < 0.001, "{seen:?}");
        let in_thousands = |points: &[Vec<f64>]| -> Vec<Vec<f64>> {
            points.iter().map(|point| vec![point[0] * 1000.0, point[1]]).collect()
        };
        let again = energy_test(&in_thousands(&left), &in_thousands(&right), 1999, 3);
        assert!((seen.distance - again.distance).abs() < 1e-9);
        assert_eq!(seen.p_value, again.p_value);
    }
}
