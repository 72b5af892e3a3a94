//! The fields of a `tokenizer.json` that decide whether it can be used, checked before the library reads it.
//!
//! The library trusts some of them: a special token that is not there, a merge without its prefix or a length of 0 would be a panic.

use serde::Deserialize;
use serde_json::Value;

use s3t_core::limits::shown;

/// The file, without its vocabulary.
#[derive(Deserialize)]
pub(crate) struct TokenizerFile {
    #[serde(default)]
    model: Option<Model>,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    max_input_chars_per_word: Option<u64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

/// The merges of a model, which are read only where they have a prefix.
#[derive(Deserialize)]
struct WithMerges {
    model: Merges,
}

#[derive(Deserialize)]
struct Merges {
    #[serde(default)]
    merges: Vec<Merge>,
}

/// A merge as older and newer files have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

/// The longest word that is cut into pieces: cutting takes the square of its length.
const MAX_WORD: u64 = 10_000;

impl TokenizerFile {
    /// Reads the fields and checks them.
    pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
        let not_one = |error: serde_json::Error| format!("not a tokenizer: {}", shown(&error.to_string()));
        let file: Self = serde_json::from_slice(bytes).map_err(not_one)?;
        check_lengths(&file.pre_tokenizer)?;
        check_templates(&file.post_processor)?;
        let Some(model) = &file.model else { return Ok(()) };
        // Dropout of merges draws from a generator that no lineage seeds: the same text would have other tokens each time.
        if model.dropout.is_some_and(|share| share > 0.0) {
            return Err("its `model.dropout` makes tokens random; set it to null".into());
        }
        if let Some(longest) = model.max_input_chars_per_word.filter(|longest| *longest > MAX_WORD) {
            return Err(format!("its `model.max_input_chars_per_word` is {longest}; it takes up to {MAX_WORD}"));
        }
        match model.continuing_subword_prefix.as_deref() {
            None | Some("") => Ok(()),
            Some(prefix) => {
                let WithMerges { model } = serde_json::from_slice(bytes).map_err(not_one)?;
                check_merges(&model.merges, prefix)
            }
        }
    }
}

fn check_merges(merges: &[Merge], prefix: &str) -> Result<(), String> {
    for merge in merges {
        let second = match merge {
            Merge::Text(text) => text.split_once(' ').map_or("", |(_, second)| second),
            Merge::Pair([_, second]) => second,
        };
        if !second.starts_with(prefix) {
            return Err(format!(
                "it merges with `{}`, which does not start with its `model.continuing_subword_prefix` `{}`",
                shown(second),
                shown(prefix)
            ));
        }
    }
    Ok(())
}

/// The parts of a field that may be a sequence of others.
fn parts<'a>(field: &'a Value, list: &str) -> Vec<&'a Value> {
    match field.get(list).and_then(Value::as_array) {
        Some(items) => items.iter().flat_map(|item| parts(item, list)).collect(),
        None => vec![field],
    }
}

fn check_lengths(pre_tokenizer: &Value) -> Result<(), String> {
    let has_none = |part: &&Value| part["type"] == "FixedLength" && part["length"].as_u64() == Some(0);
    match parts(pre_tokenizer, "pretokenizers").iter().find(|part| has_none(part)) {
        Some(_) => Err("its `pre_tokenizer` cuts texts into parts of length 0".into()),
        None => Ok(()),
    }
}

fn check_templates(post_processor: &Value) -> Result<(), String> {
    for part in parts(post_processor, "processors").into_iter().filter(|part| part["type"] == "TemplateProcessing") {
        for (name, sequences) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
            for piece in part[name].as_array().into_iter().flatten() {
                let of = |kind: &str| piece.get(kind).map(|piece| piece["id"].as_str().unwrap_or_default());
                if let Some(token) = of("SpecialToken").filter(|token| part["special_tokens"].get(token).is_none()) {
                    return Err(format!(
                        "its `post_processor` adds `{}`, which is not among its `special_tokens`",
                        shown(token)
                    ));
                }
                if let Some(sequence) = of("Sequence").filter(|sequence| !sequences.contains(sequence)) {
                    return Err(format!("its `post_processor` puts the text `{}` into `{name}`", shown(sequence)));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &Value, word: &str) {
        let problem = TokenizerFile::check(file.to_string().as_bytes()).unwrap_err();
        assert!(problem.contains(word), "{problem}");
    }

    #[test]
    fn a_file_that_would_make_the_library_panic_is_refused() {
        let piece = |kind: &str, id: &str| serde_json::json!({ kind: { "id": id, "type_id": 0 } });
        let template = |single: Value| serde_json::json!({ "type": "TemplateProcessing", "single": [single], "pair": [], "special_tokens": {} });
        let file =
            |template: Value| serde_json::json!({ "post_processor": { "type": "Sequence", "processors": [template] } });
        check(&file(template(piece("SpecialToken", "[CLS]"))), "`[CLS]`, which is not among");
        check(&file(template(piece("Sequence", "B"))), "the text `B` into `single`");
        assert!(TokenizerFile::check(file(template(piece("Sequence", "A"))).to_string().as_bytes()).is_ok());
        check(&serde_json::json!({ "pre_tokenizer": { "type": "FixedLength", "length": 0 } }), "length 0");
        for merges in [serde_json::json!(["a ##b", "a c"]), serde_json::json!([["a", "#"]])] {
            check(
                &serde_json::json!({ "model": { "continuing_subword_prefix": "##", "merges": merges } }),
                "does not start with",
            );
        }
        check(&serde_json::json!({ "model": { "dropout": 0.5 } }), "random");
        check(&serde_json::json!({ "model": { "max_input_chars_per_word": 1_u64 << 40 } }), "takes up to 10000");
        check(&serde_json::json!([7]), "not a tokenizer");
    }
}
