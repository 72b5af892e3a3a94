//! One transformer block and its adaptable sites: the one description that all backbones share.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation, module};
use s3t_peft::{BlockAdapter, BlockShape, KeyValuePrefix, Linear, LinearSite, Sublayer};

use crate::Hidden;
use crate::rotary::Rotary;

/// What is added to the scores of tokens that may not be seen: far enough down that their share is exactly zero.
const HIDDEN_SCORE: f32 = -1e30;

/// A transformer block. Pre-norm: `h += attention(norm(h)); h += feed_forward(norm(h))`; post-norm:
/// `h = norm(h + attention(h)); h = norm(h + feed_forward(h))`.
#[derive(Debug)]
pub struct TransformerBlock {
    pub(crate) attention_norm: Norm,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    pub(crate) feed_forward_norm: Norm,
    /// The gate of a gated feed-forward layer, which the activation is applied to.
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) design: Arc<BlockDesign>,
}

/// What all blocks of a model have in common.
#[derive(Debug)]
pub(crate) struct BlockDesign {
    pub(crate) heads: usize,
    /// Fewer than `heads` with grouped-query attention.
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) post_norm: bool,
    pub(crate) activation: Activation,
    /// Whether a token sees only itself and those before it.
    pub(crate) causal: bool,
    pub(crate) rotary: Option<Rotary>,
    /// What Hugging Face calls the linear layers inside a block.
    pub(crate) modules: &'static [(LinearSite, &'static str)],
}

/// A normalisation of each row: with a bias layer normalisation (Ba et al. 2016, arXiv 1607.06450), without one root mean
/// square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467).
#[derive(Debug)]
pub(crate) struct Norm {
    /// `[hidden]`.
    pub(crate) weight: Tensor<1>,
    /// `[hidden]`.
    pub(crate) bias: Option<Tensor<1>>,
    pub(crate) epsilon: f64,
}

impl Norm {
    /// Normalises rows `[rows, hidden]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.clone();
        if let Some(bias) = &self.bias {
            return module::layer_norm(x, weight, Some(bias.clone()), self.epsilon);
        }
        let mean = x.clone().powi_scalar(2).mean_dim(1);
        x / (mean + self.epsilon).sqrt() * weight.unsqueeze::<2>()
    }
}

/// The activation of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Gelu,
    GeluTanh,
    Relu,
    Silu,
}

impl Activation {
    /// The activation of this name in `config.json`; the error says which are supported.
    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "relu" => Ok(Self::Relu),
            "silu" | "swish" => Ok(Self::Silu),
            _ => Err(format!("`hidden_act` is `{name}`; supported: gelu, gelu_new, gelu_pytorch_tanh, relu, silu")),
        }
    }

    fn forward(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Gelu => activation::gelu(x),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::Relu => activation::relu(x),
            Self::Silu => activation::silu(x),
        }
    }
}

/// The block as it is in the base model.
struct Unadapted;

impl BlockAdapter for Unadapted {}

impl TransformerBlock {
    /// Runs the block, with an adapter if there is one.
    pub fn forward(&self, hidden: Hidden, adapter: Option<&dyn BlockAdapter>) -> Hidden {
        let adapter = adapter.unwrap_or(&Unadapted);
        let Hidden { states, lengths } = hidden;
        let Some(prompt) = adapter.prompt() else {
            let states = self.run(states, &lengths, adapter);
            return Hidden { states, lengths };
        };
        let ([batch, tokens, width], [length, _]) = (states.dims(), prompt.dims());
        let prompt = prompt.unsqueeze::<3>().expand([batch, length, width]);
        let extended: Vec<usize> = lengths.iter().map(|own| own + length).collect();
        let states = self.run(Tensor::cat(vec![prompt, states], 1), &extended, adapter);
        Hidden { states: states.slice([0..batch, length..length + tokens, 0..width]), lengths }
    }

    /// What an adapter may know of the block.
    pub fn shape(&self) -> BlockShape {
        let BlockDesign { heads, kv_heads, head_dim, modules, .. } = *self.design;
        let sizes = |site: LinearSite| {
            let [inputs, outputs] = self.linear(site)?.weight.dims();
            Some((site, (inputs, outputs)))
        };
        let linears: BTreeMap<_, _> = LinearSite::ALL.into_iter().filter_map(sizes).collect();
        BlockShape {
            hidden: linears[&LinearSite::Query].0,
            heads,
            kv_heads,
            head_dim,
            linears,
            modules: modules.iter().map(|(site, module)| (*site, (*module).to_owned())).collect(),
        }
    }

    /// A linear layer; `None` if the block has none of this kind.
    pub fn linear(&self, site: LinearSite) -> Option<&Linear> {
        match site {
            LinearSite::Query => Some(&self.query),
            LinearSite::Key => Some(&self.key),
            LinearSite::Value => Some(&self.value),
            LinearSite::Output => Some(&self.output),
            LinearSite::Gate => self.gate.as_ref(),
            LinearSite::Up => Some(&self.up),
            LinearSite::Down => Some(&self.down),
        }
    }

