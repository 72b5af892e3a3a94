//! Embeddings of tokens, with those of their positions and types.

use burn::tensor::{Int, Tensor, TensorData};

use super::Embedding;
use crate::norm::{Norm, NormSpec};
use crate::weights::Loader;
use crate::{Hidden, Input, ModelError};

/// The embeddings of tokens, by their modules in the file without the prefix.
#[derive(Debug, Clone, Copy)]
pub struct TokenEmbeddingSpec {
    /// The embeddings of the vocabulary.
    pub words: &'static str,
    /// The number of tokens.
    pub vocabulary: usize,
    /// The width of an embedding.
    pub width: usize,
    /// The token that fills up rows; its values are never seen.
    pub padding: u32,
    /// Learnt positions, if there are any.
    pub positions: Option<PositionSpec>,
    /// Types of tokens, if there are any; they need positions.
    pub types: Option<TypeSpec>,
    /// The normalisation of the sum, if there is one.
    pub norm: Option<NormSpec>,
}

/// Learnt embeddings of positions.
#[derive(Debug, Clone, Copy)]
pub struct PositionSpec {
    /// Their module.
    pub module: &'static str,
    /// The number of positions, with those that no token takes.
    pub count: usize,
    /// The numbers of the tokens' positions.
    pub counting: Counting,
}

/// The numbering of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// From 0.
    FromZero,
    /// From behind the number of the padding token, as RoBERTa counts; a padding token inside a text stands at its own number.
    BehindPadding(u32),
}

impl Counting {
    /// The position of the first token.
    ///
    /// ```
    /// use s3t_models::Counting;
    ///
    /// assert_eq!(Counting::FromZero.first(), 0);
    /// assert_eq!(Counting::BehindPadding(1).first(), 2);
    /// ```
    pub fn first(self) -> usize {
        match self {
            Self::FromZero => 0,
            Self::BehindPadding(padding) => padding as usize + 1,
        }
    }
}

/// Embeddings of the types of tokens.
#[derive(Debug, Clone, Copy)]
pub struct TypeSpec {
    /// Their module.
    pub module: &'static str,
    /// The number of types in the file.
    pub count: usize,
    /// The number of types that tokens may have, from 0.
    pub used: usize,
}

/// Embeddings of tokens: words, and as the model has them positions, types and a normalisation of their sum.
#[derive(Debug)]
pub struct TokenEmbedding {
    spec: TokenEmbeddingSpec,
    /// `[vocabulary, width]`.
    words: Tensor<2>,
    /// `[types * positions, width]`: the embeddings of positions with that of a token type added, type by type.
    positions: Option<(PositionSpec, Tensor<2>)>,
    norm: Option<Norm>,
}

impl TokenEmbedding {
    /// Takes the embeddings out of the weights.
    ///
    /// # Errors
    ///
    /// The errors of [`Loader::tensor`].
    pub fn load(spec: TokenEmbeddingSpec, loader: &mut Loader<'_>) -> Result<Self, ModelError> {
        let TokenEmbeddingSpec { vocabulary, width, .. } = spec;
        let mut table = |module: &str, rows: usize| loader.matrix(&format!("{module}.weight"), rows, width);
        let words = table(spec.words, vocabulary)?;
        let positions = match spec.positions {
            Some(positions) => Some((positions, table(positions.module, positions.count)?)),
            None => None,
        };
        let types = match spec.types {
            Some(types) => Some((types.used, table(types.module, types.count)?)),
            None => None,
        };
        let positions = positions.map(|(spec, rows)| match &types {
            Some((used, types)) => (spec, with_types(&rows, types, *used)),
            None => (spec, rows),
        });
        let norm = match spec.norm {
            Some(norm) => Some(loader.norm(norm.module, norm, width)?),
            None => None,
        };
        Ok(Self { spec, words, positions, norm })
    }

    /// The row of the table of positions for each token of some inputs, padded to `tokens`, if they are not the places in the
    /// text: in the second text of a pair, and where a text holds a padding token that is counted by its own number.
    fn places(positions: PositionSpec, inputs: &[&Input<'_>], tokens: usize) -> Option<Vec<i32>> {
        let padding = match positions.counting {
            Counting::FromZero => None,
            Counting::BehindPadding(padding) => Some(padding),
        };
        let holds_padding = |input: &Input<'_>| padding.is_some_and(|padding| input.ids.contains(&padding));
        let plain = |input: &&Input<'_>| input.types.is_empty() && !holds_padding(input);
        if inputs.iter().all(plain) {
            return None;
        }
        let (first, count) = (positions.counting.first(), positions.count);
        let mut places = Vec::with_capacity(inputs.len() * tokens);
        for input in inputs {
            let mut next = first;
            for token in 0..tokens {
                let kind = input.types.get(token).map_or(0, |kind| *kind as usize);
                let place = match padding.filter(|padding| input.ids.get(token) == Some(padding)) {
                    Some(padding) => padding as usize,
                    None => {
                        next += 1;
                        (next - 1).min(count - 1)
                    }
                };
                places.push((kind * count + place) as i32);
            }
        }
        Some(places)
    }
}

/// The embeddings of positions with that of each token type added, type by type: `[types * positions, width]`.
fn with_types(positions: &Tensor<2>, types: &Tensor<2>, count: usize) -> Tensor<2> {
    let width = positions.dims()[1];
    let of_type = |kind: usize| positions.clone() + types.clone().slice([kind..kind + 1, 0..width]);
    Tensor::cat((0..count).map(of_type).collect(), 0)
}

/// The rows of a table at some places.
fn rows(table: &Tensor<2>, places: Vec<i32>) -> Tensor<2> {
    let count = places.len();
    table.clone().select(0, Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &table.device()))
}

impl Embedding for TokenEmbedding {
    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        let (batch, width) = (inputs.len(), self.spec.width);
        let words = rows(&self.words, padded_ids(inputs, tokens, self.spec.padding)).reshape([batch, tokens, width]);
        let sum = match &self.positions {
            Some((spec, table)) => match Self::places(*spec, inputs, tokens) {
                Some(places) => words + rows(table, places).reshape([batch, tokens, width]),
                None => {
                    // Padding may stand beyond the last position; its values are never seen.
                    let (first, last) = (spec.counting.first(), spec.count - 1);
                    let places = (0..tokens).map(|token| (first + token).min(last) as i32).collect();
                    words + rows(table, places).unsqueeze::<3>()
                }
            },
            None => words,
        };
        let states = match &self.norm {
            Some(norm) => norm.forward(sum.reshape([batch * tokens, width])).reshape([batch, tokens, width]),
            None => sum,
        };
        let lengths: Vec<usize> = inputs.iter().map(|input| input.length).collect();
        Hidden::new(states, lengths)
    }

    fn embed_tokens(&self, ids: &[u32]) -> Option<Tensor<2>> {
        if self.positions.is_some() {
            return None;
        }
        let words = rows(&self.words, ids.iter().map(|id| *id as i32).collect());
        Some(match &self.norm {
            Some(norm) => norm.forward(words),
            None => words,
        })
    }

    fn words(&self) -> Option<&Tensor<2>> {
        Some(&self.words)
    }
}

/// The ids of all inputs, padded with `padding` to `tokens` each, as one row.
fn padded_ids(inputs: &[&Input<'_>], tokens: usize, padding: u32) -> Vec<i32> {
    let row = |input: &&Input<'_>| {
        let own = input.ids.iter().map(|id| *id as i32);
        own.chain(std::iter::repeat_n(padding as i32, tokens - input.tokens)).collect::<Vec<_>>()
    };
    inputs.iter().flat_map(row).collect()
}
