//! Reading a base model from a Hugging Face directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use s3t_core::limits::{read_text_at_most, shown};
use s3t_core::{Limits, PictureInput};
use s3t_peft::NamedTensors;
use serde_json::{Map, Value};

use crate::bert::Bert;
use crate::llama::Llama;
use crate::preprocessing::{Preprocessing, read_preprocessing};
use crate::vit::{Vit, VitConfig};
use crate::weights::Loader;
use crate::{Backbone, BackendError, HeadLayout, OwnHead, fields, head_outputs};

/// The model types that can be loaded.
const MODEL_TYPES: [&str; 4] = ["bert", "llama", "roberta", "vit"];

/// What a program may choose when it loads a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The most tokens of a text: what is longer is cut, prompts that leave no room for a response are refused. `None` takes
    /// what the model has positions for, and refuses what is longer.
    pub max_tokens: Option<usize>,
    /// The most that is read.
    pub limits: Limits,
    /// Fields of the model's files that are passed over although they are refused or unknown.
    pub accept_fields: Vec<String>,
}

/// The fields of a `config.json` that are not of one family: its head's task, and the names of the head's outputs.
pub(crate) struct ModelFile {
    /// The folder.
    pub(crate) directory: PathBuf,
    /// All fields.
    pub(crate) fields: Map<String, Value>,
    /// Whether a classification head in the file is one of this project's tasks: not of tokens, spans or choices.
    pub(crate) takes_head: bool,
    /// The number of outputs that `id2label` names.
    outputs: Option<usize>,
    pub(crate) own_head: OwnHead,
    pub(crate) options: LoadOptions,
}

/// The classes of a family's models: those with a head for whole records, and those whose head, if any, is of another task.
struct Classes {
    model_type: &'static str,
    heads: &'static [&'static str],
    others: &'static [&'static str],
}

const CLASSES: [Classes; 4] = [
    Classes {
        model_type: "bert",
        heads: &["BertForSequenceClassification"],
        others: &[
            "BertModel",
            "BertForMaskedLM",
            "BertForMultipleChoice",
            "BertForNextSentencePrediction",
            "BertForPreTraining",
            "BertForQuestionAnswering",
            "BertForTokenClassification",
            "BertLMHeadModel",
        ],
    },
    Classes {
        model_type: "roberta",
        heads: &["RobertaForSequenceClassification"],
        others: &[
            "RobertaModel",
            "RobertaForCausalLM",
            "RobertaForMaskedLM",
            "RobertaForMultipleChoice",
            "RobertaForQuestionAnswering",
            "RobertaForTokenClassification",
        ],
    },
    Classes {
        model_type: "llama",
        heads: &["LlamaForSequenceClassification"],
        others: &[
            "LlamaModel",
            "LLaMAForCausalLM",
            "LlamaForCausalLM",
            "LlamaForQuestionAnswering",
            "LlamaForTokenClassification",
        ],
    },
    Classes {
        model_type: "vit",
        heads: &["ViTForImageClassification"],
        others: &["ViTModel", "ViTForMaskedImageModeling"],
    },
];

/// The classes of Python's library that a model of this type may be of: those with a head for whole records first.
pub fn known_classes(model_type: &str) -> Vec<&'static str> {
    let of_type = CLASSES.iter().filter(|classes| classes.model_type == model_type);
    of_type.flat_map(|classes| classes.heads.iter().chain(classes.others)).copied().collect()
}

/// Whether a class has a head for whole records, or none: not one of another task.
pub fn is_class_for_records(class: &str) -> bool {
    let bare = CLASSES.iter().any(|classes| classes.others[0] == class);
    bare || class.ends_with("ForCausalLM") || CLASSES.iter().any(|classes| classes.heads.contains(&class))
}

