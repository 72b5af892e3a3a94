//! The skew-normal distribution (Azzalini 1985), fitted by maximum likelihood, with a distribution function that stays exact far below.

use statrs::function::erf::erfc;

use crate::AttackError;
use crate::inputs::{finite, mean};

/// The smallest number of values that a distribution is fitted to.
pub const MIN_VALUES: usize = 30;

/// The largest absolute shape of a fit: beyond it the distribution is a half-normal one to four digits.
const MAX_SHAPE: f64 = 1e4;

/// A skew-normal distribution: its density is `2 / scale phi(z) Phi(shape z)` with `z = (x - location) / scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkewNormal {
    /// The location.
    pub location: f64,
    /// The scale, above 0.
    pub scale: f64,
    /// The shape: 0 for a normal distribution, above 0 for a longer tail on the right.
    pub shape: f64,
}

impl SkewNormal {
    /// The fit of the largest likelihood, from the fit of moments on by the simplex method of Nelder and Mead.
    ///
    /// # Errors
    ///
    /// [`AttackError`] for fewer than [`MIN_VALUES`] values, values that are not finite, or values without spread.
    pub fn fit(values: &[f64]) -> Result<Self, AttackError> {
        finite("values", values)?;
        if values.len() < MIN_VALUES {
            let value = values.len() as f64;
            return Err(AttackError::OutOfRange { what: "values", value, allowed: "at least 30 values" });
        }
        let start = Self::of_moments(values)?;
        let negative = |at: &[f64; 3]| {
            let fitted = Self { location: at[0], scale: at[1].exp(), shape: at[2] };
            if fitted.shape.abs() > MAX_SHAPE {
                return f64::INFINITY;
            }
            -values.iter().map(|value| fitted.log_density(*value)).sum::<f64>()
        };
        let mut at = [start.location, start.scale.ln(), start.shape];
        // A simplex may collapse on the way; the search starts again where it ended until it gains nothing more.
        for _ in 0..8 {
            let before = negative(&at);
            at = minimum(&negative, at, [0.1 * start.scale, 0.1, 0.25]);
            if before - negative(&at) < 1e-9 {
                break;
            }
        }
        Ok(Self { location: at[0], scale: at[1].exp(), shape: at[2] })
    }

    /// The distribution with the mean, the deviation and the skewness of values; a skewness beyond the largest one is cut to it.
    fn of_moments(values: &[f64]) -> Result<Self, AttackError> {
        let centre = mean(values);
        let moment =
            |power: i32| values.iter().map(|value| (value - centre).powi(power)).sum::<f64>() / values.len() as f64;
        let deviation = moment(2).sqrt();
        if deviation <= 0.0 {
            let reason = "all candidates are equally likely, so no distribution can be fitted";
            return Err(AttackError::Undefined { what: "skew_normal", reason });
        }
        let skewness = (moment(3) / deviation.powi(3)).clamp(-0.95, 0.95);
        let third = skewness.abs().powf(2.0 / 3.0);
        let two_pi = (4.0 - std::f64::consts::PI) / 2.0;
        let delta = (std::f64::consts::FRAC_PI_2 * third / (third + two_pi.powf(2.0 / 3.0))).sqrt() * skewness.signum();
        let scale = deviation / (1.0 - std::f64::consts::FRAC_2_PI * delta * delta).sqrt();
        let location = centre - scale * delta * std::f64::consts::FRAC_2_PI.sqrt();
        Ok(Self { location, scale, shape: delta / (1.0 - delta * delta).sqrt() })
    }

    /// The natural logarithm of the density.
    pub fn log_density(&self, x: f64) -> f64 {
        self.log_standard((x - self.location) / self.scale) - self.scale.ln()
    }

    fn log_standard(&self, z: f64) -> f64 {
        let two_pi = 2.0 * std::f64::consts::PI;
        std::f64::consts::LN_2 - 0.5 * z * z - 0.5 * two_pi.ln() + log_normal_below(self.shape * z)
    }