    fn run(&self, states: Tensor<3>, lengths: &[usize], adapter: &dyn BlockAdapter) -> Tensor<3> {
        let [batch, tokens, width] = states.dims();
        let rows = states.reshape([batch * tokens, width]);
        let attend =
            |x: Tensor<2>| adapter.sublayer(Sublayer::Attention, self.attend(x, batch, tokens, lengths, adapter));
        let feed_forward = |x: Tensor<2>| adapter.sublayer(Sublayer::FeedForward, self.feed_forward(x, adapter));
        let rows = if self.design.post_norm {
            let rows = self.attention_norm.forward(rows.clone() + attend(rows));
            self.feed_forward_norm.forward(rows.clone() + feed_forward(rows))
        } else {
            let rows = rows.clone() + attend(self.attention_norm.forward(rows));
            rows.clone() + feed_forward(self.feed_forward_norm.forward(rows))
        };
        rows.reshape([batch, tokens, width])
    }

    fn feed_forward(&self, x: Tensor<2>, adapter: &dyn BlockAdapter) -> Tensor<2> {
        let activation = self.design.activation;
        let inner = match &self.gate {
            Some(gate) => {
                let gate = activation.forward(adapter.linear(LinearSite::Gate, x.clone(), gate));
                gate * adapter.linear(LinearSite::Up, x, &self.up)
            }
            None => activation.forward(adapter.linear(LinearSite::Up, x, &self.up)),
        };
        adapter.linear(LinearSite::Down, inner, &self.down)
    }

    /// Softmax attention: rows `[batch * tokens, hidden]` to rows of the same shape.
    fn attend(
        &self,
        x: Tensor<2>,
        batch: usize,
        tokens: usize,
        lengths: &[usize],
        adapter: &dyn BlockAdapter,
    ) -> Tensor<2> {
        let BlockDesign { heads, kv_heads, head_dim, causal, ref rotary, .. } = *self.design;
        let split = |rows: Tensor<2>, heads: usize| rows.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2);
        let mut query = split(adapter.linear(LinearSite::Query, x.clone(), &self.query), heads);
        let mut key = split(adapter.linear(LinearSite::Key, x.clone(), &self.key), kv_heads);
        let mut value = split(adapter.linear(LinearSite::Value, x, &self.value), kv_heads);
        let device = query.device();
        let prefix = adapter.key_value_prefix();
        let before = prefix.as_ref().map_or(0, |prefix| prefix.keys.dims()[1]);
        if let Some(rotary) = rotary {
            // A learnt prefix takes the positions before the tokens, as a cache of earlier tokens would.
            let (cos, sin) = rotary.at(before, tokens, &device);
            query = Rotary::rotate(query, &cos, &sin);
            key = Rotary::rotate(key, &cos, &sin);
        }
        if let Some(KeyValuePrefix { keys, values }) = prefix {
            let put_before = |prefix: Tensor<3>, own: Tensor<4>| {
                let prefix = prefix.unsqueeze::<4>().expand([batch, kv_heads, before, head_dim]);
                Tensor::cat(vec![prefix, own], 2)
            };
            key = put_before(keys, key);
            value = put_before(values, value);
        }
        if kv_heads < heads {
            // Each head of keys and values serves as many neighbouring query heads.
            let (group, length) = (heads / kv_heads, before + tokens);
            let repeat = |tensor: Tensor<4>| {
                let tensor = tensor.reshape([batch, kv_heads, 1, length, head_dim]);
                tensor.expand([batch, kv_heads, group, length, head_dim]).reshape([batch, heads, length, head_dim])
            };
            key = repeat(key);
            value = repeat(value);
        }
        let mut scores = query.matmul(key.swap_dims(2, 3)).mul_scalar(1.0 / (head_dim as f64).sqrt());
        if let Some(mask) = mask(lengths, before, tokens, causal, &device) {
            scores = scores + mask;
        }
        let mixed = activation::softmax(scores, 3).matmul(value);
        let rows = mixed.swap_dims(1, 2).reshape([batch * tokens, heads * head_dim]);
        adapter.linear(LinearSite::Output, rows, &self.output)
    }
}

/// What is added to the scores `[batch, heads, tokens, before + tokens]`, broadcast over the first two; `None` if every token
/// sees every other. Padding stands behind a record's own tokens, so a causal mask hides it from them already.
fn mask(lengths: &[usize], before: usize, tokens: usize, causal: bool, device: &Device) -> Option<Tensor<4>> {
    let row = |visible: usize| {
        let shown = move |column: usize| if column < before + visible { 0.0 } else { HIDDEN_SCORE };
        (0..before + tokens).map(shown)
    };
    let (values, shape): (Vec<f32>, _) = if causal {
        ((1..=tokens).flat_map(row).collect(), [1, 1, tokens, before + tokens])
    } else if lengths.iter().any(|length| *length < tokens) {
        (lengths.iter().copied().flat_map(row).collect(), [lengths.len(), 1, 1, before + tokens])
    } else {
        return None;
    };
    Some(Tensor::from_data(TensorData::new(values, shape), device))
}
