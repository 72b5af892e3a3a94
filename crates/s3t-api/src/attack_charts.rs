//! The pictures of an audit by attack.

use s3t_eval::attack::MembershipAudit;
use s3t_eval::report::{AttackReport, Performance};
use s3t_plot::{Axis, Chart, Format, Series};

use crate::ApiError;

/// A picture of an audit by attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttackPicture {
    /// The content in words, for people who do not see it.
    pub description: String,
    /// The picture as SVG.
    pub svg: String,
}

/// The pictures of an audit: the curves of its strongest attack, and what the same attack finds where a leak was planted.
///
/// # Errors
///
/// [`ErrorKind::Failed`](crate::ErrorKind::Failed) if a picture cannot be drawn.
pub fn attack_pictures(audit: &MembershipAudit) -> Result<Vec<AttackPicture>, ApiError> {
    let Some(strongest) = audit.attacks.first() else { return Ok(Vec::new()) };
    let mut charts = vec![before_and_after(strongest)];
    charts.extend((!strongest.planted.is_empty()).then(|| planted(strongest)));
    charts.iter().map(draw).collect()
}

fn draw(chart: &Chart) -> Result<AttackPicture, ApiError> {
    let svg = String::from_utf8_lossy(&chart.draw(Format::Svg)?).into_owned();
    let lines: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    let description = format!("{}: {} against {}, of {}", chart.title, chart.y.label, chart.x.label, lines.join(", "));
    Ok(AttackPicture { description, svg })
}

fn before_and_after(report: &AttackReport) -> Chart {
    let mut series = vec![chance(report), steps("before the deletion", &report.before)];
    series.push(steps("after the deletion", &report.after));
    if let Some(oracle) = &report.oracle {
        // Marked, so that a line below it is seen.
        series.push(Series { marks: true, ..steps("oracle", oracle) });
    }
    chart(format!("{}: before, after, oracle", report.attack.title()), series)
}

fn planted(report: &AttackReport) -> Chart {
    let leaks = report.planted.iter().map(|leak| steps(&leak.name, &leak.performance));
    let after = std::iter::once(steps("after the deletion, without a leak", &report.after));
    let series = std::iter::once(chance(report)).chain(leaks).chain(after).collect();
    chart(format!("{}: planted leaks", report.attack.title()), series)
}

fn chart(title: String, series: Vec<Series>) -> Chart {
    Chart { title, x: Axis::log("false positive rate"), y: Axis::log("true positive rate"), series }
}

/// The smallest rates that are drawn: half a record.
fn floors(performance: &Performance) -> (f64, f64) {
    (0.5 / performance.non_members as f64, 0.5 / performance.members as f64)
}

/// Guessing.
fn chance(report: &AttackReport) -> Series {
    let low = 1.0 / report.before.non_members as f64;
    Series::line("chance", vec![(low, low), (1.0, 1.0)])
}

/// A curve as the steps that it is. A rate of 0 has no place on a logarithmic axis and is drawn at the floor.
fn steps(name: &str, performance: &Performance) -> Series {
    let (left, bottom) = floors(performance);
    let (mut points, mut last) = (Vec::new(), (left, bottom));
    for corner in &performance.curve {
        let (x, y) = (corner.fpr.max(left), corner.tpr.max(bottom));
        points.extend([(x, last.1), (x, y)]);
        last = (x, y);
    }
    Series::line(name, points)
}
