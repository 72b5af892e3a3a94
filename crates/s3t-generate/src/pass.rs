//! One pass of all models over the next tokens of some texts.

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;
use s3t_kernels::{CachedPage, CachedRow, PAGE, cached_attention};
use s3t_models::Rotary;
use s3t_peft::tensors::to_host;

use crate::GenerateError;
use crate::cache::Page;
use crate::lanes::{Lanes, RowAdapter};

/// The next tokens of a text.
pub(crate) struct Part<'a> {
    pub(crate) ids: &'a [u32],
    /// The position of the first.
    pub(crate) first: usize,
    /// The pages of the text, up to that of the last token; those that are written to are nobody else's.
    pub(crate) pages: &'a mut [Arc<Page>],
    /// The tokens, counted in `ids`, behind which the logits are asked for.
    pub(crate) wanted: Vec<usize>,
}

/// A row of the residual stream.
#[derive(Clone, Copy)]
struct Row {
    part: usize,
    position: usize,
}

/// The logits of each model behind the wanted tokens of all parts.
#[derive(Default)]
pub(crate) struct Logits {
    values: Vec<f32>,
    vocabulary: usize,
    /// The wanted tokens, in the order of the parts.
    wanted: usize,
    /// The lane of each model.
    lanes: Vec<usize>,
}

impl Logits {
    /// The logits of each model behind a wanted token, counted over all parts.
    pub(crate) fn of(&self, wanted: usize) -> Vec<&[f32]> {
        let row = |lane: &usize| &self.values[(lane * self.wanted + wanted) * self.vocabulary..][..self.vocabulary];
        self.lanes.iter().map(row).collect()
    }
}

/// Runs all models over the next tokens of some texts, and remembers their keys and values.
pub(crate) fn run(lanes: &Lanes, parts: &mut [Part<'_>]) -> Result<Logits, GenerateError> {
    let ids: Vec<u32> = parts.iter().flat_map(|part| part.ids).copied().collect();
    let rows: Vec<Row> = parts
        .iter()
        .enumerate()
        .flat_map(|(index, part)| {
            (0..part.ids.len()).map(move |token| Row { part: index, position: part.first + token })
        })
        .collect();
    let starts: Vec<usize> =
        parts.iter().scan(0, |next, part| Some(std::mem::replace(next, *next + part.ids.len()))).collect();
    let mut wanted: Vec<usize> = parts
        .iter()
        .zip(&starts)
        .flat_map(|(part, start)| part.wanted.iter().map(move |token| start + token))
        .collect();
    let is_asked = !wanted.is_empty();
    if !is_asked {
        // The keys and values of the last block are all that is needed of it.
        wanted.push(0);
    }
    let backbone = Arc::clone(lanes.backbone());
    let model = "it is not one that predicts the next token from the tokens before it";
    let mut states = backbone.embed_tokens(&ids).ok_or(GenerateError::Model(model))?;
    let mut turns = Turns::default();
    let all: Vec<usize> = (0..rows.len()).collect();
    let last = backbone.blocks().saturating_sub(1);
    for (index, block) in backbone.transformer_blocks().iter().enumerate() {
        let of_block = &lanes.blocks()[index];
        let kept = if index == last { &wanted } else { &all };
        let sources: Vec<usize> = of_block.iter().map(|lane| lane.from).collect();
        states = arranged(states, rows.len(), &sources);
        let width = states.dims()[1];
        let mut mix = |lane: usize, lane_count: usize, [query, key, value]: [Tensor<2>; 3]| {
            let device = query.device();
            let shape = query.dims();
            let own = Own { query: to_host(query), key: to_host(key), value: to_host(value) };
            let mixed = attention(lanes, index, lane..lane + lane_count, &rows, kept, own, parts, &starts, &mut turns);
            Tensor::<2>::from_data(TensorData::new(mixed, shape), &device)
        };
        if lanes.are_low_rank() {
            let select = |rows_of_all: Tensor<2>| selected(rows_of_all, rows.len(), of_block.len(), kept);
            states = block.forward_with(states, &lanes.stacked(index), &select, &mut |query, key, value| {
                mix(0, of_block.len(), [query, key, value])
            });
        } else {
            let of_lane = (0..of_block.len()).map(|lane| {
                let own = states.clone().slice([lane * rows.len()..(lane + 1) * rows.len(), 0..width]);
                let base = RowAdapter::base();
                let adapter = lanes.adapter(index, lane).unwrap_or(&base);
                let select = |rows_of_lane: Tensor<2>| selected(rows_of_lane, rows.len(), 1, kept);
                block.forward_with(own, adapter, &select, &mut |query, key, value| mix(lane, 1, [query, key, value]))
            });
            states = Tensor::cat(of_lane.collect(), 0);
        }
    }
    if !is_asked {
        return Ok(Logits::default());
    }
    let logits = backbone.next_token_logits_by_row(states).ok_or(GenerateError::Model(model))?;
    let vocabulary = logits.dims()[1];
    Ok(Logits { values: to_host(logits), vocabulary, wanted: wanted.len(), lanes: lanes.last().to_vec() })
}

/// The rows of lanes from those of the lanes before.
fn arranged(states: Tensor<2>, rows: usize, sources: &[usize]) -> Tensor<2> {
    let [all, width] = states.dims();
    let count = all / rows.max(1);
    if sources.iter().copied().eq(0..count) {
        return states;
    }
    let of = |source: &usize| states.clone().slice([source * rows..(source + 1) * rows, 0..width]);
    Tensor::cat(sources.iter().map(of).collect(), 0)
}

/// The kept rows of each lane.
fn selected(states: Tensor<2>, rows: usize, lanes: usize, kept: &[usize]) -> Tensor<2> {
    if kept.len() == rows {
        return states;
    }
    let places: Vec<i32> = (0..lanes).flat_map(|lane| kept.iter().map(move |row| (lane * rows + row) as i32)).collect();
    let count = places.len();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &states.device());
    states.select(0, places)
}

