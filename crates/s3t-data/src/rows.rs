//! Rows of a table or of JSON lines, and the records made of them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use s3t_core::ids::text_of_file;
use s3t_core::limits::shown;
use s3t_core::registry::unknown;
use s3t_core::spelling::{Clash, Spellings, Visible};
use s3t_core::{Limits, Payload, Record, RecordId, SubjectId, Target, Task};
use serde_json::{Map, Value};

use crate::{DataError, Labels, Targets, input};

/// One row: its values by column, and its line.
pub(crate) struct Row {
    pub(crate) line: u64,
    values: Map<String, Value>,
}

/// Takes one row after the other: only one is in memory.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(Row) -> Result<(), DataError>;

/// Visits the rows of a CSV file with a header. All values are text.
pub(crate) fn each_csv(path: &Path, limits: &Limits, visit: Visit<'_>) -> Result<(), DataError> {
    let text = input::text(path, limits)?;
    let text = text_of_file(&text);
    if let Some(line) = unterminated_quote(text) {
        return Err(DataError::line(path, line, "opens a quote that is never closed"));
    }
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let mut lines = Lines::new(text);
    let refuse = |error: &csv::Error, lines: &mut Lines<'_>| match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let line = error.position().map_or(1, |position| lines.of(position.byte()));
            DataError::line(path, line, format!("has {len} fields, but the header has {expected_len}"))
        }
        _ => {
            let line = error.position().map_or(1, |position| lines.of(position.byte()));
            DataError::line(path, line, error.to_string())
        }
    };
    let header = reader.headers().map_err(|error| refuse(&error, &mut lines))?.clone();
    input::check_columns(header.len(), limits).map_err(|problem| DataError::line(path, 1, problem))?;
    let mut seen = HashSet::with_capacity(header.len());
    if let Some(twice) = header.iter().find(|name| !seen.insert(*name)) {
        return Err(DataError::line(path, 1, format!("names the column `{}` twice", shown(twice))));
    }
    drop(seen);
    let (mut record, mut count) = (csv::StringRecord::new(), 0);
    while reader.read_record(&mut record).map_err(|error| refuse(&error, &mut lines))? {
        let line = record.position().map_or(0, |position| lines.of(position.byte()));
        count += 1;
        input::check_line(record.as_slice().len(), limits)
            .and_then(|()| input::check_records(count, limits))
            .map_err(|problem| DataError::line(path, line, problem))?;
        let values = header.iter().zip(&record).map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        visit(Row { line, values })?;
    }
    if count == 0 {
        return Err(DataError::file(path, "has no records; a CSV file has a header line and one line a record"));
    }
    Ok(())
}

/// Lines of a text by position, counted as an editor does.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0, line: 1 }
    }

    /// The line of a record that starts at this byte, or after the line breaks there: the reader leaves half of `\r\n` to
    /// the next record. Positions must rise.
    fn of(&mut self, byte: u64) -> u64 {
        while let Some(next) = self.bytes.get(self.at) {
            let passes = (self.at as u64) < byte || matches!(next, b'\r' | b'\n');
            if !passes {
                break;
            }
            self.line += u64::from(*next == b'\n');
            self.at += 1;
        }
        self.line
    }
}

/// The line of a quote that opens a field and is not closed before the end of the text.
fn unterminated_quote(text: &str) -> Option<u64> {
    let (mut open, mut field_starts, mut line) = (None, true, 1);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, open) {
            // Two quotes in a quoted field are one quote of its text.
            (b'"', Some(_)) if bytes.peek() == Some(&b'"') => drop(bytes.next()),
            (b'"', Some(_)) => open = None,
            (b'"', None) if field_starts => open = Some(line),
            _ => {}
        }
        field_starts = matches!(byte, b',' | b'\n' | b'\r') && open.is_none();
        line += u64::from(byte == b'\n');
    }
    open
}

/// Visits the objects of a JSON lines file. Blank lines are passed over.
pub(crate) fn each_jsonl(path: &Path, limits: &Limits, visit: Visit<'_>) -> Result<(), DataError> {
    let mut count = 0;
    input::each_line(path, limits, |line, text| {
        if text.trim().is_empty() {
            return Ok(());
        }
        count += 1;
        input::check_records(count, limits)
            .and_then(|()| limits.check_json(text.as_bytes()))
            .map_err(|problem| DataError::line(path, line, problem))?;
        match serde_json::from_str(text) {
            Ok(Value::Object(values)) => visit(Row { line, values }),
            Ok(_) => Err(DataError::line(path, line, "is not a JSON object; give one object a line")),
            Err(error) => {
                let problem = format!("is not valid JSON at column {}: {error}", error.column());
                Err(DataError::line(path, line, problem))
            }
        }
    })?;
    if count == 0 {
        return Err(DataError::file(path, "has no records; give one JSON object a line"));
    }
    Ok(())
}

impl Row {
    /// The names of its columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A value that must be there.
    pub(crate) fn required(&self, column: &str) -> Result<&Value, String> {
        self.values.get(column).ok_or_else(|| {
            let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
            unknown(&format!("column `{}`", shown(column)), column, &known)
        })
    }

    /// A text that must be there.
    pub(crate) fn text(&self, column: &str) -> Result<&str, String> {
        let value = self.required(column)?;
        value.as_str().ok_or_else(|| format!("`{column}` is {}, not a text", quoted(value)))
    }

    /// An id: a text, or in JSON a whole number.
    pub(crate) fn id(&self, column: &str) -> Result<Cow<'_, str>, String> {
        match self.required(column)? {
            Value::String(text) => Ok(text.into()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Ok(number.to_string().into()),
            other => Err(format!("`{column}` is {}, not an id", quoted(other))),
        }
    }

