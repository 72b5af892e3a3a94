//! The laws that every PEFT method inherits. A new method is one call.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_core::lineage::Lineage;
use s3t_core::tensors::{HostTensor, StageTensors, parameter_name};
use s3t_core::{Record, StoreSecret};
use s3t_engine::{Quiet, System, VerifyScope};
use s3t_models::{Backbone, Device, Input, LoadOptions, Precision, WeightFormat, read_safetensors, write_safetensors};
use s3t_peft::tensors::{stage_on_device, to_device, to_host};
use s3t_peft::{Adapters, PeftMethod, Tensor, Weight, bind};
use s3t_train::{StageModel, check_isolation, stacked_outputs};

use crate::{tiny_pipeline, toy_records, write_tiny_model};

const BLOCKS: usize = 4;

/// Checks every law on a method, given as its pipeline table (`{"type": "lora", "rank": 2}`).
///
/// - Attaching and detaching: after an adapter is dropped the base model computes the bits that it computed before.
/// - Independence: a record's result does not depend on the records beside it.
/// - Pooling: running the last block for what the head reads of it gives what running it whole gives.
/// - Stacking: models of several shards in one pass answer as each alone.
/// - Gradients agree with finite differences.
/// - Precision: with frozen weights in bfloat16 or 8-bit integers results stay near those in single precision, and gradients flow; with 4-bit
///   numbers they have the bits of the same weights in bfloat16.
/// - Checkpointing: keeping the graph of one block at a time in memory changes no bit.
/// - Isolation: a stage holds the parameters of its own layer group and its head, and all of them moved.
/// - Saving and loading is bit-equal, training again gives the same bits, and what survives a deletion, also after a
///   repair, is what would be there without the record.
///
/// # Panics
///
/// If a law does not hold, with the law's name.
pub fn check_peft_method(table: &serde_json::Value) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tiny_model(&folder.path().join("model"), BLOCKS).expect("the tiny model is written");
    let device = Device::flex();
    let backbone =
        s3t_models::load(&folder.path().join("model"), LoadOptions::default(), &device).expect("the tiny model loads");
    let method = read(table);
    method.check(&backbone.block_shape()).expect("the method takes the tiny model's blocks");
    let parameters = random_parameters(&*method, &backbone);
    check_detaching(&*method, &backbone, &device, &parameters);
    check_independence(&*method, &backbone, &device, &parameters);
    check_pooling(&*method, &backbone, &device, &parameters);
    check_stacking(&*method, &backbone, &device, parameters.clone());
    check_gradients(&*method, &backbone, &device, &parameters);
    let load = |name: &str, options| {
        s3t_models::load(&folder.path().join(name), options, &device).expect("the tiny model loads")
    };
    let in_bf16 = LoadOptions { precision: Precision::Bf16, ..LoadOptions::default() };
    let in_form = |weights| LoadOptions { weights, ..LoadOptions::default() };
    for options in [in_bf16.clone(), in_form(WeightFormat::Int8)] {
        check_precision(&*method, [&backbone, &load("model", options)], &device, &parameters);
    }
    write_in_levels(folder.path());
    let of_levels = load("model", in_form(WeightFormat::Nf4));
    check_levels(&*method, [&load("levels", in_bf16), &of_levels], &device, &parameters);
    check_unlearning(table);
}

fn read(table: &serde_json::Value) -> Box<dyn PeftMethod> {
    serde_json::from_value(table.clone()).expect("the method reads its table")
}

/// Parameters away from where they start, so that every one of them has an effect.
fn random_parameters(method: &dyn PeftMethod, backbone: &Backbone) -> StageTensors {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let specs = method.parameters(&backbone.block_shape());
    let mut tensors = StageTensors::default();
    for block in 0..BLOCKS {
        for spec in &specs {
            let values = (0..spec.len()).map(|_| 0.3 * rng.sample::<f32, _>(StandardNormal)).collect();
            let replaced = tensors.insert(block, &spec.name, HostTensor { shape: spec.shape.clone(), values });
            assert!(replaced.is_none(), "two parameters are called `{}`", spec.name);
        }
    }
    assert!(!tensors.is_empty(), "the method has no parameters");
    tensors
}