impl ModelFile {
    fn read(directory: &Path, options: &LoadOptions) -> Result<Self, BackendError> {
        let path = directory.join("config.json");
        let fields: Map<String, Value> = read_json(&path, &options.limits)?;
        let refuse = |problem: String| BackendError::Config { path: path.clone(), problem };
        let adapter = directory.join("adapter_config.json");
        if adapter.exists() && !options.accept_fields.iter().any(|name| name == "adapter_config.json") {
            let problem = "an adapter stands in the model's folder, where transformers would load it with the model; move it to \
                           another folder, for `--adapter`";
            return Err(BackendError::Config { path: adapter, problem: problem.into() });
        }
        let model_type = match fields.get("model_type").and_then(Value::as_str) {
            Some(model_type) if MODEL_TYPES.contains(&model_type) => model_type.to_owned(),
            Some(other) => {
                let what = format!("model type `{}`", shown(other));
                return Err(refuse(s3t_core::registry::unknown(&what, other, &MODEL_TYPES)));
            }
            None => {
                return Err(refuse(format!("`model_type` is missing; supported: {}", MODEL_TYPES.join(", "))));
            }
        };
        if let Some(table) = fields::of_model(&model_type) {
            table.check(&fields, &options.accept_fields).map_err(refuse)?;
        }
        let accepts = |field: &str| options.accept_fields.iter().any(|name| name == field);
        let takes_head = accepts("architectures") || takes_head(&fields, &model_type).map_err(refuse)?;
        let (labels, outputs) = labels(&fields).map_err(refuse)?;
        let problem = fields.get("problem_type").and_then(Value::as_str).map(str::to_owned);
        let left_aside = (!takes_head).then(|| fields.get("architectures").map(fields::shown)).flatten();
        let own_head = OwnHead { labels, problem, left_aside };
        Ok(Self { directory: directory.into(), fields, takes_head, outputs, own_head, options: options.clone() })
    }

    pub(crate) fn model_type(&self) -> &str {
        self.fields.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// An error in `config.json`.
    pub(crate) fn refuse(&self, problem: impl Into<String>) -> BackendError {
        BackendError::Config { path: self.directory.join("config.json"), problem: problem.into() }
    }

    /// The fields that a family reads.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, BackendError> {
        let value = Value::Object(self.fields.clone());
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let of_field = if path == "." { String::new() } else { format!("`{path}`: ") };
            self.refuse(format!("{of_field}{}", error.inner()))
        })
    }

    /// Takes the head out of the weights, if it is one of this project's tasks.
    pub(crate) fn head(
        &self,
        loader: &mut Loader<'_>,
        layout: HeadLayout,
        hidden: usize,
    ) -> Result<Option<NamedTensors>, BackendError> {
        if !self.takes_head {
            return Ok(None);
        }
        let head = loader.classifier(layout, hidden)?;
        let rows = head.as_ref().map_or(0, head_outputs);
        let counted = self.fields.get("num_labels").and_then(Value::as_u64).map(|outputs| outputs as usize);
        for (field, outputs) in [("num_labels", counted), ("id2label", self.outputs)] {
            if let Some(outputs) = outputs.filter(|outputs| head.is_some() && *outputs != rows) {
                let weight = format!("`{}.weight`", layout.output);
                return Err(
                    self.refuse(format!("`{field}` says {outputs} outputs, but {weight} in the weights has {rows}"))
                );
            }
        }
        Ok(head)
    }
}

/// Whether a head in the file counts, by the class that the file was saved from.
fn takes_head(fields: &Map<String, Value>, model_type: &str) -> Result<bool, String> {
    let Some(classes) = CLASSES.iter().find(|classes| classes.model_type == model_type) else { return Ok(true) };
    let named: Vec<&str> = match fields.get("architectures") {
        None | Some(Value::Null) => return Ok(true),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().unwrap_or_default()).collect(),
        Some(_) => vec![""],
    };
    let known = |name: &&str| classes.heads.contains(name) || classes.others.contains(name);
    if !named.iter().all(known) {
        let value = fields::shown(&fields["architectures"]);
        return Err(format!(
            "`architectures` is {value}; known of this model type: {}",
            known_classes(model_type).join(", ")
        ));
    }
    Ok(named.iter().all(|name| classes.heads.contains(name)))
}

/// The names of the head's outputs, empty if they are its numbers, and how many are named.
fn labels(fields: &Map<String, Value>) -> Result<(Vec<String>, Option<usize>), String> {
    let names = match fields.get("id2label") {
        None | Some(Value::Null) => return Ok((Vec::new(), None)),
        Some(Value::Object(names)) => names,
        Some(other) => return Err(format!("`id2label` is {}, not a name for each output", fields::shown(other))),
    };
    let mut by_number: BTreeMap<usize, String> = BTreeMap::new();
    for (number, name) in names {
        let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        let number =
            number.parse().map_err(|_| format!("`id2label` has the key {number:?}, not an output's number"))?;
        by_number.insert(number, name);
    }
    if by_number.keys().copied().ne(0..names.len()) {
        return Err(format!("`id2label` does not name the outputs 0 to {} once each", names.len().saturating_sub(1)));
    }
    let generic = by_number.iter().all(|(number, name)| *name == format!("LABEL_{number}"));
    let labels = if generic { Vec::new() } else { by_number.into_values().collect() };
    Ok((labels, Some(names.len())))
}

