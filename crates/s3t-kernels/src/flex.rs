//! The kernels as operations of Burn's `flex` backend, with their backward passes.

mod losses;
mod matmul;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::buffer::zeros;
use crate::by_row::layer_by_row;
use crate::bytes::Bytes;
use crate::halves::Halves;
use crate::heads::{self, Inputs};
use crate::matrix::{Matrix, MatrixMut, Onto, Threads};
use crate::nibbles::Nibbles;
use crate::packed::Packed;
use crate::products::{LowRank, Weights, layer, multiply, product};
use crate::rows::{self, NormWeights};
use crate::tensors::{contiguous, dims, matrix, primitive, tensor};
use crate::weight::{Form, Weight};
use crate::{Activation, AttentionShape, LowRankFactors};

pub(crate) use losses::loss;
pub(crate) use matmul::matmul;

pub(crate) fn linear(x: Tensor<2>, weight: &Weight, bias: Option<&Tensor<1>>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::frozen_linear(x.into_dispatch(), FrozenLayer::new(weight, bias)))
}

pub(crate) fn linear_low_rank(
    x: Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    down: Tensor<2>,
    up: Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    let (x, down, up) = (x.into_dispatch(), down.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(Dispatch::low_rank_linear(x, down, up, FrozenLayer::new(weight, bias), scale as f32))
}

/// The factors of each part of the rows that has an update, and their scale.
type Factors = Option<(FlexTensor, FlexTensor, f32)>;

fn factors(parts: &[Option<LowRankFactors>]) -> Vec<Factors> {
    let of = |factors: &LowRankFactors| (primitive(&factors.down), primitive(&factors.up), factors.scale as f32);
    parts.iter().map(|factors| factors.as_ref().map(of)).collect()
}

fn updates(factors: &[Factors]) -> Vec<Option<LowRank<'_>>> {
    factors.iter().map(|part| part.as_ref().map(|(down, up, scale)| update(down, up, *scale))).collect()
}

fn update<'a>(down: &'a FlexTensor, up: &'a FlexTensor, scale: f32) -> LowRank<'a> {
    LowRank { down: matrix(down), up: matrix(up), scale }
}

pub(crate) fn linear_low_rank_parts(
    x: &Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    parts: &[Option<LowRankFactors>],
) -> Tensor<2> {
    let (shape, factors) = ([x.dims()[0], weight.dims()[1]], factors(parts));
    let (y, _) = layer_with_parts(matrix(&primitive(x)), &FrozenLayer::new(weight, bias), &updates(&factors));
    Tensor::from_primitive::<Flex>(tensor(y, shape))
}

pub(crate) fn linear_by_row(
    x: &Tensor<2>,
    weight: &Weight,
    bias: Option<&Tensor<1>>,
    parts: &[Option<LowRankFactors>],
) -> Tensor<2> {
    let (shape, factors, frozen) = ([x.dims()[0], weight.dims()[1]], factors(parts), FrozenLayer::new(weight, bias));
    let bias = frozen.bias.as_ref().map(contiguous);
    let y = layer_by_row(matrix(&primitive(x)), frozen.weight.view(), bias.as_deref(), &updates(&factors));
    Tensor::from_primitive::<Flex>(tensor(y, shape))
}

pub(crate) fn norm(
    x: Tensor<2>,
    residual: Option<Tensor<2>>,
    weight: &Tensor<1>,
    bias: Option<&Tensor<1>>,
    epsilon: f64,
) -> Tensor<2> {
    let (x, frozen, epsilon) = (x.into_dispatch(), FrozenNorm::new(weight, bias), epsilon as f32);
    Tensor::from_dispatch(match residual {
        Some(residual) => Dispatch::residual_norm(x, residual.into_dispatch(), frozen, epsilon),
        None => Dispatch::row_norm(x, frozen, epsilon),
    })
}

pub(crate) fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::activation(x.into_dispatch(), activation))
}

pub(crate) fn attention(query: Tensor<2>, key: Tensor<2>, value: Tensor<2>, shape: &Arc<AttentionShape>) -> Tensor<2> {
    let (query, key, value) = (query.into_dispatch(), key.into_dispatch(), value.into_dispatch());
    Tensor::from_dispatch(Dispatch::softmax_attention(query, key, value, Arc::clone(shape)))
}

/// The frozen operands of a linear layer.
#[derive(Debug, Clone)]
struct FrozenLayer {
    weight: FrozenWeight,
    bias: Option<FlexTensor>,
}

#[derive(Debug, Clone)]
enum FrozenWeight {
    Single(FlexTensor),
    Packed(Arc<Packed>),
    Half(Arc<Halves>),
    Byte(Arc<Bytes>),
    Nibble(Arc<Nibbles>),
}

