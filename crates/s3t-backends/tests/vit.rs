//! The ViT against Python `transformers`, and the contract of a backbone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use s3t_backends::{Backbone, load};
use s3t_core::{Payload, Record, RecordId};
use s3t_peft::tensors::to_host;
use s3t_peft::{Adapters, BlockAdapter, KeyValuePrefix, Linear, LinearSite, Sublayer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    pixels: Vec<Vec<u8>>,
    hidden: Vec<Vec<f32>>,
    pooled: Vec<f32>,
    logits: Option<Vec<f32>>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn model(name: &str) -> Arc<dyn Backbone> {
    load(&folder(name), &Device::flex()).unwrap()
}

fn golden(name: &str) -> Golden {
    serde_json::from_str(&std::fs::read_to_string(folder(name).join("golden.json")).unwrap()).unwrap()
}

fn records(model: &dyn Backbone, pixels: &[Vec<u8>]) -> Vec<Record> {
    let (channels, side) = model.image_input().unwrap();
    let record = |(row, pixels): (usize, &Vec<u8>)| Record {
        id: RecordId::new(format!("row-{row}")).unwrap(),
        subject: None,
        label: 0,
        ordinal: 0,
        payload: Payload::Image { width: side, height: side, channels, pixels: pixels.clone() },
    };
    pixels.iter().enumerate().map(record).collect()
}

#[track_caller]
fn check_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (position, (one, other)) in found.iter().zip(expected).enumerate() {
        assert!((one - other).abs() < 1e-4, "{what} position {position}: {one} and {other}");
    }
}

#[track_caller]
fn check_golden(name: &str) {
    let (model, golden) = (model(name), golden(name));
    let records = records(&*model, &golden.pixels);
    let references: Vec<&Record> = records.iter().collect();
    records.iter().for_each(|record| model.check(record).unwrap());
    let mut hidden = model.embed(&references);
    check_close(&to_host(hidden.clone()), &golden.hidden[0], "embedding");
    for block in 0..model.blocks() {
        hidden = model.run(hidden, block..block + 1, &Adapters::none());
        check_close(&to_host(hidden.clone()), &golden.hidden[block + 1], &format!("block {block}"));
    }
    let pooled = model.pool(hidden);
    check_close(&to_host(pooled.clone()), &golden.pooled, "pooled");
    assert_eq!(model.classifier().is_some(), golden.logits.is_some());
    if let (Some(classifier), Some(logits)) = (model.classifier(), golden.logits) {
        let device = pooled.device();
        let weight = TensorData::new(classifier.weight.clone(), [classifier.bias.len(), model.hidden()]);
        let bias = TensorData::new(classifier.bias.clone(), [1, classifier.bias.len()]);
        let found =
            pooled.matmul(Tensor::<2>::from_data(weight, &device).transpose()) + Tensor::from_data(bias, &device);
        check_close(&to_host(found), &logits, "logits");
    }
}

#[test]
fn a_bare_model_agrees_with_transformers() {
    check_golden("vit-model");
}

#[test]
fn a_classifier_agrees_with_transformers() {
    check_golden("vit-classifier");
}

/// The bundled model on some noise: real sizes, so that the backend's fast paths are taken.
fn bundled() -> (Arc<dyn Backbone>, Vec<Record>) {
    let model = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vit-mnist"), &Device::flex()).unwrap();
    let pixel = |row: u64, at: u64| ((row * 7919 + at * at * 31 + at * 17) % 256) as u8;
    let pixels: Vec<Vec<u8>> = (0..70).map(|row| (0..28 * 28).map(|at| pixel(row, at)).collect()).collect();
    let records = records(&*model, &pixels);
    (model, records)
}

fn bits(model: &dyn Backbone, records: &[&Record], adapters: &Adapters) -> Vec<Vec<u32>> {
    let hidden = model.run(model.embed(records), 0..model.blocks(), adapters);
    let values = to_host(hidden);
    values.chunks(values.len() / records.len()).map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
}

