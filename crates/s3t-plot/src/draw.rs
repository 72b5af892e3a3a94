//! Drawing a chart.

use std::io::Cursor;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::scale::{range, span, tick, ticks};
use crate::{Chart, Format, PlotError, Series};

/// Pixels.
const SIZE: (u32, u32) = (860, 540);

/// The plotted area, without margins, caption and labels, in pixels across and up.
const PLOT: (f64, f64) = (758.0, 440.0);

/// The size of tick labels.
const LABEL: i32 = 14;

/// The size of names of points.
const NAME: i32 = 13;

/// The radius of a mark, and the distance of its name, in pixels.
const DOT: i32 = 4;
const GAP: i32 = 8;

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
    /// Draws the chart.
    ///
    /// ```
    /// use s3t_plot::{Axis, Chart, Format, Series};
    ///
    /// let chart = Chart {
    ///     title: "Squares".into(),
    ///     x: Axis::linear("x"),
    ///     y: Axis::log("x squared"),
    ///     series: vec![Series::line("squares", (1..20).map(|x| (f64::from(x), f64::from(x * x))).collect())],
    /// };
    /// assert!(chart.draw(Format::Svg)?.starts_with(b"<svg"));
    /// # Ok::<(), s3t_plot::PlotError>(())
    /// ```
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
        let x_ticks = ticks(x.0, x.1, self.x.log, PLOT.0, &|label| text_size(label).0);
        let y_ticks = ticks(y.0, y.1, self.y.log, PLOT.1, &|label| text_size(label).1);
        let (x, y) = (x.0..x.1, y.0..y.1);
        match (self.x.log, self.y.log) {
            (false, false) => self.draw_in(area, Ticked::new(x, x_ticks), Ticked::new(y, y_ticks)),
            (true, false) => self.draw_in(area, Ticked::new(x.log_scale(), x_ticks), Ticked::new(y, y_ticks)),
            (false, true) => self.draw_in(area, Ticked::new(x, x_ticks), Ticked::new(y.log_scale(), y_ticks)),
            (true, true) => {
                self.draw_in(area, Ticked::new(x.log_scale(), x_ticks), Ticked::new(y.log_scale(), y_ticks))
            }
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

    fn draw_in<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        x: Ticked<impl Ranged<ValueType = f64>>,
        y: Ticked<impl Ranged<ValueType = f64>>,
    ) -> Result<(), PlotError> {
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
            .label_style(("sans-serif", LABEL))
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
                chart.draw_series(points.map(|point| Circle::new(point, DOT, colour.filled()))).map_err(failed)?
            } else {
                chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(failed)?
            };
            let (colour, marks) = (*colour, series.marks);
            drawn.label(&series.name).legend(move |(x, y)| {
                let style = if marks { colour.filled() } else { colour.stroke_width(2) };
                if marks {
                    EmptyElement::at((x + 9, y)) + Circle::new((0, 0), DOT, style) + PathElement::new(vec![], style)
                } else {
                    EmptyElement::at((x, y))
                        + Circle::new((9, 0), 0, style)
                        + PathElement::new(vec![(0, 0), (18, 0)], style)
                }
            });
        }
        let place = |point: &(f64, f64)| chart.backend_coord(point);
        let names = self.names(place);
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
        names
            .into_iter()
            .try_for_each(|(name, at)| area.draw(&Text::new(name, at, ("sans-serif", NAME))))
            .map_err(failed)
    }

    /// The names of points, and the pixel of their upper left corner: beside the point where they lie over no other point, name or line,
    /// if there is such a place.
    fn names<'a>(&'a self, place: impl Fn(&(f64, f64)) -> (i32, i32)) -> Vec<(&'a str, (i32, i32))> {
        let shown = |series: &'a Series| {
            let names = series.names.iter().map(String::as_str).map(Some).chain(std::iter::repeat(None));
            series.points.iter().zip(names).filter(|((x, y), _)| self.shows(*x, *y))
        };
        let marked = self.series.iter().filter(|series| series.marks);
        let points: Vec<_> = marked.flat_map(shown).map(|(point, name)| (place(point), name)).collect();
        let dot = |(x, y): (i32, i32)| [x - DOT, x + DOT, y - DOT, y + DOT];
        let mut taken: Vec<[i32; 4]> = points.iter().map(|(at, _)| dot(*at)).collect();
        for line in self.series.iter().filter(|series| !series.marks) {
            let corners: Vec<_> = line.points.iter().filter(|(x, y)| self.shows(*x, *y)).map(&place).collect();
            taken.extend(corners.windows(2).flat_map(|ends| along(ends[0], ends[1])));
        }
        let mut names = Vec::new();
        for ((x, y), name) in points.into_iter().filter_map(|(at, name)| Some((at, name?))) {
            let (width, height) = measured(name, f64::from(NAME));
            let (width, height) = (width.ceil() as i32, height.ceil() as i32);
            let corners = [
                (x + GAP, y - height / 2),
                (x - GAP - width, y - height / 2),
                (x - width / 2, y - GAP - height),
                (x - width / 2, y + GAP),
            ];
            let box_at = |(left, top): (i32, i32)| [left, left + width, top, top + height];
            let is_free = |corner: &&(i32, i32)| {
                let [left, right, top, bottom] = box_at(**corner);
                let inside = left >= 0 && right < SIZE.0 as i32 && top >= 0 && bottom < SIZE.1 as i32;
                inside && taken.iter().all(|of| right <= of[0] || of[1] <= left || bottom <= of[2] || of[3] <= top)
            };
            let corner = *corners.iter().find(is_free).unwrap_or(&corners[0]);
            taken.push(box_at(corner));
            names.push((name, corner));
        }
        names
    }
}

