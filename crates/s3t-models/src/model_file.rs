//! The `config.json` of a base model, with the options of loading it.

use std::path::{Path, PathBuf};

use s3t_core::Limits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json_file::read_json;
use crate::pictures::{PictureShape, Preprocessing, read_preprocessing};
use crate::{FieldError, ModelError, Precision, WeightFormat};

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
    /// True if the records that are learnt from are chats: the model's chat template then makes their texts, and is part of its digest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chats: bool,
    /// The precision of the frozen linear layers: with [`Precision::Bf16`] their products have operands in bfloat16 and sums in single
    /// precision.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The form of the weights of every frozen linear layer but the language head. One other than [`WeightFormat::Full`] is part of the model's
    /// digest, and only the language head then has [`precision`](Self::precision).
    #[serde(default, skip_serializing_if = "WeightFormat::is_full")]
    pub weights: WeightFormat,
}

/// A model's folder with its `config.json`.
pub struct ModelFile {
    directory: PathBuf,
    fields: Map<String, Value>,
    options: LoadOptions,
}

impl ModelFile {
    /// Reads the `config.json` of a folder. Its fields are not checked yet.
    pub(crate) fn read(directory: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        let fields: Map<String, Value> = read_json(&directory.join("config.json"), &options.limits)?;
        let file = Self { directory: directory.into(), fields, options: options.clone() };
        let adapter = directory.join("adapter_config.json");
        if adapter.exists() && !file.accepts("adapter_config.json") {
            let problem = "an adapter stands in the model's folder, where transformers would load it with the model; move it to \
                           another folder, for `--adapter`";
            return Err(ModelError::Config { path: adapter, problem: problem.into() });
        }
        Ok(file)
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

    /// True if the user accepts a field, or a file, whatever it says.
    pub(crate) fn accepts(&self, name: &str) -> bool {
        self.options.accept_fields.iter().any(|accepted| accepted == name)
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
}
