//! The models of an ensemble side by side: which rows go through each block.
//!
//! Below its lowest adapter a model is the base model, so the base model's rows stand for all models there; each model's own rows
//! begin in the block where it starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Tensor;
use s3t_core::MemberInfo;
use s3t_kernels::{CachedHeads, LowRankFactors, PAGE};
use s3t_models::{Backbone, TransformerBlock};
use s3t_peft::tensors::to_host;
use s3t_peft::{BlockAdapter, Linear, LinearSite};
use s3t_train::StageModel;

use crate::GenerateError;

/// Rows of a model in a block.
pub(crate) struct Lane {
    /// The lane of the block before that its rows come from.
    pub(crate) from: usize,
    /// The model; `None` for the base model's rows.
    model: Option<usize>,
    /// The low-rank updates of its adapter, with memory in the order in which they are read.
    factors: BTreeMap<LinearSite, LowRankFactors>,
    /// The keys and values that its adapter puts before a text's, in pages.
    pub(crate) before: Before,
}

/// Keys and values before those of a text.
#[derive(Default)]
pub(crate) struct Before {
    pub(crate) pages: Vec<Vec<f32>>,
    pub(crate) tokens: usize,
}

impl Before {
    /// The tokens of a page.
    pub(crate) fn tokens_of(&self, page: usize) -> usize {
        (self.tokens - page * PAGE).min(PAGE)
    }
}

/// The models of an ensemble on their base model.
pub struct Lanes {
    backbone: Arc<Backbone>,
    members: Vec<MemberInfo>,
    models: Vec<Arc<StageModel>>,
    /// The lanes of each block.
    blocks: Vec<Vec<Lane>>,
    /// The first place of each block in a page.
    first: Vec<usize>,
    places: usize,
    /// The lane of each model behind the last block.
    last: Vec<usize>,
    heads: CachedHeads,
    are_low_rank: bool,
}

impl Lanes {
    /// The lanes of these models, of which there is at least one, each with its place in the ensemble.
    ///
    /// # Errors
    ///
    /// [`GenerateError::Model`] for a base model that cannot continue texts.
    pub fn new(backbone: Arc<Backbone>, models: Vec<(MemberInfo, Arc<StageModel>)>) -> Result<Self, GenerateError> {
        let (members, models): (Vec<MemberInfo>, Vec<Arc<StageModel>>) = models.into_iter().unzip();
        if backbone.embed_tokens(&[0]).is_none() {
            return Err(GenerateError::Model("it is not one that predicts the next token from the tokens before it"));
        }
        let shape = backbone.block_shape();
        let heads = CachedHeads { heads: shape.heads, kv_heads: shape.kv_heads, head_dim: shape.head_dim };
        let mut blocks: Vec<Vec<Lane>> = Vec::with_capacity(backbone.blocks());
        let mut before: Vec<Option<usize>> = vec![None];
        let mut are_low_rank = true;
        for (index, block) in backbone.transformer_blocks().iter().enumerate() {
            let is_followed = models.is_empty() || models.iter().any(|model| model.start() > index);
            let base = before.iter().position(Option::is_none);
            let mut layout: Vec<(usize, Option<usize>)> = Vec::new();
            layout.extend(base.filter(|_| is_followed).map(|from| (from, None)));
            layout.extend(before.iter().enumerate().filter(|(_, of)| of.is_some()).map(|(from, of)| (from, *of)));
            let starting = (0..models.len()).filter(|model| models[*model].start() == index);
            layout.extend(starting.map(|model| (base.unwrap_or(0), Some(model))));
            before = layout.iter().map(|(_, model)| *model).collect();
            let mut lanes = Vec::with_capacity(layout.len());
            for (from, model) in layout {
                let adapter = model.and_then(|model| models[model].adapter(index));
                let (mut factors, mut put_before) = (BTreeMap::new(), Before::default());
                if let Some(adapter) = adapter {
                    match adapter.low_rank() {
                        Some(low_rank) => {
                            let of_site = |site| Some((site, in_order(low_rank.factors(site)?)));
                            factors = LinearSite::ALL.into_iter().filter_map(of_site).collect();
                        }
                        None => are_low_rank = false,
                    }
                    put_before = self::before(block, adapter, heads);
                }
                lanes.push(Lane { from, model, factors, before: put_before });
            }
            blocks.push(lanes);
        }
        let of_model = |model: usize| {
            let own = before.iter().position(|of| *of == Some(model));
            own.or_else(|| before.iter().position(Option::is_none)).unwrap_or(0)
        };
        let last = (0..models.len()).map(of_model).collect();
        let first: Vec<usize> =
            blocks.iter().scan(0, |next, lanes| Some(std::mem::replace(next, *next + lanes.len()))).collect();
        let places = blocks.iter().map(Vec::len).sum();
        Ok(Self { backbone, members, models, blocks, first, places, last, heads, are_low_rank })
    }

