//! One transformer block and its adaptable sites.

use burn::tensor::{Tensor, activation, module};
use s3t_peft::{BlockAdapter, BlockShape, KeyValuePrefix, Linear, LinearSite, Sublayer};

use crate::Hidden;

/// A pre-norm transformer block: `h += attention(norm(h)); h += feed_forward(norm(h))`.
#[derive(Debug)]
pub struct TransformerBlock {
    pub(crate) attention_norm: LayerNorm,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    pub(crate) feed_forward_norm: LayerNorm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) heads: usize,
}

/// Layer normalisation with its constants.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    /// `[hidden]`.
    pub(crate) weight: Tensor<1>,
    /// `[hidden]`.
    pub(crate) bias: Tensor<1>,
    pub(crate) epsilon: f64,
}

impl LayerNorm {
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::layer_norm(x, self.weight.clone(), Some(self.bias.clone()), self.epsilon)
    }
}

/// The block as it is in the base model.
struct Unadapted;

impl BlockAdapter for Unadapted {}

impl TransformerBlock {
    /// Runs the block, with an adapter if there is one.
    ///
    /// # Shapes
    ///
    /// - `hidden` and result: `[batch, tokens, hidden]`
    pub fn forward(&self, hidden: Hidden, adapter: Option<&dyn BlockAdapter>) -> Hidden {
        let adapter = adapter.unwrap_or(&Unadapted);
        let Some(prompt) = adapter.prompt() else { return self.run(hidden, adapter) };
        let ([batch, tokens, width], [length, _]) = (hidden.dims(), prompt.dims());
        let prompt = prompt.unsqueeze::<3>().expand([batch, length, width]);
        let extended = self.run(Tensor::cat(vec![prompt, hidden], 1), adapter);
        extended.slice([0..batch, length..length + tokens, 0..width])
    }

    /// What an adapter may know of the block.
    pub fn shape(&self) -> BlockShape {
        let sizes = |linear: &Linear| {
            let [inputs, outputs] = linear.weight.dims();
            (inputs, outputs)
        };
        let linears = [
            (LinearSite::Query, &self.query),
            (LinearSite::Key, &self.key),
            (LinearSite::Value, &self.value),
            (LinearSite::Output, &self.output),
            (LinearSite::Up, &self.up),
            (LinearSite::Down, &self.down),
        ];
        let (hidden, width) = sizes(&self.query);
        BlockShape {
            hidden,
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: width / self.heads,
            linears: linears.into_iter().map(|(site, linear)| (site, sizes(linear))).collect(),
        }
    }

    fn run(&self, hidden: Hidden, adapter: &dyn BlockAdapter) -> Hidden {
        let [batch, tokens, width] = hidden.dims();
        let rows = hidden.reshape([batch * tokens, width]);
        let x = self.attention_norm.forward(rows.clone());
        let attended = self.attend(x, batch, tokens, adapter);
        let rows = rows + adapter.sublayer(Sublayer::Attention, attended);
        let x = self.feed_forward_norm.forward(rows.clone());
        let x = activation::gelu(adapter.linear(LinearSite::Up, x, &self.up));
        let x = adapter.linear(LinearSite::Down, x, &self.down);
        let rows = rows + adapter.sublayer(Sublayer::FeedForward, x);
        rows.reshape([batch, tokens, width])
    }

    /// Softmax attention: rows `[batch * tokens, hidden]` to rows of the same shape.
    fn attend(&self, x: Tensor<2>, batch: usize, tokens: usize, adapter: &dyn BlockAdapter) -> Tensor<2> {
        let width = self.query.weight.dims()[1];
        let head_dim = width / self.heads;
        let split = |rows: Tensor<2>| rows.reshape([batch, tokens, self.heads, head_dim]).swap_dims(1, 2);
        let query = split(adapter.linear(LinearSite::Query, x.clone(), &self.query));
        let mut key = split(adapter.linear(LinearSite::Key, x.clone(), &self.key));
        let mut value = split(adapter.linear(LinearSite::Value, x, &self.value));
        if let Some(KeyValuePrefix { keys, values }) = adapter.key_value_prefix() {
            let before = |prefix: Tensor<3>, own: Tensor<4>| {
                let [heads, length, head_dim] = prefix.dims();
                let prefix = prefix.unsqueeze::<4>().expand([batch, heads, length, head_dim]);
                Tensor::cat(vec![prefix, own], 2)
            };
            key = before(keys, key);
            value = before(values, value);
        }
        let scores = query.matmul(key.swap_dims(2, 3)).mul_scalar(1.0 / (head_dim as f64).sqrt());
        let mixed = activation::softmax(scores, 3).matmul(value);
        let rows = mixed.swap_dims(1, 2).reshape([batch * tokens, width]);
        adapter.linear(LinearSite::Output, rows, &self.output)
    }
}
