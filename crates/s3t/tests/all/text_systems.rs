//! Whole systems on models of texts, for every task: what survives a deletion is what would be there without the record, the
//! number of jobs changes no bit, and what is exported answers as the store does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use s3t::core::tensors::{NamedTensors, StageTensors};
use s3t::core::{StoreSecret, lineage::Lineage};
use s3t::interchange::{SupersededExport, export, read_adapter, superseded};
use s3t::models::Device;
use s3t::peft::PeftMethod;
use s3t::plugins::ia3::Ia3;
use s3t::prelude::*;
use s3t_testkit::golden::folders;

/// A model of the golden files, here or in the folder of a plugin.
fn golden(name: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let of_plugins = models_of_plugins().into_iter().find(|model| model.ends_with(name));
    if own.is_dir() { own } else { of_plugins.unwrap_or(own) }
}

/// The models in the folders of plugins.
fn models_of_plugins() -> Vec<PathBuf> {
    let plugins = folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins"));
    plugins.iter().flat_map(|plugin| folders(&plugin.join("golden"))).collect()
}

/// Texts of many lengths with a target for the task.
fn records(task: Task, count: u32) -> Vec<Record> {
    let words = ["a", "good", "film", "bad", "the", "end", "never", "again"];
    let record = |row: u32| {
        let text: Vec<&str> = (0..2 + row * 5 % 7).map(|at| words[((row * 3 + at * at) % 8) as usize]).collect();
        let target = match task {
            Task::Classification { .. } => Target::Class(row % 3),
            Task::MultiLabel { .. } => Target::Classes((0..3).filter(|class| row.is_multiple_of(class + 1)).collect()),
            Task::Regression => Target::Value(row as f32 / 10.0),
            Task::CausalLm => Target::Text(words[(row % 4) as usize].to_owned()),
        };
        Record {
            id: RecordId::new(format!("record-{row}")).unwrap(),
            subject: None,
            target,
            ordinal: u64::from(row),
            payload: Payload::Text(text.join(" ")),
        }
    };
    (0..count).map(record).collect()
}

/// A copy of a golden model that a test may change.
fn copy_of(model: &str, folder: &Path) -> PathBuf {
    let to = folder.join("model");
    std::fs::create_dir(&to).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(golden(model).join(file), to.join(file)).unwrap();
    }
    to
}

fn pipeline(model: &str, store: &Path, task: Task, jobs: usize) -> Pipeline {
    let labels = match task {
        Task::Classification { .. } | Task::MultiLabel { .. } => {
            Labels::new(["red", "green", "blue"].map(str::to_owned).to_vec()).unwrap()
        }
        Task::Regression | Task::CausalLm => Labels::none(),
    };
    let peft = Lora { rank: 2, alpha: 4.0, dropout: 0.1, ..Lora::default() };
    let mut pipeline = Pipeline::new(golden(model), store, labels, peft);
    pipeline.task = task;
    pipeline.shape = PartitionShape { shards: 1, slices: 2 };
    pipeline.budget = 2;
    pipeline.training = TrainingConfig { epochs: 2, batch_size: 4, learning_rate: 1e-2, ..TrainingConfig::default() };
    if task == Task::CausalLm {
        (pipeline.training.batch_size, pipeline.training.accumulate) = (2, 2);
    }
    pipeline.resources.jobs = jobs;
    // Neither jobs nor the graphs that are kept in memory change a bit.
    pipeline.resources.gradient_checkpointing = jobs == 2;
    pipeline
}

fn trained(model: &str, store: &Path, task: Task, records: &[Record], jobs: usize) -> System {
    let secret = Some(StoreSecret::from_bytes([4; 32]));
    let system = System::create(pipeline(model, store, task, jobs), records, secret).unwrap();
    system.train(&Quiet).unwrap();
    system
}

const CLASSES: Task = Task::Classification { classes: 3 };

