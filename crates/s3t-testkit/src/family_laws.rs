//! The laws that every model family inherits. A new family is one call with a folder of a small model.

use std::ops::Range;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_core::tensors::{HostTensor, StageTensors};
use s3t_core::{Payload, Record, RecordId, Target};
use s3t_lora::Lora;
use s3t_models::burn::tensor::TensorData;
use s3t_models::{Backbone, Device, Hidden, Input};
use s3t_peft::tensors::{stage_on_device, to_host};
use s3t_peft::{Adapters, BlockAdapter, Init, KeyValuePrefix, Linear, LinearSite, PeftMethod, Sublayer, Tensor, bind};

/// A way of running the blocks of a model: the model's own, [`AsWritten`], or a mistake that a test plants.
pub trait RunBlocks: Sync {
    /// Runs the blocks `range`, as [`Backbone::run`] does.
    fn run(&self, backbone: &Backbone, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden;
}

/// The model's own way of running its blocks.
pub struct AsWritten;

impl RunBlocks for AsWritten {
    fn run(&self, backbone: &Backbone, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        backbone.run(hidden, range, adapters)
    }
}

/// Checks the laws of a model's blocks.
///
/// - Pieces: blocks run in pieces give the bits that they give at once.
/// - Independence: a record's bits do not depend on the records beside it, nor on its place among them.
/// - Padding: the values of padding change no bit of a record.
/// - Threads: their number changes no bit.
/// - Start: adapters that start at zero leave the model's function as it is.
/// - Adapters: a block without an adapter computes the bits of the base model, and one with an adapter others, for adapters of
///   every kind.
///
/// # Panics
///
/// If a law does not hold, with the law's name, or if the model has fewer than 2 blocks.
pub fn check_blocks(backbone: &Backbone, blocks: &dyn RunBlocks) {
    assert!(backbone.blocks() >= 2, "the laws need a model of 2 or more blocks");
    let records = records(backbone, 40);
    let world = World { backbone, blocks, inputs: inputs(backbone, &records) };
    world.check_pieces();
    world.check_independence();
    world.check_padding();
    world.check_threads();
    world.check_start();
    world.check_adapters();
}

/// Records that the model takes: noise, or texts of many lengths.
pub(crate) fn records(backbone: &Backbone, count: u64) -> Vec<Record> {
    (0..count).map(|row| record(backbone, row)).collect()
}

fn record(backbone: &Backbone, row: u64) -> Record {
    let pixel = |at: u64| ((row * 7919 + at * at * 31 + at * 17) % 256) as u8;
    let payload = match backbone.image_input() {
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
    let id = RecordId::new(format!("row-{row}")).expect("a well-formed id");
    Record { id, subject: None, target: Target::None, ordinal: row, payload }
}

pub(crate) fn inputs<'a>(backbone: &Backbone, records: &'a [Record]) -> Vec<Input<'a>> {
    let prepare =
        |record| backbone.prepare(record).unwrap_or_else(|error| panic!("the model takes short texts: {error}"));
    records.iter().map(prepare).collect()
}

/// A model with inputs.
struct World<'a> {
    backbone: &'a Backbone,
    blocks: &'a dyn RunBlocks,
    inputs: Vec<Input<'a>>,
}

