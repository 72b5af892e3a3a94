//! The kernels against the operations composed of Burn's: values and all gradients, and the same bits for any number of threads.
#![cfg(feature = "flex")]

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use s3t_kernels::{
    Activation, AttentionShape, Instructions, LowRankFactors, Norm, Targets, Visible, Weight, reference,
};

/// A repeatable source of values around 0.
struct Source(u64);

impl Source {
    fn values(&mut self, count: usize) -> Vec<f32> {
        let mut draw = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| draw() + draw()).collect()
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.values(rows * columns), [rows, columns]), &Device::flex())
    }

    fn vector(&mut self, length: usize) -> Tensor<1> {
        Tensor::from_data(TensorData::new(self.values(length), [length]), &Device::flex())
    }
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// The result of `operation` and the gradients of a weighted sum of it by each input that is tracked.
fn run(inputs: &[(Tensor<2>, bool)], operation: &dyn Fn(&[Tensor<2>]) -> Tensor<2>) -> Vec<Vec<f32>> {
    let tracked = |(tensor, tracked): &(Tensor<2>, bool)| match tracked {
        true => tensor.clone().autodiff().require_grad(),
        false => tensor.clone(),
    };
    let tensors: Vec<Tensor<2>> = inputs.iter().map(tracked).collect();
    let y = operation(&tensors);
    let mut results = vec![host(y.clone())];
    if inputs.iter().any(|(_, tracked)| *tracked) {
        let weights = Source(77).matrix(y.dims()[0], y.dims()[1]);
        let mut gradients = (y * weights).sum().backward();
        let found = tensors.iter().filter_map(|tensor| tensor.grad_remove(&mut gradients));
        results.extend(found.map(host));
    }
    results
}

/// Tests choose instructions in turn, so that each sees those that it has chosen.
static CHOOSING: Mutex<()> = Mutex::new(());

/// Both ways give the same up to rounding, and the kernel the same bits on 1, 2 and 4 threads and on every instruction set.
fn check(
    inputs: &[(Tensor<2>, bool)],
    kernel: &(dyn Fn(&[Tensor<2>]) -> Tensor<2> + Sync),
    composed: &dyn Fn(&[Tensor<2>]) -> Tensor<2>,
) {
    let expected = run(inputs, composed);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(inputs, kernel))
    };
    let found = on(1);
    assert_eq!(found.len(), expected.len());
    for (result, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let largest = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            let apart = (found - expected).abs() / largest;
            assert!(apart < 5e-6, "result {result}, place {place}: {found} and {expected}");
        }
    }
    for threads in [2, 4] {
        assert!(on(threads) == found, "{threads} threads give other bits");
    }
    let _turn = CHOOSING.lock().unwrap_or_else(PoisonError::into_inner);
    for set in Instructions::ALL {
        set.choose();
        assert!(on(1) == found, "{set} instructions give other bits");
    }
    Instructions::Native.choose();
}

/// Every choice of which of the inputs are tracked.
fn tracked(inputs: Vec<Tensor<2>>) -> impl Iterator<Item = Vec<(Tensor<2>, bool)>> {
    let choices = 0..1u32 << inputs.len();
    choices.map(move |choice| {
        inputs.iter().enumerate().map(|(bit, tensor)| (tensor.clone(), choice >> bit & 1 == 1)).collect()
    })
}

#[test]
fn linear_layers() {
    let mut source = Source(1);
    for (rows, inputs, outputs) in [(1, 5, 3), (33, 48, 17), (300, 96, 500), (700, 64, 200)] {
        // A weight as it is loaded, and one that lies transposed in memory.
        let plain = Weight::from(source.matrix(inputs, outputs));
        let turned = Weight::from(source.matrix(outputs, inputs).transpose());
        let bias = source.vector(outputs);
        for (weight, bias) in [(&plain, Some(&bias)), (&turned, None)] {
            for inputs in tracked(vec![source.matrix(rows, inputs)]) {
                let kernel = |x: &[Tensor<2>]| s3t_kernels::linear(x[0].clone(), weight, bias);
                check(&inputs, &kernel, &|x| reference::linear(x[0].clone(), weight, bias));
            }
        }
    }
}