impl FrozenLayer {
    fn new(weight: &Weight, bias: Option<&Tensor<1>>) -> Self {
        let weight = match &weight.0 {
            Form::Tensor(weight) => FrozenWeight::Single(primitive(weight)),
            Form::Packed(weight, _) => FrozenWeight::Packed(Arc::clone(weight)),
            Form::Halves(weight, _) => FrozenWeight::Half(Arc::clone(weight)),
            Form::Bytes(weight, _) => FrozenWeight::Byte(Arc::clone(weight)),
            Form::Nibbles(weight, _) => FrozenWeight::Nibble(Arc::clone(weight)),
        };
        Self { weight, bias: bias.map(primitive) }
    }
}

impl FrozenWeight {
    /// The weights as they lie in memory.
    ///
    /// # Panics
    ///
    /// As [`matrix`].
    fn view(&self) -> Weights<'_> {
        match self {
            Self::Single(weight) => Weights::Single(matrix(weight)),
            Self::Packed(weight) => Weights::Packed(weight.view()),
            Self::Half(weight) => Weights::Half(weight.view()),
            Self::Byte(weight) => Weights::Byte(weight.view()),
            Self::Nibble(weight) => Weights::Nibble(weight.view()),
        }
    }
}

/// The frozen operands of a normalisation.
#[derive(Debug, Clone)]
struct FrozenNorm {
    weight: FlexTensor,
    bias: Option<FlexTensor>,
}

impl FrozenNorm {
    fn new(weight: &Tensor<1>, bias: Option<&Tensor<1>>) -> Self {
        Self { weight: primitive(weight), bias: bias.map(primitive) }
    }
}

#[backend_extension(Flex, Autodiff)]
trait Kernels: Backend {
    fn frozen_linear(x: FloatTensor<Self>, frozen: FrozenLayer) -> FloatTensor<Self>;

    fn low_rank_linear(
        x: FloatTensor<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
        frozen: FrozenLayer,
        scale: f32,
    ) -> FloatTensor<Self>;

    fn row_norm(x: FloatTensor<Self>, frozen: FrozenNorm, epsilon: f32) -> FloatTensor<Self>;

    fn residual_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        frozen: FrozenNorm,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    fn activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    fn softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shape: Arc<AttentionShape>,
    ) -> FloatTensor<Self>;
}

impl Kernels for Flex {
    fn frozen_linear(x: FlexTensor, frozen: FrozenLayer) -> FlexTensor {
        affine(&x, &frozen)
    }

    fn low_rank_linear(x: FlexTensor, down: FlexTensor, up: FlexTensor, frozen: FrozenLayer, scale: f32) -> FlexTensor {
        low_rank(&x, &down, &up, &frozen, scale).0
    }

    fn row_norm(x: FlexTensor, frozen: FrozenNorm, epsilon: f32) -> FlexTensor {
        normalise(&x, None, &frozen, epsilon).0
    }

    fn residual_norm(x: FlexTensor, residual: FlexTensor, frozen: FrozenNorm, epsilon: f32) -> FlexTensor {
        normalise(&x, Some(&residual), &frozen, epsilon).0
    }

    fn activation(x: FlexTensor, activation: Activation) -> FlexTensor {
        activated(&x, activation)
    }

    fn softmax_attention(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        shape: Arc<AttentionShape>,
    ) -> FlexTensor {
        attended(&query, &key, &value, &shape)
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn frozen_linear(x: FloatTensor<Self>, frozen: FrozenLayer) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LinearBackward;

        impl Backward<Flex, 1> for LinearBackward {
            type State = FrozenWeight;

            fn backward(self, ops: Ops<FrozenWeight, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let [x] = ops.parents;
                let gradient = gradients.consume::<Flex>(&ops.node);
                if let Some(x) = x {
                    let gradient = contiguous(&gradient);
                    let weights = ops.state.view();
                    let [inputs, outputs] = weights.dims();
                    let rows = gradient.len() / outputs;
                    let of_x = weights.gradient(Matrix::new(&gradient, rows, outputs));
                    gradients.register::<Flex>(x.id, tensor(of_x, [rows, inputs]));
                }
            }
        }

        let node = x.node();
        let y = affine(&x.into_primitive(), &frozen);
        record::<C, _, _>(LinearBackward, [node], frozen.weight, y)
    }