impl World<'_> {
    fn few(&self) -> Vec<&Input<'_>> {
        self.inputs.iter().take(6).collect()
    }

    fn tokens(&self) -> usize {
        self.inputs.iter().map(|input| input.padded).max().unwrap_or(0)
    }

    fn embed(&self, inputs: &[&Input<'_>]) -> Hidden {
        self.backbone.embed(inputs, self.tokens())
    }

    fn run(&self, hidden: Hidden, range: Range<usize>, adapters: &Adapters) -> Hidden {
        self.blocks.run(self.backbone, hidden, range, adapters)
    }

    /// The bits of each input's own tokens after all blocks.
    fn bits(&self, inputs: &[&Input<'_>]) -> Vec<Vec<u32>> {
        own_bits(self.run(self.embed(inputs), 0..self.backbone.blocks(), &Adapters::none()), inputs)
    }

    fn check_pieces(&self) {
        let (few, blocks) = (self.few(), self.backbone.blocks());
        let mut hidden = self.embed(&few);
        for range in [0..1, 1..1, 1..blocks - 1, blocks - 1..blocks] {
            hidden = self.run(hidden, range, &Adapters::none());
        }
        assert!(own_bits(hidden, &few) == self.bits(&few), "pieces: blocks that run in pieces give other bits");
    }

    fn check_independence(&self) {
        let all: Vec<&Input<'_>> = self.inputs.iter().collect();
        for size in [2, 5, 31, 32, 33] {
            // Record 6 stands at another place each time, among others.
            let beside = |start: usize| self.bits(&all[start..start + size])[6 - start].clone();
            let first = 6_usize.saturating_sub(size - 1);
            let expected = beside(first);
            for start in [first + 1, 6] {
                assert!(beside(start) == expected, "independence: other records matter in a batch of {size}");
            }
        }
    }

    fn check_padding(&self) {
        let few = self.few();
        let embedded = self.embed(&few);
        let [batch, tokens, width] = embedded.states.dims();
        let with = |padding: f32| {
            let mut values = to_host(embedded.states.clone());
            for (row, input) in few.iter().enumerate() {
                values[(row * tokens + input.tokens) * width..(row + 1) * tokens * width].fill(padding);
            }
            let states = Tensor::from_data(TensorData::new(values, [batch, tokens, width]), &Device::flex());
            let hidden = Hidden::new(states, Arc::clone(&embedded.lengths));
            own_bits(self.run(hidden, 0..self.backbone.blocks(), &Adapters::none()), &few)
        };
        assert!(with(0.0) == with(3.0), "padding: its values reach a record");
    }

    fn check_threads(&self) {
        let all: Vec<&Input<'_>> = self.inputs.iter().collect();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
            pool.install(|| self.bits(&all))
        };
        let expected = with(1);
        for threads in [2, 4] {
            assert!(with(threads) == expected, "threads: {threads} of them give other bits");
        }
    }

    fn check_start(&self) {
        let shape = self.backbone.block_shape();
        let targets = shape.linears.keys().map(|site| site.name().to_owned()).collect();
        let method = Lora { rank: 2, alpha: 4.0, targets, ..Lora::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut tensors = StageTensors::default();
        for block in 0..self.backbone.blocks() {
            for spec in method.parameters(&shape) {
                let values =
                    (0..spec.len()).map(|_| if spec.init == Init::Zeros { 0.0 } else { rng.sample(StandardNormal) });
                tensors.insert(block, &spec.name, HostTensor { shape: spec.shape.clone(), values: values.collect() });
            }
        }
        let tensors = stage_on_device(&tensors, &Device::flex());
        let adapters = bind(&method, &shape, 0..self.backbone.blocks(), &tensors.blocks, None)
            .expect("LoRA takes the parameters that it declared");
        let few = self.few();
        let values =
            |adapters: &Adapters| to_host(self.run(self.embed(&few), 0..self.backbone.blocks(), adapters).states);
        let (found, expected) = (values(&adapters), values(&Adapters::none()));
        let largest = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        let apart = found.iter().zip(&expected).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(apart <= 1e-6 * largest, "start: adapters at zero move the output by {apart}");
    }

    fn check_adapters(&self) {
        let blocks = self.backbone.blocks();
        let few = self.few();
        let none = Adapters::none();
        for (kind, make) in kinds(self.backbone) {
            for adapted in 0..blocks {
                let mut adapters = Adapters::none();
                adapters.insert(adapted, make());
                let mut hidden = self.embed(&few);
                for block in 0..blocks {
                    let run =
                        |adapters: &Adapters| own_bits(self.run(hidden.clone(), block..block + 1, adapters), &few);
                    let same = run(&adapters) == run(&none);
                    assert!(
                        same || block == adapted,
                        "adapters: block {block} changes with {kind} in block {adapted} only"
                    );
                    assert!(!same || block != adapted, "adapters: {kind} in block {adapted} changes nothing");
                    hidden = self.run(hidden, block..block + 1, &none);
                }
            }
        }
    }
}

/// The bits of each input's own tokens.
pub(crate) fn own_bits(hidden: Hidden, inputs: &[&Input<'_>]) -> Vec<Vec<u32>> {
    let [_, tokens, width] = hidden.states.dims();
    let values = to_host(hidden.states);
    let own =
        |(row, input): (&[f32], &&Input<'_>)| row[..input.tokens * width].iter().map(|value| value.to_bits()).collect();
    values.chunks(tokens * width).zip(inputs).map(own).collect()
}

type MakeAdapter = Box<dyn Fn() -> Box<dyn BlockAdapter>>;

/// Adapters of every kind, each through another hook of a block.
fn kinds(backbone: &Backbone) -> Vec<(&'static str, MakeAdapter)> {
    let shape = backbone.block_shape();
    let (kv_heads, head_dim, hidden) = (shape.kv_heads, shape.head_dim, shape.hidden);
    vec![
        ("a scaling", Box::new(|| Box::new(Scaling))),
        ("a bottleneck", Box::new(|| Box::new(Bottleneck))),
        ("a prefix", Box::new(move || Box::new(Prefix([kv_heads, 2, head_dim])))),
        ("a prompt", Box::new(move || Box::new(Prompt([3, hidden])))),
    ]
}

/// As IA3 (Liu et al. 2022, arXiv 2205.05638): scales keys, values and the inner feed-forward activation.
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

/// As a bottleneck adapter (Houlsby et al. 2019, arXiv 1902.00751) with the identity inside.
struct Bottleneck;

impl BlockAdapter for Bottleneck {
    fn sublayer(&self, _place: Sublayer, y: Tensor<2>) -> Tensor<2> {
        y.clone() + y.tanh()
    }
}

/// As prefix tuning (Li and Liang 2021, arXiv 2101.00190), of this shape.
struct Prefix([usize; 3]);

impl BlockAdapter for Prefix {
    fn key_value_prefix(&self) -> Option<KeyValuePrefix> {
        let ones = Tensor::ones(self.0, &Device::flex());
        Some(KeyValuePrefix { keys: ones.clone(), values: ones })
    }
}

/// As deep prompt tuning (Liu et al. 2022, arXiv 2110.07602), of this shape.
struct Prompt([usize; 2]);

impl BlockAdapter for Prompt {
    fn prompt(&self) -> Option<Tensor<2>> {
        Some(Tensor::ones(self.0, &Device::flex()))
    }
}
