//! Running a task.

use s3t_core::{Record, Task};
use s3t_engine::{Cutting, Likelihood, System};

use super::questions::{Question, questions};
use super::{LanguageTask, TaskKind, TaskMetric};
use crate::EvalError;
use crate::text::{Choice, Ignored, Lengths, bytes, chosen, exact_match, ratio, rouge_l, words};

/// The part of a task that is run, and what is kept of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// The largest number of questions, the first of the data; `None` for all.
    pub limit: Option<usize>,
    /// True if the report has every question's answer.
    pub samples: bool,
}

/// The scores of a system on a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    /// The name of the task.
    pub name: String,
    /// The kind: `generate`, `choice` or `loglikelihood`.
    pub kind: &'static str,
    /// Questions asked.
    pub records: usize,
    /// Solved examples in front of each.
    pub few_shot: usize,
    /// A score for each measure.
    pub scores: Vec<TaskScore>,
    /// Every question's answer, where they were asked for.
    pub samples: Vec<Sample>,
}

/// The score of one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskScore {
    /// The measure.
    pub metric: TaskMetric,
    /// Its value.
    pub value: f64,
    /// The standard error; `None` with fewer than 2 questions.
    pub standard_error: Option<f64>,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The question's id.
    pub id: String,
    /// The text that was generated, or the choice that is the likeliest; `None` for targets whose likelihood is measured.
    pub answer: Option<String>,
    /// The right text.
    pub target: String,
    /// The logarithms of the probabilities of the choices, or of the target; empty for a generated text.
    pub log_probabilities: Vec<f64>,
}

/// One question, judged.
struct Judged {
    sample: Sample,
    /// The value and its weight for each measure, in the order of the task's.
    values: Vec<(f64, f64)>,
}

/// Runs a task on a system.
///
/// # Errors
///
/// [`EvalError::NotCausal`] for a system that does not continue texts; [`EvalError::Data`] for questions that cannot be read;
/// [`EvalError::Engine`] for texts that the model cannot take.
pub fn run_task(system: &System, task: &LanguageTask, options: TaskOptions) -> Result<TaskReport, EvalError> {
    let pipeline = system.pipeline();
    if pipeline.task != Task::CausalLm {
        return Err(EvalError::NotCausal(pipeline.task.name(), "a task of texts"));
    }
    let questions = questions(task, options.limit, &pipeline.limits)?;
    let judged = match &task.kind {
        TaskKind::Generate { max_new_tokens, stop, strip, ignored, .. } => {
            let prompts: Vec<Record> = questions.iter().map(|question| question.record(None)).collect();
            let answers = system.complete(&prompts, *max_new_tokens)?;
            let judge = |(question, answer): (&Question, s3t_engine::Completion)| {
                generated(task, question, &until(&answer.text, stop), *strip, *ignored)
            };
            questions.iter().zip(answers).map(judge).collect()
        }
        TaskKind::Choice { .. } => {
            let of_question = |question: &Question| -> Vec<Record> {
                question.answers.iter().map(|answer| question.record(Some(answer))).collect()
            };
            let records: Vec<Record> = questions.iter().flat_map(of_question).collect();
            let mut likelihoods = system.likelihoods(&records, Cutting::AsOneText)?.into_iter();
            let judge = |question: &Question| {
                let own: Vec<f64> =
                    likelihoods.by_ref().take(question.answers.len()).map(|of| of.log_probability()).collect();
                of_choice(task, question, own)
            };
            questions.iter().map(judge).collect()
        }
        TaskKind::LogLikelihood { .. } => {
            let records: Vec<Record> =
                questions.iter().map(|question| question.record(Some(question.target()))).collect();
            let likelihoods = system.likelihoods(&records, Cutting::AsOneText)?;
            questions
                .iter()
                .zip(&likelihoods)
                .map(|(question, likelihood)| measured(task, question, likelihood))
                .collect()
        }
    };
    Ok(report(task, judged, options))
}

