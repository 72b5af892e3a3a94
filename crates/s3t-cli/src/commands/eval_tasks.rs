//! `s3t eval --task`.

use s3t::api::{Sample, TaskReport, TaskRequest, TaskScore};
use s3t::core::wording::with_commas;

use crate::arguments::EvalArgs;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, table};

pub(crate) fn eval_tasks(args: EvalArgs, output: &mut Output) -> Outcome {
    let EvalArgs { pipeline, task, limit, samples, memorisation: _ } = args;
    let request = TaskRequest { pipeline: pipeline.pipeline, tasks: task, limit, samples };
    let answer = s3t::api::run_tasks(&request)?;
    output.answer(&answer, || {
        show(&answer.tasks);
        answer.tasks.iter().filter(|task| !task.samples.is_empty()).for_each(show_samples);
    });
    Ok(code_of(&answer))
}

fn show(tasks: &[TaskReport]) {
    let row = |task: &TaskReport, at: usize, score: &TaskScore| {
        let first = |text: String| if at == 0 { text } else { String::new() };
        vec![
            first(task.name.clone()),
            first(task.kind.clone()),
            first(with_commas(task.records as u64)),
            first(with_commas(task.few_shot as u64)),
            score.metric.clone(),
            if score.higher_is_better { "up" } else { "down" }.to_owned(),
            format!("{:.4}", score.value),
            score.standard_error.map_or_else(String::new, |error| format!("{error:.4}")),
        ]
    };
    let rows =
        |task: &TaskReport| task.scores.iter().enumerate().map(|(at, score)| row(task, at, score)).collect::<Vec<_>>();
    let header = ["task", "kind", "questions", "few-shot", "measure", "better", "value", "standard error"];
    table(&header, tasks.iter().flat_map(rows).collect(), 2);
}

fn show_samples(task: &TaskReport) {
    let row = |sample: &Sample| {
        let answer = match (&sample.answer, sample.log_probabilities.first()) {
            (Some(answer), _) => format!("{answer:?}"),
            (None, Some(log_probability)) => format!("log-likelihood {log_probability:.3}"),
            (None, None) => String::new(),
        };
        vec![sample.id.clone(), format!("{:?}", sample.target), answer]
    };
    table(&[&task.name, "target", "answer"], task.samples.iter().map(row).collect(), 3);
}