    /// The target of the row.
    fn target(&self, column: &str, targets: &Targets<'_>) -> Result<Target, String> {
        let value = self.required(column)?;
        match targets.task {
            Task::Classification { .. } => Ok(Target::Class(class(column, value, targets.labels)?)),
            Task::MultiLabel { .. } => Ok(Target::Classes(classes(column, value, targets.labels)?)),
            Task::Regression => {
                let number = match value {
                    Value::String(text) => text.trim().parse().ok(),
                    other => other.as_f64(),
                };
                let number = number.map(|number: f64| number as f32).filter(|number| number.is_finite());
                Ok(Target::Value(
                    number.ok_or_else(|| format!("`{column}` is {}, not a finite number", quoted(value)))?,
                ))
            }
            Task::CausalLm => match self.short_text(column, &targets.limits)? {
                "" => Err(format!("`{column}` is empty; a model of texts learns nothing from it")),
                text => Ok(Target::Text(text.to_owned())),
            },
        }
    }

    /// The text that a template makes of the row: `{column}` stands for the column's text, `{{` and `}}` for braces.
    pub(crate) fn filled(&self, template: &Template, limits: &Limits) -> Result<String, String> {
        let mut filled = String::new();
        for part in &template.0 {
            let text = match part {
                TemplatePart::Text(text) => text,
                TemplatePart::Column(column) => self.text(column)?,
            };
            limits.check_text(filled.len() + text.len())?;
            filled.push_str(text);
        }
        Ok(filled)
    }

    /// Two texts that must be there and are not too long.
    pub(crate) fn text_pair(&self, first: &str, second: &str, limits: &Limits) -> Result<Payload, String> {
        Ok(Payload::TextPair(self.short_text(first, limits)?.to_owned(), self.short_text(second, limits)?.to_owned()))
    }

    /// A text that must be there and is not too long.
    pub(crate) fn short_text(&self, column: &str, limits: &Limits) -> Result<&str, String> {
        let text = self.text(column)?;
        limits.check_text(text.len())?;
        Ok(text)
    }
}

/// A value as a message quotes it.
pub(crate) fn quoted(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() > 8 => format!("a list of {} values", items.len()),
        Value::Object(fields) if fields.len() > 8 => format!("an object of {} keys", fields.len()),
        other => shown(&other.to_string()),
    }
}

/// A prompt template, cut into its parts.
pub(crate) struct Template(Vec<TemplatePart>);

enum TemplatePart {
    Text(String),
    Column(String),
}

impl Template {
    /// Reads a template: text with `{column}` in it, and `{{` or `}}` for a brace.
    pub(crate) fn parse(template: &str) -> Result<Self, String> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if rest.starts_with(brace) {
                text.push_str(brace);
                rest = &rest[1..];
                continue;
            }
            let end = if brace == "{" { rest.find('}') } else { None };
            let Some(end) = end else {
                return Err(format!("has a `{brace}` without its partner; write `{brace}{brace}` for a brace"));
            };
            parts.push(TemplatePart::Text(std::mem::take(&mut text)));
            parts.push(TemplatePart::Column(rest[..end].to_owned()));
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        parts.push(TemplatePart::Text(text));
        if parts.iter().any(|part| matches!(part, TemplatePart::Column(_))) {
            Ok(Self(parts))
        } else {
            Err("names no column; write `{column}` where a column's text goes".into())
        }
    }
}

/// The class indices of a list, or of a text with names separated by `|`; empty for none.
fn classes(column: &str, value: &Value, labels: &Labels) -> Result<Vec<u32>, String> {
    let mut classes = match value {
        Value::Array(items) => {
            let found = items.iter().map(|item| class(column, item, labels)).collect::<Result<Vec<_>, _>>()?;
            check_no_switches(column, items, &found, labels)?;
            found
        }
        Value::String(text) => {
            let names = text.split('|').map(str::trim).filter(|name| !name.is_empty());
            names.map(|name| labels.index_of(name)).collect::<Result<_, _>>()?
        }
        other => return Err(format!("`{column}` is {}, not a list of labels", quoted(other))),
    };
    classes.sort_unstable();
    classes.dedup();
    Ok(classes)
}

/// Refuses a list that may say for each class whether it is there, by 0 and 1: as a list of labels it would name others.
fn check_no_switches(column: &str, items: &[Value], found: &[u32], labels: &Labels) -> Result<(), String> {
    let switch = |item: &Value| item.as_u64().is_some_and(|number| number < 2);
    let twice = items.iter().all(Value::is_number) && (1..found.len()).any(|at| found[..at].contains(&found[at]));
    if twice || (items.len() == labels.len() && items.iter().all(switch)) {
        let list = Value::from(items.to_vec());
        return Err(format!(
            "`{column}` is {list}, which may be 0 or 1 for each class or a list of labels; write the names of the record's \
             classes as texts"
        ));
    }
    Ok(())
}

/// A class index: a name, or in JSON a number too.
fn class(column: &str, value: &Value, labels: &Labels) -> Result<u32, String> {
    match value {
        Value::Number(number) => labels.of_number(column, number),
        Value::Bool(value) => labels.of_truth(column, *value),
        Value::String(name) => labels.index_of(name),
        other => Err(format!("`{column}` is {}, not a label; write the name of a class as a text", quoted(other))),
    }
}

/// The columns of content, target, id and subject.
pub(crate) struct Columns<'a> {
    pub(crate) label: &'a str,
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
                target: row.target(columns.label, targets)?,
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
