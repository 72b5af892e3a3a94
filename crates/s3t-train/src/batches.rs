//! Batches: the records of a step.

use rand::Rng;
use rand::seq::SliceRandom;

/// Batches that are sorted by length at a time, as many as in the `transformers` library.
const SORTED_TOGETHER: usize = 50;

/// The batches of one pass over records of these lengths: in random order, records of like lengths together, so that little
/// of a batch is padding. A function of the lengths and the generator.
pub(crate) fn batches(lengths: &[usize], batch_size: usize, rng: &mut impl Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(rng);
    let varies = lengths.windows(2).any(|pair| pair[0] != pair[1]);
    if varies {
        for part in order.chunks_mut(batch_size.saturating_mul(SORTED_TOGETHER)) {
            // Stable: records of one length stay in random order.
            part.sort_by_key(|record| std::cmp::Reverse(lengths[*record]));
        }
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
    if varies {
        batches.shuffle(rng);
    }
    batches
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_record_is_in_one_batch_and_batches_are_of_like_lengths() {
        let lengths: Vec<usize> = (0..103).map(|record| 3 + record * 37 % 60).collect();
        let make = |seed| batches(&lengths, 10, &mut ChaCha8Rng::seed_from_u64(seed));
        let made = make(1);
        let mut all = made.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_eq!(made.len(), 11);
        let padding = |batches: &[Vec<usize>]| -> usize {
            let of_batch = |batch: &Vec<usize>| {
                let longest = batch.iter().map(|record| lengths[*record]).max().unwrap_or(0);
                batch.iter().map(|record| longest - lengths[*record]).sum::<usize>()
            };
            batches.iter().map(of_batch).sum()
        };
        let unsorted: Vec<Vec<usize>> = (0..103).collect::<Vec<_>>().chunks(10).map(<[usize]>::to_vec).collect();
        assert!(padding(&made) * 4 < padding(&unsorted), "{} and {}", padding(&made), padding(&unsorted));
        assert_eq!(make(1), made);
        assert_ne!(make(2), made);
    }

    #[test]
    fn equal_lengths_are_only_shuffled() {
        let made = batches(&[5; 7], 3, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(made.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    }
}