    /// The natural logarithm of the probability of a value of at most `x`: the integral of the density from below, relative to its largest
    /// value there, so that nothing is lost where the probability is tiny.
    pub fn log_below(&self, x: f64) -> f64 {
        let z = (x - self.location) / self.scale;
        let log = |below: f64| self.log_standard(z - below);
        let (mut width, mut largest) = (1e-9, log(0.0));
        // The density is logarithmically concave: it rises to its largest value and falls for good.
        while log(width) > largest - 50.0 && width < 1e9 {
            largest = largest.max(log(width));
            width *= 2.0;
        }
        let panels = 2000;
        let step = width / f64::from(panels);
        let of_panel = |panel: i32| {
            let middle = (f64::from(panel) + 0.5) * step;
            let point = |(node, weight): (f64, f64)| weight * (log(middle + 0.5 * step * node) - largest).exp();
            GAUSS.into_iter().map(point).sum::<f64>()
        };
        let integral = (0..panels).map(of_panel).sum::<f64>() * 0.5 * step;
        (largest + integral.ln()).min(0.0)
    }
}

/// The nodes and weights of Gauss and Legendre for 5 points.
const GAUSS: [(f64, f64); 5] = [
    (0.0, 0.568_888_888_888_888_9),
    (0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
    (-0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
    (0.906_179_845_938_664, 0.236_926_885_056_189_1),
    (-0.906_179_845_938_664, 0.236_926_885_056_189_1),
];

/// The natural logarithm of the standard normal distribution function.
fn log_normal_below(x: f64) -> f64 {
    if x > -30.0 {
        return (0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)).ln();
    }
    // The asymptotic series; its next term is below 1e-6 of the sum here.
    let inverse = 1.0 / (x * x);
    let series = 1.0 - inverse * (1.0 - 3.0 * inverse * (1.0 - 5.0 * inverse));
    -0.5 * x * x - (-x).ln() - 0.5 * (2.0 * std::f64::consts::PI).ln() + series.ln()
}

/// A point near `start` at which a function of three numbers is smallest, by the simplex method of Nelder and Mead.
fn minimum(function: &impl Fn(&[f64; 3]) -> f64, start: [f64; 3], steps: [f64; 3]) -> [f64; 3] {
    let mut simplex: Vec<([f64; 3], f64)> = vec![(start, function(&start))];
    for axis in 0..3 {
        let mut point = start;
        point[axis] += steps[axis];
        simplex.push((point, function(&point)));
    }
    for _ in 0..4000 {
        simplex.sort_by(|one, other| one.1.total_cmp(&other.1));
        let (best, worst) = (simplex[0], simplex[3]);
        let spread = |axis: usize| simplex.iter().map(|point| (point.0[axis] - best.0[axis]).abs()).fold(0.0, f64::max);
        if (0..3).all(|axis| spread(axis) < 1e-9 * (1.0 + best.0[axis].abs())) {
            break;
        }
        let centre: [f64; 3] =
            std::array::from_fn(|axis| simplex[..3].iter().map(|point| point.0[axis]).sum::<f64>() / 3.0);
        let along = |share: f64| {
            let point: [f64; 3] = std::array::from_fn(|axis| centre[axis] + share * (worst.0[axis] - centre[axis]));
            (point, function(&point))
        };
        let reflected = along(-1.0);
        let next = if reflected.1 < best.1 {
            let expanded = along(-2.0);
            Some(if expanded.1 < reflected.1 { expanded } else { reflected })
        } else if reflected.1 < simplex[2].1 {
            Some(reflected)
        } else {
            let contracted = along(if reflected.1 < worst.1 { -0.5 } else { 0.5 });
            (contracted.1 < worst.1.min(reflected.1)).then_some(contracted)
        };
        match next {
            Some(point) => simplex[3] = point,
            None => {
                for point in &mut simplex[1..] {
                    point.0 = std::array::from_fn(|axis| f64::midpoint(point.0[axis], best.0[axis]));
                    point.1 = function(&point.0);
                }
            }
        }
    }
    simplex.sort_by(|one, other| one.1.total_cmp(&other.1));
    simplex[0].0
}
