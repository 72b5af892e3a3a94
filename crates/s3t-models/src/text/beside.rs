//! `tokenizer_config.json` and `special_tokens_map.json` against `tokenizer.json`, by which texts are cut.
//!
//! The classes of Python's library change the tokenizer that they read by what the two say. Here `tokenizer.json` counts, with what
//! [`Class`] rebuilds of it; a file that asks for other tokens is refused.

use std::path::PathBuf;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::Side;
use super::chat::{ChatSource, special};
use super::class::{self, Class};
use crate::fields::{self, FieldTable, shown};
use crate::json_file::read_json;
use crate::model_file::ModelFile;
use crate::{FieldError, ModelError};

/// The files beside `tokenizer.json`, and what they say of it.
pub(super) struct Beside {
    map: Map<String, Value>,
    map_path: PathBuf,
    config: Map<String, Value>,
    config_path: PathBuf,
    /// The class that cuts texts in Python.
    pub(super) class: Class,
}

impl Beside {
    /// Reads the files. `json` is `tokenizer.json`.
    pub(super) fn read(file: &ModelFile, json: &Value) -> Result<Self, ModelError> {
        let accepted = &file.options().accept_fields;
        let own = json.as_object().cloned().unwrap_or_default();
        let path = file.directory().join(fields::TOKENIZER.file);
        fields::TOKENIZER.check(&own, accepted).map_err(|error| ModelError::Field { path, error })?;
        let read = |table: &FieldTable| -> Result<(PathBuf, Map<String, Value>), ModelError> {
            let path = file.directory().join(table.file);
            let mut found: Map<String, Value> =
                if path.exists() { read_json(&path, &file.options().limits)? } else { Map::new() };
            table.check(&found, accepted).map_err(|error| ModelError::Field { path: path.clone(), error })?;
            found.retain(|name, value| !accepted.contains(name) && !value.is_null());
            Ok((path, found))
        };
        let (map_path, map) = read(&fields::SPECIAL_TOKENS)?;
        let (config_path, config) = read(&fields::TOKENIZER_CONFIG)?;
        let own = class::named(&config).map_err(|error| ModelError::Field { path: config_path.clone(), error })?;
        let of_model = if file.accepts("tokenizer_class") {
            None
        } else {
            class::named(file.fields()).map_err(|error| file.refuse(error))?
        };
        let class = Class::of(own.or(of_model).unwrap_or_default(), file, &config, json);
        Ok(Self { map, map_path, config, config_path, class })
    }

    /// `tokenizer.json` as the class rebuilds it; `None` if it stays as it is.
    pub(super) fn rebuilt(&self, json: &Value) -> Result<Option<Value>, ModelError> {
        self.class.rebuilt(&self.config, json).map_err(|error| self.refuse(error))
    }

    /// Compares the files with the tokenizer; gives the side of a text that a limit cuts.
    pub(super) fn check(&self, file: &ModelFile, json: &Value, tokenizer: &Tokenizer) -> Result<Side, ModelError> {
        special_tokens(&self.map, tokenizer)
            .map_err(|error| ModelError::Field { path: self.map_path.clone(), error })?;
        let older = file.directory().join("added_tokens.json");
        if older.exists() {
            let tokens: Map<String, Value> = read_json(&older, &file.options().limits)?;
            let own = |token: &str| tokenizer.token_to_id(token).map(u64::from);
            if let Some((token, number)) = tokens.iter().find(|(token, number)| own(token) != number.as_u64()) {
                let problem = format!("`{token}` is token {number}, otherwise than in tokenizer.json; make them agree");
                return Err(ModelError::Config { path: older, problem });
            }
        }
        special_tokens(&self.config, tokenizer)
            .and_then(|()| added_tokens(&self.config, tokenizer))
            .and_then(|()| self.class.check(&self.config, &self.map, json, tokenizer))
            .and_then(|()| ends(&self.config, &self.map, tokenizer))
            .and_then(|()| side(&self.config, json))
            .map_err(|error| self.refuse(error))
    }

    /// The chat template.
    pub(super) fn chat(&self, file: &ModelFile) -> ChatSource {
        ChatSource::read(file, &self.config, &self.map)
    }

