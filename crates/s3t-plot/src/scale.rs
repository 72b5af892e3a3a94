//! Ranges of axes, and ticks whose labels stand apart.

/// Pixels between two labels.
const GAP: f64 = 8.0;

/// The fewest ticks that say where on an axis a value is.
const FEWEST: usize = 3;

/// The smallest and the largest value.
pub(crate) fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The range of an axis: all values, a linear upward axis from 0 where that is near, with some room above.
pub(crate) fn range(values: impl Iterator<Item = f64>, log: bool, room: bool) -> Option<(f64, f64)> {
    let (low, high) = span(values);
    if low > high {
        return None;
    }
    if log {
        return Some((low / 1.15, high * 1.3));
    }
    let width = if high > low { high - low } else { high.abs().max(1.0) };
    let low = if room && low >= 0.0 && low < 3.0 * width {
        0.0
    } else if room {
        low - 0.05 * width
    } else {
        low
    };
    Some((
        low,
        high + if room {
            0.08 * width
        } else if high > low {
            0.0
        } else {
            width
        },
    ))
}

/// The ticks of an axis over `low..high`, the most of them whose labels do not touch. `extent` is the length of the axis in pixels,
/// and `size` measures a label along it.
pub(crate) fn ticks(low: f64, high: f64, log: bool, extent: f64, size: &dyn Fn(&str) -> f64) -> Vec<f64> {
    let place = |value: f64| {
        let at = |value: f64| if log { value.ln() } else { value };
        extent * (at(value) - at(low)) / (at(high) - at(low))
    };
    let stand_apart = |ticks: &[f64]| {
        ticks.windows(2).all(|pair| {
            let (one, other) = (tick(pair[0]), tick(pair[1]));
            one != other && place(pair[1]) - place(pair[0]) >= f64::midpoint(size(&one), size(&other)) + GAP
        })
    };
    let linear = || (0..).map(|coarse| multiples(low, high, step(high - low, coarse)));
    let decades = if log { ladders(low, high) } else { Vec::new() };
    let enough = decades.into_iter().filter(|ticks| ticks.len() >= FEWEST).find(|ticks| stand_apart(ticks));
    // An axis that spans less than a decade or so is divided evenly; a single tick touches no other.
    enough.or_else(|| linear().find(|ticks| stand_apart(ticks))).unwrap_or_default()
}

/// Ticks of a logarithmic axis, from dense to sparse: nine, three or one in each decade, then one in several decades.
fn ladders(low: f64, high: f64) -> Vec<Vec<f64>> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let ladder = |every: i32, mantissas: &[f64]| -> Vec<f64> {
        let decades = (first..=last).filter(|decade| decade.rem_euclid(every) == 0);
        let ticks = decades.flat_map(|decade| mantissas.iter().map(move |mantissa| mantissa * 10f64.powi(decade)));
        ticks.filter(|tick| (low..=high).contains(tick)).collect()
    };
    let all: Vec<f64> = (1..10).map(f64::from).collect();
    let within = [&all[..], &[1.0, 2.0, 5.0], &[1.0]].map(|mantissas| ladder(1, mantissas));
    within.into_iter().chain((2..=(last - first).max(2)).map(|every| ladder(every, &[1.0]))).collect()
}

/// A step of 1, 2 or 5 times a power of ten: about a tenth of the width, and coarser with each `coarse`.
fn step(width: f64, coarse: usize) -> f64 {
    let power = (width / 10.0).log10().floor();
    let fine = [1.0, 2.0, 5.0, 10.0].into_iter().position(|step| step * 10f64.powf(power) >= width / 10.0).unwrap_or(3);
    let index = fine + coarse;
    [1.0, 2.0, 5.0][index % 3] * 10f64.powf(power + (index / 3) as f64)
}

/// The multiples of a step between two values.
fn multiples(low: f64, high: f64, step: f64) -> Vec<f64> {
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

/// `1200000` as `1.2M`, `0.25` as `0.25`.
pub(crate) fn tick(value: f64) -> String {
    let size = value.abs();
    let scaled = [(1e24, ""), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")];
    if size >= 1e16 {
        return format!("{value:.1e}");
    }
    for (unit, letter) in &scaled[1..] {
        if size >= *unit {
            let unit = if *letter == "k" { 1e3 } else { *unit };
            return format!("{}{letter}", rounded(value / unit));
        }
    }
    rounded(value)
}

/// At most four digits, without zeros at the end.
fn rounded(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tick_labels_are_short() {
        let shown = [0.0, 0.25, 12.5, 1200.0, 25_000.0, 1.2e6, 3e18].map(tick);
        assert_eq!(shown, ["0", "0.25", "12.5", "1200", "25k", "1.2M", "3.0e18"]);
    }

    #[test]
    fn ticks_are_round_and_as_many_as_fit() {
        let of = |low, high, log| ticks(low, high, log, 750.0, &|label: &str| 8.0 * label.len() as f64);
        assert_eq!(of(0.0, 10.0, false), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert_eq!(of(0.5, 300.0, true), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(of(20.0, 31.0, true), [20.0, 22.0, 24.0, 26.0, 28.0, 30.0]);
        assert!(of(1e3, 1e40, true).len() >= 3);
    }
}