/// The models in the folders of plugins that have a head, with its task.
fn cases_of_plugins() -> Vec<(String, Task)> {
    let case = |model: PathBuf| {
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(model.join("config.json")).unwrap()).unwrap();
        let class = config["architectures"][0].as_str().unwrap().to_owned();
        let task = match class.split_once("For") {
            Some((_, "SequenceClassification")) => CLASSES,
            Some((_, "CausalLM")) => Task::CausalLm,
            _ => return None,
        };
        Some((model.file_name().unwrap().to_str().unwrap().to_owned(), task))
    };
    models_of_plugins().into_iter().filter_map(case).collect()
}

const CASES: [(&str, Task); 6] = [
    ("bert-classifier", CLASSES),
    ("bert-classifier", Task::MultiLabel { classes: 3 }),
    ("roberta-classifier", Task::Regression),
    ("roberta-classifier", CLASSES),
    ("llama-classifier", CLASSES),
    ("llama-causal", Task::CausalLm),
];

#[test]
fn what_survives_a_deletion_is_what_would_be_there_without_the_record() {
    let own = CASES.map(|(model, task)| (model.to_owned(), task));
    for (model, task) in own.into_iter().chain(cases_of_plugins()) {
        let model = model.as_str();
        let folder = tempfile::tempdir().unwrap();
        let records = records(task, 24);
        let with = trained(model, &folder.path().join("with"), task, &records, 1);
        let without = trained(model, &folder.path().join("without"), task, &records[1..], 2);
        with.delete(std::slice::from_ref(&records[0].id), &[]).unwrap();
        let stage = |system: &System, key| -> (Lineage, StageTensors) { system.store().stage(&key).unwrap() };
        let survivors = with.snapshot().unwrap().stages().clone();
        assert!(!survivors.is_empty());
        for key in survivors {
            let difference = stage(&with, key).1.first_difference(&stage(&without, key).1);
            assert_eq!(difference, None, "{model}, {}", task.name());
        }
        with.train(&Quiet).unwrap();
        assert_eq!(with.snapshot().unwrap().stages().clone(), without.snapshot().unwrap().stages().clone());
        let report = with.verify(VerifyScope::All, &Quiet).unwrap();
        assert!(report.passed(), "{model}, {}: {report:?}", task.name());
        let score = evaluate(&with, &records[1..]).unwrap();
        assert_eq!(score, evaluate(&without, &records[1..]).unwrap());
    }
}

#[test]
fn a_causal_model_learns_to_continue_and_stays_frozen_in_its_head() {
    let folder = tempfile::tempdir().unwrap();
    let records = records(Task::CausalLm, 40);
    let mut pipeline = pipeline("llama-causal", &folder.path().join("store"), Task::CausalLm, 2);
    let targets = ["query", "key", "value", "output", "gate", "up", "down"].map(str::to_owned).to_vec();
    pipeline.peft = Box::new(Lora { rank: 8, alpha: 16.0, targets, ..Lora::default() });
    pipeline.training = TrainingConfig { epochs: 60, batch_size: 8, learning_rate: 1e-2, ..TrainingConfig::default() };
    let system = System::create(pipeline, &records, None).unwrap();
    system.train(&Quiet).unwrap();
    for key in system.snapshot().unwrap().stages().clone() {
        let (_, tensors) = system.store().stage(&key).unwrap();
        assert_eq!(tensors.head, None, "no head is trained");
    }
    let score = evaluate(&system, &records).unwrap();
    // The end of a text follows every response, so half of the tokens are easy; the words are four.
    assert!(score.score > 0.6, "{score:?}");
    let completions = system.complete(&records[..4], 5).unwrap();
    // It was told to answer with one of four words, and mostly has learnt it.
    let words = ["a", "good", "film", "bad"];
    let right = completions.iter().filter(|completion| words.contains(&&*completion.text)).count();
    assert!(right >= 2, "{completions:?}");
}