    /// The base model.
    pub fn backbone(&self) -> &Arc<Backbone> {
        &self.backbone
    }

    /// The place of each model in the ensemble.
    pub fn members(&self) -> &[MemberInfo] {
        &self.members
    }

    /// The bytes of keys and values that a token takes.
    pub fn token_bytes(&self) -> usize {
        self.page_values() * size_of::<f32>() / PAGE
    }

    /// `true` if all adapters are low-rank updates and nothing else, so that texts go through the models together.
    pub fn are_low_rank(&self) -> bool {
        self.are_low_rank
    }

    pub(crate) fn heads(&self) -> CachedHeads {
        self.heads
    }

    pub(crate) fn blocks(&self) -> &[Vec<Lane>] {
        &self.blocks
    }

    /// The values of a page, of all layers of all models.
    pub(crate) fn page_values(&self) -> usize {
        self.places * self.heads.page_values()
    }

    /// The place of a lane's keys and values in a page.
    pub(crate) fn place(&self, block: usize, lane: usize) -> std::ops::Range<usize> {
        let size = self.heads.page_values();
        let place = (self.first[block] + lane) * size;
        place..place + size
    }

    /// The lane of each model behind the last block.
    pub(crate) fn last(&self) -> &[usize] {
        &self.last
    }

    /// The adapter of a lane as it is; `None` for the base model, or in a block without an adapter.
    pub(crate) fn adapter(&self, block: usize, lane: usize) -> Option<&dyn BlockAdapter> {
        self.models[self.blocks[block][lane].model?].adapter(block)
    }

    /// The adapter of all lanes of a block on equal parts of the rows.
    pub(crate) fn stacked(&self, block: usize) -> RowAdapter<'_> {
        RowAdapter(self.blocks[block].iter().map(|lane| Some(&lane.factors)).collect())
    }
}

/// Low-rank updates of equal parts of the rows, with bits of a row that do not depend on how many rows there are.
pub(crate) struct RowAdapter<'a>(Vec<Option<&'a BTreeMap<LinearSite, LowRankFactors>>>);

impl RowAdapter<'_> {
    /// The base model on all rows.
    pub(crate) fn base() -> Self {
        Self(vec![None])
    }
}

impl BlockAdapter for RowAdapter<'_> {
    fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        let parts: Vec<Option<LowRankFactors>> =
            self.0.iter().map(|part| part.and_then(|factors| factors.get(&site).cloned())).collect();
        s3t_kernels::linear_by_row(&x, &base.weight, base.bias.as_ref(), &parts)
    }
}

/// Factors with their memory in rows.
fn in_order(factors: LowRankFactors) -> LowRankFactors {
    let copy = |tensor: Tensor<2>| Tensor::from_data(tensor.to_data(), &tensor.device());
    LowRankFactors { down: copy(factors.down), up: copy(factors.up), scale: factors.scale }
}

fn before(block: &TransformerBlock, adapter: &dyn BlockAdapter, heads: CachedHeads) -> Before {
    let Some((keys, values)) = block.before(adapter) else { return Before::default() };
    let [tokens, width] = keys.dims();
    let (keys, values) = (to_host(keys), to_host(values));
    let mut pages = vec![vec![0.0; heads.page_values()]; tokens.div_ceil(PAGE)];
    for (token, (key, value)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
        heads.put(&mut pages[token / PAGE], token % PAGE, key, value);
    }
    Before { pages, tokens }
}