fn prepare<'a>(backbone: &Backbone, records: &'a [Record]) -> Vec<Input<'a>> {
    records.iter().map(|record| backbone.prepare(record).expect("the model takes toy records")).collect()
}

fn run(backbone: &Backbone, records: &[Record], adapters: &Adapters) -> Tensor<2> {
    let inputs = prepare(backbone, records);
    let hidden = backbone.embed(&inputs.iter().collect::<Vec<_>>(), backbone.max_tokens());
    backbone.pool(backbone.run(hidden, 0..BLOCKS, adapters))
}

fn bits(tensor: Tensor<2>) -> Vec<u32> {
    to_host(tensor).into_iter().map(f32::to_bits).collect()
}

fn attach(method: &dyn PeftMethod, backbone: &Backbone, tensors: &StageTensors<Tensor<1>>) -> Adapters {
    bind(method, &backbone.block_shape(), 0..BLOCKS, &tensors.blocks, None)
        .expect("the method takes the parameters it declared")
}

fn check_detaching(method: &dyn PeftMethod, backbone: &Backbone, device: &Device, parameters: &StageTensors) {
    let records = toy_records(5, 0, 1);
    let before = bits(run(backbone, &records, &Adapters::none()));
    let adapters = attach(method, backbone, &stage_on_device(parameters, device));
    assert_ne!(bits(run(backbone, &records, &adapters)), before, "attaching: the adapter has no effect");
    drop(adapters);
    assert_eq!(bits(run(backbone, &records, &Adapters::none())), before, "detaching: the base model's bits changed");
}

fn check_independence(method: &dyn PeftMethod, backbone: &Backbone, device: &Device, parameters: &StageTensors) {
    let adapters = attach(method, backbone, &stage_on_device(parameters, device));
    let mut records = toy_records(9, 0, 1);
    let together = bits(run(backbone, &records, &adapters));
    let last = &together[together.len() - backbone.hidden()..];
    records.drain(..6);
    records.splice(0..2, toy_records(8, 0, 2));
    let beside_others = bits(run(backbone, &records, &adapters));
    assert_eq!(&beside_others[beside_others.len() - backbone.hidden()..], last, "independence: other records matter");
}

fn check_precision(
    method: &dyn PeftMethod,
    [full, rounded]: [&Backbone; 2],
    device: &Device,
    parameters: &StageTensors,
) {
    let results = |backbone| results_and_gradients(method, backbone, device, parameters);
    for ((found, expected), what) in results(rounded).into_iter().zip(results(full)).zip(["results", "gradients"]) {
        assert_eq!(found.len(), expected.len(), "precision: some {what} are missing");
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let apart = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs() / largest);
        let apart = apart.fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < 0.1, "precision: {what} with rounded weights are {apart} apart");
    }
}

/// Writes the tiny model of a folder a second time, with the weights of its blocks as 4-bit numbers have them.
fn write_in_levels(folder: &Path) {
    let (model, levels) = (folder.join("model"), folder.join("levels"));
    std::fs::create_dir(&levels).expect("a folder is made");
    for file in std::fs::read_dir(&model).expect("the tiny model is read").flatten() {
        std::fs::copy(file.path(), levels.join(file.file_name())).expect("a file is copied");
    }
    let file = levels.join("model.safetensors");
    let mut tensors = read_safetensors(&file).expect("the tiny model is read");
    for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains(".layer.")) {
        if let [outputs, inputs] = tensor.shape[..] {
            let weight = to_device(tensor, &Device::flex()).reshape([outputs, inputs]).transpose();
            tensor.values = to_host(Weight::in_nibbles(&weight).full().transpose());
        }
    }
    write_safetensors(&file, &tensors).expect("the tiny model is written");
}

fn check_levels(
    method: &dyn PeftMethod,
    [expected, of_levels]: [&Backbone; 2],
    device: &Device,
    parameters: &StageTensors,
) {
    let results = |backbone| results_and_gradients(method, backbone, device, parameters);
    for ((found, expected), what) in results(of_levels).iter().zip(results(expected)).zip(["results", "gradients"]) {
        let same = found.iter().map(|value| value.to_bits()).eq(expected.iter().map(|value| value.to_bits()));
        assert!(same, "levels: {what} are not those of the same weights in bfloat16");
    }
}

