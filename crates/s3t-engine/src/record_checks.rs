//! Checks of records against the base model, the task and the pipeline, before anything is written.

use std::collections::BTreeSet;

use s3t_core::Record;
use s3t_core::spelling::{Spellings, beside, comparison_form};
use s3t_models::Backbone;

use crate::error::EngineError;
use crate::pipeline::Pipeline;
use crate::settings::PriorSource;

/// Checks that the model takes the records, and that the task takes their targets; how many texts a limit of the pipeline cuts.
pub(crate) fn check_records<'a>(
    pipeline: &Pipeline,
    backbone: &Backbone,
    records: impl IntoIterator<Item = &'a Record>,
) -> Result<usize, EngineError> {
    let task = pipeline.task;
    let mut cut = 0;
    for record in records {
        if !task.takes(&record.target) {
            let (record, task, found) = (record.id.clone(), task.name(), record.target.describe());
            return Err(EngineError::WrongTarget { record, task, found });
        }
        cut += usize::from(backbone.prepare(record)?.cut > 0);
    }
    Ok(cut)
}

/// Checks that the subjects whose probabilities are given are spelt as those of the records are.
pub(crate) fn check_prior(pipeline: &Pipeline, records: &[Record]) -> Result<(), EngineError> {
    let PriorSource::Subjects(subjects) = &pipeline.prior else { return Ok(()) };
    let mut seen = Spellings::new("subject");
    let of_records = records.iter().filter_map(|record| record.subject.as_ref());
    for subject in of_records.chain(subjects.iter().map(|(subject, _)| subject)) {
        seen.add(subject.as_str(), ()).map_err(|clash| {
            let problem = format!("`sequences.prior`: {}", clash.problem(|()| " of the records".to_owned()));
            pipeline.refuse("sequences.prior", problem)
        })?;
    }
    Ok(())
}

/// Checks that the records and subjects that `s3t run` is to delete are among the training records.
pub(crate) fn check_named(pipeline: &Pipeline, records: &[Record]) -> Result<(), EngineError> {
    let ids: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let subjects: BTreeSet<&str> =
        records.iter().filter_map(|record| Some(record.subject.as_ref()?.as_str())).collect();
    let named = [
        ("delete_records", "record", &pipeline.run.delete_records, ids),
        ("delete_subjects", "subject", &pipeline.run.delete_subjects, subjects),
    ];
    for (key, what, names, known) in named {
        if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
            let form = comparison_form(name);
            let others = known.iter().filter(|other| comparison_form(other) == form).map(|other| (*other).to_owned());
            let others: Vec<String> = others.collect();
            let (name, list) = beside(name, &others);
            let hint = if others.is_empty() { String::new() } else { format!("; {list} is, which looks the same") };
            let problem = format!("`run.{key}` names the {what} `{name}`, which is not in the training data{hint}");
            return Err(pipeline.refuse(&format!("run.{key}"), problem));
        }
    }
    Ok(())
}