    fn refuse(&self, error: FieldError) -> ModelError {
        ModelError::Field { path: self.config_path.clone(), error }
    }
}

/// The texts of special tokens in a value: one, several, or several by name.
fn contents(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(contents).collect(),
        Value::Object(token) => match token.get("content") {
            Some(content) => contents(content),
            None => token.values().flat_map(contents).collect(),
        },
        _ => Vec::new(),
    }
}

/// Every special token that the file names is one of `tokenizer.json`.
fn special_tokens(config: &Map<String, Value>, tokenizer: &Tokenizer) -> Result<(), FieldError> {
    let added: Vec<String> = tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    for (name, value) in config.iter().filter(|(name, _)| name.ends_with("_token") || name.ends_with("_special_tokens"))
    {
        if let Some(token) = contents(value).into_iter().find(|token| !added.contains(token)) {
            let problem = format!(
                "is `{token}`, which is not among the `added_tokens` of tokenizer.json; add it there, or leave the field out"
            );
            return Err(FieldError::new(name, problem));
        }
    }
    Ok(())
}

/// `added_tokens_decoder` says what `tokenizer.json` does.
fn added_tokens(config: &Map<String, Value>, tokenizer: &Tokenizer) -> Result<(), FieldError> {
    let Some(tokens) = config.get("added_tokens_decoder").and_then(Value::as_object) else { return Ok(()) };
    let of_file = tokenizer.get_added_tokens_decoder();
    for (number, token) in tokens {
        let flag = |name: &str, default: bool| token.get(name).and_then(Value::as_bool).unwrap_or(default);
        let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
        let special = flag("special", false);
        let same = number.parse().ok().and_then(|number: u32| of_file.get(&number)).is_some_and(|own| {
            own.content == content
                && own.special == special
                && own.lstrip == flag("lstrip", false)
                && own.rstrip == flag("rstrip", false)
                && own.single_word == flag("single_word", false)
                && own.normalized == flag("normalized", !special)
        });
        if !same {
            let problem =
                format!("has token {number}, {}, otherwise than the `added_tokens` of tokenizer.json", shown(token));
            return Err(FieldError::new("added_tokens_decoder", problem));
        }
    }
    Ok(())
}

/// `add_bos_token` and `add_eos_token` say what `tokenizer.json` does.
fn ends(config: &Map<String, Value>, map: &Map<String, Value>, tokenizer: &Tokenizer) -> Result<(), FieldError> {
    let ids = tokenizer.encode("", true).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
    let asks = |field: &str| config.get(field).and_then(Value::as_bool) == Some(true);
    // A token that stands alone may be either, but not both.
    let (first, last) = (ids.first(), if ids.len() > 1 || !asks("add_bos_token") { ids.last() } else { None });
    for (field, token, found) in [("add_bos_token", "bos_token", first), ("add_eos_token", "eos_token", last)] {
        let Some(asked) = config.get(field).and_then(Value::as_bool) else { continue };
        let token = special(token, config, map).and_then(|value| contents(value).into_iter().next());
        let Some(id) = token.and_then(|token| tokenizer.token_to_id(&token)) else { continue };
        let does = found == Some(&id);
        if asked != does {
            let problem = format!("is {asked}, but tokenizer.json does the opposite; make them agree");
            return Err(FieldError::new(field, problem));
        }
    }
    Ok(())
}

/// The side of a text that is cut: that of `truncation_side`, or of the truncation of `tokenizer.json`.
fn side(config: &Map<String, Value>, json: &Value) -> Result<Side, FieldError> {
    let own = json.get("truncation").and_then(|truncation| truncation.get("direction")).and_then(Value::as_str);
    let own = own.map(str::to_lowercase);
    let side = match (config.get("truncation_side").and_then(Value::as_str), own.as_deref()) {
        (Some(asked), Some(own)) if asked != own => {
            let problem =
                format!("is `{asked}`, but the truncation of tokenizer.json cuts the {own} side; make them agree");
            return Err(FieldError::new("truncation_side", problem));
        }
        (asked, own) => asked.or(own).unwrap_or("right"),
    };
    match side {
        "left" => Ok(Side::Left),
        "right" => Ok(Side::Right),
        other => Err(FieldError::new("truncation_side", format!("is `{other}`; it takes left or right"))),
    }
}
