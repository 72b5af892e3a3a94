//! Line charts, as SVG and PNG.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Once;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// A picture that is refused or could not be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// A file name that does not say the format.
    #[error("`plot` is `{}`; the name must end in .svg or .png", .0.display())]
    Format(PathBuf),
    /// A picture that could not be drawn.
    #[error("cannot draw the picture: {0}")]
    Draw(String),
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// Whether it is logarithmic; values must be positive then.
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

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// A band around it: x, low, high. May be empty.
    pub band: Vec<(f64, f64, f64)>,
    /// Whether points are marked and not joined by a line.
    pub marks: bool,
}

impl Series {
    /// A line.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, band: Vec::new(), marks: false }
    }

    /// Marked points.
    pub fn marks(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { marks: true, ..Self::line(name, points) }
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

/// A picture's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Scalable vector graphics.
    Svg,
    /// A bitmap.
    Png,
}

impl Format {
    /// The format of a file by its name.
    ///
    /// # Errors
    ///
    /// [`PlotError::Format`] for a name that ends neither in `.svg` nor in `.png`.
    pub fn of(path: &Path) -> Result<Self, PlotError> {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(PlotError::Format(path.into())),
        }
    }
}

/// Pixels.
const SIZE: (u32, u32) = (860, 540);

/// Colours that stay apart for people who see colours differently (Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];

impl Chart {
    /// Draws it.
    ///
    /// # Errors
    ///
    /// [`PlotError::Draw`] if there is nothing to draw.
    pub fn draw(&self, format: Format) -> Result<Vec<u8>, PlotError> {
        load_font();
        match format {
            Format::Svg => {
                let mut text = String::new();
                self.draw_on(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area())?;
                Ok(text.into_bytes())
            }
            Format::Png => {
                let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
                self.draw_on(&BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area())?;
                let picture = image::RgbImage::from_raw(SIZE.0, SIZE.1, pixels).ok_or_else(|| failed("its size"))?;
                let mut bytes = Cursor::new(Vec::new());
                picture.write_to(&mut bytes, image::ImageFormat::Png).map_err(failed)?;
                Ok(bytes.into_inner())
            }
        }
    }

    fn draw_on<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), PlotError> {
        let points = || {
            let of_series = |series: &Series| {
                let band = series.band.iter().flat_map(|(x, low, high)| [(*x, *low), (*x, *high)]);
                series.points.iter().copied().chain(band).collect::<Vec<_>>()
            };
            self.series.iter().flat_map(of_series).filter(|(x, y)| self.shows(*x, *y))
        };
        let x = range(points().map(|(x, _)| x), self.x.log, false).ok_or_else(|| failed("there are no points"))?;
        let y = range(points().map(|(_, y)| y), self.y.log, true).ok_or_else(|| failed("there are no points"))?;
        area.fill(&WHITE).map_err(failed)?;
        match (self.x.log, self.y.log) {
            (false, false) => self.draw_in(area, x.0..x.1, y.0..y.1),
            (true, false) => self.draw_in(area, (x.0..x.1).log_scale(), y.0..y.1),
            (false, true) => self.draw_in(area, x.0..x.1, (y.0..y.1).log_scale()),
            (true, true) => self.draw_in(area, (x.0..x.1).log_scale(), (y.0..y.1).log_scale()),
        }?;
        area.present().map_err(failed)
    }

    /// The corner that the fewest points are near.
    fn free_corner(&self) -> SeriesLabelPosition {
        let scale = |value: f64, log: bool| if log { value.ln() } else { value };
        let points: Vec<(f64, f64)> = self
            .series
            .iter()
            .flat_map(|series| &series.points)
            .filter(|(x, y)| self.shows(*x, *y))
            .map(|(x, y)| (scale(*x, self.x.log), scale(*y, self.y.log)))
            .collect();
        let (across, up) = (span(points.iter().map(|point| point.0)), span(points.iter().map(|point| point.1)));
        let share = |(low, high): (f64, f64), value: f64| if high > low { (value - low) / (high - low) } else { 0.5 };
        let near = |right: bool, upper: bool| {
            let is_near = |(x, y): &&(f64, f64)| {
                let (x, y) = (share(across, *x), share(up, *y));
                (if right { x > 0.55 } else { x < 0.45 }) && (if upper { y > 0.7 } else { y < 0.3 })
            };
            points.iter().filter(is_near).count()
        };
        let corners = [
            (near(true, true), SeriesLabelPosition::UpperRight),
            (near(false, true), SeriesLabelPosition::UpperLeft),
            (near(true, false), SeriesLabelPosition::LowerRight),
            (near(false, false), SeriesLabelPosition::LowerLeft),
        ];
        let best = corners.into_iter().min_by_key(|(points, _)| *points);
        best.map_or(SeriesLabelPosition::UpperRight, |(_, corner)| corner)
    }

    fn shows(&self, x: f64, y: f64) -> bool {
        x.is_finite() && y.is_finite() && (x > 0.0 || !self.x.log) && (y > 0.0 || !self.y.log)
    }

    fn draw_in<B, X, Y>(
        &self,
        area: &DrawingArea<B, Shift>,
        x: impl AsRangedCoord<CoordDescType = X, Value = f64>,
        y: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
    ) -> Result<(), PlotError>
    where
        B: DrawingBackend,
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(74)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .label_style(("sans-serif", 14))
            .axis_desc_style(("sans-serif", 15))
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()
            .map_err(failed)?;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let band: Vec<_> =
                series.band.iter().filter(|(x, low, high)| self.shows(*x, *low) && self.shows(*x, *high)).collect();
            if !band.is_empty() {
                let low = band.iter().map(|(x, low, _)| (*x, *low));
                let outline = low.chain(band.iter().rev().map(|(x, _, high)| (*x, *high))).collect::<Vec<_>>();
                chart.draw_series([Polygon::new(outline, colour.mix(0.15).filled())]).map_err(failed)?;
            }
            let points = series.points.iter().copied().filter(|(x, y)| self.shows(*x, *y));
            let drawn = if series.marks {
                chart.draw_series(points.map(|point| Circle::new(point, 4, colour.filled()))).map_err(failed)?
            } else {
                chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(failed)?
            };
            let (colour, marks) = (*colour, series.marks);
            drawn.label(&series.name).legend(move |(x, y)| {
                let style = if marks { colour.filled() } else { colour.stroke_width(2) };
                if marks {
                    EmptyElement::at((x + 9, y)) + Circle::new((0, 0), 4, style) + PathElement::new(vec![], style)
                } else {
                    EmptyElement::at((x, y))
                        + Circle::new((9, 0), 0, style)
                        + PathElement::new(vec![(0, 0), (18, 0)], style)
                }
            });
        }
        if self.series.len() > 1 {
            chart
                .configure_series_labels()
                .position(self.free_corner())
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.3))
                .label_font(("sans-serif", 14))
                .draw()
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// The smallest and the largest value.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// What an axis shows: all values, a linear upward axis from 0 where that is near, with some room above.
fn range(values: impl Iterator<Item = f64>, log: bool, room: bool) -> Option<(f64, f64)> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
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