/// Small boxes that cover the line between two pixels.
fn along((x, y): (i32, i32), (to_x, to_y): (i32, i32)) -> impl Iterator<Item = [i32; 4]> {
    let (across, up) = (to_x - x, to_y - y);
    let steps = (across.abs().max(up.abs()) / DOT).max(1);
    (0..=steps).map(move |step| {
        let (x, y) = (x + across * step / steps, y + up * step / steps);
        [x - DOT / 2, x + DOT / 2, y - DOT / 2, y + DOT / 2]
    })
}

/// An axis with ticks of its own.
struct Ticked<R> {
    axis: R,
    ticks: Vec<f64>,
}

impl<R: Ranged<ValueType = f64>> Ticked<R> {
    fn new(axis: impl AsRangedCoord<CoordDescType = R, Value = f64> + Into<R>, ticks: Vec<f64>) -> Self {
        Self { axis: axis.into(), ticks }
    }
}

impl<R: Ranged<ValueType = f64>> Ranged for Ticked<R> {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.axis.map(value, limit)
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.axis.range()
    }
}

/// The width and height of a tick label in pixels.
fn text_size(label: &str) -> (f64, f64) {
    measured(label, f64::from(LABEL))
}

/// The width and height of a text in pixels; where the font cannot measure it, a generous guess.
fn measured(text: &str, size: f64) -> (f64, f64) {
    let font = ("sans-serif", size).into_font();
    let guess = (size * text.chars().count() as f64, size);
    font.box_size(text).map_or(guess, |(width, height)| (f64::from(width), f64::from(height)))
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
    use std::path::Path;

    use super::*;
    use crate::{Axis, Series};

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

    /// A box of a text that lies level: left, right, top, bottom.
    type Label = (String, [f64; 4]);

    /// The texts of a picture that are not turned.
    fn labels(svg: &str) -> Vec<Label> {
        let attribute = |tag: &str, name: &str| -> Option<String> {
            Some(tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()?.to_owned())
        };
        let texts = svg.split("<text ").skip(1).filter(|text| !text.contains("rotate"));
        let label = |text: &str| {
            let (tag, rest) = text.split_once('>')?;
            let words = rest.split("</text>").next()?.trim().to_owned();
            let number = |name: &str| attribute(tag, name)?.parse::<f64>().ok();
            let (x, y) = (number("x")?, number("y")?);
            // The library writes sizes smaller than given by this factor.
            let size = number("font-size")? * 1.24;
            let (width, height) = measured(&words, size);
            let left = match attribute(tag, "text-anchor").as_deref() {
                Some("middle") => x - width / 2.0,
                Some("end") => x - width,
                _ => x,
            };
            let top = match attribute(tag, "dy").as_deref() {
                Some("0.76em") => y,
                Some("0.5ex") => y - height / 2.0,
                _ => y - height,
            };
            Some((words, [left, left + width, top, top + height]))
        };
        texts.map(|text| label(text).expect("a text with its place")).collect()
    }

    #[track_caller]
    fn check_labels(chart: &Chart) {
        let svg = String::from_utf8(chart.draw(Format::Svg).unwrap()).unwrap();
        let labels = labels(&svg);
        for (index, (one, a)) in labels.iter().enumerate() {
            for (other, b) in &labels[index + 1..] {
                let apart = a[1] <= b[0] || b[1] <= a[0] || a[3] <= b[2] || b[3] <= a[2];
                assert!(apart, "`{one}` lies over `{other}` in {}: {a:?} {b:?}", chart.title);
            }
        }
        // Two ticks on either axis, beside the title and the description of the horizontal axis.
        assert!(labels.len() >= 2 + 2 + 2, "{}: {labels:?}", chart.title);
    }

    #[test]
    fn no_label_lies_over_another() {
        load_font();
        for log in [false, true] {
            for exponent in -3..17 {
                for decades in [0.0, 0.02, 0.1, 0.5, 1.0, 2.0, 3.5, 7.0, 12.0] {
                    let low = 1.7 * 10f64.powi(exponent);
                    let high = low * 10f64.powf(decades);
                    let axis = if log { Axis::log("cost") } else { Axis::linear("cost") };
                    check_labels(&Chart {
                        title: format!("{low:e} to {high:e}, log {log}"),
                        x: axis.clone(),
                        y: axis,
                        series: vec![Series::line("front", vec![(low, low), (high, high)])],
                    });
                }
            }
        }
    }

    #[test]
    fn names_of_points_lie_beside_them_and_over_no_other() {
        let names = ["a longer name", "b", "of three words", "d", "e", "f"];
        for spread in [0.01, 0.3, 1.0] {
            let point = |index: usize| (1.0 + spread * index as f64, 0.5 + spread * (index % 3) as f64);
            let named = names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), point(index)));
            let mut chart = chart();
            chart.series = vec![Series::named("points", named)];
            check_labels(&chart);
            let svg = String::from_utf8(chart.draw(Format::Svg).unwrap()).unwrap();
            assert!(names.iter().all(|name| svg.contains(name)));
        }
    }

    #[test]
    fn labels_that_lie_over_each_other_are_found() {
        let text = |x: i32, words: &str| {
            format!(
                "<text x=\"{x}\" y=\"10\" dy=\"0.76em\" text-anchor=\"middle\" font-size=\"11.29\">\n{words}\n</text>"
            )
        };
        load_font();
        let boxes = labels(&[text(100, "100k"), text(120, "200k"), text(300, "300k")].concat());
        assert!(boxes[0].1[1] > boxes[1].1[0] && boxes[1].1[1] < boxes[2].1[0], "{boxes:?}");
    }
}
