//! Golden files: small random models of `transformers` with their tokens, hidden states and outputs, and adapters of `peft` with the
//! outputs that they give. `xtask/golden/make.py` makes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3t_core::registry::plugins;
use s3t_core::tensors::StageTensors;
use s3t_core::{BlockRange, Payload, PluginKind, Record, RecordId, Target, Task};
use s3t_interchange::{Adapter, read_adapter, write_adapter};
use s3t_models::{Backbone, Device, Input, LoadOptions, head_outputs, load, read_safetensors};
use s3t_peft::Adapters;
use s3t_peft::tensors::to_host;
use s3t_train::StageModel;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest difference from Python's numbers.
const TOLERANCE: f32 = 1e-4;

/// The values that a model gave for some inputs.
#[derive(Deserialize)]
struct Values {
    inputs: Option<Vec<String>>,
    pixels: Option<Vec<Vec<u8>>>,
    ids: Option<Vec<Vec<u32>>>,
    hidden: Vec<Vec<Vec<f32>>>,
    logits: Option<Vec<Vec<f32>>>,
    pooled: Option<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct Logits {
    logits: Vec<Vec<f32>>,
}

/// A model with the values that it gave in Python.
struct Golden {
    name: String,
    folder: PathBuf,
    model: Arc<Backbone>,
    values: Values,
    records: Vec<Record>,
    causal: bool,
}

fn read_json<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders in a folder, sorted by name; empty if it is not there.
pub fn folders(of: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(of).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The `model_type` of a model's folder.
///
/// # Panics
///
/// If the folder has no `config.json` with one.
pub fn model_type(folder: &Path) -> String {
    let config: serde_json::Value = read_json(&folder.join("config.json"));
    config["model_type"].as_str().expect("config.json has a model_type").to_owned()
}

#[track_caller]
fn check_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: the number of values");
    for (position, (one, other)) in found.iter().zip(expected).enumerate() {
        assert!((one - other).abs() < TOLERANCE, "{what}, position {position}: {one} and {other}");
    }
}

impl Golden {
    fn load(folder: &Path) -> Self {
        let model = load(folder, LoadOptions::default(), &Device::flex())
            .unwrap_or_else(|error| panic!("{} loads: {error}", folder.display()));
        let values: Values = read_json(&folder.join("golden.json"));
        let texts = values.inputs.iter().flatten().map(|text| Payload::Text(text.clone()));
        let (channels, side) = model.image_input().map(|input| (input.channels, input.width)).unwrap_or_default();
        let images = values.pixels.iter().flatten().map(|pixels| Payload::Image {
            width: side,
            height: side,
            channels,
            pixels: pixels.clone(),
        });
        let record = |(row, payload)| Record {
            id: RecordId::new(format!("row-{row}")).expect("a well-formed id"),
            subject: None,
            target: Target::None,
            ordinal: 0,
            payload,
        };
        let records = texts.chain(images).enumerate().map(record).collect();
        let config: serde_json::Value = read_json(&folder.join("config.json"));
        let causal = config["architectures"][0].as_str().is_some_and(|class| class.ends_with("ForCausalLM"));
        Self { name: name(folder), folder: folder.into(), model, values, records, causal }
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let prepare = |record| self.model.prepare(record).expect("the model takes the inputs of its golden file");
        self.records.iter().map(prepare).collect()
    }

    /// The outputs of the model's own head, 0 for a language head.
    fn outputs_of_head(&self) -> usize {
        self.model.classifier().filter(|_| !self.causal).map_or(0, head_outputs)
    }

    fn task(&self) -> Task {
        match self.outputs_of_head() {
            0 => Task::CausalLm,
            classes => Task::Classification { classes },
        }
    }

    /// The model with its own head.
    fn base(&self) -> Option<StageModel> {
        let classes = self.outputs_of_head();
        let task = if self.causal { Task::CausalLm } else { Task::Classification { classes } };
        StageModel::base(&self.model, &Device::flex(), task).filter(|_| self.causal || classes > 0)
    }

    /// The outputs of a model on this base for each input: of a causal one, at every token.
    fn outputs(&self, model: &StageModel) -> Vec<Vec<f32>> {
        let of_input = |input: Input<'_>| {
            let hidden = self.model.embed(&[&input], input.tokens);
            let hidden = self.model.run(hidden, 0..model.start(), &Adapters::none());
            if self.causal {
                let rows: Vec<usize> = (0..input.tokens).collect();
                to_host(model.next_token_logits(&self.model, hidden, &rows))
            } else {
                to_host(model.logits(&self.model, hidden))
            }
        };
        self.inputs().into_iter().map(of_input).collect()
    }

    /// The adapters of `peft` that are read: prefixes are not.
    fn adapters(&self) -> Vec<PathBuf> {
        folders(&self.folder.join("adapters")).into_iter().filter(|adapter| name(adapter) != "prefix").collect()
    }

    fn read(&self, adapter: &Path) -> Adapter {
        read_adapter(adapter, &self.model, &[]).unwrap_or_else(|error| panic!("{} is read: {error}", adapter.display()))
    }