#[test]
fn a_weight_that_is_trained_gets_its_gradient() {
    let mut source = Source(2);
    let (x, bias) = (source.matrix(7, 5), source.vector(3));
    let inputs = [(x, false), (source.matrix(5, 3), true)];
    let kernel = |x: &[Tensor<2>]| s3t_kernels::linear(x[0].clone(), &x[1].clone().into(), Some(&bias));
    check(&inputs, &kernel, &|x| reference::linear(x[0].clone(), &x[1].clone().into(), Some(&bias)));
}

#[test]
fn linear_layers_with_a_low_rank_update() {
    let mut source = Source(3);
    for (rows, inputs, rank, outputs) in [(1, 6, 2, 3), (70, 40, 8, 24), (300, 96, 16, 400), (600, 32, 4, 200)] {
        let (weight, bias) = (Weight::from(source.matrix(inputs, outputs)), source.vector(outputs));
        let x = vec![source.matrix(rows, inputs), source.matrix(inputs, rank), source.matrix(outputs, rank)];
        for inputs in tracked(x) {
            let kernel = |x: &[Tensor<2>]| {
                let up = x[2].clone().transpose();
                s3t_kernels::linear_low_rank(x[0].clone(), &weight, Some(&bias), x[1].clone(), up, 0.5)
            };
            check(&inputs, &kernel, &|x| {
                let up = x[2].clone().transpose();
                reference::linear_low_rank(x[0].clone(), &weight, Some(&bias), x[1].clone(), up, 0.5)
            });
        }
    }
}

#[test]
fn low_rank_updates_of_several_models() {
    let mut source = Source(9);
    for (rows, inputs, rank, outputs) in [(1, 5, 2, 3), (40, 96, 16, 450), (400, 48, 8, 200)] {
        let factors = |source: &mut Source, scale: f64| {
            let up = source.matrix(outputs, rank).transpose();
            Some(LowRankFactors { down: source.matrix(inputs, rank), up, scale })
        };
        let parts = [factors(&mut source, 0.5), None, factors(&mut source, 2.0)];
        let (weight, bias) = (Weight::from(source.matrix(inputs, outputs)), source.vector(outputs));
        let x = [(source.matrix(3 * rows, inputs), false)];
        for bias in [Some(&bias), None] {
            let kernel = |x: &[Tensor<2>]| s3t_kernels::linear_low_rank_parts(&x[0], &weight, bias, &parts);
            check(&x, &kernel, &|x| reference::linear_low_rank_parts(&x[0], &weight, bias, &parts));
        }
    }
}

#[test]
fn normalisations() {
    let mut source = Source(4);
    for (rows, width) in [(1, 3), (65, 48), (700, 100)] {
        let (weight, bias) = (source.vector(width), source.vector(width));
        for norm in [Norm::Layer { weight: &weight, bias: &bias }, Norm::Rms { weight: &weight }] {
            for inputs in tracked(vec![source.matrix(rows, width), source.matrix(rows, width)]) {
                let sum = |x: &[Tensor<2>]| s3t_kernels::normalise(x[0].clone(), Some(x[1].clone()), norm, 1e-5);
                check(&inputs, &sum, &|x| reference::normalise(x[0].clone(), Some(x[1].clone()), norm, 1e-5));
                let alone = |x: &[Tensor<2>]| s3t_kernels::normalise(x[0].clone(), None, norm, 1e-5);
                let inputs = &inputs[..1];
                check(inputs, &alone, &|x| reference::normalise(x[0].clone(), None, norm, 1e-5));
            }
        }
    }
}

#[test]
fn activations() {
    let mut source = Source(5);
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh] {
        for (rows, columns) in [(1, 1), (37, 53), (400, 130)] {
            for inputs in tracked(vec![source.matrix(rows, columns).mul_scalar(3.0)]) {
                let kernel = |x: &[Tensor<2>]| s3t_kernels::activate(x[0].clone(), activation);
                check(&inputs, &kernel, &|x| reference::activate(x[0].clone(), activation));
            }
        }
    }
}