    fn low_rank_linear(
        x: FloatTensor<Self>,
        down: FloatTensor<Self>,
        up: FloatTensor<Self>,
        frozen: FrozenLayer,
        scale: f32,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LowRankBackward;

        #[derive(Debug, Clone)]
        struct State {
            x: FlexTensor,
            weight: FrozenWeight,
            down: FlexTensor,
            up: FlexTensor,
            /// `x A`.
            inner: Arc<Vec<f32>>,
            scale: f32,
        }

        impl Backward<Flex, 3> for LowRankBackward {
            type State = State;

            fn backward(self, ops: Ops<State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let [x, down, up] = ops.parents;
                let gradient = gradients.consume::<Flex>(&ops.node);
                let gradient = contiguous(&gradient);
                let State { x: input, weight, down: a, up: b, inner, scale } = ops.state;
                let ([rows, inputs], [_, rank]) = (dims(&input), dims(&a));
                let outputs = dims(&b)[1];
                let gradient_rows = Matrix::new(&gradient, rows, outputs);
                // The gradient of `x A`.
                let of_inner = product(scale, gradient_rows, matrix(&b).transposed());
                let of_inner = Matrix::new(&of_inner, rows, rank);
                if let Some(up) = up {
                    let of_up = product(scale, Matrix::new(&inner, rows, rank).transposed(), gradient_rows);
                    gradients.register::<Flex>(up.id, tensor(of_up, [rank, outputs]));
                }
                if let Some(down) = down {
                    let of_down = product(1.0, matrix(&input).transposed(), of_inner);
                    gradients.register::<Flex>(down.id, tensor(of_down, [inputs, rank]));
                }
                if let Some(x) = x {
                    let mut of_x = weight.view().gradient(gradient_rows);
                    let mut out = MatrixMut::new(&mut of_x, rows, inputs);
                    multiply(&mut out, Onto::Add, 1.0, of_inner, matrix(&a).transposed(), Threads::Pool);
                    gradients.register::<Flex>(x.id, tensor(of_x, [rows, inputs]));
                }
            }
        }

        let nodes = [x.node(), down.node(), up.node()];
        let (x, down, up) = (x.into_primitive(), down.into_primitive(), up.into_primitive());
        let (y, inner) = low_rank(&x, &down, &up, &frozen, scale);
        let state = State { x, weight: frozen.weight, down, up, inner: Arc::new(inner), scale };
        record::<C, _, _>(LowRankBackward, nodes, state, y)
    }

    fn row_norm(x: FloatTensor<Self>, frozen: FrozenNorm, epsilon: f32) -> FloatTensor<Self> {
        let node = x.node();
        let (y, standard) = normalise(&x.into_primitive(), None, &frozen, epsilon);
        record::<C, _, _>(NormBackward, [node], (frozen, standard), y)
    }

    fn residual_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        frozen: FrozenNorm,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), residual.node()];
        let (y, standard) = normalise(&x.into_primitive(), Some(&residual.into_primitive()), &frozen, epsilon);
        record::<C, _, _>(NormBackward, nodes, (frozen, standard), y)
    }

    fn activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ActivationBackward;

        impl Backward<Flex, 1> for ActivationBackward {
            type State = (FlexTensor, Activation);

            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let [node] = ops.parents;
                let mut gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
                if let Some(node) = node {
                    let (x, activation) = &ops.state;
                    rows::activate_backward(*activation, &contiguous(x), gradient.storage_mut());
                    gradients.register::<Flex>(node.id, gradient);
                }
            }
        }

        let node = x.node();
        let x = x.into_primitive();
        let y = activated(&x, activation);
        record::<C, _, _>(ActivationBackward, [node], (x, activation), y)
    }

    fn softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        shape: Arc<AttentionShape>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct AttentionBackward;

        impl Backward<Flex, 3> for AttentionBackward {
            type State = ([FlexTensor; 3], Arc<AttentionShape>);

            fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let gradient = gradients.consume::<Flex>(&ops.node);
                let ([query, key, value], shape) = &ops.state;
                let (own, keys, values) = (contiguous(query), contiguous(key), contiguous(value));
                let inputs = Inputs { query: &own, key: &keys, value: &values };
                let found = heads::backward(shape, inputs, &contiguous(&gradient));
                let of_inputs = [(found.query, query), (found.key, key), (found.value, value)];
                for (node, (values, like)) in ops.parents.into_iter().zip(of_inputs) {
                    if let Some(node) = node {
                        gradients.register::<Flex>(node.id, tensor(values, dims(like)));
                    }
                }
            }
        }

        let nodes = [query.node(), key.node(), value.node()];
        let inputs = [query.into_primitive(), key.into_primitive(), value.into_primitive()];
        let y = attended(&inputs[0], &inputs[1], &inputs[2], &shape);
        record::<C, _, _>(AttentionBackward, nodes, (inputs, shape), y)
    }
}

