//! The attention sublayer of a block.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use s3t_kernels::{AttentionShape, Visible};
use s3t_peft::{BlockAdapter, KeyValuePrefix, Linear, LinearSite};

use crate::rotary::Rotary;

/// The tokens of its record that a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All tokens.
    Full,
    /// Itself and the tokens before it.
    Causal,
    /// Itself and the tokens before it, up to this many in all (sliding window: Beltagy et al. 2020, arXiv 2004.05150). Keys that
    /// an adapter puts before the tokens count as the tokens before the first.
    Window(usize),
}

impl Visibility {
    /// True if a token sees no token behind it.
    pub fn is_causal(self) -> bool {
        self != Self::Full
    }
}

/// Softmax attention with its frozen layers.
#[derive(Debug)]
pub struct Attention {
    /// The query projection.
    pub query: Linear,
    /// The key projection.
    pub key: Linear,
    /// The value projection.
    pub value: Linear,
    /// The output projection.
    pub output: Linear,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values: fewer than `heads` with grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245).
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// The tokens that a token sees.
    pub visibility: Visibility,
    /// The rotation of queries and keys by their positions.
    pub rotary: Option<Arc<Rotary>>,
}

impl Attention {
    /// A linear layer; `None` at a site of the other sublayer.
    pub fn linear(&self, site: LinearSite) -> Option<&Linear> {
        match site {
            LinearSite::Query => Some(&self.query),
            LinearSite::Key => Some(&self.key),
            LinearSite::Value => Some(&self.value),
            LinearSite::Output => Some(&self.output),
            LinearSite::Gate | LinearSite::Up | LinearSite::Down => None,
        }
    }

    /// Runs the sublayer on rows `[rows, hidden]` of any tokens, for those of them that `kept` gives; `mix` makes of the queries of the
    /// kept rows, and the keys and values of all rows, none of them rotated, what attention gives each kept row.
    pub(crate) fn forward_with(
        &self,
        x: Tensor<2>,
        adapter: &dyn BlockAdapter,
        kept: &dyn Fn(Tensor<2>) -> Tensor<2>,
        mix: &mut dyn FnMut(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let key = adapter.linear(LinearSite::Key, x.clone(), &self.key);
        let value = adapter.linear(LinearSite::Value, x.clone(), &self.value);
        let query = adapter.linear(LinearSite::Query, kept(x), &self.query);
        adapter.linear(LinearSite::Output, mix(query, key, value), &self.output)
    }

    /// Keys `[tokens, kv_heads * head_dim]` rotated for the positions from `first`.
    pub(crate) fn rotated(&self, keys: Tensor<2>, first: usize) -> Tensor<2> {
        let Some(rotary) = &self.rotary else { return keys };
        let [tokens, width] = keys.dims();
        let (cos, sin) = rotary.at(first, tokens, &keys.device());
        Rotary::rotate(keys.reshape([1, tokens, self.kv_heads, self.head_dim]), &cos, &sin).reshape([tokens, width])
    }

    /// The first token that a token at this place sees, counted from the first key, and including those that an adapter puts before
    /// the text.
    pub fn first_seen(&self, place: usize) -> usize {
        match self.visibility {
            Visibility::Window(window) => (place + 1).saturating_sub(window),
            Visibility::Full | Visibility::Causal => 0,
        }
    }

    /// Runs the sublayer on rows `[batch * tokens, hidden]`, for those that go on.
    pub(crate) fn forward(&self, x: Tensor<2>, shape: BatchShape<'_>, adapter: &dyn BlockAdapter) -> Tensor<2> {
        let Self { heads, kv_heads, head_dim, .. } = *self;
        let BatchShape { batch, tokens, only, .. } = shape;
        let prefix = adapter.key_value_prefix();
        let before = prefix.as_ref().map_or(0, |prefix| prefix.keys.dims()[1]);
        let mut key = adapter.linear(LinearSite::Key, x.clone(), &self.key);
        let mut value = adapter.linear(LinearSite::Value, x.clone(), &self.value);
        let query = match &self.rotary {
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
        let queries = only.map_or(tokens, |_| 1);
        let window = match self.visibility {
            Visibility::Window(window) => Some(window),
            Visibility::Full | Visibility::Causal => None,
        };
        let visible = self.visible(shape, before);
        let shape =
            AttentionShape { batch, heads, kv_heads, head_dim, queries, keys: before + tokens, visible, window };
        let mixed = s3t_kernels::attention(query, key, value, &Arc::new(shape));
        adapter.linear(LinearSite::Output, mixed, &self.output)
    }

    fn visible(&self, shape: BatchShape<'_>, before: usize) -> Visible {
        match (self.visibility.is_causal(), shape.only) {
            (true, None) => Visible::Causal(before + 1),
            (true, Some(only)) => Visible::ByRecord(only.iter().map(|token| before + token + 1).collect()),
            (false, _) if before == 0 => Visible::ByRecord(Arc::clone(shape.lengths)),
            (false, _) => Visible::ByRecord(shape.lengths.iter().map(|length| before + length).collect()),
        }
    }
}

/// The records of a batch, and the rows of theirs that go on.
#[derive(Clone, Copy)]
pub(crate) struct BatchShape<'a> {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) lengths: &'a Arc<[usize]>,
    /// The token of each record that goes on; `None` for all tokens.
    pub(crate) only: Option<&'a [usize]>,
}

impl BatchShape<'_> {
    /// The rows `[batch * tokens, width]` that go on.
    pub(crate) fn kept(self, rows: Tensor<2>) -> Tensor<2> {
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
