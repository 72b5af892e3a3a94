//! The golden files, which `xtask/golden/make.py` makes with Python `transformers` and `peft`: those in this folder, and those in
//! the folder `golden` of each plugin.

mod adapters;
mod bare_models;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3t::core::{Payload, Record, RecordId, Target, Task};
use s3t::models::{Backbone, Device, Input, LoadOptions, head_outputs, load};
use s3t::peft::Adapters;
use s3t::peft::tensors::to_host;
use s3t::train::StageModel;
use serde::Deserialize;

/// What a model gave for some inputs.
#[derive(Deserialize)]
struct Values {
    inputs: Option<Vec<String>>,
    pixels: Option<Vec<Vec<u8>>>,
    ids: Option<Vec<Vec<u32>>>,
    hidden: Vec<Vec<Vec<f32>>>,
    logits: Option<Vec<Vec<f32>>>,
    pooled: Option<Vec<Vec<f32>>>,
}

/// A model with what it gave.
struct Golden {
    model: Arc<Backbone>,
    values: Values,
    records: Vec<Record>,
    causal: bool,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folders in a folder, sorted by name; none if it is not there.
fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The folders of all models.
fn models() -> Vec<PathBuf> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let of_plugins = folders(&plugins).into_iter().map(|plugin| plugin.join("golden"));
    of_plugins.chain([root()]).flat_map(|root| folders(&root)).collect()
}

/// The name of a folder.
fn name(folder: &Path) -> &str {
    folder.file_name().unwrap().to_str().unwrap()
}

/// The `config.json` of a model.
fn config(folder: &Path) -> serde_json::Value {
    read_json(&folder.join("config.json"))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[track_caller]
fn check_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (position, (one, other)) in found.iter().zip(expected).enumerate() {
        assert!((one - other).abs() < 1e-4, "{what}, position {position}: {one} and {other}");
    }
}

impl Golden {
    fn load(folder: &Path) -> Self {
        let model = load(folder, LoadOptions::default(), &Device::flex()).unwrap();
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
            id: RecordId::new(format!("row-{row}")).unwrap(),
            subject: None,
            target: Target::None,
            ordinal: 0,
            payload,
        };
        let records = texts.chain(images).enumerate().map(record).collect();
        let class = config(folder)["architectures"][0].to_string();
        Self { model, values, records, causal: class.contains("ForCausalLM") }
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        self.records.iter().map(|record| self.model.prepare(record).unwrap()).collect()
    }

    /// The number of outputs of the model's own head, 0 for a language head.
    fn outputs_of_head(&self) -> usize {
        self.model.classifier().filter(|_| !self.causal).map_or(0, head_outputs)
    }

    /// The model with its own head.
    fn base(&self) -> Option<StageModel> {
        let classes = self.outputs_of_head();
        let task = if self.causal { Task::CausalLm } else { Task::Classification { classes } };
        StageModel::base(&*self.model, &Device::flex(), task).filter(|_| self.causal || classes > 0)
    }

    /// What a model on this base answers for each input: of a causal one, at every token.
    fn outputs(&self, model: &StageModel) -> Vec<Vec<f32>> {
        let of_input = |input: Input<'_>| {
            let hidden = self.model.embed(&[&input], input.tokens);
            let hidden = self.model.run(hidden, 0..model.start(), &Adapters::none());
            if self.causal {
                let rows: Vec<usize> = (0..input.tokens).collect();
                to_host(model.next_token_logits(&*self.model, hidden, &rows))
            } else {
                to_host(model.logits(&*self.model, hidden))
            }
        };
        self.inputs().into_iter().map(of_input).collect()
    }
}
