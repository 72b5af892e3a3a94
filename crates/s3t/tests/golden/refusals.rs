//! Models and adapters that are refused, with the reason.

use s3t::interchange::read_adapter;
use s3t::models::{Device, LoadOptions, load};

use crate::root;

#[test]
fn an_adapter_that_peft_cannot_hold_or_we_cannot_read_is_refused_with_the_reason() {
    let model = load(&root().join("bert-classifier"), LoadOptions::default(), &Device::flex()).unwrap();
    let folder = root().join("bert-classifier/adapters/prefix");
    let message = read_adapter(&folder, &model, &[]).unwrap_err().to_string();
    assert!(message.contains("PREFIX_TUNING") && message.contains("known: IA3, LORA"), "{message}");
    let with = |key: &str, value: serde_json::Value| {
        let out = tempfile::tempdir().unwrap();
        let lora = root().join("bert-classifier/adapters/lora");
        let mut config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(lora.join("adapter_config.json")).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(out.path().join("adapter_config.json"), config.to_string()).unwrap();
        std::fs::copy(lora.join("adapter_model.safetensors"), out.path().join("adapter_model.safetensors")).unwrap();
        read_adapter(out.path(), &model, &[]).unwrap_err().to_string()
    };
    for (message, part) in [
        (
            with("rank_pattern", serde_json::json!({"query": 2})),
            "query.lora_A.weight` has the shape [4, 16], not [2, 16]",
        ),
        (with("bias", "all".into()), "`bias` is \"all\""),
        (with("target_modules", serde_json::json!(["q_proj"])), "unknown target `q_proj`"),
        (with("layers_to_transform", serde_json::json!([3, 4])), "block 4"),
        (with("layers_to_transform", serde_json::json!([1])), "lacks"),
        (with("layers_to_transform", serde_json::json!([3])), "do not ask for"),
        (with("target_modules", serde_json::json!(["query"])), "do not ask for"),
        (with("r", 3.into()), "shape"),
    ] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_supported_values() {
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
