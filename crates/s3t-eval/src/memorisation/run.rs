//! Measuring memorisation.

use s3t_attack::interval::{Interval, clopper_pearson};
use s3t_core::{Record, Task};
use s3t_data::Source;
use s3t_engine::{Cutting, EngineError, Likelihood, System};

use super::canary::comes_back;
use super::{Canaries, CanaryReport, Extraction};
use crate::EvalError;

/// The confidence of intervals.
const CONFIDENCE: f64 = 0.95;

/// The memorisation of canaries and of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Memorisation {
    /// Each canary's exposure.
    pub canaries: Vec<CanaryReport>,
    /// The records that a prefix brings back, if they were asked for.
    pub extraction: Option<ExtractionReport>,
}

/// The records that a prefix brings back (Carlini et al. 2022, arXiv 2202.07646).
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractionReport {
    /// The tokens of a response that were given behind its prompt.
    pub prefix_tokens: usize,
    /// Records that were tried.
    pub records: usize,
    /// Records that are too short for the prefix and the tokens behind it.
    pub too_short: usize,
    /// The records whose response comes back, in the order of the data.
    pub extracted: Vec<String>,
    /// The share of these, with its interval of Clopper and Pearson at 95 %; `None` if no record was tried.
    pub interval: Option<Interval>,
    /// The number that come back from the base model without any adapter.
    pub base: usize,
}

impl ExtractionReport {
    /// The share of the records that come back.
    pub fn share(&self) -> f64 {
        self.extracted.len() as f64 / self.records.max(1) as f64
    }
}

/// Measures the memorisation of a system as it answers now.
///
/// # Errors
///
/// [`EvalError::NotCausal`] for a system that does not continue texts; [`EvalError::Data`] for records that cannot be read;
/// [`EvalError::Engine`] for texts that the model cannot take.
pub fn measure_memorisation(system: &System, asked: &Canaries) -> Result<Memorisation, EvalError> {
    let task = system.pipeline().task;
    if task != Task::CausalLm {
        return Err(EvalError::NotCausal(task.name(), "memorisation of texts"));
    }
    let canaries =
        asked.canaries.iter().map(|canary| canary.measure(system, asked.comparison)).collect::<Result<_, _>>()?;
    let extraction = asked.extraction.as_ref().map(|extraction| extract(system, extraction)).transpose()?;
    Ok(Memorisation { canaries, extraction })
}

fn extract(system: &System, asked: &Extraction) -> Result<ExtractionReport, EvalError> {
    let records = records(system, asked)?;
    let returns = |likelihood: &Likelihood| comes_back(system, likelihood, asked.prefix_tokens, asked.suffix_tokens);
    let tried: Vec<(String, Option<bool>)> = system
        .likelihoods(&records, Cutting::AsTrained)?
        .iter()
        .map(|likelihood| (likelihood.id.clone(), returns(likelihood)))
        .collect();
    let too_short = tried.iter().filter(|(_, returned)| returned.is_none()).count();
    let count = tried.len() - too_short;
    let extracted: Vec<String> =
        tried.into_iter().filter(|(_, returned)| *returned == Some(true)).map(|(id, _)| id).collect();
    let base = system.base_likelihoods(&records, Cutting::AsTrained)?;
    let interval =
        if count == 0 { None } else { Some(clopper_pearson(extracted.len() as u64, count as u64, CONFIDENCE)?) };
    Ok(ExtractionReport {
        prefix_tokens: asked.prefix_tokens,
        records: count,
        too_short,
        extracted,
        interval,
        base: base.iter().filter(|likelihood| returns(likelihood) == Some(true)).count(),
    })
}

/// The records of a file with the columns of the pipeline's training data.
fn records(system: &System, asked: &Extraction) -> Result<Vec<Record>, EvalError> {
    let pipeline = system.pipeline();
    let Some(data) = &asked.data else { return Ok(pipeline.read_train_data()?) };
    // A path that is not absolute starts from where the program runs, and the source would start it from the pipeline's folder.
    let data = std::path::absolute(data).map_err(|cause| EvalError::Read { path: data.clone(), cause })?;
    let source = match pipeline.train_data.clone() {
        Some(Source::Jsonl(source)) => Source::Jsonl(s3t_data::JsonlSource { file: data, ..source }),
        Some(Source::Csv(source)) => Source::Csv(s3t_data::CsvSource { file: data, ..source }),
        _ => {
            let problem = "`extraction.data` needs `data.train` in the pipeline, whose columns it has";
            return Err(EngineError::NoRecords(problem.into()).into());
        }
    };
    Ok(pipeline.read_source(&source)?)
}