#[test]
fn layers_with_weights_in_bfloat16() {
    let mut source = Source(11);
    // Multiples of 1/64 below 4 are numbers of bfloat16, so that only the sums are rounded.
    let exact = |x: Tensor<2>| x.mul_scalar(64.0).round().clamp(-255.0, 255.0).div_scalar(64.0);
    for (rows, inputs, outputs) in [(1, 3, 5), (70, 65, 33), (600, 300, 200)] {
        let weight = exact(source.matrix(inputs, outputs));
        let (halved, bias) = (Weight::halved(&weight), source.vector(outputs));
        assert_eq!(host(halved.full()), host(weight.clone()));
        assert_eq!(host(Weight::from(weight.clone().cast(burn::tensor::DType::BF16)).full()), host(weight.clone()));
        let weight = Weight::from(weight);
        let (down, up) = (source.matrix(inputs, 4), source.matrix(4, outputs));
        for inputs in tracked(vec![exact(source.matrix(rows, inputs)), down.clone(), up.clone()]) {
            let of = |x: &[Tensor<2>], weight: &Weight| {
                let y =
                    s3t_kernels::linear_low_rank(x[0].clone(), weight, Some(&bias), x[1].clone(), x[2].clone(), 0.5);
                // Gradients of bfloat16.
                y.clone() * 0.0 + s3t_kernels::linear(x[0].clone(), weight, None) * 0.25 + y * 0.5
            };
            let (found, expected) =
                (run_exactly(&inputs, &|x| of(x, &halved)), run_exactly(&inputs, &|x| of(x, &weight)));
            for (found, expected) in found.iter().zip(&expected) {
                let largest = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
                let apart = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / largest);
                assert!(apart.fold(0.0, f32::max) < 5e-6);
            }
        }
    }
}

#[test]
fn weights_that_are_laid_out_give_the_bits_of_the_matrix() {
    let mut source = Source(12);
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for (rows, inputs, outputs) in [(1, 3, 5), (6, 257, 48), (70, 65, 33), (600, 300, 200), (2, 40, 9000)] {
        let (matrix, bias) = (source.matrix(inputs, outputs), source.vector(outputs));
        // In the order of a file, and laid out before.
        let turned = matrix.clone().transpose().to_data();
        let turned = Tensor::<2>::from_data(turned, &matrix.device()).transpose();
        let (plain, packed) = (Weight::from(matrix.clone()), [Weight::packed(&matrix), Weight::packed(&turned)]);
        let (down, up) = (source.matrix(inputs, 4), source.matrix(4, outputs));
        let of = |x: &[Tensor<2>], weight: &Weight| {
            let y = s3t_kernels::linear_low_rank(x[0].clone(), weight, Some(&bias), x[1].clone(), x[2].clone(), 0.5);
            y + s3t_kernels::linear(x[0].clone(), weight, None) * 0.25
        };
        for packed in &packed {
            assert_eq!(bits(&host(packed.full())), bits(&host(matrix.clone())));
            for operands in tracked(vec![source.matrix(rows, inputs), down.clone(), up.clone()]) {
                let expected = run_exactly(&operands, &|x| of(x, &plain));
                for (found, expected) in run_exactly(&operands, &|x| of(x, packed)).iter().zip(&expected) {
                    assert_eq!(bits(found), bits(expected), "{rows} rows, {inputs} by {outputs}");
                }
            }
            let x = source.matrix(rows, inputs);
            let factors = || Some(LowRankFactors { down: down.clone(), up: up.clone(), scale: 0.5 });
            let by_row = |weight: &Weight| s3t_kernels::linear_by_row(&x, weight, Some(&bias), &[factors()]);
            assert_eq!(bits(&host(by_row(packed))), bits(&host(by_row(&plain))), "by row, {rows} rows");
        }
    }
}

#[test]
fn products_with_frozen_weights_are_those_with_the_full_ones() {
    let mut source = Source(13);
    for (rows, inputs, outputs) in [(1, 3, 5), (8, 300, 70), (16, 40, 33)] {
        let matrix = source.matrix(inputs, outputs);
        for weight in [Weight::from(matrix.clone()), Weight::packed(&matrix), Weight::halved(&matrix)] {
            for x in tracked(vec![source.matrix(rows, inputs)]) {
                let expected = run_exactly(&x, &|x| s3t_kernels::matmul(x[0].clone(), weight.full()));
                assert_eq!(run_exactly(&x, &|x| s3t_kernels::matmul_frozen(x[0].clone(), &weight)), expected);
            }
        }
    }
}

