//! PEFT methods against Python: adapters that `peft` wrote give the outputs that `peft` gave, and methods that it does not
//! know those of reference implementations on the modules of `transformers`. Made by `xtask/golden/make.py`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use s3t::core::registry::plugins;
use s3t::core::tensors::StageTensors;
use s3t::core::{BlockRange, PluginKind, Task};
use s3t::interchange::{Adapter, read_adapter, write_adapter};
use s3t::models::{Device, read_safetensors};
use serde::Deserialize;

use crate::{Golden, check_close, folders, models, name, read_json, root};

#[derive(Deserialize)]
struct Logits {
    logits: Vec<Vec<f32>>,
}

/// The models with adapters.
fn adapted() -> Vec<PathBuf> {
    models().into_iter().filter(|model| model.join("adapters").is_dir()).collect()
}

/// The adapters of a model that are read; prefixes of `peft` are not.
fn adapters(model: &Path) -> Vec<PathBuf> {
    folders(&model.join("adapters")).into_iter().filter(|adapter| name(adapter) != "prefix").collect()
}

fn task(golden: &Golden) -> Task {
    match golden.outputs_of_head() {
        0 => Task::CausalLm,
        classes => Task::Classification { classes },
    }
}

#[track_caller]
fn check_outputs(golden: &Golden, adapter: &Adapter, expected: &[Vec<f32>], what: &str) {
    let model = adapter.model(&*golden.model, &Device::flex(), task(golden)).unwrap();
    for (row, (found, expected)) in golden.outputs(&model).iter().zip(expected).enumerate() {
        check_close(found, expected, &format!("{what}, input {row}"));
    }
}

#[test]
fn adapters_of_peft_give_the_outputs_of_peft() {
    for model in adapted() {
        let golden = Golden::load(&model);
        for folder in adapters(&model) {
            let expected: Logits = read_json(&folder.join("golden.json"));
            let read = read_adapter(&folder, &*golden.model, &[]).unwrap();
            check_outputs(&golden, &read, &expected.logits, &format!("{}, {}", name(&model), name(&folder)));
        }
    }
}

#[test]
fn methods_that_peft_does_not_know_give_the_outputs_of_a_reference() {
    for model in adapted() {
        let golden = Golden::load(&model);
        for folder in folders(&model.join("reference")) {
            let expected: Logits = read_json(&folder.join("golden.json"));
            let tensors = read_safetensors(&folder.join("tensors.safetensors")).unwrap();
            let tensors = StageTensors::from_named(tensors).unwrap();
            let adapter = Adapter::new(read_json(&folder.join("method.json")), tensors);
            check_outputs(&golden, &adapter, &expected.logits, &format!("{}, {}", name(&model), name(&folder)));
        }
    }
}

#[test]
fn every_method_is_compared_on_every_model() {
    let methods = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::PeftMethod);
    let methods: Vec<String> = methods.map(|plugin| plugin.name().to_owned()).collect();
    for model in adapted() {
        let golden = Golden::load(&model);
        let mut compared = BTreeSet::new();
        for folder in adapters(&model) {
            let adapter = read_adapter(&folder, &*golden.model, &[]).unwrap();
            let method = &adapter.parts[0].method;
            compared.insert(serde_json::to_value(method).unwrap()["type"].as_str().unwrap().to_owned());
        }
        for folder in folders(&model.join("reference")) {
            let table: serde_json::Value = read_json(&folder.join("method.json"));
            compared.insert(table["type"].as_str().unwrap().to_owned());
        }
        assert_eq!(compared.into_iter().collect::<Vec<_>>(), methods, "{}", name(&model));
    }
}

/// What we write reads back as it was, and is what `peft` itself wrote. (`xtask/golden/check.py` loads exports with `peft`.)
#[test]
fn written_adapters_read_back() {
    for model in adapted() {
        let golden = Golden::load(&model);
        for folder in adapters(&model) {
            let expected: Logits = read_json(&folder.join("golden.json"));
            let read = read_adapter(&folder, &*golden.model, &[]).unwrap();
            let (first, last) = (*read.blocks().first().unwrap(), *read.blocks().last().unwrap());
            let blocks = BlockRange { start: first, end: last + 1 };
            let out = tempfile::tempdir().unwrap();
            let method = &*read.parts[0].method;
            write_adapter(out.path(), &*golden.model, method, blocks, &read.tensors, task(&golden), "base").unwrap();
            let again = read_adapter(out.path(), &*golden.model, &[]).unwrap();
            assert_eq!(again.tensors.len(), read.tensors.len());
            let what = format!("{}, {}", name(&model), name(&folder));
            assert_eq!(again.blocks(), read.blocks(), "{what}");
            check_outputs(&golden, &again, &expected.logits, &format!("{what} written again"));
            // Written under the newest names, and with the whole head.
            if what.ends_with("old-names") || what.ends_with("part-of-head") {
                continue;
            }
            // Name for name and shape for shape what `peft` itself saved.
            let file = |folder: &Path| read_safetensors(&folder.join("adapter_model.safetensors")).unwrap();
            assert_eq!(file(out.path()), file(&folder), "{what}: the file that peft wrote");
        }
    }
}

#[test]
fn what_peft_cannot_hold_or_we_cannot_read_is_refused_with_the_reason() {
    let golden = Golden::load(&root().join("bert-classifier"));
    let folder = root().join("bert-classifier/adapters/prefix");
    let message = read_adapter(&folder, &*golden.model, &[]).unwrap_err().to_string();
    assert!(message.contains("PREFIX_TUNING") && message.contains("known: IA3, LORA"), "{message}");
    let with = |key: &str, value: serde_json::Value| {
        let out = tempfile::tempdir().unwrap();
        let lora = root().join("bert-classifier/adapters/lora");
        let mut config: serde_json::Value = read_json(&lora.join("adapter_config.json"));
        config[key] = value;
        std::fs::write(out.path().join("adapter_config.json"), config.to_string()).unwrap();
        std::fs::copy(lora.join("adapter_model.safetensors"), out.path().join("adapter_model.safetensors")).unwrap();
        read_adapter(out.path(), &*golden.model, &[]).unwrap_err().to_string()
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
