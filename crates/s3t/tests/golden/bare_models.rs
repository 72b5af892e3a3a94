//! Base models against Python `transformers`: small random models of each type, made by `xtask/golden/make.py` with their
//! tokens, hidden states and outputs.

use std::path::PathBuf;

use s3t::models::{Input, LoadOptions};
use s3t::peft::Adapters;
use s3t::peft::tensors::to_host;

use crate::{Golden, check_close, config, models, name, root};

#[test]
fn every_linked_family_has_a_model_with_a_head_and_adapters() {
    for family in s3t::models::families() {
        let of_family = |model: &&PathBuf| config(model)["model_type"] == family.model_type;
        let adapted = models().iter().filter(of_family).any(|model| model.join("adapters").is_dir());
        assert!(adapted, "`{}` has no golden files with adapters; see xtask/golden/make.py", family.model_type);
    }
}

#[test]
fn tokens_hidden_states_and_outputs_agree_with_transformers() {
    for folder in models() {
        let (golden, name) = (Golden::load(&folder), name(&folder));
        let model = &*golden.model;
        let inputs = golden.inputs();
        if let Some(ids) = &golden.values.ids {
            let found: Vec<Vec<u32>> = inputs.iter().map(|input| input.ids.clone()).collect();
            assert_eq!(&found, ids, "{name}: tokens");
        }
        // Alone, and all together in one padded batch.
        let alone: Vec<Vec<&Input<'_>>> = inputs.iter().map(|input| vec![input]).collect();
        for (first, batch) in alone.iter().enumerate().chain([(0, &inputs.iter().collect::<Vec<_>>())]) {
            let tokens = batch.iter().map(|input| input.tokens).max().unwrap();
            let mut hidden = model.embed(batch, tokens);
            for block in 0..=model.blocks() {
                let values = to_host(hidden.states.clone());
                for (row, input) in batch.iter().enumerate() {
                    let start = row * tokens * model.hidden();
                    let own = &values[start..start + input.tokens * model.hidden()];
                    let what = format!("{name}: input {}, before block {block}", first + row);
                    check_close(own, &golden.values.hidden[first + row][block], &what);
                }
                if block < model.blocks() {
                    hidden = model.run(hidden, block..block + 1, &Adapters::none());
                }
            }
            if let Some(pooled) = &golden.values.pooled {
                check_close(&to_host(model.pool(hidden)), &pooled[first..first + batch.len()].concat(), name);
            }
        }
        assert_eq!(golden.base().is_some(), golden.values.logits.is_some(), "{name}: a head of its own");
        if let (Some(base), Some(logits)) = (golden.base(), &golden.values.logits) {
            for (found, expected) in golden.outputs(&base).iter().zip(logits) {
                check_close(found, expected, &format!("{name}: logits"));
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_is_supported() {
    use std::fs;

    let default = LoadOptions::default;

    let refused_of = |model: &str, change: &dyn Fn(&std::path::Path), options: LoadOptions| -> String {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(root().join(model)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        change(folder.path());
        s3t::models::load(folder.path(), options, &s3t::models::Device::flex()).err().expect("refused").to_string()
    };
    let refused =
        |change: &dyn Fn(&std::path::Path), options: LoadOptions| refused_of("bert-classifier", change, options);
    let edit = |key: &'static str, value: serde_json::Value| {
        move |folder: &std::path::Path| {
            let path = folder.join("config.json");
            let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            config[key] = value.clone();
            fs::write(path, config.to_string()).unwrap();
        }
    };
    for (message, parts) in [
        (
            refused(&edit("model_type", "berta".into()), default()),
            &["`berta`", "bert, distilbert, llama", "did you mean"][..],
        ),
        (refused(&edit("hidden_act", "mish".into()), default()), &["`mish`", "gelu_new"]),
        (refused(&edit("position_embedding_type", "relative_key".into()), default()), &["relative_key", "absolute"]),
        (
            refused(&edit("intermediate_size", 20.into()), default()),
            &["intermediate.dense.weight", "[24, 16]", "[20, 16]"],
        ),
        (refused(&edit("num_hidden_layers", 5.into()), default()), &["lacks", "encoder.layer.4."]),
        (refused(&edit("num_hidden_layers", 3.into()), default()), &["no place", "encoder.layer.3."]),
        (refused(&edit("num_attention_heads", 5.into()), default()), &["16", "multiple", "5"]),
        (refused(&edit("num_hidden_layers", 100_000.into()), default()), &["lacks", "encoder.layer.4."]),
        (refused(&edit("vocab_size", 40.into()), default()), &["tokens up to", "0 to 39"]),
        (refused(&edit("vocab_size", (1_u64 << 40).into()), default()), &["`vocab_size` is 1099511627776", "4 to"]),
        (refused(&edit("pad_token_id", 80.into()), default()), &["`pad_token_id` is 80", "`vocab_size` is 80"]),
        (refused(&edit("layer_norm_eps", (-1.0).into()), default()), &["`layer_norm_eps` is -1", "positive"]),
        (refused(&edit("layer_norm_eps", 1e-50.into()), default()), &["`layer_norm_eps`", "positive"]),
        (refused(&|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap(), default()), &["tokenizer.json"]),
        (refused(&|folder| fs::write(folder.join("tokenizer.json"), "{}").unwrap(), default()), &["not a tokenizer"]),
        (refused(&|_| {}, LoadOptions { max_tokens: Some(41), ..default() }), &["41", "4 to 40"]),
        (
            refused(
                &|folder| {
                    let path = folder.join("model.safetensors");
                    let bytes = fs::read(&path).unwrap();
                    fs::write(path, &bytes[..bytes.len() - 9]).unwrap();
                },
                default(),
            ),
            &["model.safetensors", "header asks for"],
        ),
        (refused(&|folder| fs::write(folder.join("model.safetensors"), "abc").unwrap(), default()), &["3 bytes"]),
        (refused_of("llama-causal", &edit("eos_token_id", 99.into()), default()), &["`eos_token_id` is 99", "80"]),
        (refused_of("llama-causal", &edit("eos_token_id", "end".into()), default()), &["`eos_token_id` is \"end\""]),
        (refused_of("llama-causal", &edit("rms_norm_eps", 0.0.into()), default()), &["`rms_norm_eps` is 0"]),
        (
            refused_of(
                "llama-causal",
                &edit("rope_parameters", serde_json::json!({ "rope_type": "linear", "factor": 0.0 })),
                default(),
            ),
            &["`factor`", "above 0"],
        ),
        (refused_of("vit-classifier", &edit("num_channels", 300.into()), default()), &["`num_channels` is 300", "255"]),
    ] {
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}