/// As [`run`], with the gradients of a sum.
fn run_exactly(inputs: &[(Tensor<2>, bool)], operation: &dyn Fn(&[Tensor<2>]) -> Tensor<2>) -> Vec<Vec<f32>> {
    let tracked = |(tensor, tracked): &(Tensor<2>, bool)| match tracked {
        true => tensor.clone().autodiff().require_grad(),
        false => tensor.clone(),
    };
    let tensors: Vec<Tensor<2>> = inputs.iter().map(tracked).collect();
    let y = operation(&tensors);
    let mut results = vec![host(y.clone())];
    if inputs.iter().any(|(_, tracked)| *tracked) {
        let mut gradients = y.sum().backward();
        results.extend(tensors.iter().filter_map(|tensor| tensor.grad_remove(&mut gradients)).map(host));
    }
    results
}

#[test]
fn products_of_trained_matrices() {
    let mut source = Source(9);
    for (rows, inner, columns) in [(1, 1, 1), (33, 70, 5), (200, 300, 130)] {
        for inputs in tracked(vec![source.matrix(rows, inner), source.matrix(inner, columns)]) {
            let kernel = |x: &[Tensor<2>]| s3t_kernels::matmul(x[0].clone(), x[1].clone());
            check(&inputs, &kernel, &|x| x[0].clone().matmul(x[1].clone()));
            let turned = |x: &[Tensor<2>]| s3t_kernels::matmul(x[1].clone().transpose(), x[0].clone().transpose());
            check(&inputs, &turned, &|x| x[0].clone().matmul(x[1].clone()).transpose());
        }
    }
}

#[test]
fn losses() {
    let mut source = Source(10);
    for (rows, outputs) in [(1, 1), (1, 10), (37, 53), (200, 700)] {
        let labels = source.values(rows * outputs).into_iter().map(|value| f32::from(value > 0.0)).collect();
        let classes = (0..rows).map(|row| (row * 7 % outputs) as u32).collect();
        let all = [Targets::Classes(classes), Targets::Labels(labels), Targets::Values(source.values(rows * outputs))];
        for targets in all.map(Arc::new) {
            for inputs in tracked(vec![source.matrix(rows, outputs).mul_scalar(3.0)]) {
                let kernel = |x: &[Tensor<2>]| s3t_kernels::loss(x[0].clone(), &targets).unsqueeze::<2>();
                check(&inputs, &kernel, &|x| reference::loss(x[0].clone(), &targets).unsqueeze::<2>());
            }
        }
    }
}

/// Records of different lengths or causal, heads that share keys, keys before the queries' own.
fn shapes() -> impl Strategy<Value = AttentionShape> {
    let lengths = proptest::collection::vec(1usize..12, 1..4);
    let window = proptest::option::of(1usize..6);
    (lengths, 0usize..3, 1usize..3, 1usize..3, 1usize..9, any::<bool>(), window).prop_map(
        |(lengths, before, kv_heads, group, head_dim, causal, window)| {
            let queries = lengths.iter().copied().max().unwrap_or(1);
            let visible = if causal {
                Visible::Causal(before + 1)
            } else {
                Visible::ByRecord(lengths.iter().map(|length| before + length).collect())
            };
            let (batch, heads, keys) = (lengths.len(), kv_heads * group, before + queries);
            AttentionShape { batch, heads, kv_heads, head_dim, queries, keys, visible, window }
        },
    )
}

fn attention_inputs(shape: &AttentionShape, source: &mut Source) -> Vec<Tensor<2>> {
    let AttentionShape { batch, heads, kv_heads, head_dim, queries, keys, .. } = *shape;
    let (key, value) =
        (source.matrix(batch * keys, kv_heads * head_dim), source.matrix(batch * keys, kv_heads * head_dim));
    vec![source.matrix(batch * queries, heads * head_dim), key, value]
}