#[test]
fn a_record_s_bits_do_not_depend_on_the_records_beside_it() {
    let (model, records) = bundled();
    let all: Vec<&Record> = records.iter().collect();
    let together = bits(&*model, &all, &Adapters::none());
    for size in [1, 2, 3, 5, 31, 32, 33, 64] {
        for start in [0, 1, 6] {
            let part = &all[start..start + size];
            assert_eq!(bits(&*model, part, &Adapters::none()), together[start..start + size], "{size} from {start}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (model, records) = bundled();
    let all: Vec<&Record> = records.iter().collect();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&*model, &all, &Adapters::none()))
    };
    let one = with(1);
    assert_eq!(with(2), one);
    assert_eq!(with(4), one);
}

#[test]
fn blocks_run_in_pieces_as_they_run_at_once() {
    let (model, records) = bundled();
    let all: Vec<&Record> = records.iter().take(5).collect();
    let at_once = bits(&*model, &all, &Adapters::none());
    let mut hidden = model.embed(&all);
    for range in [0..2, 2..2, 2..5, 5..6] {
        hidden = model.run(hidden, range, &Adapters::none());
    }
    let in_pieces: Vec<u32> = to_host(hidden).iter().map(|value| value.to_bits()).collect();
    assert_eq!(in_pieces, at_once.concat());
}

mod hooks {
    //! The trait is wide enough for the families of methods: each uses another hook of a block.

    use super::*;

    /// What each method does, as a closed form on a block's output.
    #[track_caller]
    fn check_changes_and_only_at(adapter: Box<dyn BlockAdapter>, block: usize) {
        let model = model("vit-model");
        let records = records(&*model, &golden("vit-model").pixels);
        let references: Vec<&Record> = records.iter().collect();
        let mut adapters = Adapters::none();
        adapters.insert(block, adapter);
        let run = |range: std::ops::Range<usize>, adapters: &Adapters| {
            to_host(model.run(model.embed(&references), range, adapters))
        };
        assert_eq!(run(0..block, &adapters), run(0..block, &Adapters::none()), "blocks below are as in the base model");
        let (with, without) = (run(0..block + 1, &adapters), run(0..block + 1, &Adapters::none()));
        assert_ne!(with, without);
        assert_eq!(with.len(), without.len(), "tokens that a method adds are taken off again");
    }

    /// IA3 (Liu et al. 2022): scales keys, values and the inner feed-forward activation.
    struct Scaling;

    impl BlockAdapter for Scaling {
        fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
            match site {
                LinearSite::Key | LinearSite::Value => base.forward(x).mul_scalar(1.5),
                LinearSite::Down => base.forward(x.mul_scalar(0.5)),
                _ => base.forward(x),
            }
        }
    }

    /// A bottleneck adapter (Houlsby et al. 2019) with the identity inside.
    struct Bottleneck;

    impl BlockAdapter for Bottleneck {
        fn sublayer(&self, _place: Sublayer, y: Tensor<2>) -> Tensor<2> {
            y.clone() + y.tanh()
        }
    }

    /// Prefix tuning (Li and Liang 2021).
    struct Prefix;

    impl BlockAdapter for Prefix {
        fn key_value_prefix(&self) -> Option<KeyValuePrefix> {
            let ones = Tensor::ones([4, 2, 4], &Device::flex());
            Some(KeyValuePrefix { keys: ones.clone(), values: ones })
        }
    }

    /// Deep prompt tuning (Liu et al. 2022).
    struct Prompt;

    impl BlockAdapter for Prompt {
        fn prompt(&self) -> Option<Tensor<2>> {
            Some(Tensor::ones([3, 16], &Device::flex()))
        }
    }

    #[test]
    fn scalings_bottlenecks_prefixes_and_prompts_change_their_block_only() {
        for block in 0..3 {
            check_changes_and_only_at(Box::new(Scaling), block);
            check_changes_and_only_at(Box::new(Bottleneck), block);
            check_changes_and_only_at(Box::new(Prefix), block);
            check_changes_and_only_at(Box::new(Prompt), block);
        }
    }
}
