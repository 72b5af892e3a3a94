//! One transformer block and its adaptable sites: the one description that all backbones share.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use s3t_peft::{BlockAdapter, BlockShape, Linear, LinearSite, Sublayer};

use crate::attention::{Attention, BatchShape};
use crate::{FeedForward, Hidden, Norm};

/// The place of the two normalisations of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlace {
    /// Before each sublayer: `h += attention(norm(h)); h += feed_forward(norm(h))`.
    Before,
    /// After each sum: `h = norm(h + attention(h)); h = norm(h + feed_forward(h))`.
    After,
}

/// The design that all blocks of a model share.
#[derive(Debug, Clone, Copy)]
pub struct BlockDesign {
    /// The place of the normalisations.
    pub norms: NormPlace,
    /// The modules of the linear layers inside a block, as Hugging Face names them.
    pub modules: &'static [(LinearSite, &'static str)],
}

/// A transformer block with its frozen parts.
#[derive(Debug)]
pub struct TransformerBlock {
    /// The normalisation of the attention sublayer.
    pub attention_norm: Norm,
    /// The attention sublayer.
    pub attention: Attention,
    /// The normalisation of the feed-forward sublayer.
    pub feed_forward_norm: Norm,
    /// The feed-forward sublayer.
    pub feed_forward: FeedForward,
    /// The design.
    pub design: BlockDesign,
}

/// The block as it is in the base model.
struct Unadapted;

impl BlockAdapter for Unadapted {}

impl TransformerBlock {
    /// Runs the block, with an adapter if there is one.
    pub fn forward(&self, hidden: Hidden, adapter: Option<&dyn BlockAdapter>) -> Hidden {
        self.forward_rows(hidden, adapter, None)
    }

    /// Runs the block for one token of each record: `[batch, 1, hidden]`.
    pub fn forward_only(&self, hidden: Hidden, adapter: Option<&dyn BlockAdapter>, tokens: &[usize]) -> Hidden {
        self.forward_rows(hidden, adapter, Some(tokens))
    }

    /// Runs the block on rows `[rows, hidden]` of any tokens, for those of them that `kept` gives: `[kept rows, hidden]`. `mix` makes
    /// of the queries of the kept rows, and the keys and values of all rows, none of them rotated, what attention gives each kept row.
    ///
    /// Prompts and key-value prefixes of the adapter are not put before anything: [`before`](Self::before) gives them.
    pub fn forward_with(
        &self,
        rows: Tensor<2>,
        adapter: &dyn BlockAdapter,
        kept: &dyn Fn(Tensor<2>) -> Tensor<2>,
        mix: &mut dyn FnMut(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let attend = |x: Tensor<2>| self.attention.forward_with(x, adapter, kept, mix);
        self.sublayers(rows, adapter, kept, attend)
    }

    /// The keys and values, each `[tokens, kv_heads * head_dim]`, that a causal block sees before those of a text, ready to be looked
    /// at: an adapter's key-value prefix, and behind it the keys and values of its prompt. `None` if the adapter puts nothing before.
    pub fn before(&self, adapter: &dyn BlockAdapter) -> Option<(Tensor<2>, Tensor<2>)> {
        let prefix = adapter.key_value_prefix().map(|prefix| {
            let flat = |heads: Tensor<3>| {
                let [count, length, width] = heads.dims();
                heads.swap_dims(0, 1).reshape([length, count * width])
            };
            (flat(prefix.keys), flat(prefix.values))
        });
        let first = prefix.as_ref().map_or(0, |(keys, _)| keys.dims()[0]);
        let prompt = adapter.prompt().map(|prompt| {
            let x = match self.design.norms {
                NormPlace::Before => self.attention_norm.forward(prompt),
                NormPlace::After => prompt,
            };
            let keys = adapter.linear(LinearSite::Key, x.clone(), &self.attention.key);
            let values = adapter.linear(LinearSite::Value, x, &self.attention.value);
            (self.attention.rotated(keys, first), values)
        });
        match (prefix, prompt) {
            (Some((keys, values)), Some((more_keys, more_values))) => {
                Some((Tensor::cat(vec![keys, more_keys], 0), Tensor::cat(vec![values, more_values], 0)))
            }
            (one, other) => one.or(other),
        }
    }

    /// The two sublayers, with the attention given; what `kept` leaves out goes no further than attention.
    fn sublayers(
        &self,
        rows: Tensor<2>,
        adapter: &dyn BlockAdapter,
        kept: &dyn Fn(Tensor<2>) -> Tensor<2>,
        attention: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let attend = |x: Tensor<2>| adapter.sublayer(Sublayer::Attention, attention(x));
        let feed_forward =
            |x: Tensor<2>| adapter.sublayer(Sublayer::FeedForward, self.feed_forward.forward(x, adapter));
        match self.design.norms {
            NormPlace::After => {
                let rows = self.attention_norm.of_sum(attend(rows.clone()), kept(rows));
                self.feed_forward_norm.of_sum(feed_forward(rows.clone()), rows)
            }
            NormPlace::Before => {
                let rows = kept(rows.clone()) + attend(self.attention_norm.forward(rows));
                rows.clone() + feed_forward(self.feed_forward_norm.forward(rows))
            }
        }
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

    /// The description of the block for a PEFT method.
    pub fn shape(&self) -> BlockShape {
        let Attention { heads, kv_heads, head_dim, .. } = self.attention;
        let sizes = |site: LinearSite| {
            let [inputs, outputs] = self.linear(site)?.weight.dims();
            Some((site, (inputs, outputs)))
        };
        let linears: BTreeMap<_, _> = LinearSite::ALL.into_iter().filter_map(sizes).collect();
        let modules = self.design.modules.iter().map(|(site, module)| (*site, (*module).to_owned())).collect();
        BlockShape { hidden: linears[&LinearSite::Query].0, heads, kv_heads, head_dim, linears, modules }
    }

    /// A linear layer; `None` if the block has no layer at this site.
    pub fn linear(&self, site: LinearSite) -> Option<&Linear> {
        self.attention.linear(site).or_else(|| self.feed_forward.linear(site))
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
        let rows =
            self.sublayers(rows, adapter, &|rows| shape.kept(rows), |x| self.attention.forward(x, shape, adapter));
        rows.reshape([batch, only.map_or(tokens, |_| 1), width])
    }
}