#[test]
fn what_is_exported_answers_as_the_store_does_and_is_superseded_by_a_deletion() {
    let own = ["bert-classifier", "roberta-classifier", "llama-classifier"].map(|model| (model.to_owned(), CLASSES));
    let of_plugins = cases_of_plugins().into_iter().filter(|(_, task)| *task == CLASSES);
    for (model, task) in own.into_iter().chain(of_plugins) {
        let model = model.as_str();
        let folder = tempfile::tempdir().unwrap();
        let records = records(task, 24);
        let system = trained(model, &folder.path().join("store"), task, &records, 1);
        // Cut to the first stage: the export must hold the top group and the first stage's head only.
        let (_, _, chain) = {
            let members = &*system.pipeline().serving.members;
            s3t::engine::serving_chains(&system.snapshot().unwrap(), members).remove(0)
        };
        let address = |system: &System, slice| {
            let at = |record: &&Record| system.store().address(&record.id).unwrap();
            records.iter().find(|record| at(record).is_some_and(|address| address.slice.index() == slice))
        };
        assert_eq!(chain.len(), 2);
        let before = folder.path().join("exports/before");
        std::fs::create_dir(folder.path().join("exports")).unwrap();
        export(&system, &before).unwrap();
        let hit = address(&system, 1).unwrap().id.clone();
        system.delete(&[hit], &[]).unwrap();
        let after = folder.path().join("exports/after");
        let exported = export(&system, &after).unwrap();
        assert_eq!((exported.epoch.0, exported.shards.len(), exported.shards[0].stages.len()), (1, 1, 1));
        assert_eq!(exported.shards[0].blocks.range(), 2..4);
        // Another store's export beside them is none of this one's business.
        let pipeline = pipeline(model, &folder.path().join("other"), task, 1);
        let other = System::create(pipeline, &records[1..], Some(StoreSecret::from_bytes([5; 32]))).unwrap();
        other.train(&Quiet).unwrap();
        export(&other, &folder.path().join("exports/other")).unwrap();
        let expected = SupersededExport { folder: before, gone: 1 };
        assert_eq!(superseded(&system, &folder.path().join("exports")).unwrap().exports, [expected]);
        assert!(export(&system, &after).unwrap_err().to_string().contains("exists already"));

        let adapter = read_adapter(&after.join("shard-0"), system.backbone(), &[]).unwrap();
        assert_eq!(adapter.blocks(), BTreeSet::from([2, 3]));
        let stage = system.store().stage(&exported.shards[0].stages[0]).unwrap().1;
        assert_eq!(values(&adapter.tensors), values(&stage), "{model}");
        assert!(adapter.model(system.backbone(), &Device::flex(), task).is_ok());
    }
}

fn values(tensors: &StageTensors) -> StageTensors<Vec<f32>> {
    tensors.map(|tensor| tensor.values.clone())
}

#[test]
fn layers_whose_names_end_alike_are_exported_and_read_one_by_one() {
    // In BERT `output.dense` is the end of `attention.output.dense` too.
    let down = Lora { rank: 2, alpha: 4.0, targets: vec!["down".into()], ..Lora::default() };
    let methods: [&dyn Fn() -> Box<dyn PeftMethod>; 2] = [&|| Box::new(Ia3::default()), &|| Box::new(down.clone())];
    for method in methods {
        for model in ["bert-classifier", "roberta-classifier"] {
            let folder = tempfile::tempdir().unwrap();
            let mut pipeline = pipeline(model, &folder.path().join("store"), CLASSES, 1);
            pipeline.peft = method();
            let secret = Some(StoreSecret::from_bytes([4; 32]));
            let system = System::create(pipeline, &records(CLASSES, 12), secret).unwrap();
            system.train(&Quiet).unwrap();
            let to = folder.path().join("export");
            let exported = export(&system, &to).unwrap();
            let adapter = read_adapter(&to.join("shard-0"), system.backbone(), &[]).unwrap();
            let stages = exported.shards[0].stages.iter().map(|key| system.store().stage(key).unwrap().1);
            let stages = StageTensors::of_chain(stages).unwrap();
            assert_eq!(values(&adapter.tensors), values(&stages), "{model}");
        }
    }
}