/// A text up to the first of the stop texts in it.
fn until(text: &str, stop: &[String]) -> String {
    let end = stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
    text[..end.unwrap_or(text.len())].to_owned()
}

fn truth(value: bool) -> (f64, f64) {
    (f64::from(u8::from(value)), 1.0)
}

fn generated(task: &LanguageTask, question: &Question, answer: &str, strip: bool, ignored: Ignored) -> Judged {
    let (answer, target) = if strip { (answer.trim(), question.target().trim()) } else { (answer, question.target()) };
    let value = |metric: &TaskMetric| match metric {
        TaskMetric::RougeL => (rouge_l(target, answer).f_measure, 1.0),
        _ => truth(exact_match(target, answer, ignored)),
    };
    Judged {
        values: task.metrics.iter().map(value).collect(),
        sample: Sample {
            id: question.id.to_string(),
            answer: Some(answer.to_owned()),
            target: target.to_owned(),
            log_probabilities: Vec::new(),
        },
    }
}

fn of_choice(task: &LanguageTask, question: &Question, log_probabilities: Vec<f64>) -> Judged {
    let pairs = question.answers.iter().zip(&log_probabilities);
    let choices: Vec<Choice<'_>> =
        pairs.map(|(text, log_probability)| Choice { text, log_probability: *log_probability }).collect();
    let value = |metric: &TaskMetric| {
        let lengths = match metric {
            TaskMetric::AccNorm => Lengths::Characters,
            TaskMetric::AccBytes => Lengths::Bytes,
            _ => Lengths::Whole,
        };
        truth(chosen(&choices, lengths) == Some(question.right))
    };
    let likeliest = chosen(&choices, Lengths::Whole);
    Judged {
        values: task.metrics.iter().map(value).collect(),
        sample: Sample {
            id: question.id.to_string(),
            answer: likeliest.map(|at| question.answers[at].clone()),
            target: question.target().to_owned(),
            log_probabilities,
        },
    }
}

fn measured(task: &LanguageTask, question: &Question, likelihood: &Likelihood) -> Judged {
    let (target, total) = (question.target(), likelihood.log_probability());
    let tokens = likelihood.tokens.len() as f64;
    let value = |metric: &TaskMetric| match metric {
        TaskMetric::TokenPerplexity => (total, tokens),
        TaskMetric::WordPerplexity => (total, words(target) as f64),
        TaskMetric::BytePerplexity | TaskMetric::BitsPerByte => (total, bytes(target) as f64),
        TaskMetric::TokenAccuracy => (likelihood.tokens.iter().filter(|token| token.predicted).count() as f64, tokens),
        TaskMetric::Perplexity => (total, 1.0),
        _ => truth(likelihood.predicted()),
    };
    Judged {
        values: task.metrics.iter().map(value).collect(),
        sample: Sample {
            id: question.id.to_string(),
            answer: None,
            target: target.to_owned(),
            log_probabilities: vec![total],
        },
    }
}

fn report(task: &LanguageTask, judged: Vec<Judged>, options: TaskOptions) -> TaskReport {
    let score = |(at, metric): (usize, &TaskMetric)| {
        let values: Vec<(f64, f64)> = judged.iter().map(|question| question.values[at]).collect();
        let estimate = ratio(&values, metric.scale())?;
        Some(TaskScore { metric: *metric, value: estimate.value, standard_error: estimate.standard_error })
    };
    TaskReport {
        name: task.name.clone(),
        kind: task.kind_name(),
        records: judged.len(),
        few_shot: task.few_shot.as_ref().map_or(0, |few_shot| few_shot.count),
        scores: task.metrics.iter().enumerate().filter_map(score).collect(),
        samples: if options.samples {
            judged.into_iter().map(|question| question.sample).collect()
        } else {
            Vec::new()
        },
    }
}
