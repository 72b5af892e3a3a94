//! Near-duplicates: records that show the same thing, so that one deletion takes the copies with it.
//!
//! # Proof note
//!
//! *Before*: some records are copies of each other by this module's measure. *After* one of them is deleted, all of its group are.
//! *Why nothing else depends on it*: groups decide what a deletion takes, and never where a record goes. Whether two records
//! are in one group may depend on a third that links them; but then all three go together, so no record that stays owes
//! its group to one that went.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use image_hasher::{HashAlg, HasherConfig};
use s3t_core::digest::DigestBuilder;
use s3t_core::{Payload, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Words of a shingle: texts are compared by the sets of their runs of so many words.
const SHINGLE: usize = 3;

/// Bands and rows of the MinHash signature: two texts that share 80 % of their shingles meet in some band with probability above
/// 0.9999, and what meets is compared exactly.
const BANDS: usize = 32;
const ROWS: usize = 4;

/// Which records are copies of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// Records of equal content: texts by their words, in lower case and without punctuation; images by their pixels; features by
    /// their values.
    pub exact: bool,
    /// Texts whose sets of three-word runs overlap by at least this share (Jaccard), 0.7 to 1.
    pub text_similarity: Option<f64>,
    /// Images whose perceptual hashes of 64 bits differ in at most this many, 0 to 15.
    pub image_distance: Option<u32>,
}

impl Duplicates {
    /// Checks the fields.
    ///
    /// # Errors
    ///
    /// [`DataError::Duplicates`] for the first that cannot be used.
    pub fn check(&self) -> Result<(), DataError> {
        if let Some(share) = self.text_similarity.filter(|share| !(0.7..=1.0).contains(share)) {
            return Err(DataError::Duplicates(format!("`text_similarity` is {share}; it takes a share from 0.7 to 1")));
        }
        match self.image_distance.filter(|distance| *distance > 15) {
            Some(distance) => {
                Err(DataError::Duplicates(format!("`image_distance` is {distance}; it takes 0 to 15 bits")))
            }
            None => Ok(()),
        }
    }

    /// The group of each record, numbered from 0 in the order of their first records; `None` for a record without copies.
    pub fn groups(&self, records: &[Record]) -> Vec<Option<u32>> {
        let mut union = Union::new(records.len());
        if self.exact {
            let mut seen: HashMap<_, usize> = HashMap::new();
            for (index, record) in records.iter().enumerate() {
                union.join(index, *seen.entry(content(&record.payload)).or_insert(index));
            }
        }
        if let Some(share) = self.text_similarity {
            similar_texts(records, share, &mut union);
        }
        if let Some(distance) = self.image_distance {
            similar_images(records, distance, &mut union);
        }
        union.groups()
    }
}

/// The digest of what exact copies have in common.
fn content(payload: &Payload) -> s3t_core::Digest {
    let mut builder = DigestBuilder::new("content");
    match payload {
        Payload::Text(text) => {
            words(text).iter().fold(builder.number(0), |builder, word| builder.bytes(word.as_bytes()))
        }
        Payload::Image { width, height, channels, pixels } => {
            builder.number(1).number((*width).into()).number((*height).into()).number((*channels).into()).bytes(pixels)
        }
        Payload::Features(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
            builder.number(2).bytes(&bytes)
        }
    };
    builder.finish()
}

fn words(text: &str) -> Vec<String> {
    let split = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    split.map(str::to_lowercase).collect()
}