fn check_attention(shape: AttentionShape, seed: u64) {
    let shape = Arc::new(shape);
    for inputs in tracked(attention_inputs(&shape, &mut Source(seed))) {
        let kernel = |x: &[Tensor<2>]| s3t_kernels::attention(x[0].clone(), x[1].clone(), x[2].clone(), &shape);
        check(&inputs, &kernel, &|x| reference::attention(x[0].clone(), x[1].clone(), x[2].clone(), &shape));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_of_any_shape(shape in shapes(), seed in 0u64..1000) {
        check_attention(shape, seed);
    }
}

#[test]
fn attention_of_a_real_size() {
    let lengths: Vec<usize> = (0..6).map(|record| 64 - 7 * record).collect();
    let visible = Visible::ByRecord(lengths.into());
    check_attention(
        AttentionShape {
            batch: 6,
            heads: 12,
            kv_heads: 12,
            head_dim: 32,
            queries: 64,
            keys: 64,
            visible,
            window: None,
        },
        6,
    );
}

#[test]
fn a_key_outside_the_window_changes_nothing_and_one_inside_does() {
    let shape = AttentionShape {
        batch: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        queries: 6,
        keys: 6,
        visible: Visible::Causal(1),
        window: Some(3),
    };
    let seen: Vec<_> = (0..6).map(|query| shape.visible(0, query)).collect();
    assert_eq!(seen, [0..1, 0..2, 0..3, 1..4, 2..5, 3..6]);
    let (shape, mut source) = (Arc::new(shape), Source(8));
    let (query, keys) = (source.matrix(6, 2), source.matrix(6, 2));
    let values = source.values(12);
    let with = |changed: usize| {
        let mut values = values.clone();
        values[2 * changed] += 1.0;
        let values = Tensor::from_data(TensorData::new(values, [6, 2]), &Device::flex());
        host(s3t_kernels::attention(query.clone(), keys.clone(), values, &shape))
    };
    let last = |changed: usize| with(changed)[10..].to_vec();
    assert_eq!(last(1), last(2), "keys before the window of the last query");
    assert_ne!(last(2), last(3), "the first key of the window");
}

#[test]
fn accuracy_of_the_elementary_functions() {
    // Against sums of double precision: erf by its series, which converges for all of these.
    let erf = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    };
    let count = 20_001;
    let xs: Vec<f32> = (0..count).map(|index| -5.0 + 10.0 * index as f32 / (count - 1) as f32).collect();
    let x = Tensor::<2>::from_data(TensorData::new(xs.clone(), [1, count]), &Device::flex());
    let ulps = |activation, exact: &dyn Fn(f64) -> f64| {
        let found = host(s3t_kernels::activate(x.clone(), activation));
        let apart = |(found, x): (&f32, &f32)| {
            let exact = exact(f64::from(*x));
            // Units in the last place of the result, or of the smallest normal share of x that a sum of 1 can hold.
            let unit = f64::from(f32::EPSILON) * exact.abs().max(f64::from(x.abs()) * 1e-4);
            (f64::from(*found) - exact).abs() / unit.max(1e-30)
        };
        found.iter().zip(&xs).map(apart).fold(0.0, f64::max)
    };
    let gelu = ulps(Activation::Gelu, &|x| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())));
    let silu = ulps(Activation::Silu, &|x| x / (1.0 + (-x).exp()));
    let tanh = ulps(Activation::GeluTanh, &|x| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
    });
    assert!(gelu < 8.0 && silu < 4.0 && tanh < 16.0, "gelu {gelu}, silu {silu}, gelu by tanh {tanh}");
    let tanh = ulps(Activation::Tanh, &|x| x.tanh());
    assert!(tanh < 2.0, "tanh {tanh}");
}

#[test]
fn values_that_are_not_numbers_stay_so() {
    let x = Tensor::<2>::from_data(TensorData::new(vec![f32::NAN, 1.0], [1, 2]), &Device::flex());
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Tanh] {
        assert!(host(s3t_kernels::activate(x.clone(), activation))[0].is_nan(), "{activation:?}");
    }
    let ones = Tensor::<1>::ones([2], &Device::flex());
    assert!(
        host(s3t_kernels::normalise(x, None, Norm::Layer { weight: &ones, bias: &ones }, 1e-5))
            .iter()
            .all(|value| value.is_nan())
    );
}
