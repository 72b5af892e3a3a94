//! Means over records, with their standard errors.

/// The scale on which a mean is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The mean itself.
    Mean,
    /// A perplexity: the exponential of minus the mean log-likelihood.
    Perplexity,
    /// Bits: minus the mean log-likelihood over the natural logarithm of 2.
    Bits,
}

/// A value with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// The standard error; `None` with fewer than 2 records.
    pub standard_error: Option<f64>,
}

/// A sum over a sum of weights, record by record: the mean for weights of 1 (`mean` of lm-evaluation-harness), its
/// `weighted_mean`, `weighted_perplexity` and `bits_per_byte` otherwise.
///
/// With r the ratio of the sums and n records the standard error of r is `sqrt(n / (n - 1) sum (a - r b)^2) / sum b`, which for weights of 1
/// is the sample deviation over `sqrt(n)`; on another scale it is multiplied by the slope of the scale at r (delta method). `None`
/// without any weight.
///
/// ```
/// use s3t_eval::text::{Scale, ratio};
///
/// let mean = ratio(&[(1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (1.0, 1.0)], Scale::Mean).unwrap();
/// assert_eq!((mean.value, mean.standard_error), (0.75, Some(0.25)));
/// ```
pub fn ratio(records: &[(f64, f64)], scale: Scale) -> Option<Estimate> {
    let (sum, weight) = records.iter().fold((0.0, 0.0), |(sum, weight), (a, b)| (sum + a, weight + b));
    if weight <= 0.0 {
        return None;
    }
    let (mean, count) = (sum / weight, records.len() as f64);
    let squares: f64 = records.iter().map(|(a, b)| (a - mean * b).powi(2)).sum();
    let error = (records.len() > 1).then(|| (count / (count - 1.0) * squares).sqrt() / weight);
    let (value, slope) = match scale {
        Scale::Mean => (mean, 1.0),
        Scale::Perplexity => ((-mean).exp(), (-mean).exp()),
        Scale::Bits => (-mean / std::f64::consts::LN_2, 1.0 / std::f64::consts::LN_2),
    };
    Some(Estimate { value, standard_error: error.map(|error| error * slope) })
}
