//! Rows of a table or of JSON lines, and the records made of them.

mod reading;
mod row;
mod target;
mod template;
mod unique;

use std::path::Path;

use s3t_core::spelling::{Clash, Spellings, Visible};
use s3t_core::{Limits, Payload, Record, RecordId, SubjectId, Target};

use crate::{DataError, Targets};

pub(crate) use reading::{Visit, each_csv, each_jsonl};
pub use row::Row;
pub(crate) use row::quoted;
pub use template::Template;

/// Reads a file with one JSON object a line; blank lines are passed over.
///
/// # Errors
///
/// [`DataError`] naming the first line that is not an object, or a file without any.
pub fn read_rows(path: &Path, limits: &Limits) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    each_jsonl(path, limits, &mut |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// The columns of content, target, id and subject.
pub(crate) struct Columns<'a> {
    /// `None` where the content says what is learnt.
    pub(crate) label: Option<&'a str>,
    pub(crate) id: Option<&'a str>,
    pub(crate) subject: Option<&'a str>,
}

/// Makes a record of each row that `rows` visits; `payload` reads its content, `default_id` names rows without an id column.
pub(crate) fn records(
    path: &Path,
    rows: impl FnOnce(Visit<'_>) -> Result<(), DataError>,
    columns: &Columns<'_>,
    targets: &Targets<'_>,
    default_id: impl Fn(usize, &Row) -> Result<String, String>,
    mut payload: impl FnMut(&Row) -> Result<Payload, String>,
) -> Result<Vec<Record>, DataError> {
    let mut seen = Seen { ids: Spellings::new("record"), subjects: Spellings::new("subject") };
    let mut records: Vec<Record> = Vec::new();
    rows(&mut |row| {
        let ordinal = records.len();
        let mut make = || -> Result<Record, String> {
            let id = match columns.id {
                Some(column) => row.id(column)?,
                None => default_id(ordinal, &row)?.into(),
            };
            let subject = match columns.subject {
                Some(column) if row.required(column)?.is_null() => None,
                Some(column) => Some(row.id(column)?).filter(|subject| !subject.is_empty()),
                None => None,
            };
            seen.add(&id, subject.as_deref(), row.line)?;
            Ok(Record {
                id: RecordId::new(&*id).map_err(|error| error.to_string())?,
                subject: subject.as_deref().map(SubjectId::new).transpose().map_err(|error| error.to_string())?,
                target: match columns.label {
                    Some(label) => target::target(&row, label, targets)?,
                    None => Target::Turns,
                },
                ordinal: ordinal as u64,
                payload: payload(&row)?,
            })
        };
        records.push(make().map_err(|problem| DataError::line(path, row.line, problem))?);
        Ok(())
    })?;
    Ok(records)
}

/// The ids of a file, by the lines where they were read first.
struct Seen {
    ids: Spellings<'static, u64>,
    subjects: Spellings<'static, u64>,
}

impl Seen {
    fn add(&mut self, id: &str, subject: Option<&str>, line: u64) -> Result<(), String> {
        if let Some(first) = self.ids.add(id.to_owned(), line).map_err(|clash| at_line(&clash))? {
            let shown = Visible(id);
            return Err(format!("record id `{shown}` is used in line {first} already; ids must be unique"));
        }
        let Some(subject) = subject else { return Ok(()) };
        self.subjects.add(subject.to_owned(), line).map(drop).map_err(|clash| at_line(&clash))
    }
}

/// The problem with an id that was read before in another spelling, at a line.
pub(crate) fn at_line(clash: &Clash<u64>) -> String {
    clash.problem(|line| format!(" in line {line}"))
}

/// The columns or fields from which the content of a row is read.
pub(crate) enum Content<'a> {
    Text(&'a str),
    Pair(&'a str, &'a str),
    Template(Template),
    Features(&'a [String]),
    Chat(&'a str),
}

impl Content<'_> {
    /// The content of a row; `numbers` reads the columns of features.
    pub(crate) fn payload(
        &self,
        row: &Row,
        limits: &Limits,
        numbers: impl FnOnce(&[String]) -> Result<Vec<f32>, String>,
    ) -> Result<Payload, String> {
        match self {
            Self::Text(column) => Ok(Payload::Text(row.short_text(column, limits)?.to_owned())),
            Self::Pair(first, second) => row.text_pair(first, second, limits),
            Self::Template(template) => Ok(Payload::Text(template.filled(row, limits)?)),
            Self::Features(columns) => Ok(Payload::Features(numbers(columns)?)),
            Self::Chat(column) => row.answered_chat(column, limits),
        }
    }
}

/// Exactly one of `text`, `template` and `features` says where the content is.
pub(crate) fn content<'a>(
    path: &Path,
    text: Option<&'a str>,
    text_pair: Option<&'a str>,
    template: Option<&str>,
    features: Option<&'a [String]>,
) -> Result<Content<'a>, DataError> {
    if text_pair.is_some() && text.is_none() {
        return Err(DataError::file(path, "has `text_pair`, the second text of a pair, without `text`, the first"));
    }
    match (text, template, features) {
        (Some(text), None, None) => Ok(text_pair.map_or(Content::Text(text), |second| Content::Pair(text, second))),
        (None, Some(template), None) => {
            let parsed = Template::parse(template);
            Ok(Content::Template(parsed.map_err(|problem| DataError::file(path, format!("`template` {problem}")))?))
        }
        (None, None, Some(features)) if !features.is_empty() => Ok(Content::Features(features)),
        _ => {
            let problem = "needs exactly one of `text`, `template` and `features`, to say where the content is";
            Err(DataError::file(path, problem))
        }
    }
}
