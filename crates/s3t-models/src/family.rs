//! The families of models that are linked into a program, by the `model_type` of their `config.json`.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use s3t_core::PictureInput;
use s3t_core::limits::shown;
use s3t_core::reexport::inventory;
use serde_json::{Map, Value};

use crate::fields::FieldTable;
use crate::model_file::{LoadOptions, ModelFile};
use crate::specification::{ReaderSpec, Specification};
use crate::{Backbone, ModelError};

/// A family of models: the models of one `model_type`.
///
/// A family is registered with [`model_family!`](crate::model_family). `docs/guide/writing-a-model-family.md` writes a family
/// step by step.
pub struct ModelFamily {
    /// The `model_type` of its `config.json`.
    pub model_type: &'static str,
    /// A sentence about the family, for listings.
    pub documentation: &'static str,
    /// The fields of its `config.json`; all others are refused by name or have no meaning in Python either.
    pub fields: FieldTable,
    /// The classes of its models in Python.
    pub classes: Classes,
    /// Makes the description of a model of its `config.json`, whose fields were checked by the table.
    pub specify: fn(&ModelFile) -> Result<Specification, ModelError>,
}

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

/// A family in the registry. Made by [`model_family!`](crate::model_family).
pub struct RegisteredFamily(pub &'static ModelFamily);

inventory::collect!(RegisteredFamily);

/// Registers a family, given as the path of a `static` [`ModelFamily`].
#[macro_export]
macro_rules! model_family {
    ($family:path) => {
        $crate::s3t_core::reexport::inventory::submit! { $crate::RegisteredFamily(&$family) }
        $crate::s3t_core::reexport::inventory::submit! {
            $crate::s3t_core::PluginInfo::described(
                $crate::s3t_core::PluginKind::ModelFamily,
                $family.model_type,
                env!("CARGO_PKG_NAME"),
                || ($family.documentation.to_owned(), ::std::vec::Vec::new()),
            )
        }
    };
}

/// The linked families, sorted by `model_type`.
pub fn families() -> Vec<&'static ModelFamily> {
    let mut families: Vec<_> = inventory::iter::<RegisteredFamily>.into_iter().map(|entry| entry.0).collect();
    families.sort_by_key(|family| family.model_type);
    families
}

/// The family of a `config.json`.
pub(crate) fn find(fields: &Map<String, Value>) -> Result<&'static ModelFamily, String> {
    s3t_core::registry::check_names().map_err(|error| error.message)?;
    let families = families();
    let known: Vec<&str> = families.iter().map(|family| family.model_type).collect();
    let Some(model_type) = fields.get("model_type").and_then(Value::as_str) else {
        return Err(format!("`model_type` is missing; supported: {}", known.join(", ")));
    };
    let found = families.into_iter().find(|family| family.model_type == model_type);
    found.ok_or_else(|| s3t_core::registry::unknown(&format!("model type `{}`", shown(model_type)), model_type, &known))
}

/// The classes of Python's library that a model of this type may be of: those with a head for whole records first.
pub fn known_classes(model_type: &str) -> Vec<&'static str> {
    let of_type = families().into_iter().filter(|family| family.model_type == model_type);
    of_type.flat_map(|family| family.classes.all()).collect()
}

/// True for a class with a head for whole records, a language head or no head: not for one of another task.
///
/// ```
/// assert!(s3t_models::is_class_for_records("LlamaForCausalLM"));
/// assert!(!s3t_models::is_class_for_records("BertForTokenClassification"));
/// ```
pub fn is_class_for_records(class: &str) -> bool {
    let fits =
        |family: &&ModelFamily| family.classes.heads.contains(&class) || family.classes.others.first() == Some(&class);
    class.ends_with("ForCausalLM") || families().iter().any(fits)
}

/// Loads the base model in `directory`: `config.json`, `model.safetensors` or shards with `model.safetensors.index.json`,
/// for texts `tokenizer.json`, for images optionally `preprocessor_config.json` or `processor_config.json`.
///
/// # Errors
///
/// [`ModelError`] naming the file and the problem: an unreadable file, a model type without a linked family, an activation or
/// field that is not supported, a missing, extra or misshapen tensor or one that is not finite, a tokenizer of another model.
#[expect(clippy::needless_pass_by_value, reason = "a caller has no further use for them")]
pub fn load(directory: &Path, options: LoadOptions, device: &Device) -> Result<Arc<Backbone>, ModelError> {
    let (file, family) = ModelFile::read(directory, &options)?;
    let specification = (family.specify)(&file)?;
    Backbone::load(&file, family.model_type, specification, device).map(Arc::new)
}

/// Pictures as the base model in `directory` takes them, without loading its weights; `None` if it takes no pictures.
///
/// # Errors
///
/// [`ModelError`] naming the file and the problem, as for [`load`].
pub fn picture_input(directory: &Path, options: &LoadOptions) -> Result<Option<PictureInput>, ModelError> {
    let (file, family) = ModelFile::read(directory, options)?;
    Ok(match (family.specify)(&file)?.reader {
        ReaderSpec::Pictures(pictures) => Some(pictures.input().clone()),
        ReaderSpec::Texts { .. } => None,
    })
}
