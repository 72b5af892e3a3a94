//! `compare-methods`: methods of unlearning side by side.

use std::path::PathBuf;

use s3t_engine::Pipeline;
use s3t_eval::compare::{CompareObserver, CompareSettings, Comparison, MethodFigures};
use s3t_eval::methods::Guarantee;
use s3t_plot::{Axis, Chart, Series};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ApiError;
use crate::picture::Picture;
use crate::reply::plain_answers;

/// The request to compare methods. What is not given is as the pipeline's section `[compare]` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CompareMethodsRequest {
    /// The pipeline file. Its store has no part in the comparison.
    pub pipeline: PathBuf,
    /// Names of methods, with their defaults, in place of `compare.methods`; none takes what the pipeline says.
    #[serde(default)]
    pub methods: Vec<String>,
    /// In place of `compare.seeds`.
    #[serde(default)]
    pub seeds: Option<u64>,
    /// In place of `compare.forget`.
    #[serde(default)]
    pub forget: Option<usize>,
    /// In place of `compare.records`.
    #[serde(default)]
    pub records: Option<usize>,
    /// In place of `compare.held_out`.
    #[serde(default)]
    pub held_out: Option<usize>,
    /// The file of a picture, SVG or PNG: the success of the attack against the time to forget.
    #[serde(default)]
    pub plot: Option<PathBuf>,
}

/// The answer to `compare-methods`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompareMethodsAnswer {
    /// The comparison.
    pub comparison: Comparison,
    /// The file of the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<String>,
}

plain_answers!(CompareMethodsAnswer);

impl CompareMethodsRequest {
    fn settings(&self, pipeline: &Pipeline) -> Result<CompareSettings, ApiError> {
        let given = CompareSettings::of(pipeline)?;
        let named: Vec<_> = self.methods.iter().map(|name| json!({ "type": name })).collect();
        let settings = CompareSettings {
            seeds: self.seeds.unwrap_or(given.seeds),
            forget: self.forget.unwrap_or(given.forget),
            records: self.records.or(given.records),
            held_out: self.held_out.unwrap_or(given.held_out),
            methods: if named.is_empty() { given.methods } else { named },
        };
        match settings.problem() {
            Some((field, problem)) => Err(ApiError::field(field, problem)),
            None => Ok(settings),
        }
    }
}

/// Compares methods of unlearning on a pipeline's data.
///
/// # Errors
///
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a pipeline or a request that cannot be used;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if the observer stops it.
pub fn compare_methods(
    request: &CompareMethodsRequest,
    observer: &dyn CompareObserver,
) -> Result<CompareMethodsAnswer, ApiError> {
    let picture = Picture::at(request.plot.as_deref())?;
    let settings = request.settings(&*Pipeline::read(&request.pipeline)?)?;
    let comparison = s3t_eval::compare::compare(&|| Pipeline::read(&request.pipeline), &settings, observer)?;
    let plot = picture.map(|picture| picture.draw(&chart(&comparison)));
    Ok(CompareMethodsAnswer { plot: plot.transpose()?, comparison })
}

/// The success of the attack against the time to forget, a mark for each method's mean over seeds.
fn chart(comparison: &Comparison) -> Chart {
    let seconds = |of: &MethodFigures| of.forget_seconds.mean.max(1e-3);
    let place = |of: &MethodFigures| (of.method.clone(), (seconds(of), of.auc.mean));
    let of_kind = |name: &str, is_exact: bool| {
        let methods = comparison.methods.iter().filter(|of| (of.guarantee == Guarantee::EqualBits) == is_exact);
        Series::named(name, methods.map(place))
    };
    let times = comparison.methods.iter().map(seconds);
    let (first, last) = times.fold((f64::INFINITY, 0.0_f64), |(low, high), time| (low.min(time), high.max(time)));
    let oracle = comparison.methods.iter().find(|of| of.method == "full-retraining");
    let line = oracle.map(|of| Series::line("never seen", vec![(first, of.auc.mean), (last, of.auc.mean)]));
    let kinds = [of_kind("equal bits", true), of_kind("no guarantee", false)];
    Chart {
        title: format!(
            "{} of {} records forgotten, {} seeds",
            comparison.forgotten, comparison.records, comparison.seeds
        ),
        x: Axis::log("seconds to forget"),
        y: Axis::linear("area under the ROC of the attack after"),
        series: kinds.into_iter().filter(|kind| !kind.points.is_empty()).chain(line).collect(),
    }
}
