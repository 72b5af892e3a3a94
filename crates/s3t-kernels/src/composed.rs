//! The operations composed of Burn's.

use std::ops::Range;

use burn::tensor::{DType, Int, Tensor, TensorData, activation, module};

use crate::{Activation, AttentionShape, LowRankFactors, Norm, Targets, Visible, Weight};

/// The number that is added to the scores of keys that may not be seen: far enough down that their share is exactly zero.
const HIDDEN_SCORE: f32 = -1e30;

/// As [`linear`](crate::linear).
pub fn linear(x: Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>) -> Tensor<2> {
    let y = match weight.rounded() {
        Some(weight) => x.cast(DType::BF16).matmul(weight).cast(DType::F32),
        None => x.matmul(weight.full()),
    };
    match bias {
        Some(bias) => y + bias.clone().unsqueeze::<2>(),
        None => y,
    }
}

/// As [`linear_low_rank`](crate::linear_low_rank).
pub fn linear_low_rank(
    x: Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    down: Tensor<2>,
    up: Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    linear(x.clone(), weight, bias) + x.matmul(down).matmul(up).mul_scalar(scale)
}

/// As [`linear_low_rank_parts`](crate::linear_low_rank_parts).
pub fn linear_low_rank_parts(
    x: &Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    parts: &[Option<LowRankFactors>],
) -> Tensor<2> {
    let ([all, inputs], y) = (x.dims(), linear(x.clone(), weight, bias));
    let (rows, outputs) = (all / parts.len(), y.dims()[1]);
    let part = |(index, factors): (usize, &Option<LowRankFactors>)| {
        let range = index * rows..(index + 1) * rows;
        let y = y.clone().slice([range.clone(), 0..outputs]);
        match factors {
            Some(LowRankFactors { down, up, scale }) => {
                let x = x.clone().slice([range, 0..inputs]);
                y + x.matmul(down.clone()).matmul(up.clone()).mul_scalar(*scale)
            }
            None => y,
        }
    };
    Tensor::cat(parts.iter().enumerate().map(part).collect(), 0)
}

/// As [`normalise`](crate::normalise).
pub fn normalise(x: Tensor<2>, residual: Option<Tensor<2>>, norm: Norm<'_>, epsilon: f64) -> Tensor<2> {
    let x = match residual {
        Some(residual) => x + residual,
        None => x,
    };
    match norm {
        Norm::Layer { weight, bias } => module::layer_norm(x, weight.clone(), Some(bias.clone()), epsilon),
        Norm::Rms { weight } => {
            let mean = x.clone().powi_scalar(2).mean_dim(1);
            x / (mean + epsilon).sqrt() * weight.clone().unsqueeze::<2>()
        }
    }
}

/// As [`activate`](crate::activate).
pub fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::Relu => activation::relu(x),
        Activation::Silu => activation::silu(x),
        Activation::Tanh => activation::tanh(x),
    }
}

/// As [`loss`](crate::loss).
pub fn loss(x: Tensor<2>, targets: &Targets) -> Tensor<1> {
    let ([rows, outputs], device) = (x.dims(), x.device());
    let like = |values: &Vec<f32>| Tensor::<2>::from_data(TensorData::new(values.clone(), [rows, outputs]), &device);
    match targets {
        Targets::Classes(classes) => {
            let classes: Vec<i64> = classes.iter().map(|class| i64::from(*class)).collect();
            let classes = Tensor::<2, Int>::from_data(TensorData::new(classes, [rows, 1]), &device);
            activation::log_softmax(x, 1).gather(1, classes).mean().neg()
        }
        // max(x, 0) - x y + log(1 + exp(-|x|)): the stable form of binary cross entropy.
        Targets::Labels(labels) => {
            let tail = x.clone().abs().neg().exp().add_scalar(1.0).log();
            (activation::relu(x.clone()) - x * like(labels) + tail).mean()
        }
        Targets::Values(values) => (x - like(values)).powi_scalar(2).mean(),
    }
}

/// As [`attention`](crate::attention).
pub fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, shape: &AttentionShape) -> Tensor<2> {
    let AttentionShape { batch, heads, kv_heads, head_dim, queries, keys, .. } = *shape;
    let split =
        |rows: Tensor<2>, tokens: usize, heads: usize| rows.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2);
    // Each head of keys and values serves as many neighbouring query heads.
    let repeat = |rows: Tensor<2>| {
        let own = split(rows, keys, kv_heads);
        if kv_heads == heads {
            return own;
        }
        let group = heads / kv_heads;
        let own = own.reshape([batch, kv_heads, 1, keys, head_dim]);
        own.expand([batch, kv_heads, group, keys, head_dim]).reshape([batch, heads, keys, head_dim])
    };
    let query = split(query, queries, heads);
    let mut scores = query.matmul(repeat(key).swap_dims(2, 3)).mul_scalar(1.0 / (head_dim as f64).sqrt());
    if let Some((values, dims)) = mask(shape) {
        scores = scores.clone() + Tensor::from_data(TensorData::new(values, dims), &scores.device());
    }
    let mixed = activation::softmax(scores, 3).matmul(repeat(value));
    mixed.swap_dims(1, 2).reshape([batch * queries, heads * head_dim])
}

/// The numbers that are added to the scores `[batch, heads, queries, keys]`, broadcast; `None` if every query sees every key.
fn mask(shape: &AttentionShape) -> Option<(Vec<f32>, [usize; 4])> {
    let row = |seen: Range<usize>| (0..shape.keys).map(move |key| if seen.contains(&key) { 0.0 } else { HIDDEN_SCORE });
    match &shape.visible {
        Visible::Causal(_) => {
            let values = (0..shape.queries).flat_map(|query| row(shape.visible(0, query))).collect();
            Some((values, [1, 1, shape.queries, shape.keys]))
        }
        Visible::ByRecord(_) => {
            let of_record = |record: usize| shape.visible(record, 0);
            let hides = (0..shape.batch).any(|record| of_record(record) != (0..shape.keys));
            let values = || (0..shape.batch).flat_map(|record| row(of_record(record))).collect();
            hides.then(|| (values(), [shape.batch, 1, 1, shape.keys]))
        }
    }
}
