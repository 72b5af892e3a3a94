//! The families of models that are linked into a program, by the `model_type` of their `config.json`.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use s3t_core::PictureInput;
use s3t_core::limits::shown;
use s3t_core::reexport::inventory;
use serde_json::{Map, Value};

use crate::backbone::Backbone;
use crate::fields::{self, FieldTable};
use crate::model_file::{LoadOptions, ModelFile};
use crate::own_head::{Classes, HeadFields};
use crate::specification::{ReaderSpec, Specification};
use crate::{FieldError, ModelError};

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
fn find(fields: &Map<String, Value>) -> Result<&'static ModelFamily, String> {
    s3t_core::registry::check_names().map_err(|error| error.message)?;
    let families = families();
    let known: Vec<&str> = families.iter().map(|family| family.model_type).collect();
    let Some(model_type) = fields.get("model_type").and_then(Value::as_str) else {
        return Err(format!("`model_type` is missing; supported: {}", known.join(", ")));
    };
    let found = families.into_iter().find(|family| family.model_type == model_type);
    found.ok_or_else(|| s3t_core::registry::unknown(&format!("model type `{}`", shown(model_type)), model_type, &known))
}

/// Reads the `config.json` of a folder, finds its family and checks its fields by the family's table.
fn read(directory: &Path, options: &LoadOptions) -> Result<(ModelFile, &'static ModelFamily, HeadFields), ModelError> {
    let file = ModelFile::read(directory, options)?;
    let refuse = |problem: String| ModelError::Config { path: directory.join("config.json"), problem };
    let family = find(file.fields()).map_err(refuse)?;
    let check = family.fields.check(file.fields(), &options.accept_fields);
    check.map_err(|error: FieldError| file.refuse(error))?;
    let head = HeadFields::read(&file, &family.classes)?;
    Ok((file, family, head))
}

/// The tables of the fields of all files of models: of the `config.json` of each linked family, and of the files beside it.
pub fn field_tables() -> Vec<FieldTable> {
    let mut tables: Vec<FieldTable> = families().iter().map(|family| family.fields).collect();
    tables.extend(fields::BESIDE);
    tables
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
    let (file, family, head) = read(directory, &options)?;
    let specification = (family.specify)(&file)?;
    Backbone::load(&file, head, family.model_type, specification, device).map(Arc::new)
}

/// Pictures as the base model in `directory` takes them, without loading its weights; `None` if it takes no pictures.
///
/// # Errors
///
/// [`ModelError`] naming the file and the problem, as for [`load`].
pub fn picture_input(directory: &Path, options: &LoadOptions) -> Result<Option<PictureInput>, ModelError> {
    let (file, family, _) = read(directory, options)?;
    Ok(match (family.specify)(&file)?.reader {
        ReaderSpec::Pictures(pictures) => Some(pictures.input().clone()),
        ReaderSpec::Texts { .. } => None,
    })
}
