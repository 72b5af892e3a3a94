//! The questions of a task, made of the rows of its data.

use std::path::Path;

use s3t_core::{Limits, Payload, Record, RecordId, Target};
use s3t_data::{DataError, Row, Template, read_rows};

use super::{Choices, LanguageTask, TaskKind};
use crate::EvalError;

/// A question with its answers: the right one alone, or all of a choice.
pub(super) struct Question {
    pub(super) id: RecordId,
    /// The text that is continued, solved examples in front of it.
    pub(super) prompt: String,
    /// The texts that may follow.
    pub(super) answers: Vec<String>,
    /// The position of the right one.
    pub(super) right: usize,
    ordinal: u64,
}

impl Question {
    /// The text of the right answer.
    pub(super) fn target(&self) -> &str {
        &self.answers[self.right]
    }

    /// A record of the question, with an answer or without.
    pub(super) fn record(&self, answer: Option<&str>) -> Record {
        Record {
            id: self.id.clone(),
            subject: None,
            target: answer.map_or(Target::None, |answer| Target::Text(answer.to_owned())),
            ordinal: self.ordinal,
            payload: Payload::Text(self.prompt.clone()),
        }
    }
}

/// Reads the questions of a task, at most `limit` of them.
pub(super) fn questions(
    task: &LanguageTask,
    limit: Option<usize>,
    limits: &Limits,
) -> Result<Vec<Question>, EvalError> {
    let shots = match &task.few_shot {
        None => String::new(),
        Some(few_shot) => {
            let solved = of_file(task, &few_shot.file, "", few_shot.count, limits)?;
            if solved.len() < few_shot.count {
                let problem = format!("has {} examples, but `few_shot.count` is {}", solved.len(), few_shot.count);
                return Err(DataError::File { path: few_shot.file.clone(), problem }.into());
            }
            solved.iter().map(|shot| format!("{}{}{}", shot.prompt, shot.target(), few_shot.separator)).collect()
        }
    };
    of_file(task, &task.data, &shots, limit.unwrap_or(usize::MAX), limits)
}

fn of_file(
    task: &LanguageTask,
    path: &Path,
    shots: &str,
    count: usize,
    limits: &Limits,
) -> Result<Vec<Question>, EvalError> {
    let rows = read_rows(path, limits)?;
    let question = |(ordinal, row): (usize, &Row)| {
        let made = question(task, row, ordinal, shots, limits);
        made.map_err(|problem| DataError::Line { path: path.into(), line: row.line, problem }.into())
    };
    rows.iter().enumerate().take(count).map(question).collect()
}

fn question(task: &LanguageTask, row: &Row, ordinal: usize, shots: &str, limits: &Limits) -> Result<Question, String> {
    let id = match &task.id {
        Some(key) => row.id(key)?,
        None => format!("row-{ordinal}").into(),
    };
    let id = RecordId::new(id).map_err(|error| error.to_string())?;
    let filled = |template: &Template| template.filled(row, limits);
    let prompt = task.prompt.as_ref().map(filled).transpose()?.unwrap_or_default();
    let (answers, right) = match &task.kind {
        TaskKind::Generate { target, .. } | TaskKind::LogLikelihood { target } => (vec![filled(target)?], 0),
        TaskKind::Choice { choices, answer } => {
            let texts = match choices {
                Choices::Key(key) => row.texts(key)?,
                Choices::Templates(templates) => templates.iter().map(filled).collect::<Result<_, _>>()?,
            };
            let right = right(row, answer, &texts)?;
            (texts, right)
        }
    };
    if let Some(empty) = answers.iter().position(String::is_empty) {
        return Err(match task.kind {
            TaskKind::Choice { .. } => format!("choice {empty} is an empty text"),
            _ => "its target is an empty text".into(),
        });
    }
    Ok(Question { id, prompt: format!("{shots}{prompt}"), answers, right, ordinal: ordinal as u64 })
}

/// The position of the right choice: named by its text, or as a number from 0.
fn right(row: &Row, key: &str, choices: &[String]) -> Result<usize, String> {
    if choices.len() < 2 {
        return Err(format!("has {} choices; give at least 2", choices.len()));
    }
    let value = row.required(key)?;
    let found = match (value.as_str(), value.as_u64()) {
        (Some(text), _) => choices.iter().position(|choice| choice == text),
        (None, Some(position)) => usize::try_from(position).ok().filter(|position| *position < choices.len()),
        (None, None) => None,
    };
    found.ok_or_else(|| {
        format!(
            "`{key}` is neither one of the {} choices nor the position of one, 0 to {}",
            choices.len(),
            choices.len() - 1
        )
    })
}