#[test]
fn a_head_that_transformers_would_not_build_is_not_trained() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy_of("bert-classifier", folder.path());
    let weights = s3t::models::read_safetensors(&model.join("model.safetensors")).unwrap();
    let without = |parts: &'static [&'static str]| {
        let kept = |name: &str| !parts.iter().any(|part| name.contains(part));
        weights.clone().into_iter().filter(|(name, _)| kept(name)).collect::<NamedTensors>()
    };
    for (parts, message) in [
        (&["pooler", "classifier"][..], "the base model has no place for a head: the model has no `pooler.dense`"),
        (&["pooler"], "the weights hold a head, `classifier`, but the model has no `pooler.dense`"),
    ] {
        s3t::models::write_safetensors(&model.join("model.safetensors"), &without(parts)).unwrap();
        let mut pipeline = pipeline("bert-classifier", &folder.path().join("store"), CLASSES, 1);
        pipeline.model.clone_from(&model);
        let found = System::create(pipeline, &records(CLASSES, 12), None).err().expect("refused").to_string();
        assert!(found.contains(message), "{found}");
        assert!(!folder.path().join("store").exists());
    }
}

fn edit(file: &Path, key: &str, value: serde_json::Value) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|_| "{}".into());
    let mut fields: serde_json::Value = serde_json::from_str(&text).unwrap();
    fields[key] = value;
    std::fs::write(file, fields.to_string()).unwrap();
}

#[test]
fn the_base_models_own_head_answers_for_its_own_classes_only() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy_of("bert-classifier", folder.path());
    let config = model.join("config.json");
    let create = |name: &str| {
        let mut pipeline = pipeline("bert-classifier", &folder.path().join(name), CLASSES, 1);
        pipeline.model.clone_from(&model);
        pipeline.serving.dead_shard = s3t::engine::DeadShard::Base;
        System::create(pipeline, &records(CLASSES, 12), None).map_err(|error| error.to_string())
    };
    let names = |names: [&str; 3]| serde_json::json!({ "0": names[0], "1": names[1], "2": names[2] });
    for (order, words) in [
        (["green", "red", "blue"], "names its outputs green, red, blue"),
        (["a", "b", "c"], "`data.labels` is red, green, blue"),
    ] {
        edit(&config, "id2label", names(order));
        let message = create("refused").err().expect("refused");
        assert!(message.contains(words) && message.contains("`serving.dead_shard`"), "{message}");
    }
    edit(&config, "id2label", names(["red", "green", "blue"]));
    assert!(create("same").is_ok());
    edit(&config, "id2label", names(["LABEL_0", "LABEL_1", "LABEL_2"]));
    assert!(create("numbers").is_ok());
    edit(&config, "problem_type", "regression".into());
    assert!(create("problem").err().expect("refused").contains("`problem_type` of the base model is `regression`"));
}

#[test]
fn completions_end_where_generation_config_says() {
    let folder = tempfile::tempdir().unwrap();
    let model = copy_of("llama-causal", folder.path());
    let load = || s3t::models::load(&model, s3t::models::LoadOptions::default(), &Device::flex());
    let of_model = load().unwrap();
    assert_eq!(of_model.end_tokens(), [2]);
    let generation = model.join("generation_config.json");
    edit(&generation, "eos_token_id", serde_json::json!([2, 7]));
    let both = load().unwrap();
    assert_eq!(both.end_tokens(), [2, 7]);
    // Training depends on config.json alone.
    assert_eq!(both.digest(), of_model.digest());
    edit(&generation, "repetition_penalty", 1.3.into());
    let message = load().err().expect("refused").to_string();
    assert!(message.contains("generation_config.json`: `repetition_penalty` is 1.3"), "{message}");
}

#[test]
fn exports_call_the_base_model_by_a_name_not_by_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let records = records(CLASSES, 12);
    let store = folder.path().join("store");
    drop(trained("bert-classifier", &store, CLASSES, &records, 1));
    for (given, name) in [(None, "bert-classifier"), (Some("somebody/bert"), "somebody/bert")] {
        let mut pipeline = pipeline("bert-classifier", &store, CLASSES, 1);
        pipeline.model_name = given.map(str::to_owned);
        let system = System::open(pipeline).unwrap();
        let to = folder.path().join(name.replace('/', "-"));
        export(&system, &to).unwrap();
        let config = std::fs::read_to_string(to.join("shard-0/adapter_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["base_model_name_or_path"], name);
    }
}

#[test]
fn texts_are_cut_to_a_limit_of_the_user_alone_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = records(CLASSES, 12);
    records[4].payload = Payload::Text("the end ".repeat(40));
    let create = |name: &str, limit: Option<usize>| {
        let mut pipeline = pipeline("bert-classifier", &folder.path().join(name), CLASSES, 1);
        pipeline.max_tokens = limit;
        System::create(pipeline, &records, None)
    };
    let message = create("whole", None).err().expect("refused").to_string();
    assert!(message.contains("record `record-4` is a text of") && message.contains("`model.max_tokens`"), "{message}");
    let system = create("cut", Some(32)).unwrap();
    assert_eq!(system.cut_when_made(), 1);
    assert_eq!(system.cut(&records).unwrap(), 1);
}

