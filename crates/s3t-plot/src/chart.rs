//! Charts as data.

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The quantity, with its unit.
    pub label: String,
    /// `true` for a logarithmic axis, whose values must be positive.
    pub log: bool,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: false }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: true }
    }
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// A band around it: x, low, high. May be empty.
    pub band: Vec<(f64, f64, f64)>,
    /// `true` if points are marked and not joined by a line.
    pub marks: bool,
    /// Names of the points, which stand beside them. May be empty.
    pub names: Vec<String>,
}

impl Series {
    /// A line.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, band: Vec::new(), marks: false, names: Vec::new() }
    }

    /// Marked points.
    pub fn marks(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { marks: true, ..Self::line(name, points) }
    }

    /// Marked points with names of their own beside them.
    pub fn named(name: impl Into<String>, points: impl IntoIterator<Item = (String, (f64, f64))>) -> Self {
        let (names, points) = points.into_iter().unzip();
        Self { names, ..Self::marks(name, points) }
    }

    /// With a band around it.
    #[must_use]
    pub fn with_band(self, band: Vec<(f64, f64, f64)>) -> Self {
        Self { band, ..self }
    }
}

/// A line chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// The axis to the right.
    pub x: Axis,
    /// The axis upwards.
    pub y: Axis,
    /// The lines. Points that are not finite are left out.
    pub series: Vec<Series>,
}
