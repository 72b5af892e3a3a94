//! One transformer block and its adaptable sites: the one description that all backbones share.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use s3t_kernels::{Activation, AttentionShape, Visible, activate};
use s3t_peft::{BlockAdapter, BlockShape, KeyValuePrefix, Linear, LinearSite, Sublayer};

use crate::Hidden;
use crate::rotary::Rotary;

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
        s3t_kernels::norm(x, None, &self.weight, self.bias.as_ref(), self.epsilon)
    }

    /// Normalises the rows of a sum.
    fn of_sum(&self, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        s3t_kernels::norm(x, Some(residual), &self.weight, self.bias.as_ref(), self.epsilon)
    }
}

/// The activation of this name in `config.json`; the error says which are supported.
pub(crate) fn activation_from_name(name: &str) -> Result<Activation, String> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        _ => Err(format!("`hidden_act` is `{name}`; supported: gelu, gelu_new, gelu_pytorch_tanh, relu, silu")),
    }
}

/// The block as it is in the base model.
struct Unadapted;

impl BlockAdapter for Unadapted {}

impl TransformerBlock {
    /// Runs the block, with an adapter if there is one.
    pub fn forward(&self, hidden: Hidden, adapter: Option<&dyn BlockAdapter>) -> Hidden {
        self.forward_rows(hidden, adapter, None)
    }

    /// Runs the block for one token of each record alone: `[batch, 1, hidden]`.
    pub fn forward_only(&self, hidden: Hidden, adapter: Option<&dyn BlockAdapter>, tokens: &[usize]) -> Hidden {
        self.forward_rows(hidden, adapter, Some(tokens))
    }