#[test]
fn pairs_of_texts_are_learnt_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = records(CLASSES, 12);
    for record in &mut records {
        let Payload::Text(text) = record.payload.clone() else { unreachable!("they are texts") };
        record.payload = Payload::TextPair(text, "a film".into());
    }
    let system = trained("bert-classifier", &folder.path().join("store"), CLASSES, &records, 1);
    let pairs = system.predict(&records).unwrap();
    for record in &mut records {
        let Payload::TextPair(first, second) = record.payload.clone() else { unreachable!("they are pairs") };
        record.payload = Payload::TextPair(second, first);
    }
    let turned = system.predict(&records).unwrap();
    assert!(pairs.iter().zip(&turned).any(|(one, other)| one.scores != other.scores));
}

#[test]
fn an_unreadable_description_of_an_export_is_told_and_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let system = trained("bert-classifier", &folder.path().join("store"), CLASSES, &records(CLASSES, 12), 1);
    let exports = folder.path().join("exports");
    std::fs::create_dir_all(exports.join("damaged")).unwrap();
    let damaged = exports.join("damaged").join(s3t::interchange::MANIFEST);
    std::fs::write(&damaged, "{").unwrap();
    export(&system, &exports.join("old")).unwrap();
    system.delete(&[records(CLASSES, 12)[0].id.clone()], &[]).unwrap();
    let found = superseded(&system, &exports).unwrap();
    assert_eq!((found.exports.len(), found.unreadable), (1, vec![damaged]));
}

#[test]
fn targets_and_models_that_do_not_fit_the_task_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let refused = |model: &str, task: Task, records: &[Record]| {
        let error = System::create(pipeline(model, &store, task, 1), records, None).err().expect("refused").to_string();
        assert!(!store.exists());
        error
    };
    let message = refused("bert-classifier", CLASSES, &records(Task::Regression, 9));
    assert!(message.contains("record `record-0` has a number, which task `classification` cannot learn"), "{message}");
    let message = refused("bert-classifier", Task::CausalLm, &records(Task::CausalLm, 9));
    assert!(message.contains("no language head"), "{message}");
    let mut long = records(Task::CausalLm, 9);
    long[3].payload = Payload::Text("the end ".repeat(40));
    let message = refused("llama-causal", Task::CausalLm, &long);
    assert!(message.contains("record `record-3` is a prompt of") && message.contains("39 tokens"), "{message}");
    let mut silent = records(Task::CausalLm, 9);
    silent[2].target = Target::Text(" ".into());
    let mut endless = pipeline("llama-causal", &store, Task::CausalLm, 1);
    endless.model = copy_of("llama-causal", folder.path());
    let config = std::fs::read_to_string(endless.model.join("config.json")).unwrap();
    let config = config.replace(r#""eos_token_id": 2"#, r#""eos_token_id": null"#);
    std::fs::write(endless.model.join("config.json"), config).unwrap();
    let path = endless.model.join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    tokenizer["normalizer"] = serde_json::json!({ "type": "Strip", "strip_left": true, "strip_right": true });
    std::fs::write(path, tokenizer.to_string()).unwrap();
    let message = System::create(endless, &silent, None).err().expect("refused").to_string();
    assert!(message.contains("record `record-2` is a response without any token"), "{message}");
    let message = refused("vit-classifier", CLASSES, &records(CLASSES, 9));
    assert!(message.contains("bytes of text"), "{message}");
}