/// The results of records, and the gradients of the method's parameters.
fn results_and_gradients(
    method: &dyn PeftMethod,
    backbone: &Backbone,
    device: &Device,
    parameters: &StageTensors,
) -> [Vec<f32>; 2] {
    let records = toy_records(5, 0, 8);
    let shape = [records.len(), backbone.hidden()];
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let values = (0..shape[0] * shape[1]).map(|_| rng.sample(StandardNormal)).collect();
    let projection = HostTensor { shape: shape.to_vec(), values };
    let tracked = stage_on_device(parameters, device).map(|tensor| tensor.clone().autodiff().require_grad());
    let y = run(backbone, &records, &attach(method, backbone, &tracked));
    let found = to_host(y.clone());
    let mut gradients = (y * to_device(&projection, device).reshape(shape)).sum().backward();
    let of_parameters = tracked.blocks.values().flat_map(|tensors| tensors.values());
    let of_parameters = of_parameters.map(|tensor| tensor.grad_remove(&mut gradients).map(to_host).unwrap_or_default());
    [found, of_parameters.flatten().collect()]
}

fn check_pooling(method: &dyn PeftMethod, backbone: &Backbone, device: &Device, parameters: &StageTensors) {
    let records = toy_records(5, 0, 6);
    let adapters = attach(method, backbone, &stage_on_device(parameters, device));
    let whole = to_host(run(backbone, &records, &adapters));
    let inputs = prepare(backbone, &records);
    let hidden = backbone.embed(&inputs.iter().collect::<Vec<_>>(), backbone.max_tokens());
    let pooled = to_host(backbone.pool(backbone.run_to_pool(hidden, 0..BLOCKS, &adapters)));
    assert_close(&pooled, &whole, "pooling");
}

fn check_stacking(method: &dyn PeftMethod, backbone: &Backbone, device: &Device, mut parameters: StageTensors) {
    const OUTPUTS: usize = 3;
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for spec in backbone.head().parameters(OUTPUTS, backbone.hidden()) {
        let values = (0..spec.len()).map(|_| rng.sample::<f32, _>(StandardNormal)).collect();
        parameters.insert_head(spec.name, HostTensor { shape: spec.shape, values });
    }
    // Each shard has other values, and another lowest block; two have the same, and one has none.
    let model = |(shard, start): (usize, usize)| {
        let scaled = |tensor: &HostTensor| {
            let values = tensor.values.iter().map(|value| value * (1.0 - 0.2 * shard as f32)).collect();
            HostTensor { shape: tensor.shape.clone(), values }
        };
        let tensors = stage_on_device(&parameters.map(scaled), device);
        StageModel::of_blocks(backbone, method, &(start..BLOCKS).collect(), OUTPUTS, &tensors)
            .expect("the method takes the parameters it declared")
    };
    let records = toy_records(7, 0, 7);
    let inputs = prepare(backbone, &records);
    let inputs: Vec<&Input<'_>> = inputs.iter().collect();
    for starts in [vec![2, 0, 3, 0, BLOCKS], vec![1, 1, 3], vec![0], vec![BLOCKS]] {
        let models: Vec<StageModel> = starts.into_iter().enumerate().map(model).collect();
        let Some(stacked) = stacked_outputs(backbone, &models.iter().collect::<Vec<_>>(), &inputs) else {
            continue;
        };
        assert_eq!(stacked.len(), models.len());
        for (model, stacked) in models.iter().zip(stacked) {
            assert_close(&stacked.concat(), &model.outputs(backbone, &inputs).concat(), "stacking");
        }
    }
}

/// Up to the rounding of sums of other lengths.
fn assert_close(found: &[f32], expected: &[f32], law: &str) {
    assert_eq!(found.len(), expected.len(), "{law}: other sizes");
    let largest = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-5 * largest, "{law}: place {place} has {found} and not {expected}");
    }
}