/// Loads the base model in `directory`: `config.json`, `model.safetensors` or shards with `model.safetensors.index.json`,
/// for texts `tokenizer.json`, for images optionally `preprocessor_config.json` or `processor_config.json`.
///
/// # Errors
///
/// [`BackendError`] naming the file and what is wrong: an unreadable file, an unsupported model type, activation or field, a
/// missing, extra or misshapen tensor or one that is not finite, a tokenizer of another model.
#[allow(clippy::needless_pass_by_value, reason = "callers make the options for the call")]
pub fn load(directory: &Path, options: LoadOptions, device: &Device) -> Result<Arc<dyn Backbone>, BackendError> {
    let mut file = ModelFile::read(directory, &options)?;
    match file.model_type() {
        "vit" if options.max_tokens.is_some() => {
            Err(file.refuse("`max_tokens` is for models of texts, but this is one of images"))
        }
        "vit" => {
            let (config, preprocessing) = vit_parts(&mut file)?;
            Ok(Arc::new(Vit::load(&file, config, preprocessing, device)?))
        }
        "llama" => Ok(Arc::new(Llama::load(&file, device)?)),
        _ => Ok(Arc::new(Bert::load(&file, device)?)),
    }
}

/// Pictures as the base model in `directory` takes them, without loading its weights; `None` if it takes none.
///
/// # Errors
///
/// [`BackendError`] naming the file and what is wrong, as for [`load`].
pub fn picture_input(directory: &Path, options: &LoadOptions) -> Result<Option<PictureInput>, BackendError> {
    let mut file = ModelFile::read(directory, options)?;
    if file.model_type() != "vit" {
        return Ok(None);
    }
    let (config, preprocessing) = vit_parts(&mut file)?;
    Ok(Some(preprocessing.pictures(&config)))
}

/// The configuration of a vision transformer and of its image processor.
fn vit_parts(file: &mut ModelFile) -> Result<(VitConfig, Preprocessing), BackendError> {
    // A side may be given as height and width.
    for side in ["image_size", "patch_size"] {
        let pair = file.fields.get(side).and_then(Value::as_array).filter(|pair| pair.len() == 2);
        if let Some(equal) = pair.filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()) {
            file.fields.insert(side.into(), equal);
        }
    }
    let config: VitConfig = file.parse()?;
    config.check().map_err(|problem| file.refuse(problem))?;
    let preprocessing = read_preprocessing(&file.directory, &config)?;
    Ok((config, preprocessing))
}

/// Checks sizes that tensors are made of.
pub(crate) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    // The bound keeps products of sizes far from overflow; the largest published models stay below it.
    match sizes.iter().find(|(_, value)| !(1..=1 << 17).contains(value)) {
        Some((name, value)) => Err(format!("`{name}` is {value}; it takes 1 to {}", 1 << 17)),
        None => Ok(()),
    }
}

/// Checks the epsilon of a normalisation.
pub(crate) fn check_epsilon(name: &str, value: f64) -> Result<(), String> {
    // Below the least normal number of the arithmetic it would be none.
    if value.is_finite() && value >= f64::from(f32::MIN_POSITIVE) && value < 1.0 {
        return Ok(());
    }
    Err(format!("`{name}` is {value}; it takes a small positive number"))
}

/// Checks the size of a vocabulary, and that a token of the configuration is in it.
pub(crate) fn check_vocabulary(size: usize, tokens: &[(&str, Option<u32>)]) -> Result<(), String> {
    const MOST: usize = 1 << 24;
    if !(4..=MOST).contains(&size) {
        return Err(format!("`vocab_size` is {size}; it takes 4 to {MOST}"));
    }
    match tokens.iter().find_map(|(name, token)| Some((name, token.filter(|token| *token as usize >= size)?))) {
        Some((name, token)) => Err(format!("`{name}` is {token}, but `vocab_size` is {size}")),
        None => Ok(()),
    }
}

/// Reads a JSON file of a model or adapter, within the limits.
///
/// # Errors
///
/// [`BackendError::Read`], [`BackendError::Config`].
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, limits: &Limits) -> Result<T, BackendError> {
    let read = File::open(path).and_then(|file| read_text_at_most(file, Limits::megabytes(limits.json_mb)));
    let text = read.map_err(|source| BackendError::Read { path: path.into(), source })?;
    let refuse = |problem: String| BackendError::Config { path: path.into(), problem };
    limits.check_json(text.as_bytes()).map_err(refuse)?;
    serde_json::from_str(&text).map_err(|error| refuse(format!("not the expected JSON: {error}")))
}
