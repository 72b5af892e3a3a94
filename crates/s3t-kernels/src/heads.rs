//! Softmax attention over all heads of a batch, forward and backward.

use rayon::prelude::*;

use crate::AttentionShape;
use crate::buffer::zeros;
use crate::matrix::{Matrix, MatrixMut, Onto, Threads, by_blocks};
use crate::products::multiply;
use crate::rows::{softmax_rows, softmax_rows_backward};

/// Pieces of work that the heads of a record are cut into.
const HEAD_PARTS: usize = 4;

/// Queries, keys and values, or their gradients, in rows.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) key: &'a [f32],
    pub(crate) value: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// The rows of one record.
    fn of_record(self, shape: &AttentionShape, record: usize) -> Self {
        let part = |values: &'a [f32], length: usize| &values[record * length..][..length];
        let (queries, keys) = (shape.queries * shape.query_width(), shape.keys * shape.key_width());
        Self { query: part(self.query, queries), key: part(self.key, keys), value: part(self.value, keys) }
    }
}

impl AttentionShape {
    /// The width of a row of queries.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The width of a row of keys or values.
    pub(crate) fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// One head's columns of rows.
fn head(values: &[f32], rows: usize, width: usize, head: usize, head_dim: usize) -> Matrix<'_> {
    Matrix::strided(&values[head * head_dim..], [rows, head_dim], [width, 1])
}

fn head_mut(values: &mut [f32], rows: usize, width: usize, head: usize, head_dim: usize) -> MatrixMut<'_> {
    MatrixMut::strided(&mut values[head * head_dim..], [rows, head_dim], width)
}

/// The shares of one head of one record, `[queries, keys]`, into `shares`.
fn shares(shape: &AttentionShape, record: usize, query_head: usize, inputs: Inputs<'_>, shares: &mut [f32]) {
    let AttentionShape { heads, kv_heads, head_dim, queries, keys, .. } = *shape;
    let key_head = query_head * kv_heads / heads;
    let query = head(inputs.query, queries, shape.query_width(), query_head, head_dim);
    let key = head(inputs.key, keys, shape.key_width(), key_head, head_dim);
    let mut scores = MatrixMut::new(shares, queries, keys);
    multiply(&mut scores, Onto::Replace, 1.0, query, key.transposed(), Threads::One);
    softmax_rows(shares, shape, record, shape.scale());
}

/// The outputs, rows of queries, into `out`.
pub(crate) fn forward(shape: &AttentionShape, inputs: Inputs<'_>, out: &mut [f32]) {
    let AttentionShape { batch, heads, kv_heads, head_dim, queries, keys, .. } = *shape;
    let width = shape.query_width();
    // Several heads of a record are one piece of work, so that few records keep many threads busy too.
    let together = heads.div_ceil(HEAD_PARTS);
    let mut out = MatrixMut::new(out, batch * queries, width);
    by_blocks(&mut out, [queries, together * head_dim], Threads::Pool, |record, part, out| {
        let inputs = inputs.of_record(shape, record);
        let mut buffer = vec![0.0; queries * keys];
        let first = part * together;
        for query_head in first..(first + together).min(heads) {
            shares(shape, record, query_head, inputs, &mut buffer);
            let value = head(inputs.value, keys, shape.key_width(), query_head * kv_heads / heads, head_dim);
            let column = (query_head - first) * head_dim;
            let mut out = out.columns(column..column + head_dim);
            multiply(&mut out, Onto::Replace, 1.0, Matrix::new(&buffer, queries, keys), value, Threads::One);
        }
    });
}

/// The gradients of queries, keys and values.
pub(crate) struct Gradients {
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
    pub(crate) value: Vec<f32>,
}

/// The gradients from that of the output.
pub(crate) fn backward(shape: &AttentionShape, inputs: Inputs<'_>, gradient: &[f32]) -> Gradients {
    let AttentionShape { heads, kv_heads, head_dim, queries, keys, .. } = *shape;
    let (width, key_width) = (shape.query_width(), shape.key_width());
    let mut gradients =
        Gradients { query: zeros(inputs.query.len()), key: zeros(inputs.key.len()), value: zeros(inputs.value.len()) };
    let of_record = |record: usize, of_query: &mut [f32], of_key: &mut [f32], of_value: &mut [f32]| {
        let inputs = inputs.of_record(shape, record);
        let gradient = &gradient[record * queries * width..][..queries * width];
        let mut of_shares = vec![0.0; queries * keys];
        let mut buffer = vec![0.0; queries * keys];
        for query_head in 0..heads {
            let key_head = query_head * kv_heads / heads;
            shares(shape, record, query_head, inputs, &mut buffer);
            let gradient = head(gradient, queries, width, query_head, head_dim);
            let value = head(inputs.value, keys, key_width, key_head, head_dim);
            let mut out = MatrixMut::new(&mut of_shares, queries, keys);
            multiply(&mut out, Onto::Replace, 1.0, gradient, value.transposed(), Threads::One);
            // Heads of queries that share keys add up.
            let mut out = head_mut(of_value, keys, key_width, key_head, head_dim);
            let shares = Matrix::new(&buffer, queries, keys);
            multiply(&mut out, Onto::Add, 1.0, shares.transposed(), gradient, Threads::One);
            softmax_rows_backward(&buffer, &mut of_shares, keys, shape.scale());
            let of_scores = Matrix::new(&of_shares, queries, keys);
            let key = head(inputs.key, keys, key_width, key_head, head_dim);
            let mut out = head_mut(of_query, queries, width, query_head, head_dim);
            multiply(&mut out, Onto::Replace, 1.0, of_scores, key, Threads::One);
            let query = head(inputs.query, queries, width, query_head, head_dim);
            let mut out = head_mut(of_key, keys, key_width, key_head, head_dim);
            multiply(&mut out, Onto::Add, 1.0, of_scores.transposed(), query, Threads::One);
        }
    };
    let Gradients { query, key, value } = &mut gradients;
    let key_part = (keys * key_width).max(1);
    query
        .par_chunks_exact_mut((queries * width).max(1))
        .zip(key.par_chunks_exact_mut(key_part).zip(value.par_chunks_exact_mut(key_part)))
        .enumerate()
        .for_each(|(record, (query, (key, value)))| of_record(record, query, key, value));
    gradients
}