/// Puts an operation into the graph, if any of its inputs is tracked.
fn record<C: CheckpointStrategy, B: Backward<Flex, N>, const N: usize>(
    backward: B,
    nodes: [NodeGuard; N],
    state: B::State,
    y: FlexTensor,
) -> FloatTensor<Autodiff<Flex, C>> {
    match backward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The rows before weight and bias, and the factor of each.
#[derive(Debug, Clone)]
struct Standard {
    values: Arc<Vec<f32>>,
    factors: Arc<Vec<f32>>,
}

/// The same gradient for each summand of the rows.
#[derive(Debug)]
struct NormBackward;

impl<const N: usize> Backward<Flex, N> for NormBackward {
    type State = (FrozenNorm, Standard);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let mut gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (frozen, Standard { values, factors }) = &ops.state;
        let (weight, centred) = (contiguous(&frozen.weight), frozen.bias.is_some());
        let width = weight.len();
        rows::by_rows(gradient.storage_mut(), width, |first, gradient| {
            let rows = first..first + gradient.len() / width;
            let standard = &values[rows.start * width..rows.end * width];
            rows::norm_rows_backward(gradient, standard, &factors[rows], &weight, centred);
        });
        for node in ops.parents.into_iter().flatten() {
            gradients.register::<Flex>(node.id, gradient.clone());
        }
    }
}

fn affine(x: &FlexTensor, frozen: &FrozenLayer) -> FlexTensor {
    let (weights, bias) = (frozen.weight.view(), frozen.bias.as_ref().map(contiguous));
    let shape = [dims(x)[0], weights.dims()[1]];
    tensor(layer(matrix(x), weights, bias.as_deref(), |_, _, _| {}), shape)
}

/// The result, and `x A`.
fn low_rank(
    x: &FlexTensor,
    down: &FlexTensor,
    up: &FlexTensor,
    frozen: &FrozenLayer,
    scale: f32,
) -> (FlexTensor, Vec<f32>) {
    let part = update(down, up, scale);
    let (y, mut inner) = layer_with_parts(matrix(x), frozen, &[Some(part)]);
    let inner = inner.pop().flatten().expect("the one part has an update");
    (tensor(y, [dims(x)[0], dims(up)[1]]), inner)
}

/// `x W + b`, with `scale (x A) B` added to each of equal parts of the rows that has an update; and `x A` of each.
fn layer_with_parts(
    x: Matrix<'_>,
    frozen: &FrozenLayer,
    parts: &[Option<LowRank<'_>>],
) -> (Vec<f32>, Vec<Option<Vec<f32>>>) {
    let rows = x.dims()[0] / parts.len();
    for LowRank { down, up, .. } in parts.iter().flatten() {
        assert_eq!(down.dims()[1], up.dims()[0], "both factors have one rank");
    }
    let of_part = |index: usize| index * rows..(index + 1) * rows;
    let inner = |(index, part): (usize, &Option<LowRank<'_>>)| {
        part.as_ref().map(|part| product(1.0, x.rows(of_part(index)), part.down))
    };
    let inner: Vec<Option<Vec<f32>>> = match parts {
        [part] => vec![inner((0, part))],
        parts => parts.par_iter().enumerate().map(inner).collect(),
    };
    let bias = frozen.bias.as_ref().map(contiguous);
    let y = layer(x, frozen.weight.view(), bias.as_deref(), |y, columns, threads| {
        for (index, (part, inner)) in parts.iter().zip(&inner).enumerate() {
            let (Some(LowRank { up, scale, .. }), Some(inner)) = (part, inner) else { continue };
            let inner = Matrix::new(inner, rows, up.dims()[0]);
            multiply(&mut y.rows(of_part(index)), Onto::Add, *scale, inner, up.columns(columns.clone()), threads);
        }
    });
    (y, inner)
}

fn normalise(
    x: &FlexTensor,
    residual: Option<&FlexTensor>,
    frozen: &FrozenNorm,
    epsilon: f32,
) -> (FlexTensor, Standard) {
    let (weight, bias) = (contiguous(&frozen.weight), frozen.bias.as_ref().map(contiguous));
    let norm = NormWeights { weight: &weight, bias: bias.as_deref(), epsilon };
    let rows::Normalised { out, standard, factors } =
        rows::normalise(&contiguous(x), residual.map(contiguous).as_deref(), norm);
    (tensor(out, dims(x)), Standard { values: Arc::new(standard), factors: Arc::new(factors) })
}

fn activated(x: &FlexTensor, activation: Activation) -> FlexTensor {
    tensor(rows::activate(activation, &contiguous(x)), dims(x))
}

fn attended(query: &FlexTensor, key: &FlexTensor, value: &FlexTensor, shape: &AttentionShape) -> FlexTensor {
    let (own, keys, values) = (contiguous(query), contiguous(key), contiguous(value));
    let mut out = zeros(own.len());
    heads::forward(shape, Inputs { query: &own, key: &keys, value: &values }, &mut out);
    tensor(out, dims(query))
}