/// Queries of the kept rows, keys and values of all rows, lane by lane.
struct Own {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
}

/// The angles of positions.
#[derive(Default)]
struct Turns(HashMap<usize, Vec<f32>>);

impl Turns {
    fn prepare(&mut self, rotary: &Rotary, positions: impl Iterator<Item = usize>) {
        for position in positions {
            self.0.entry(position).or_insert_with(|| rotary.angles(position));
        }
    }
}

/// Remembers the keys and values of some lanes' rows, and gives what attention makes of the kept ones: `[lanes * kept, heads * head_dim]`.
#[allow(clippy::too_many_arguments, reason = "what a block's attention works on")]
fn attention(
    lanes: &Lanes,
    block: usize,
    of_lanes: std::ops::Range<usize>,
    rows: &[Row],
    kept: &[usize],
    mut own: Own,
    parts: &mut [Part<'_>],
    starts: &[usize],
    turns: &mut Turns,
) -> Vec<f32> {
    let heads = lanes.heads();
    let attention = &lanes.backbone().transformer_blocks()[block].attention;
    let key_width = heads.kv_heads * heads.head_dim;
    let query_width = heads.heads * heads.head_dim;
    if let Some(rotary) = &attention.rotary {
        for lane in of_lanes.clone() {
            let before = lanes.blocks()[block][lane].before.tokens;
            turns.prepare(rotary, rows.iter().map(|row| before + row.position));
        }
    }
    let befores: Vec<usize> = of_lanes.clone().map(|lane| lanes.blocks()[block][lane].before.tokens).collect();
    let turn = |position: usize, heads: &mut [f32]| {
        if let Some(angles) = turns.0.get(&position) {
            Rotary::turn(angles, heads);
        }
    };
    own.query.par_chunks_exact_mut(query_width).enumerate().for_each(|(place, query)| {
        let row = rows[kept[place % kept.len()]];
        turn(befores[place / kept.len()] + row.position, query);
    });
    parts.par_iter_mut().zip(starts).for_each(|(part, start)| {
        let mut turned = vec![0.0; key_width];
        for (index, lane) in of_lanes.clone().enumerate() {
            let place = lanes.place(block, lane);
            for token in 0..part.ids.len() {
                let of_row = (index * rows.len() + start + token) * key_width..;
                let position = part.first + token;
                turned.copy_from_slice(&own.key[of_row.clone()][..key_width]);
                turn(befores[index] + position, &mut turned);
                let page = Arc::get_mut(&mut part.pages[position / PAGE]);
                let page = page.expect("a page that is written to is its text's alone");
                let value = &own.value[of_row][..key_width];
                heads.put(&mut page.values[place.clone()], position % PAGE, &turned, value);
            }
        }
    });
    // The pages of each part in each lane, those that an adapter puts before first.
    let pages: Vec<Vec<CachedPage<'_>>> = of_lanes
        .clone()
        .flat_map(|lane| {
            let (place, before) = (lanes.place(block, lane), &lanes.blocks()[block][lane].before);
            parts.iter().map(move |part| {
                let first = before.pages.iter().enumerate();
                let first = first.map(|(index, page)| CachedPage { page, tokens: before.tokens_of(index) });
                let tokens = part.first + part.ids.len();
                let own = part.pages.iter().enumerate().map(|(index, page)| CachedPage {
                    page: &page.values[place.clone()],
                    tokens: tokens.saturating_sub(index * PAGE).min(PAGE),
                });
                first.chain(own).collect()
            })
        })
        .collect();
    let count = parts.len();
    let seen: Vec<CachedRow<'_>> = of_lanes
        .enumerate()
        .flat_map(|(index, lane)| {
            let before = lanes.blocks()[block][lane].before.tokens;
            let pages = &pages;
            kept.iter().map(move |row| {
                let Row { part, position } = rows[*row];
                let last = before + position;
                CachedRow { pages: &pages[index * count + part], seen: attention.first_seen(last)..last + 1 }
            })
        })
        .collect();
    cached_attention(&own.query, &seen, heads)
}
