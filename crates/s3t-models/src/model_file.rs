//! The `config.json` of a base model, with the options of loading it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use s3t_core::Limits;
use s3t_core::limits::read_text_at_most;
use s3t_peft::NamedTensors;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::family::{Classes, ModelFamily};
use crate::pictures::{PictureShape, Preprocessing, read_preprocessing};
use crate::weights::Loader;
use crate::{FieldError, HeadLayout, ModelError, OwnHead, family, fields, head_outputs};

/// The options of loading a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOptions {
    /// The largest number of tokens of a text: longer texts are cut, prompts that leave no room for a response are refused. `None`
    /// takes as many tokens as the model has positions for, and refuses longer texts.
    pub max_tokens: Option<usize>,
    /// The limits of reading.
    pub limits: Limits,
    /// Fields of the model's files that are passed over although they are refused or unknown.
    pub accept_fields: Vec<String>,
}

/// A model's folder with its `config.json`.
pub struct ModelFile {
    directory: PathBuf,
    fields: Map<String, Value>,
    /// True if a classification head in the file is for whole records: not for tokens, spans or choices.
    takes_head: bool,
    /// The number of outputs that `id2label` names.
    outputs: Option<usize>,
    own_head: OwnHead,
    options: LoadOptions,
}

impl ModelFile {
    /// Reads the `config.json` of a folder, finds its family and checks its fields by the family's table.
    pub(crate) fn read(directory: &Path, options: &LoadOptions) -> Result<(Self, &'static ModelFamily), ModelError> {
        let path = directory.join("config.json");
        let fields: Map<String, Value> = read_json(&path, &options.limits)?;
        let refuse = |error: FieldError| ModelError::Field { path: path.clone(), error };
        let accepts = |field: &str| options.accept_fields.iter().any(|name| name == field);
        let adapter = directory.join("adapter_config.json");
        if adapter.exists() && !accepts("adapter_config.json") {
            let problem = "an adapter stands in the model's folder, where transformers would load it with the model; move it to \
                           another folder, for `--adapter`";
            return Err(ModelError::Config { path: adapter, problem: problem.into() });
        }
        let family = family::find(&fields).map_err(|problem| ModelError::Config { path: path.clone(), problem })?;
        family.fields.check(&fields, &options.accept_fields).map_err(refuse)?;
        let takes_head = accepts("architectures") || takes_head(&fields, &family.classes).map_err(refuse)?;
        let (labels, outputs) = labels(&fields).map_err(refuse)?;
        let problem = fields.get("problem_type").and_then(Value::as_str).map(str::to_owned);
        let left_aside = (!takes_head).then(|| fields.get("architectures").map(fields::shown)).flatten();
        let own_head = OwnHead { labels, problem, left_aside };
        let options = options.clone();
        Ok((Self { directory: directory.into(), fields, takes_head, outputs, own_head, options }, family))
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All fields of `config.json`.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The options.
    pub fn options(&self) -> &LoadOptions {
        &self.options
    }

    pub(crate) fn own_head(&self) -> &OwnHead {
        &self.own_head
    }

    /// The error of a field of `config.json`.
    pub fn refuse(&self, error: FieldError) -> ModelError {
        ModelError::Field { path: self.directory.join("config.json"), error }
    }

    /// The fields that a family reads.
    ///
    /// # Errors
    ///
    /// [`ModelError::Field`] or [`ModelError::Config`] for a missing field or one of another type.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, ModelError> {
        self.parse_fields(self.fields.clone())
    }

    /// As [`parse`](Self::parse), from fields that the family brought into another form.
    ///
    /// # Errors
    ///
    /// The errors of [`parse`](Self::parse).
    pub fn parse_fields<T: serde::de::DeserializeOwned>(&self, fields: Map<String, Value>) -> Result<T, ModelError> {
        serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
            let field = error.path().to_string();
            let path = self.directory.join("config.json");
            let problem = error.inner().to_string();
            let of_field = if field == "." { String::new() } else { format!("`{field}`: ") };
            ModelError::Config { path, problem: format!("{of_field}{problem}") }
        })
    }

    /// The image processor of the folder, for pictures of this shape.
    ///
    /// # Errors
    ///
    /// [`ModelError`] naming the file and the field.
    pub fn preprocessing(&self, shape: PictureShape) -> Result<Preprocessing, ModelError> {
        read_preprocessing(&self.directory, shape)
    }

    /// Takes the head out of the weights, if it is one of this project's tasks.
    pub(crate) fn head(
        &self,
        loader: &mut Loader<'_>,
        layout: HeadLayout,
        hidden: usize,
    ) -> Result<Option<NamedTensors>, ModelError> {
        if !self.takes_head {
            return Ok(None);
        }
        let head = loader.classifier(layout, hidden)?;
        let rows = head.as_ref().map_or(0, head_outputs);
        let counted = self.fields.get("num_labels").and_then(Value::as_u64).map(|outputs| outputs as usize);
        for (field, outputs) in [("num_labels", counted), ("id2label", self.outputs)] {
            if let Some(outputs) = outputs.filter(|outputs| head.is_some() && *outputs != rows) {
                let weight = format!("`{}.weight`", layout.output);
                let problem = format!("says {outputs} outputs, but {weight} in the weights has {rows}");
                return Err(self.refuse(FieldError::new(field, problem)));
            }
        }
        Ok(head)
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
        let value = fields::shown(&fields["architectures"]);
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
        Some(other) => return Err(refuse(format!("is {}, not a name for each output", fields::shown(other)))),
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

/// Reads a JSON file of a model or adapter, within the limits.
///
/// # Errors
///
/// [`ModelError::Read`], [`ModelError::Config`].
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, limits: &Limits) -> Result<T, ModelError> {
    let read = File::open(path).and_then(|file| read_text_at_most(file, Limits::megabytes(limits.json_mb)));
    let text = read.map_err(|cause| ModelError::Read { path: path.into(), cause })?;
    let refuse = |problem: String| ModelError::Config { path: path.into(), problem };
    limits.check_json(text.as_bytes()).map_err(refuse)?;
    serde_json::from_str(&text).map_err(|error| refuse(format!("not the expected JSON: {error}")))
}
