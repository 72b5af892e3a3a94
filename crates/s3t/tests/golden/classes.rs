//! Texts under tokenizer classes: tokens are those of `AutoTokenizer` in `transformers`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3t::core::{Payload, Record, RecordId, Target};
use s3t::models::{Backbone, Device, LoadOptions, ModelError};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A case of `tokenizer-classes.json`, made by `xtask/golden/classes.py`.
#[derive(Deserialize)]
struct Case {
    name: String,
    /// The model's folder.
    model: PathBuf,
    /// Parts of `tokenizer.json` that are replaced.
    parts: Map<String, Value>,
    /// `tokenizer_config.json`; none if it is empty.
    config: Map<String, Value>,
    /// Fields of `config.json`.
    fields: Map<String, Value>,
    /// The field for which the model is refused.
    refused: Option<String>,
    #[serde(default)]
    texts: Vec<Single>,
    #[serde(default)]
    pairs: Vec<Double>,
}

#[derive(Deserialize)]
struct Single {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Double {
    pair: (String, String),
    ids: Vec<u32>,
    types: Vec<u32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("tokenizer-classes.json")).unwrap()
}

/// The model of a case, loaded from a copy.
fn loaded(case: &Case, options: LoadOptions) -> Result<Arc<Backbone>, ModelError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&case.model);
    let copy = tempfile::tempdir().unwrap();
    for (name, changes) in [("config.json", &case.fields), ("tokenizer.json", &case.parts)] {
        let mut file: Map<String, Value> = serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        file.extend(changes.clone());
        std::fs::write(copy.path().join(name), serde_json::to_vec(&file).unwrap()).unwrap();
    }
    std::fs::copy(folder.join("model.safetensors"), copy.path().join("model.safetensors")).unwrap();
    if !case.config.is_empty() {
        let config = serde_json::to_vec(&case.config).unwrap();
        std::fs::write(copy.path().join("tokenizer_config.json"), config).unwrap();
    }
    s3t::models::load(copy.path(), options, &Device::flex())
}

/// The tokens of a text and their types; `None` for a text that is longer than the model, or without any token.
fn tokens(model: &Backbone, payload: Payload) -> Option<(Vec<u32>, Vec<u32>)> {
    let record =
        Record { id: RecordId::new("asked").unwrap(), ordinal: 0, subject: None, payload, target: Target::None };
    match model.prepare(&record) {
        Ok(input) => {
            let types = if input.types.is_empty() { vec![0; input.ids.len()] } else { input.types };
            Some((input.ids, types))
        }
        Err(ModelError::WrongInput { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_class_cuts_texts_as_in_python_or_is_refused() {
    let cases = cases();
    assert_eq!(cases.len(), 45);
    let mut compared = 0;
    for case in &cases {
        let name = &case.name;
        let model = match (loaded(case, LoadOptions::default()), &case.refused) {
            (Ok(model), None) => model,
            (Err(ModelError::Field { error, .. }), Some(field)) => {
                assert_eq!(error.field, *field, "{name}: {error}");
                // Whoever knows what was meant may have it.
                let options = LoadOptions {
                    accept_fields: vec![field.clone(), "tokenizer_class".into()],
                    ..LoadOptions::default()
                };
                assert!(loaded(case, options).is_ok(), "{name}");
                continue;
            }
            (Ok(_), Some(field)) => panic!("{name}: `{field}` is not refused"),
            (Err(error), _) => panic!("{name}: {error}"),
        };
        for Single { text, ids, decoded } in &case.texts {
            let Some((found, _)) = tokens(&model, Payload::Text(text.clone())) else { continue };
            assert_eq!(found, *ids, "{name}: {text:?}");
            // Encoders give no texts.
            if !case.model.ends_with("bert-classifier") && !case.model.ends_with("roberta-classifier") {
                assert_eq!(model.decode(&found).as_ref(), Some(decoded), "{name}: {text:?}");
            }
            compared += 1;
        }
        for Double { pair: (first, second), ids, types } in &case.pairs {
            let found = tokens(&model, Payload::TextPair(first.clone(), second.clone()));
            assert_eq!(found, Some((ids.clone(), types.clone())), "{name}: {first:?} and {second:?}");
        }
    }
    assert!(compared > 300, "{compared} texts were compared");
}

#[test]
fn a_tokenizer_that_a_class_rebuilds_is_another_base() {
    let cases = cases();
    let digest = |name: &str, options: LoadOptions| {
        loaded(cases.iter().find(|case| case.name == name).unwrap(), options).unwrap().digest()
    };
    let as_it_is = digest("pieces, no class", LoadOptions::default());
    let rebuilt = digest("pieces, Llama", LoadOptions::default());
    assert_ne!(rebuilt, as_it_is);
    assert_eq!(rebuilt, digest("pieces, Llama, not legacy", LoadOptions::default()), "the same tokenizer");
    assert_ne!(rebuilt, digest("pieces, Llama, legacy", LoadOptions::default()));
    let options = LoadOptions { accept_fields: vec!["tokenizer_class".into()], ..LoadOptions::default() };
    assert_eq!(digest("pieces, Llama", options), as_it_is);
    // So is one whose class passes on no types of the tokens of a pair.
    let of_bert = digest("BERT, BertTokenizer", LoadOptions::default());
    assert_eq!(of_bert, digest("BERT, types asked for", LoadOptions::default()));
    for name in ["BERT, PreTrainedTokenizerFast", "BERT, types left out", "BERT, DistilBertTokenizer"] {
        assert_ne!(of_bert, digest(name, LoadOptions::default()), "{name}");
    }
}
