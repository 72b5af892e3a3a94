//! `tokenizer_config.json` and `special_tokens_map.json` against `tokenizer.json`, by which texts are cut.
//!
//! The classes of Python's library change the tokenizer that they read by what the two say. Here `tokenizer.json` counts alone,
//! so a file that asks for other tokens is refused.

use std::path::PathBuf;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::Side;
use super::chat::{ChatSource, special};
use crate::fields::{self, FieldTable, shown};
use crate::json_file::read_json;
use crate::model_file::ModelFile;
use crate::{FieldError, ModelError};

/// The part of the files beside `tokenizer.json` that is used.
pub(crate) struct Beside {
    /// The side of a text that a limit cuts.
    pub(crate) side: Side,
    /// The chat template.
    pub(crate) chat: ChatSource,
}

/// Compares the files beside `tokenizer.json` with it, and reads what they add.
pub(crate) fn check(file: &ModelFile, json: &Value, tokenizer: &Tokenizer) -> Result<Beside, ModelError> {
    let accepted = &file.options().accept_fields;
    let own = json.as_object().cloned().unwrap_or_default();
    let refuse = |path: PathBuf| move |error: FieldError| ModelError::Field { path, error };
    fields::TOKENIZER.check(&own, accepted).map_err(refuse(file.directory().join(fields::TOKENIZER.file)))?;
    let read = |table: &FieldTable| -> Result<(PathBuf, Map<String, Value>), ModelError> {
        let path = file.directory().join(table.file);
        let mut found: Map<String, Value> =
            if path.exists() { read_json(&path, &file.options().limits)? } else { Map::new() };
        table.check(&found, accepted).map_err(refuse(path.clone()))?;
        found.retain(|name, value| !accepted.contains(name) && !value.is_null());
        Ok((path, found))
    };
    let (map_path, map) = read(&fields::SPECIAL_TOKENS)?;
    special_tokens(&map, tokenizer).map_err(refuse(map_path))?;
    let older = file.directory().join("added_tokens.json");
    if older.exists() {
        let tokens: Map<String, Value> = read_json(&older, &file.options().limits)?;
        let own = |token: &str| tokenizer.token_to_id(token).map(u64::from);
        if let Some((token, number)) = tokens.iter().find(|(token, number)| own(token) != number.as_u64()) {
            let problem = format!("`{token}` is token {number}, otherwise than in tokenizer.json; make them agree");
            return Err(ModelError::Config { path: older, problem });
        }
    }
    let (path, config) = read(&fields::TOKENIZER_CONFIG)?;
    let problems = special_tokens(&config, tokenizer)
        .and_then(|()| added_tokens(&config, tokenizer))
        .and_then(|()| class(&config, json))
        .and_then(|()| ends(&config, &map, tokenizer))
        .and_then(|()| side(&config, json));
    let side = problems.map_err(refuse(path))?;
    Ok(Beside { side, chat: ChatSource::read(file, &config, &map) })
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

/// The parts of a tokenizer that are a sequence of parts, or one.
fn parts<'a>(json: &'a Value, part: &str, inner: &str) -> Vec<&'a Value> {
    match json.get(part) {
        None | Some(Value::Null) => Vec::new(),
        Some(part) => part.get(inner).and_then(Value::as_array).map_or_else(|| vec![part], |all| all.iter().collect()),
    }
}

fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// The tokenizer that BERT's and RoBERTa's classes build for themselves is the one of `tokenizer.json`; their fields agree with
/// it whatever the class.
fn class(config: &Map<String, Value>, json: &Value) -> Result<(), FieldError> {
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let (bert, roberta) = (class.starts_with("BertTokenizer"), class.starts_with("RobertaTokenizer"));
    let normalizers = parts(json, "normalizer", "normalizers");
    let pre_tokenizers = parts(json, "pre_tokenizer", "pretokenizers");
    let model = json.get("model").map_or("", kind);
    let has = |name: &str| normalizers.iter().any(|part| kind(part) == name);
    let of_bert = normalizers.iter().find(|part| kind(part) == "BertNormalizer");
    let flag = |name: &str| of_bert.and_then(|part| part.get(name)).and_then(Value::as_bool);
    let other = |what: &str| {
        let problem = format!("is `{class}`, which builds a tokenizer of its own kind, but tokenizer.json has {what}");
        Err(FieldError::new("tokenizer_class", problem))
    };
    if bert {
        if !(["WordPiece", ""].contains(&model)) {
            return other(&format!("a model of type {model}, not WordPiece"));
        }
        if of_bert.is_none() || normalizers.len() > 1 || flag("clean_text") == Some(false) {
            return other("another normalizer than BertNormalizer with `clean_text`");
        }
        if pre_tokenizers.iter().map(|part| kind(part)).ne(["BertPreTokenizer"]) {
            return other("another pre-tokenizer than BertPreTokenizer");
        }
    }
    let lower = flag("lowercase").unwrap_or_else(|| has("Lowercase"));
    // BERT's class strips accents where it makes letters small, unless it is told.
    let accents = flag("strip_accents").unwrap_or(if of_bert.is_some() { lower } else { has("StripAccents") });
    let chinese = flag("handle_chinese_chars").unwrap_or(of_bert.is_some());
    let asked = |name: &str| config.get(name).and_then(Value::as_bool);
    let lower_asked = asked("do_lower_case").or(bert.then_some(true));
    let accents_asked = asked("strip_accents").or(if bert { lower_asked } else { None });
    let chinese_asked = asked("tokenize_chinese_chars").filter(|_| bert || of_bert.is_some()).or(bert.then_some(true));
    for (name, asked, does) in [
        ("do_lower_case", lower_asked, lower),
        ("strip_accents", accents_asked, accents),
        ("tokenize_chinese_chars", chinese_asked, chinese),
    ] {
        if let Some(asked) = asked.filter(|asked| *asked != does) {
            let stands = if config.contains_key(name) { "is" } else { "is left out, which means" };
            let problem =
                format!("{stands} {asked}, but the normalizer of tokenizer.json does the opposite; make them agree");
            return Err(FieldError::new(name, problem));
        }
    }
    if roberta {
        if model != "BPE" || !normalizers.is_empty() {
            return other("another model than BPE, or a normalizer");
        }
        let prefix = pre_tokenizers.iter().find(|part| kind(part) == "ByteLevel");
        let Some(does) = prefix.and_then(|part| part.get("add_prefix_space")).and_then(Value::as_bool) else {
            return other("another pre-tokenizer than ByteLevel");
        };
        let asked = asked("add_prefix_space").unwrap_or(false);
        if asked != does {
            let problem = format!("is {asked}, but {does} in the pre-tokenizer of tokenizer.json");
            return Err(FieldError::new("add_prefix_space", problem));
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
