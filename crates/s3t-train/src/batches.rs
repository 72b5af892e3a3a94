//! Batches: the records that go through the model together.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::SliceRandom;

/// Batches that are sorted by length at a time, as many as in the `transformers` library.
const SORTED_TOGETHER: usize = 50;

/// The size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchSize {
    /// So many records.
    Records(usize),
    /// As many records as have at most so many tokens, with padding to the longest; one record if it has more.
    Tokens(usize),
}

/// The batches of one pass over records of these lengths: in random order, records of like lengths together, so that little
/// of a batch is padding. A function of the lengths and the generator.
pub(crate) fn batches(lengths: &[usize], size: BatchSize, rng: &mut impl Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(rng);
    let varies = lengths.windows(2).any(|pair| pair[0] != pair[1]);
    if varies {
        for part in parts(&mut order, lengths, size) {
            // Stable: records of one length stay in random order.
            part.sort_by_key(|record| std::cmp::Reverse(lengths[*record]));
        }
    }
    let mut batches: Vec<Vec<usize>> = match size {
        BatchSize::Records(records) => order.chunks(records).map(<[usize]>::to_vec).collect(),
        BatchSize::Tokens(tokens) => filled(&order, lengths, tokens),
    };
    if varies {
        batches.shuffle(rng);
    }
    batches
}

/// Groups of inputs of one padded length each, of at most `most` inputs, so that no input is padded to the length of another: the
/// shortest first, each group in the order given.
///
/// `inputs` are pairs of what names an input and its [`padded`](s3t_models::Input::padded) length.
///
/// # Panics
///
/// If `most` is 0.
///
/// ```
/// let groups = s3t_train::by_padded_length([("a", 16), ("b", 8), ("c", 16), ("d", 16)], 2);
/// assert_eq!(groups, [vec!["b"], vec!["a", "c"], vec!["d"]]);
/// ```
pub fn by_padded_length<T: Clone>(inputs: impl IntoIterator<Item = (T, usize)>, most: usize) -> Vec<Vec<T>> {
    let mut by_length: BTreeMap<usize, Vec<T>> = BTreeMap::new();
    for (input, padded) in inputs {
        by_length.entry(padded).or_default().push(input);
    }
    by_length.values().flat_map(|of_length| of_length.chunks(most)).map(<[T]>::to_vec).collect()
}

/// The parts of an order that are sorted.
fn parts<'a>(order: &'a mut [usize], lengths: &[usize], size: BatchSize) -> Vec<&'a mut [usize]> {
    match size {
        BatchSize::Records(records) => order.chunks_mut(records.saturating_mul(SORTED_TOGETHER)).collect(),
        BatchSize::Tokens(tokens) => {
            let (most, mut rest, mut parts) = (tokens.saturating_mul(SORTED_TOGETHER), order, Vec::new());
            while !rest.is_empty() {
                let mut sum = 0_usize;
                let fits = |record: &&usize| {
                    sum = sum.saturating_add(lengths[**record]);
                    sum <= most
                };
                let count = rest.iter().take_while(fits).count().max(1);
                let (part, behind) = rest.split_at_mut(count);
                parts.push(part);
                rest = behind;
            }
            parts
        }
    }
}

/// Batches of consecutive records, each as large as its tokens allow.
fn filled(order: &[usize], lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for record in order {
        let with = longest.max(lengths[*record]);
        match batches.last_mut() {
            Some(batch) if with.saturating_mul(batch.len() + 1) <= tokens => {
                batch.push(*record);
                longest = with;
            }
            _ => {
                batches.push(vec![*record]);
                longest = lengths[*record];
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn padded(lengths: &[usize], batch: &[usize]) -> usize {
        batch.len() * batch.iter().map(|record| lengths[*record]).max().unwrap_or(0)
    }

    #[test]
    fn every_record_is_in_one_batch_and_batches_are_of_like_lengths() {
        let lengths: Vec<usize> = (0..103).map(|record| 3 + record * 37 % 60).collect();
        let make = |seed| batches(&lengths, BatchSize::Records(10), &mut ChaCha8Rng::seed_from_u64(seed));
        let made = make(1);
        let mut all = made.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_eq!(made.len(), 11);
        let padding = |batches: &[Vec<usize>]| -> usize {
            let own: usize = lengths.iter().sum();
            batches.iter().map(|batch| padded(&lengths, batch)).sum::<usize>() - own
        };
        let unsorted: Vec<Vec<usize>> = (0..103).collect::<Vec<_>>().chunks(10).map(<[usize]>::to_vec).collect();
        assert!(padding(&made) * 4 < padding(&unsorted), "{} and {}", padding(&made), padding(&unsorted));
        assert_eq!(make(1), made);
        assert_ne!(make(2), made);
        let by_tokens = batches(&lengths, BatchSize::Tokens(320), &mut ChaCha8Rng::seed_from_u64(1));
        assert!(padding(&by_tokens) * 4 < padding(&unsorted), "{} and {}", padding(&by_tokens), padding(&unsorted));
    }

    #[test]
    fn equal_lengths_are_only_shuffled() {
        let made = batches(&[5; 7], BatchSize::Records(3), &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(made.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
        assert_eq!(batches(&[5; 7], BatchSize::Tokens(17), &mut ChaCha8Rng::seed_from_u64(1)), made);
    }

    proptest! {
        #[test]
        fn batches_by_tokens_hold_every_record_once_and_no_more_than_their_tokens(
            lengths in prop::collection::vec(1_usize..50, 0..200),
            tokens in 1_usize..200,
            seed in any::<u64>(),
        ) {
            let make = || batches(&lengths, BatchSize::Tokens(tokens), &mut ChaCha8Rng::seed_from_u64(seed));
            let made = make();
            let mut all = made.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &made {
                prop_assert!(batch.len() == 1 || padded(&lengths, batch) <= tokens, "{:?}", batch);
            }
            prop_assert_eq!(make(), made);
        }
    }
}
