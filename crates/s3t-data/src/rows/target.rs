//! The target of a row.

use s3t_core::{Target, Task};
use serde_json::Value;

use super::row::{Row, quoted};
use crate::{Labels, Targets};

/// The target of the row.
pub(super) fn target(row: &Row, column: &str, targets: &Targets<'_>) -> Result<Target, String> {
    let value = row.required(column)?;
    match targets.task {
        Task::Classification { .. } => Ok(Target::Class(class(column, value, targets.labels)?)),
        Task::MultiLabel { .. } => Ok(Target::Classes(classes(column, value, targets.labels)?)),
        Task::Regression => {
            let number = match value {
                Value::String(text) => text.trim().parse().ok(),
                other => other.as_f64(),
            };
            let number = number.map(|number: f64| number as f32).filter(|number| number.is_finite());
            Ok(Target::Value(number.ok_or_else(|| format!("`{column}` is {}, not a finite number", quoted(value)))?))
        }
        Task::CausalLm => match row.short_text(column, &targets.limits)? {
            "" => Err(format!("`{column}` is empty; a model of texts learns nothing from it")),
            text => Ok(Target::Text(text.to_owned())),
        },
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
