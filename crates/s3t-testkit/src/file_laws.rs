//! The laws of a model family about its files.

use std::path::{Path, PathBuf};
use std::{fs, io};

use s3t_core::Digest;
use s3t_core::tensors::NamedTensors;
use s3t_models::fields::Rule;
use s3t_models::{Backbone, Device, LoadOptions, ModelError, families, load, read_safetensors, write_safetensors};
use s3t_peft::Adapters;
use s3t_peft::tensors::to_host;
use serde_json::{Map, Value, json};

use crate::family_laws::{inputs, own_bits, records};

/// Fields about the head that came with the model, which stages replace, and about the file itself.
const NOT_OF_RESULTS: [&str; 6] =
    ["architectures", "id2label", "num_labels", "problem_type", "transformers_version", "model_type"];

/// A copy of a model's folder whose files may be changed.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn of(folder: &Path) -> io::Result<Self> {
        let copy = tempfile::tempdir()?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
            }
        }
        Ok(Self { folder: copy })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_config(&self, fields: &Map<String, Value>) {
        fs::write(self.path("config.json"), json!(fields).to_string()).expect("config.json is written");
    }

    fn load(&self) -> Result<std::sync::Arc<Backbone>, ModelError> {
        load(self.folder.path(), LoadOptions::default(), &Device::flex())
    }
}

fn config(folder: &Path) -> Map<String, Value> {
    let text = fs::read_to_string(folder.join("config.json")).expect("the model has a config.json");
    serde_json::from_str(&text).expect("config.json is an object")
}

/// Fields are refused by name: those of later versions, and values that the family's table does not take.
pub(crate) fn check_fields(folder: &Path) {
    let (copy, fields) = (Copy::of(folder).expect("the model's files are copied"), config(folder));
    let refusal = |changes: &[(&str, Value)]| {
        let mut fields = fields.clone();
        fields.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        copy.write_config(&fields);
        copy.load().err().map(|error| error.to_string())
    };
    let version = ("transformers_version", json!("999.0.0"));
    let message = refusal(&[("a_field_of_tomorrow", json!(true)), version]);
    let names = |message: Option<String>, field: &str| message.is_some_and(|text| text.contains(&format!("`{field}`")));
    assert!(names(message, "a_field_of_tomorrow"), "fields: one of a later version is not refused by name");
    let family = families().into_iter().find(|family| fields["model_type"] == family.model_type);
    let family = family.expect("the model loaded, so its family is linked");
    for field in family.fields.groups.iter().flat_map(|group| group.iter()) {
        if matches!(field.rule, Rule::Only(_)) {
            let message = refusal(&[(field.name, json!("a value of tomorrow"))]);
            assert!(names(message, field.name), "fields: an unknown value of `{}` is not refused by name", field.name);
        }
    }
    // Numbers that no memory holds: whatever the answer is, the program does not end.
    for name in fields.keys().filter(|name| fields[*name].is_u64()) {
        for number in [u64::MAX, 1 << 43] {
            drop(refusal(&[(name.as_str(), json!(number))]));
        }
    }
}

/// The digest changes with every honoured field of `config.json`, and with every weight that changes a result.
pub(crate) fn check_digest(folder: &Path) {
    let (copy, fields) = (Copy::of(folder).expect("the model's files are copied"), config(folder));
    let digest = |copy: &Copy| copy.load().map(|backbone| backbone.digest());
    let base = digest(&copy).expect("a copy of the model loads");
    let table = families().into_iter().find(|family| fields["model_type"] == family.model_type);
    let table = table.expect("the model loaded, so its family is linked").fields;
    for (name, value) in &fields {
        let honoured = table.field(name).is_some_and(|field| field.rule == Rule::Honoured);
        if !honoured || NOT_OF_RESULTS.contains(&name.as_str()) {
            continue;
        }
        let mut changed = fields.clone();
        changed.insert(name.clone(), another(value));
        copy.write_config(&changed);
        // A refusal is as good: then no store is made with it.
        if let Ok(found) = digest(&copy) {
            assert!(found != base, "digest: it is the same with another `{name}`");
        }
    }
    copy.write_config(&fields);
    check_digest_of_weights(&copy);
}

fn check_digest_of_weights(copy: &Copy) {
    let path = copy.path("model.safetensors");
    let Ok(tensors) = read_safetensors(&path) else { return };
    // All files are written by one hand, so that number formats are alike.
    let results = |tensors: &NamedTensors| -> (Digest, Vec<u32>) {
        write_safetensors(&path, tensors).expect("the weights are written");
        let backbone = copy.load().unwrap_or_else(|error| panic!("the model loads with other weights: {error}"));
        (backbone.digest(), results(&backbone))
    };
    let (base, outputs) = results(&tensors);
    for name in tensors.keys() {
        let mut changed = tensors.clone();
        if let Some(tensor) = changed.get_mut(name) {
            tensor.values.iter_mut().enumerate().for_each(|(at, value)| *value += 0.25 + 0.125 * (at % 7) as f32);
        }
        let (digest, found) = results(&changed);
        assert!(digest != base || found == outputs, "digest: `{name}` changes results and not the digest");
    }
}

/// Another value of the same kind.
fn another(value: &Value) -> Value {
    match value {
        Value::Null => json!(3),
        Value::Bool(value) => json!(!value),
        Value::String(text) => json!(if text == "relu" { "silu" } else { "relu" }),
        Value::Number(number) if number.is_f64() => json!(number.as_f64().unwrap_or(1.0) * 1.5),
        Value::Number(number) => json!(number.as_i64().unwrap_or(0) + 1),
        Value::Array(items) => {
            let mut items = items.clone();
            items.reverse();
            items.dedup();
            json!(items)
        }
        Value::Object(fields) => {
            let change = |(name, value): (&String, &Value)| {
                let value = if value.is_number() { another(value) } else { value.clone() };
                (name.clone(), value)
            };
            Value::Object(fields.iter().map(change).collect())
        }
    }
}

/// The bits of all that a model answers with for some records: hidden states, pooled rows, and logits of tokens.
fn results(backbone: &Backbone) -> Vec<u32> {
    let records = records(backbone, 4);
    let inputs = inputs(backbone, &records);
    let inputs: Vec<_> = inputs.iter().collect();
    let tokens = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
    let hidden = backbone.run(backbone.embed(&inputs, tokens), 0..backbone.blocks(), &Adapters::none());
    let mut bits = own_bits(hidden.clone(), &inputs).concat();
    let [batch, tokens, width] = hidden.states.dims();
    let rows = hidden.states.clone().reshape([batch * tokens, width]);
    let logits = backbone.next_token_logits(rows).map(to_host).unwrap_or_default();
    bits.extend(logits.iter().chain(&to_host(backbone.pool(hidden))).map(|value| value.to_bits()));
    bits
}
