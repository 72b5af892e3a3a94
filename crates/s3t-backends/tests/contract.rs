//! The contract of a backbone, held by each model type and by a model of real size.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use s3t_backends::{Backbone, Hidden, Input, LoadOptions, load};
use s3t_core::{Payload, Record, RecordId, Target};
use s3t_peft::tensors::to_host;
use s3t_peft::{Adapters, BlockAdapter, KeyValuePrefix, Linear, LinearSite, Sublayer};

/// One small model of each type, made by the script in `xtask/golden`.
const MODELS: [&str; 4] = ["bert-classifier", "roberta-classifier", "llama-causal", "vit-model"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../s3t/tests/golden").join(name)
}

/// A model with records for it: noise, or texts of many lengths.
struct World {
    model: Arc<dyn Backbone>,
    records: Vec<Record>,
}

impl World {
    fn new(folder: &Path) -> Self {
        let model = load(folder, LoadOptions::default(), &Device::flex()).unwrap();
        let records = (0..70).map(|row| record(&*model, row)).collect();
        Self { model, records }
    }

    fn all() -> Vec<Self> {
        // The bundled model has real sizes, so that the backend's fast paths are taken.
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/vit-mnist");
        MODELS.into_iter().map(folder).chain([bundled]).map(|folder| Self::new(&folder)).collect()
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        self.records.iter().map(|record| self.model.prepare(record).unwrap()).collect()
    }
}

fn record(model: &dyn Backbone, row: u64) -> Record {
    let pixel = |at: u64| ((row * 7919 + at * at * 31 + at * 17) % 256) as u8;
    let payload = match model.image_input() {
        Some(input) => {
            let (height, width, channels) = (input.height, input.width, input.channels);
            let count = u64::from(height) * u64::from(width) * u64::from(channels);
            Payload::Image { width, height, channels, pixels: (0..count).map(pixel).collect() }
        }
        None => {
            let words = ["a", "good", "film", "Bad", "the", "end", "x", "never"];
            let text: Vec<&str> = (0..=row * row % 7).map(|at| words[pixel(at) as usize % words.len()]).collect();
            Payload::Text(text.join(" "))
        }
    };
    Record {
        id: RecordId::new(format!("row-{row}")).unwrap(),
        subject: None,
        target: Target::None,
        ordinal: 0,
        payload,
    }
}

/// The bits of each input's own tokens after all blocks, in one batch padded to `tokens`.
fn bits(model: &dyn Backbone, inputs: &[&Input<'_>], tokens: usize) -> Vec<Vec<u32>> {
    own_bits(model, model.run(model.embed(inputs, tokens), 0..model.blocks(), &Adapters::none()))
}

fn own_bits(model: &dyn Backbone, hidden: Hidden) -> Vec<Vec<u32>> {
    let size = hidden.states.dims()[1] * model.hidden();
    let values = to_host(hidden.states);
    let own =
        |(row, length): (&[f32], &usize)| row[..length * model.hidden()].iter().map(|value| value.to_bits()).collect();
    values.chunks(size).zip(hidden.lengths.iter()).map(own).collect()
}

#[test]
fn a_record_s_bits_do_not_depend_on_the_records_beside_it() {
    for world in World::all() {
        let inputs = world.inputs();
        let all: Vec<&Input<'_>> = inputs.iter().collect();
        let tokens = inputs.iter().map(|input| input.padded).max().unwrap();
        for size in [2, 3, 5, 31, 32, 33, 64] {
            // Record 6 stands at another place each time, among others.
            let beside = |start: usize| bits(&*world.model, &all[start..start + size], tokens)[6 - start].clone();
            let (first, last) = (6_usize.saturating_sub(size - 1), 6);
            let expected = beside(first);
            for start in first..=last {
                assert_eq!(beside(start), expected, "{}: {size} from {start}", world.model.model_type());
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for world in World::all() {
        let inputs = world.inputs();
        let all: Vec<&Input<'_>> = inputs.iter().collect();
        let tokens = inputs.iter().map(|input| input.padded).max().unwrap();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&*world.model, &all, tokens))
        };
        let one = with(1);
        assert_eq!(with(2), one);
        assert_eq!(with(4), one);
    }
}

#[test]
fn blocks_run_in_pieces_as_they_run_at_once() {
    for world in World::all() {
        let inputs = world.inputs();
        let few: Vec<&Input<'_>> = inputs.iter().take(5).collect();
        let tokens = few.iter().map(|input| input.padded).max().unwrap();
        let mut hidden = world.model.embed(&few, tokens);
        let blocks = world.model.blocks();
        for range in [0..2, 2..2, 2..blocks - 1, blocks - 1..blocks] {
            hidden = world.model.run(hidden, range, &Adapters::none());
        }
        assert_eq!(own_bits(&*world.model, hidden), bits(&*world.model, &few, tokens));
    }
}

#[test]
fn what_padding_holds_changes_no_bit_of_a_record() {
    for world in World::all().into_iter().filter(|world| world.model.image_input().is_none()) {
        let inputs = world.inputs();
        let few: Vec<&Input<'_>> = inputs.iter().take(6).collect();
        let tokens = few.iter().map(|input| input.padded).max().unwrap() + 8;
        let embedded = world.model.embed(&few, tokens);
        let [batch, _, width] = embedded.states.dims();
        let with = |padding: f32| {
            let mut values = to_host(embedded.states.clone());
            for (row, length) in embedded.lengths.iter().enumerate() {
                values[(row * tokens + length) * width..(row + 1) * tokens * width].fill(padding);
            }
            let data = burn::tensor::TensorData::new(values, [batch, tokens, width]);
            let hidden = Hidden::new(Tensor::from_data(data, &Device::flex()), Arc::clone(&embedded.lengths));
            own_bits(&*world.model, world.model.run(hidden, 0..world.model.blocks(), &Adapters::none()))
        };
        assert_eq!(with(0.0), with(3.0), "{}", world.model.model_type());
    }
}

mod hooks {
    //! The trait is wide enough for the families of methods: each uses another hook of a block.

    use super::*;

    /// What each method does, as a closed form on a block's output.
    #[track_caller]
    fn check_changes_and_only_at(adapter: Box<dyn BlockAdapter>, block: usize) {
        let world = World::new(&folder("vit-model"));
        let inputs = world.inputs();
        let few: Vec<&Input<'_>> = inputs.iter().take(2).collect();
        let mut adapters = Adapters::none();
        adapters.insert(block, adapter);
        let run = |range: Range<usize>, adapters: &Adapters| {
            let hidden = world.model.embed(&few, world.model.max_tokens());
            to_host(world.model.run(hidden, range, adapters).states)
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