/// Joins texts by MinHash (Broder 1997) with banding. The hash functions are fixed: the same texts are the same groups everywhere.
fn similar_texts(records: &[Record], share: f64, union: &mut Union) {
    let mut shingles: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let Payload::Text(text) = &record.payload else { continue };
        let words = words(text);
        let runs = words.windows(SHINGLE.min(words.len()).max(1));
        shingles.insert(index, runs.map(hash_of).collect());
    }
    let mut buckets: HashMap<(usize, [u64; ROWS]), Vec<usize>> = HashMap::new();
    for (index, set) in shingles.iter().filter(|(_, set)| !set.is_empty()) {
        for band in 0..BANDS {
            let row = |row: usize| set.iter().map(|shingle| mixed(*shingle, band * ROWS + row)).min().unwrap_or(0);
            buckets.entry((band, std::array::from_fn(row))).or_default().push(*index);
        }
    }
    for bucket in buckets.values() {
        for (position, one) in bucket.iter().enumerate() {
            for other in &bucket[position + 1..] {
                if union.root(*one) != union.root(*other) && jaccard(&shingles[one], &shingles[other]) >= share {
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
    both as f64 / (one.len() + other.len() - both).max(1) as f64
}

/// Joins images by perceptual hash. Two hashes that differ in at most d bits agree in one of d + 1 pieces, so only those that
/// share a piece are compared.
fn similar_images(records: &[Record], distance: u32, union: &mut Union) {
    let hasher = HasherConfig::new().hash_size(8, 8).hash_alg(HashAlg::Mean).preproc_dct().to_hasher();
    let mut hashes: BTreeMap<usize, u64> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let Payload::Image { width, height, channels, pixels } = &record.payload else { continue };
        let (width, height) = (*width, *height);
        let image = match channels {
            1 => image::GrayImage::from_raw(width, height, pixels.clone()).map(image::DynamicImage::from),
            3 => image::RgbImage::from_raw(width, height, pixels.clone()).map(image::DynamicImage::from),
            _ => None,
        };
        let Some(image) = image else { continue };
        let hash = hasher.hash_image(&image);
        let bits = hash.as_bytes().iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        hashes.insert(index, bits);
    }
    let pieces = distance + 1;
    let mut buckets: HashMap<(u32, u64), Vec<usize>> = HashMap::new();
    for (index, bits) in &hashes {
        for piece in 0..pieces {
            let (start, end) = (piece * 64 / pieces, (piece + 1) * 64 / pieces);
            let of_piece = (bits >> start) & (u64::MAX >> (64 - (end - start)));
            buckets.entry((piece, of_piece)).or_default().push(*index);
        }
    }
    for bucket in buckets.values() {
        for (position, one) in bucket.iter().enumerate() {
            for other in &bucket[position + 1..] {
                if (hashes[one] ^ hashes[other]).count_ones() <= distance {
                    union.join(*one, *other);
                }
            }
        }
    }
}

/// Sets that grow together.
struct Union(Vec<usize>);

impl Union {
    fn new(size: usize) -> Self {
        Self((0..size).collect())
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    /// The first of both becomes the root, so that groups do not depend on the order of joins.
    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other);
    }

    fn groups(mut self) -> Vec<Option<u32>> {
        let roots: Vec<usize> = (0..self.0.len()).map(|index| self.root(index)).collect();
        let mut sizes = vec![0; roots.len()];
        roots.iter().for_each(|root| sizes[*root] += 1);
        let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
        let number = |root: &usize| {
            let next = numbers.len() as u32;
            (sizes[*root] > 1).then(|| *numbers.entry(*root).or_insert(next))
        };
        roots.iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use s3t_core::{RecordId, Target};

    use super::*;

    fn records(payloads: impl IntoIterator<Item = Payload>) -> Vec<Record> {
        let record = |(number, payload): (u64, Payload)| Record {
            id: RecordId::new(format!("r{number}")).unwrap(),
            subject: None,
            target: Target::Class(0),
            ordinal: number,
            payload,
        };
        (0..).zip(payloads).map(record).collect()
    }

    fn text(text: &str) -> Payload {
        Payload::Text(text.to_owned())
    }

    #[test]
    fn exact_copies_are_found_after_normalisation() {
        let exact = Duplicates { exact: true, ..Duplicates::default() };
        let found = exact.groups(&records([
            text("A good film."),
            text("a bad film"),
            text("  a GOOD, film!"),
            Payload::Features(vec![1.0]),
            Payload::Features(vec![1.0]),
            Payload::Features(vec![1.5]),
        ]));
        assert_eq!(found, [Some(0), None, Some(0), Some(1), Some(1), None]);
        assert_eq!(Duplicates::default().groups(&records([text("a"), text("a")])), [None, None]);
    }

    #[test]
    fn similar_texts_are_those_whose_runs_of_words_overlap() {
        let long: Vec<String> = (0..200).map(|word| format!("word{}", word * 7 % 101)).collect();
        let mut edited = long.clone();
        edited[100] = "other".into();
        let unlike: Vec<String> = (0..200).map(|word| format!("term{word}")).collect();
        let texts = records([text(&long.join(" ")), text(&unlike.join(" ")), text(&edited.join(" "))]);
        let similar = |share| Duplicates { text_similarity: Some(share), ..Duplicates::default() }.groups(&texts);
        assert_eq!(similar(0.8), [Some(0), None, Some(0)]);
        // 197 of 201 different runs are in both, or fewer where runs repeat.
        assert_eq!(similar(1.0), [None, None, None]);
        assert_eq!(similar(0.8), similar(0.8));
    }

    #[test]
    fn similar_images_are_those_that_look_alike() {
        let image = |of: &dyn Fn(u32, u32) -> u8| Payload::Image {
            width: 32,
            height: 32,
            channels: 1,
            pixels: (0..32).flat_map(|y| (0..32).map(move |x| (x, y))).map(|(x, y)| of(x, y)).collect(),
        };
        let picture = |x: u32, y: u32| ((x * x + 3 * y) % 200 + 20) as u8;
        let images = records([
            image(&picture),
            image(&|x, y| if (x, y) == (5, 5) { 255 } else { picture(x, y) + 2 }),
            image(&|x, y| (255 - x * 8 + y).min(255) as u8),
        ]);
        let similar = Duplicates { image_distance: Some(4), ..Duplicates::default() };
        assert_eq!(similar.groups(&images), [Some(0), Some(0), None]);
    }

    #[test]
    fn impossible_measures_are_refused() {
        let refused = |duplicates: Duplicates| duplicates.check().unwrap_err().to_string();
        let text = Duplicates { text_similarity: Some(0.2), ..Duplicates::default() };
        assert!(refused(text).contains("`text_similarity` is 0.2; it takes a share from 0.7 to 1"));
        let image = Duplicates { image_distance: Some(16), ..Duplicates::default() };
        assert!(refused(image).contains("`image_distance` is 16; it takes 0 to 15 bits"));
    }
}