    fn forward_rows(&self, hidden: Hidden, adapter: Option<&dyn BlockAdapter>, only: Option<&[usize]>) -> Hidden {
        let adapter = adapter.unwrap_or(&Unadapted);
        let Hidden { states, lengths } = hidden;
        let after = only.map_or_else(|| Arc::clone(&lengths), |only| vec![1; only.len()].into());
        let Some(prompt) = adapter.prompt() else {
            return Hidden { states: self.run(states, &lengths, adapter, only), lengths: after };
        };
        let ([batch, tokens, width], [length, _]) = (states.dims(), prompt.dims());
        let prompt = prompt.unsqueeze::<3>().expand([batch, length, width]);
        let extended: Arc<[usize]> = lengths.iter().map(|own| own + length).collect();
        let shifted: Option<Vec<usize>> = only.map(|only| only.iter().map(|token| token + length).collect());
        let states = self.run(Tensor::cat(vec![prompt, states], 1), &extended, adapter, shifted.as_deref());
        let states = match only {
            Some(_) => states,
            None => states.slice([0..batch, length..length + tokens, 0..width]),
        };
        Hidden { states, lengths: after }
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

    /// Runs the block; with `only`, one token's position for each record, for these alone: `[batch, 1, hidden]`. Every
    /// layer but attention works row by row, so leaving the other rows out changes nothing in theirs.
    fn run(
        &self,
        states: Tensor<3>,
        lengths: &Arc<[usize]>,
        adapter: &dyn BlockAdapter,
        only: Option<&[usize]>,
    ) -> Tensor<3> {
        let [batch, tokens, width] = states.dims();
        let rows = states.reshape([batch * tokens, width]);
        let shape = BatchShape { batch, tokens, lengths, only };
        let attend = |x: Tensor<2>| adapter.sublayer(Sublayer::Attention, self.attend(x, shape, adapter));
        let feed_forward = |x: Tensor<2>| adapter.sublayer(Sublayer::FeedForward, self.feed_forward(x, adapter));
        let rows = if self.design.post_norm {
            let rows = self.attention_norm.of_sum(attend(rows.clone()), shape.kept(rows));
            self.feed_forward_norm.of_sum(feed_forward(rows.clone()), rows)
        } else {
            let rows = shape.kept(rows.clone()) + attend(self.attention_norm.forward(rows));
            rows.clone() + feed_forward(self.feed_forward_norm.forward(rows))
        };
        rows.reshape([batch, only.map_or(tokens, |_| 1), width])
    }

    fn feed_forward(&self, x: Tensor<2>, adapter: &dyn BlockAdapter) -> Tensor<2> {
        let activation = self.design.activation;
        let inner = match &self.gate {
            Some(gate) => {
                let gate = activate(adapter.linear(LinearSite::Gate, x.clone(), gate), activation);
                gate * adapter.linear(LinearSite::Up, x, &self.up)
            }
            None => activate(adapter.linear(LinearSite::Up, x, &self.up), activation),
        };
        adapter.linear(LinearSite::Down, inner, &self.down)
    }

    /// Softmax attention: rows `[batch * tokens, hidden]` to those that are kept.
    fn attend(&self, x: Tensor<2>, shape: BatchShape<'_>, adapter: &dyn BlockAdapter) -> Tensor<2> {
        let BlockDesign { heads, kv_heads, head_dim, causal, ref rotary, .. } = *self.design;
        let BatchShape { batch, tokens, lengths, only } = shape;
        let prefix = adapter.key_value_prefix();
        let before = prefix.as_ref().map_or(0, |prefix| prefix.keys.dims()[1]);
        let mut key = adapter.linear(LinearSite::Key, x.clone(), &self.key);
        let mut value = adapter.linear(LinearSite::Value, x.clone(), &self.value);
        let query = match rotary {
            Some(rotary) => {
                // A learnt prefix takes the positions before the tokens, as a cache of earlier tokens would.
                let (cos, sin) = rotary.at(before, tokens, &x.device());
                let rotate = |rows: Tensor<2>, heads: usize| {
                    let rotated = Rotary::rotate(rows.reshape([batch, tokens, heads, head_dim]), &cos, &sin);
                    rotated.reshape([batch * tokens, heads * head_dim])
                };
                key = rotate(key, kv_heads);
                shape.kept(rotate(adapter.linear(LinearSite::Query, x, &self.query), heads))
            }
            None => adapter.linear(LinearSite::Query, shape.kept(x), &self.query),
        };
        if let Some(KeyValuePrefix { keys, values }) = prefix {
            let width = kv_heads * head_dim;
            let put_before = |prefix: Tensor<3>, own: Tensor<2>| {
                let prefix = prefix.swap_dims(0, 1).reshape([1, before, width]).expand([batch, before, width]);
                let all = Tensor::cat(vec![prefix, own.reshape([batch, tokens, width])], 1);
                all.reshape([batch * (before + tokens), width])
            };
            key = put_before(keys, key);
            value = put_before(values, value);
        }
        let visible = match (causal, only) {
            (true, None) => Visible::Causal(before + 1),
            (true, Some(only)) => Visible::ByRecord(only.iter().map(|token| before + token + 1).collect()),
            (false, _) if before == 0 => Visible::ByRecord(Arc::clone(lengths)),
            (false, _) => Visible::ByRecord(lengths.iter().map(|length| before + length).collect()),
        };
        let queries = only.map_or(tokens, |_| 1);
        let shape = AttentionShape { batch, heads, kv_heads, head_dim, queries, keys: before + tokens, visible };
        let mixed = s3t_kernels::attention(query, key, value, &Arc::new(shape));
        adapter.linear(LinearSite::Output, mixed, &self.output)
    }
}

/// The records of a batch, and which of their rows go on.
#[derive(Clone, Copy)]
struct BatchShape<'a> {
    batch: usize,
    tokens: usize,
    lengths: &'a Arc<[usize]>,
    only: Option<&'a [usize]>,
}

impl BatchShape<'_> {
    /// The rows `[batch * tokens, width]` that go on.
    fn kept(self, rows: Tensor<2>) -> Tensor<2> {
        let Some(only) = self.only else { return rows };
        let width = rows.dims()[1];
        match only.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => {
                let states = rows.reshape([self.batch, self.tokens, width]);
                states.slice([0..self.batch, *first..*first + 1, 0..width]).reshape([self.batch, width])
            }
            _ => {
                let places: Vec<i32> =
                    (0..).zip(only).map(|(record, token)| (record * self.tokens + token) as i32).collect();
                let places = Tensor::<1, Int>::from_data(TensorData::new(places, [self.batch]), &rows.device());
                rows.select(0, places)
            }
        }
    }
}
