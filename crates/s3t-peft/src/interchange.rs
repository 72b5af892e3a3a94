//! PEFT methods in the files of Hugging Face PEFT (`adapter_config.json`, `adapter_model.safetensors`).
//!
//! A method says in [`PeftMethod::interchange`] which fields and tensor names PEFT uses for
//! the method, and registers with [`peft_reader!`](crate::peft_reader) a function that reads them back. No other code knows a
//! method's name.

use std::collections::BTreeSet;

use s3t_core::reexport::inventory;
use serde_json::{Map, Value};

pub use crate::terms::{Interchange, InterchangeTensor};
use crate::{BlockShape, LinearSite, PeftError, PeftMethod};

/// Reads a method back from an `adapter_config.json`.
#[derive(Debug)]
pub struct PeftReader {
    /// The values of `peft_type` that it may read.
    pub peft_type: &'static str,
    /// Reads the method.
    pub read: fn(&Map<String, Value>, &BlockShape) -> ReadMethod,
}

/// A method that was read; `None` if the configuration is another method's with the same `peft_type`.
pub type ReadMethod = Option<Result<Box<dyn PeftMethod>, PeftError>>;

inventory::collect!(PeftReader);

/// Registers the function that reads a method's `adapter_config.json`.
#[macro_export]
macro_rules! peft_reader {
    ($peft_type:literal, $read:path) => {
        $crate::s3t_core::reexport::inventory::submit! { $crate::PeftReader { peft_type: $peft_type, read: $read } }
    };
}

/// The method that an `adapter_config.json` describes, among the linked ones.
///
/// # Errors
///
/// [`PeftError::UnknownAdapter`] if no linked method reads it, or the error of its fields.
pub fn read_config(config: &Map<String, Value>, block: &BlockShape) -> Result<Box<dyn PeftMethod>, PeftError> {
    let peft_type = config.get("peft_type").and_then(Value::as_str).unwrap_or_default();
    let mut known: Vec<&str> = Vec::new();
    for reader in inventory::iter::<PeftReader> {
        if reader.peft_type == peft_type
            && let Some(method) = (reader.read)(config, block)
        {
            return method;
        }
        known.push(reader.peft_type);
    }
    known.sort_unstable();
    known.dedup();
    if known.contains(&peft_type) {
        return Err(PeftError::UnknownAdapter(format!(
            "no linked method reads `peft_type` {peft_type} with these fields"
        )));
    }
    let problem = s3t_core::registry::unknown(&format!("adapter: its `peft_type` is `{peft_type}`"), peft_type, &known);
    Err(PeftError::UnknownAdapter(problem))
}

/// The values of `peft_type` that linked methods read.
pub fn known_types() -> BTreeSet<&'static str> {
    inventory::iter::<PeftReader>.into_iter().map(|reader| reader.peft_type).collect()
}

/// The linear layers that a list of module names under a key stands for, each once; empty if the key is missing or null.
/// As in PEFT, a name is the end of a module's path, and `all-linear` stands for all.
///
/// # Errors
///
/// [`PeftError::InvalidField`] for an unknown name or another kind of value (PEFT also takes a regular expression).
pub fn sites(config: &Map<String, Value>, key: &str, block: &BlockShape) -> Result<Vec<LinearSite>, PeftError> {
    let refuse = || PeftError::field(key, "is not a list of module names");
    let items = match config.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(all)) if all == "all-linear" => return Ok(block.linears.keys().copied().collect()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(refuse()),
    };
    let mut sites = BTreeSet::new();
    for item in items {
        sites.extend(block.resolve(key, &[item.as_str().ok_or_else(refuse)?.to_owned()])?);
    }
    Ok(sites.into_iter().collect())
}

/// A switch; false if it is missing or null.
///
/// # Errors
///
/// [`PeftError::InvalidField`] for another value than true or false.
///
/// ```
/// use s3t_peft::{interchange::switch, serde_json::json};
///
/// let config = json!({ "use_rslora": true });
/// assert!(switch(config.as_object().unwrap(), "use_rslora")?);
/// assert!(!switch(config.as_object().unwrap(), "use_dora")?);
/// # Ok::<(), s3t_peft::PeftError>(())
/// ```
pub fn switch(config: &Map<String, Value>, key: &str) -> Result<bool, PeftError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(other) => Err(PeftError::field(key, format!("is {other}, not true or false"))),
    }
}

/// A finite number; `default` if it is missing or null.
///
/// # Errors
///
/// [`PeftError::InvalidField`] for another value.
///
/// ```
/// use s3t_peft::{interchange::number, serde_json::json};
///
/// let config = json!({ "lora_alpha": 16, "r": "eight" });
/// let config = config.as_object().unwrap();
/// assert_eq!(number(config, "lora_alpha", 8.0)?, 16.0);
/// assert_eq!(number(config, "lora_dropout", 0.0)?, 0.0);
/// assert!(number(config, "r", 8.0).unwrap_err().to_string().contains("not a finite number"));
/// # Ok::<(), s3t_peft::PeftError>(())
/// ```
pub fn number(config: &Map<String, Value>, key: &str, default: f64) -> Result<f64, PeftError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(number),
            None => Err(PeftError::field(key, format!("is {value}, not a finite number"))),
        },
    }
}

/// Refuses a configuration in which a field that this project has no meaning for is set.
///
/// # Errors
///
/// [`PeftError::InvalidField`] naming the first that is neither missing nor null, false, empty or `"none"`.
pub fn refuse_set(config: &Map<String, Value>, keys: &[&str]) -> Result<(), PeftError> {
    let unset = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    match keys.iter().find(|key| config.get(**key).is_some_and(|value| !unset(value))) {
        Some(key) => Err(PeftError::field(*key, format!("is {}, which is not supported", config[*key]))),
        None => Ok(()),
    }
}
