//! The head that came with a model: by the class that its file was saved from, by its `config.json`, and in its weights.

use std::collections::BTreeMap;

use s3t_peft::NamedTensors;
use serde_json::{Map, Value};

use crate::fields::shown;
use crate::model_file::ModelFile;
use crate::weights::Loader;
use crate::{FieldError, HeadLayout, ModelError, head_outputs};

/// The classes of a family's models in Python's library.
#[derive(Debug, Clone, Copy)]
pub struct Classes {
    /// Classes with a head for whole records.
    pub heads: &'static [&'static str],
    /// Classes without a head, or with one of another task; the first is the bare model.
    pub others: &'static [&'static str],
}

impl Classes {
    /// All classes, those with a head for whole records first.
    pub fn all(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.heads.iter().chain(self.others).copied()
    }
}

/// The head that came with a model, by its `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnHead {
    /// The names of its outputs, in order; empty if they have no names but their numbers (`LABEL_0`).
    pub labels: Vec<String>,
    /// The kind of problem: `regression`, `single_label_classification` or `multi_label_classification`.
    pub problem: Option<String>,
    /// The classes of Python that the file was saved from, if their head is of another task and left aside.
    pub left_aside: Option<String>,
}

/// The fields of `config.json` that are about the head in the file.
pub(crate) struct HeadFields {
    own: OwnHead,
    /// True if a classification head in the file is for whole records: not for tokens, spans or choices.
    takes_head: bool,
    /// The number of outputs that `num_labels` says.
    counted: Option<usize>,
    /// The number of outputs that `id2label` names.
    named: Option<usize>,
}

impl HeadFields {
    /// Reads the fields of a model whose family has these classes.
    pub(crate) fn read(file: &ModelFile, classes: &Classes) -> Result<Self, ModelError> {
        let refuse = |error: FieldError| file.refuse(error);
        let fields = file.fields();
        let takes_head = file.accepts("architectures") || takes_head(fields, classes).map_err(refuse)?;
        let (labels, named) = labels(fields).map_err(refuse)?;
        let problem = fields.get("problem_type").and_then(Value::as_str).map(str::to_owned);
        let left_aside = (!takes_head).then(|| fields.get("architectures").map(shown)).flatten();
        let counted = fields.get("num_labels").and_then(Value::as_u64).map(|outputs| outputs as usize);
        Ok(Self { own: OwnHead { labels, problem, left_aside }, takes_head, counted, named })
    }

    /// Takes the head out of the weights, if it is one of this project's tasks.
    pub(crate) fn take(
        &self,
        file: &ModelFile,
        loader: &mut Loader<'_>,
        layout: HeadLayout,
        hidden: usize,
    ) -> Result<Option<NamedTensors>, ModelError> {
        if !self.takes_head {
            return Ok(None);
        }
        let head = loader.classifier(layout, hidden)?;
        let rows = head.as_ref().map_or(0, head_outputs);
        for (field, outputs) in [("num_labels", self.counted), ("id2label", self.named)] {
            if let Some(outputs) = outputs.filter(|outputs| head.is_some() && *outputs != rows) {
                let weight = format!("`{}.weight`", layout.output);
                let problem = format!("says {outputs} outputs, but {weight} in the weights has {rows}");
                return Err(file.refuse(FieldError::new(field, problem)));
            }
        }
        Ok(head)
    }

    /// The head, by the fields.
    pub(crate) fn into_own(self) -> OwnHead {
        self.own
    }
}

/// True if a head in the file is one for whole records, by the class that the file was saved from.
fn takes_head(fields: &Map<String, Value>, classes: &Classes) -> Result<bool, FieldError> {
    let named: Vec<&str> = match fields.get("architectures") {
        None | Some(Value::Null) => return Ok(true),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().unwrap_or_default()).collect(),
        Some(_) => vec![""],
    };
    if !named.iter().all(|name| classes.all().any(|known| known == *name)) {
        let value = shown(&fields["architectures"]);
        let known: Vec<&str> = classes.all().collect();
        let problem = format!("is {value}; known of this model type: {}", known.join(", "));
        return Err(FieldError::new("architectures", problem));
    }
    Ok(named.iter().all(|name| classes.heads.contains(name)))
}

/// The names of the head's outputs, empty if they are numbers, and the number of names.
fn labels(fields: &Map<String, Value>) -> Result<(Vec<String>, Option<usize>), FieldError> {
    let refuse = |problem: String| FieldError::new("id2label", problem);
    let names = match fields.get("id2label") {
        None | Some(Value::Null) => return Ok((Vec::new(), None)),
        Some(Value::Object(names)) => names,
        Some(other) => return Err(refuse(format!("is {}, not a name for each output", shown(other)))),
    };
    let mut by_number: BTreeMap<usize, String> = BTreeMap::new();
    for (number, name) in names {
        let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        let number = number.parse().map_err(|_| refuse(format!("has the key {number:?}, not an output's number")))?;
        by_number.insert(number, name);
    }
    if by_number.keys().copied().ne(0..names.len()) {
        return Err(refuse(format!("does not name the outputs 0 to {} once each", names.len().saturating_sub(1))));
    }
    let generic = by_number.iter().all(|(number, name)| *name == format!("LABEL_{number}"));
    let labels = if generic { Vec::new() } else { by_number.into_values().collect() };
    Ok((labels, Some(names.len())))
}
