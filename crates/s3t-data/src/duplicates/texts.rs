//! Texts that have most of their runs of words in common.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use s3t_core::digest::DigestBuilder;
use s3t_core::{Message, Payload, Record, Role};

use super::content::{target_text, words};
use super::union::Union;

/// Words of a shingle: texts are compared by the sets of their runs of so many words.
const SHINGLE: usize = 3;

/// Bands and rows of the MinHash signature: two texts that share 80 % of their shingles meet in some band with probability above
/// 0.9999, and what meets is compared exactly.
const BANDS: usize = 32;
const ROWS: usize = 4;

/// The runs of words of a text, and of the text that is learnt after it.
struct Shingles {
    text: BTreeSet<u64>,
    target: BTreeSet<u64>,
}

impl Shingles {
    fn of(record: &Record) -> Option<Self> {
        let texts: Vec<&str> = match &record.payload {
            Payload::Text(text) => vec![text],
            Payload::TextPair(first, second) => vec![first, second],
            Payload::Messages(messages) => said(messages, false),
            _ => return None,
        };
        let runs = |text: &str| -> BTreeSet<u64> {
            let words = words(text);
            words.windows(SHINGLE.min(words.len()).max(1)).map(hash_of).collect()
        };
        let text = texts.into_iter().flat_map(runs).collect();
        let target = match &record.payload {
            Payload::Messages(messages) => said(messages, true).into_iter().flat_map(runs).collect(),
            _ => target_text(record).map(runs).unwrap_or_default(),
        };
        Some(Self { text, target })
    }

    /// The sets as one: if both parts of two records overlap by a share, so do these.
    fn all(&self) -> impl Iterator<Item = u64> {
        self.text.iter().copied().chain(self.target.iter().map(|shingle| mixed(*shingle, BANDS * ROWS)))
    }

    /// The lesser of the shares that the parts have in common.
    fn overlap(&self, other: &Self) -> f64 {
        jaccard(&self.text, &other.text).min(jaccard(&self.target, &other.target))
    }
}

/// The texts of a chat that the assistant said, or those of the others.
fn said(messages: &[Message], by_assistant: bool) -> Vec<&str> {
    let of_author = messages.iter().filter(|message| (message.role == Role::Assistant) == by_assistant);
    of_author.map(|message| message.content.as_str()).collect()
}

/// Joins texts by MinHash (Broder 1997) with banding. The hash functions are fixed: the same texts are the same groups everywhere.
pub(super) fn similar_texts(records: &[Record], share: f64, union: &mut Union) {
    let mut shingles: BTreeMap<usize, Shingles> = BTreeMap::new();
    let mut equal: HashMap<_, usize> = HashMap::new();
    for (index, record) in records.iter().enumerate() {
        let Some(of_record) = Shingles::of(record) else { continue };
        // Of those with equal sets one stands for all, so that many copies of one text cost no more than one.
        let mut sets = DigestBuilder::new("shingles");
        for set in [&of_record.text, &of_record.target] {
            sets.number(set.len() as u64);
            set.iter().fold(&mut sets, |sets, shingle| sets.number(*shingle));
        }
        let first = *equal.entry(sets.finish()).or_insert(index);
        union.join(index, first);
        if first == index {
            shingles.insert(index, of_record);
        }
    }
    let mut buckets: HashMap<(usize, [u64; ROWS]), Vec<usize>> = HashMap::new();
    for (index, set) in &shingles {
        for band in 0..BANDS {
            let row = |row: usize| set.all().map(|shingle| mixed(shingle, band * ROWS + row)).min().unwrap_or(0);
            buckets.entry((band, std::array::from_fn(row))).or_default().push(*index);
        }
    }
    for bucket in buckets.values() {
        for (position, one) in bucket.iter().enumerate() {
            for other in &bucket[position + 1..] {
                if union.root(*one) != union.root(*other) && shingles[one].overlap(&shingles[other]) >= share {
                    union.join(*one, *other);
                }
            }
        }
    }
}

fn hash_of(words: &[String]) -> u64 {
    let mut builder = DigestBuilder::new("shingle");
    let digest = words.iter().fold(&mut builder, |builder, word| builder.bytes(word.as_bytes())).finish();
    u64::from_le_bytes(std::array::from_fn(|byte| digest.as_bytes()[byte]))
}

/// The function of a number in the family: a bijection of 64 bits (the finaliser of SplitMix64) after a shift of its own.
fn mixed(value: u64, number: usize) -> u64 {
    let mut mixed = value.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn jaccard(one: &BTreeSet<u64>, other: &BTreeSet<u64>) -> f64 {
    let both = one.intersection(other).count();
    match one.len() + other.len() - both {
        0 => 1.0,
        all => both as f64 / all as f64,
    }
}