/// `1200000` as `1.2M`, `0.25` as `0.25`.
fn tick(value: f64) -> String {
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

#[allow(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn failed(problem: impl ToString) -> PlotError {
    PlotError::Draw(problem.to_string())
}

/// The font of all text in bitmaps; SVG names the family only.
fn load_font() {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // The bytes are a valid font: a picture with text is drawn in the tests.
        drop(register_font("sans-serif", FontStyle::Normal, include_bytes!("../assets/DejaVuSans-subset.ttf")));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let points: Vec<(f64, f64)> = (1..=50).map(|x| (f64::from(x), f64::from(x).sqrt())).collect();
        let band = points.iter().map(|(x, y)| (*x, y - 0.2, y + 0.2)).collect();
        let marks = vec![(10.0, 3.2), (20.0, f64::INFINITY), (40.0, 6.1)];
        Chart {
            title: "A root".into(),
            x: Axis::linear("x"),
            y: Axis::linear("root of x"),
            series: vec![Series::line("exact", points).with_band(band), Series::marks("measured", marks)],
        }
    }

    #[test]
    fn a_chart_has_its_words_and_lines() {
        let svg = String::from_utf8(chart().draw(Format::Svg).unwrap()).unwrap();
        for part in ["A root", "root of x", "exact", "measured", "polyline", "polygon"] {
            assert!(svg.contains(part), "no {part}");
        }
        assert_eq!(svg.matches("<circle").count(), 2 + 2, "two finite marks and the legend's");
    }

    #[test]
    fn a_bitmap_has_text_in_it() {
        let picture = image::load_from_memory(&chart().draw(Format::Png).unwrap()).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), SIZE);
        let dark = |rows: std::ops::Range<u32>| {
            rows.flat_map(|y| (0..SIZE.0).map(move |x| (x, y)))
                .filter(|(x, y)| picture.get_pixel(*x, *y).0.iter().all(|channel| *channel < 90))
                .count()
        };
        assert!(dark(10..40) > 100, "the title is missing");
    }

    #[test]
    fn empty_charts_and_other_formats_are_refused() {
        let empty = Chart { series: Vec::new(), ..chart() };
        assert!(empty.draw(Format::Svg).is_err());
        assert!(Format::of(Path::new("figure.gif")).is_err());
        assert_eq!(Format::of(Path::new("figure.PNG")).unwrap(), Format::Png);
        let log = Chart { y: Axis::log("y"), x: Axis::log("x"), ..chart() };
        assert!(!log.draw(Format::Svg).unwrap().is_empty());
    }

    #[test]
    fn ticks_are_short() {
        let shown = [0.0, 0.25, 12.5, 1200.0, 25_000.0, 1.2e6, 3e18].map(tick);
        assert_eq!(shown, ["0", "0.25", "12.5", "1200", "25k", "1.2M", "3.0e18"]);
    }
}