/// Compares the derivative of a random projection of the output, along a random direction of each parameter, with a
/// fourth-order central difference. Its sum is taken in double precision, so that what is left is the rounding of the
/// model's own single precision; a wrong gradient is off by far more than the hundredth allowed.
fn check_gradients(method: &dyn PeftMethod, backbone: &Backbone, device: &Device, parameters: &StageTensors) {
    const STEP: f32 = 2e-3;
    let records = toy_records(3, 0, 4);
    let output = |tensors: &StageTensors<Tensor<1>>| run(backbone, &records, &attach(method, backbone, tensors));
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.sample(StandardNormal)).collect() };
    let shape = [records.len(), backbone.hidden()];
    let projection = HostTensor { shape: shape.to_vec(), values: draw(shape[0] * shape[1]) };

    let tracked = stage_on_device(parameters, device).map(|tensor| tensor.clone().autodiff().require_grad());
    let mut gradients = (output(&tracked) * to_device(&projection, device).reshape(shape)).sum().backward();
    let of_blocks = tracked.blocks.iter().flat_map(|(block, tensors)| tensors.iter().map(move |entry| (*block, entry)));
    for (block, (short, tensor)) in of_blocks {
        let name = parameter_name(block, short);
        let gradient = tensor.grad_remove(&mut gradients).unwrap_or_else(|| panic!("gradients: `{name}` has none"));
        let direction = draw(parameters.blocks[&block][short].values.len());
        let dot = |one: &[f32], other: &[f32]| -> f64 {
            one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
        };
        let exact = dot(&to_host(gradient), &direction);
        let at = |steps: f32| {
            let mut moved = parameters.clone();
            if let Some(tensor) = moved.blocks.get_mut(&block).and_then(|tensors| tensors.get_mut(short)) {
                tensor.values.iter_mut().zip(&direction).for_each(|(value, d)| *value += steps * STEP * d);
            }
            dot(&to_host(output(&stage_on_device(&moved, device))), &projection.values)
        };
        let numeric = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * f64::from(STEP));
        let allowed = 1e-2 * exact.abs().max(numeric.abs()).max(0.1);
        assert!((exact - numeric).abs() < allowed, "gradients: `{name}`: {exact} and {numeric} by finite differences");
    }
}

fn check_unlearning(table: &serde_json::Value) {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let records = toy_records(40, 0, 6);
    let [with, without] = [0, 1].map(|world: usize| {
        let folder = folders[world].path();
        write_tiny_model(&folder.join("model"), BLOCKS).expect("the tiny model is written");
        let mut pipeline = tiny_pipeline(&folder.join("model"), &folder.join("store"));
        pipeline.shape.shards = 1;
        pipeline.shape.slices = 2;
        pipeline.budget = 2;
        pipeline.peft = read(table);
        // One world keeps the graph of one block at a time, the other of all: no bit may differ.
        pipeline.resources.gradient_checkpointing = world == 1;
        let secret = Some(StoreSecret::from_bytes([9; 32]));
        let system = System::create(pipeline, &records[world..], secret).expect("the system is made");
        system.train(&Quiet).expect("the stages train");
        system
    });
    let stage = |system: &System, key| system.store().stage(&key).expect("the stage is read back");
    for key in with.snapshot().expect("the stages are listed").stages() {
        let (lineage, tensors): (Lineage, _) = stage(&with, *key);
        check_isolation(&lineage, &tensors).expect("isolation");
    }
    let report = with.verify(VerifyScope::All, &Quiet).expect("the stages train again");
    assert!(report.passed(), "training again: {report:?}");
    with.delete(std::slice::from_ref(&records[0].id), &[]).expect("the record is deleted");
    let same = |with: &System, word: &str| {
        for key in with.snapshot().expect("the stages are listed").stages() {
            let difference = stage(with, *key).1.first_difference(&stage(&without, *key).1);
            assert_eq!(difference, None, "non-interference {word}");
        }
    };
    same(&with, "after the deletion");
    with.train(&Quiet).expect("the stages are repaired");
    let stages = |system: &System| system.snapshot().expect("the stages are listed").stages().clone();
    assert_eq!(stages(&with), stages(&without), "non-interference after the repair");
    same(&with, "after the repair");
}
