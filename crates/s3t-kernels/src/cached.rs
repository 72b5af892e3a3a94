//! Attention over remembered keys and values, in pages.
//!
//! # Proof note
//!
//! *Before*: a token's query, and pages with the keys and values of the tokens it sees. *After*: its softmax attention, with bits that
//! depend on these alone. *Why*: each query of each head is worked on by one thread, key by key in the order of the tokens; nothing is
//! shared with the other rows.

use std::ops::Range;

use rayon::prelude::*;

use crate::operands::{CachedPage, PAGE};
use crate::streamed::{KeyHead, attend};

/// The heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedHeads {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` neighbouring heads of queries.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
}

impl CachedHeads {
    /// The values of a page: keys `[kv_heads, head_dim, PAGE]`, and behind them values `[kv_heads, PAGE, head_dim]`.
    pub fn page_values(&self) -> usize {
        2 * PAGE * self.kv_heads * self.head_dim
    }

    /// Puts the key and the value of a token, each `[kv_heads * head_dim]`, at a place of a page.
    ///
    /// # Panics
    ///
    /// If a length is another, or the place is not below [`PAGE`].
    pub fn put(&self, page: &mut [f32], place: usize, key: &[f32], value: &[f32]) {
        let Self { kv_heads, head_dim, .. } = *self;
        assert!(place < PAGE && page.len() == self.page_values(), "a place of a page");
        assert!(key.len() == kv_heads * head_dim && value.len() == key.len(), "a key and a value of one token");
        let (keys, values) = page.split_at_mut(PAGE * kv_heads * head_dim);
        for (row, key) in keys.chunks_exact_mut(PAGE).zip(key) {
            row[place] = *key;
        }
        for (head, value) in values.chunks_exact_mut(PAGE * head_dim).zip(value.chunks_exact(head_dim)) {
            head[place * head_dim..][..head_dim].copy_from_slice(value);
        }
    }
}

/// The keys that a row sees.
#[derive(Debug, Clone)]
pub struct CachedRow<'a> {
    /// The pages in the order of the tokens.
    pub pages: &'a [CachedPage<'a>],
    /// The tokens that are seen, counted from the first of the first page; at least one.
    pub seen: Range<usize>,
}

/// Softmax attention of each row over its own pages.
///
/// # Shapes
///
/// - `query` and result: `[rows, heads * head_dim]`
///
/// # Panics
///
/// If a row sees no token or one that no page holds, or the sizes do not go together.
pub fn cached_attention(query: &[f32], rows: &[CachedRow<'_>], heads: CachedHeads) -> Vec<f32> {
    let CachedHeads { heads: count, kv_heads, head_dim } = heads;
    assert!(kv_heads > 0 && count.is_multiple_of(kv_heads), "heads of queries share those of keys evenly");
    assert_eq!(query.len(), rows.len() * count * head_dim, "each row has a query for each head");
    for row in rows {
        let held: usize = row.pages.iter().map(|page| page.tokens).sum();
        assert!(row.seen.start < row.seen.end && row.seen.end <= held, "a row sees tokens that pages hold");
        let fits = |page: &CachedPage<'_>| page.page.len() == heads.page_values() && page.tokens <= PAGE;
        assert!(row.pages.iter().all(fits), "pages of this layer");
    }
    let mut out = vec![0.0; query.len()];
    let together = count / kv_heads * head_dim;
    if together > 0 {
        let scale = 1.0 / (head_dim as f32).sqrt();
        out.par_chunks_exact_mut(together).zip(query.par_chunks_exact(together)).enumerate().for_each(
            |(index, (out, query))| {
                let row = &rows[index / kv_heads];
                let head = KeyHead { index: index % kv_heads, count: kv_heads, width: head_dim };
                attend(query, row.pages, row.seen.clone(), head, scale, out);
            },
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(length: usize, seed: usize) -> Vec<f32> {
        (0..length).map(|index| (((index + 7 * seed) * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    /// Attention by its definition, in double precision.
    fn by_definition(query: &[f32], keys: &[f32], values: &[f32], seen: Range<usize>, heads: CachedHeads) -> Vec<f64> {
        let CachedHeads { heads: count, kv_heads, head_dim } = heads;
        let width = kv_heads * head_dim;
        let mut out = Vec::new();
        for head in 0..count {
            let of = head * kv_heads / count * head_dim;
            let score = |token: usize| -> f64 {
                let product =
                    |d: usize| f64::from(query[head * head_dim + d]) * f64::from(keys[token * width + of + d]);
                (0..head_dim).map(product).sum::<f64>() / (head_dim as f64).sqrt()
            };
            let shares: Vec<f64> = seen.clone().map(|token| score(token).exp()).collect();
            let all: f64 = shares.iter().sum();
            for d in 0..head_dim {
                let of_token = |(token, share): (usize, &f64)| share * f64::from(values[token * width + of + d]);
                out.push(seen.clone().zip(&shares).map(of_token).sum::<f64>() / all);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn attention_over_pages_is_that_of_the_definition(
            tokens in 1..50usize, start in 0..50usize, before in 0..20usize,
            (kv_heads, share) in (1..3usize, 1..4usize), head_dim in prop::sample::select(vec![4, 16, 24, 64]),
        ) {
            let heads = CachedHeads { heads: kv_heads * share, kv_heads, head_dim };
            let width = kv_heads * head_dim;
            let (keys, held) = (values(tokens * width, 1), values(tokens * width, 2));
            // The first page may be a part of one.
            let before = before.min(tokens);
            let mut pages: Vec<(Vec<f32>, usize)> = Vec::new();
            for token in 0..tokens {
                let is_new = token == 0 || token == before || pages.last().is_some_and(|(_, used)| *used == PAGE);
                if is_new {
                    pages.push((vec![0.0; heads.page_values()], 0));
                }
                let (page, used) = pages.last_mut().unwrap();
                let place = token * width..(token + 1) * width;
                heads.put(page, *used, &keys[place.clone()], &held[place]);
                *used += 1;
            }
            let pages: Vec<CachedPage<'_>> = pages.iter().map(|(page, tokens)| CachedPage { page, tokens: *tokens }).collect();
            let seen = start.min(tokens - 1)..tokens;
            let query = values(2 * heads.heads * head_dim, 3);
            let rows = [CachedRow { pages: &pages, seen: seen.clone() }, CachedRow { pages: &pages, seen: 0..1 }];
            let found = cached_attention(&query, &rows, heads);
            let (first, second) = query.split_at(query.len() / 2);
            let expected = [by_definition(first, &keys, &held, seen, heads), by_definition(second, &keys, &held, 0..1, heads)];
            for (found, expected) in found.iter().zip(expected.concat()) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
            }
            let alone = cached_attention(first, &rows[..1], heads);
            prop_assert_eq!(&found[..alone.len()], &alone[..]);
        }
    }
}