    #[track_caller]
    fn check_outputs(&self, adapter: &Adapter, expected: &[Vec<f32>], what: &str) {
        let model = adapter.model(&self.model, &Device::flex(), self.task()).expect("the adapter is bound");
        let found = self.outputs(&model);
        assert_eq!(found.len(), expected.len(), "{}, {what}: the number of inputs", self.name);
        for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
            check_close(found, expected, &format!("{}, {what}, input {row}", self.name));
        }
    }

    fn check_hidden(&self, first: usize, batch: &[&Input<'_>]) {
        let model = &self.model;
        let tokens = batch.iter().map(|input| input.tokens).max().unwrap_or(0);
        let mut hidden = model.embed(batch, tokens);
        for block in 0..=model.blocks() {
            let values = to_host(hidden.states.clone());
            for (row, input) in batch.iter().enumerate() {
                let start = row * tokens * model.hidden();
                let own = &values[start..start + input.tokens * model.hidden()];
                let what = format!("{}: input {}, before block {block}", self.name, first + row);
                check_close(own, &self.values.hidden[first + row][block], &what);
            }
            if block < model.blocks() {
                hidden = model.run(hidden, block..block + 1, &Adapters::none());
            }
        }
        if let Some(pooled) = &self.values.pooled {
            check_close(&to_host(model.pool(hidden)), &pooled[first..first + batch.len()].concat(), &self.name);
        }
    }
}

/// Compares a model with `transformers`: tokens, hidden states before and behind every block, each input alone and all in one
/// padded batch, pooled rows, and the outputs of the model's own head.
///
/// # Panics
///
/// If a value is further than 1e-4 from Python's.
pub fn check_golden_model(folder: &Path) {
    let golden = Golden::load(folder);
    let inputs = golden.inputs();
    if let Some(ids) = &golden.values.ids {
        let found: Vec<Vec<u32>> = inputs.iter().map(|input| input.ids.clone()).collect();
        assert_eq!(&found, ids, "{}: tokens", golden.name);
    }
    for (first, input) in inputs.iter().enumerate() {
        golden.check_hidden(first, &[input]);
    }
    golden.check_hidden(0, &inputs.iter().collect::<Vec<_>>());
    assert_eq!(golden.base().is_some(), golden.values.logits.is_some(), "{}: a head of its own", golden.name);
    if let (Some(base), Some(logits)) = (golden.base(), &golden.values.logits) {
        for (found, expected) in golden.outputs(&base).iter().zip(logits) {
            check_close(found, expected, &format!("{}: logits", golden.name));
        }
    }
}

/// Compares a model's adapters with `peft`: read, they give its outputs; written, they are the file that it wrote, and read back;
/// methods that it does not know give the outputs of reference implementations. Every linked method is among them.
///
/// # Panics
///
/// If a value is further than 1e-4 from Python's, a written file differs from that of `peft`, or a method is missing.
pub fn check_golden_adapters(folder: &Path) {
    let golden = Golden::load(folder);
    let mut compared = BTreeSet::new();
    for adapter in golden.adapters() {
        let expected: Logits = read_json(&adapter.join("golden.json"));
        let read = golden.read(&adapter);
        golden.check_outputs(&read, &expected.logits, &name(&adapter));
        compared.insert(read.parts[0].method.typetag_name().to_owned());
        check_written(&golden, &adapter, &read, &expected.logits);
    }
    for reference in folders(&folder.join("reference")) {
        let expected: Logits = read_json(&reference.join("golden.json"));
        let tensors = read_safetensors(&reference.join("tensors.safetensors")).expect("the tensors are read");
        let tensors = StageTensors::from_named(tensors).expect("the tensors have the names of a stage's");
        let adapter = Adapter::new(read_json(&reference.join("method.json")), tensors);
        golden.check_outputs(&adapter, &expected.logits, &name(&reference));
        compared.insert(adapter.parts[0].method.typetag_name().to_owned());
    }
    let methods = plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::PeftMethod);
    let missing: Vec<&str> = methods.map(|plugin| plugin.name()).filter(|name| !compared.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "{}: methods without golden files", golden.name);
}

/// A written adapter reads back as it was, and is the file that `peft` wrote.
fn check_written(golden: &Golden, adapter: &Path, read: &Adapter, expected: &[Vec<f32>]) {
    let blocks = read.blocks();
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { panic!("the adapter has no block") };
    let (blocks, what) = (BlockRange { start: *first, end: last + 1 }, name(adapter));
    let out = tempfile::tempdir().expect("a temporary folder");
    let method = &*read.parts[0].method;
    write_adapter(out.path(), &golden.model, method, blocks, &read.tensors, golden.task(), "base")
        .unwrap_or_else(|error| panic!("{what} is written: {error}"));
    let again = golden.read(out.path());
    assert_eq!((again.tensors.len(), again.blocks()), (read.tensors.len(), read.blocks()), "{what}: read back");
    golden.check_outputs(&again, expected, &format!("{what} written again"));
    // Written under the newest names, and with the whole head.
    if what.ends_with("old-names") || what.ends_with("part-of-head") {
        return;
    }
    let file = |folder: &Path| read_safetensors(&folder.join("adapter_model.safetensors")).expect("tensors are read");
    assert_eq!(file(out.path()), file(adapter), "{}, {what}: the file that peft wrote", golden.name);
}
