//! Near-duplicates: records that show the same thing, so that one deletion takes the copies with it.
//!
//! # Proof note
//!
//! *Before*: some records are copies of each other by this module's measure. *After* one of them is deleted, all of its group are.
//! *Why nothing else depends on it*: groups decide what a deletion takes, and never where a record goes. Whether two records
//! are in one group may depend on a third that links them; but then all three go together, so no record that stays owes
//! its group to one that went.
//!
//! A measure compares what it makes of a content. Where it makes nothing of it (a text without words, an image whose hash is that
//! of a blank one) contents are compared as they stand: what a measure cannot see is not the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use image_hasher::{HashAlg, HasherConfig};
use s3t_core::digest::DigestBuilder;
use s3t_core::spelling::is_invisible;
use s3t_core::{Payload, Record, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Words of a shingle: texts are compared by the sets of their runs of so many words.
const SHINGLE: usize = 3;

/// Bands and rows of the MinHash signature: two texts that share 80 % of their shingles meet in some band with probability above
/// 0.9999, and what meets is compared exactly.
const BANDS: usize = 32;
const ROWS: usize = 4;

/// The groups of records that are copies of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// Records of equal content: texts by their words, in lower case and without punctuation, or as they stand where there is no
    /// word, and with the text that is learnt after them; images by their pixels; features by their values. Emoji are words.
    pub exact: bool,
    /// Texts whose sets of three-word runs overlap by at least this share (Jaccard), 0.7 to 1; so must those of the texts that are
    /// learnt after them. Texts without words must be equal.
    pub text_similarity: Option<f64>,
    /// Images whose perceptual hashes of 64 bits differ in at most this many, 0 to 15. Images that the hash cannot tell from a blank
    /// one must be equal.
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
                union.join(index, *seen.entry(content(record)).or_insert(index));
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

/// The digest of what exact copies have in common. A text that is learnt after another is content as well as the first: one
/// question with two answers is two contents.
fn content(record: &Record) -> s3t_core::Digest {
    let mut builder = DigestBuilder::new("content");
    match &record.payload {
        Payload::Text(text) => {
            builder.number(0);
            by_words(&mut builder, std::iter::once(text.as_str()).chain(target_text(record)));
        }
        Payload::TextPair(first, second) => {
            builder.number(5);
            by_words(&mut builder, [first.as_str(), second.as_str()].into_iter().chain(target_text(record)));
        }
        payload => {
            as_it_stands(payload, &mut builder);
            if let Some(text) = target_text(record) {
                builder.bytes(text.as_bytes());
            }
        }
    }
    builder.finish()
}

/// Adds texts by their words.
fn by_words<'a>(builder: &mut DigestBuilder, texts: impl IntoIterator<Item = &'a str>) {
    for text in texts {
        let words = words(text);
        builder.number(words.len() as u64);
        for word in &words {
            builder.bytes(word.as_bytes());
        }
    }
}

/// Adds content that is not normalised.
fn as_it_stands(payload: &Payload, builder: &mut DigestBuilder) {
    match payload {
        Payload::Text(text) => builder.number(3).bytes(text.as_bytes()),
        Payload::TextPair(first, second) => builder.number(4).bytes(first.as_bytes()).bytes(second.as_bytes()),
        Payload::Image { width, height, channels, pixels } => {
            builder.number(1).number((*width).into()).number((*height).into()).number((*channels).into()).bytes(pixels)
        }
        Payload::Features(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
            builder.number(2).bytes(&bytes)
        }
    };
}

fn target_text(record: &Record) -> Option<&str> {
    match &record.target {
        Target::Text(text) => Some(text),
        _ => None,
    }
}

/// The words of a text: runs of letters, marks and digits, in lower case and in Unicode's NFC. A symbol that is no punctuation, such
/// as an emoji, is a word by itself. A text without a word is compared as it stands: then the whole of it is the word, which no
/// other text has, as no word holds a zero byte before it.
fn words(text: &str) -> Vec<String> {
    let normal = ComposingNormalizerBorrowed::new_nfc().normalize(text);
    let category = CodePointMapData::<GeneralCategory>::new();
    let (mut words, mut word) = (Vec::new(), String::new());
    for letter in normal.chars() {
        let of_word = letter.is_alphanumeric() || GeneralCategoryGroup::Mark.contains(category.get(letter));
        // Joiners and selectors are no part of a word, and do not end one; a zero-width space does.
        if is_invisible(letter) && letter != '\u{200b}' {
            continue;
        }
        if of_word {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word).to_lowercase());
        }
        if !letter.is_ascii() && GeneralCategoryGroup::Symbol.contains(category.get(letter)) {
            words.push(letter.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word.to_lowercase());
    }
    if words.is_empty() {
        words.push(format!("\0{text}"));
    }
    words
}

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
            _ => return None,
        };
        let runs = |text: &str| -> BTreeSet<u64> {
            let words = words(text);
            words.windows(SHINGLE.min(words.len()).max(1)).map(hash_of).collect()
        };
        let text = texts.into_iter().flat_map(runs).collect();
        Some(Self { text, target: target_text(record).map(runs).unwrap_or_default() })
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

/// Joins texts by MinHash (Broder 1997) with banding. The hash functions are fixed: the same texts are the same groups everywhere.
fn similar_texts(records: &[Record], share: f64, union: &mut Union) {
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

/// Joins images by perceptual hash. Two hashes that differ in at most d bits agree in one of d + 1 pieces, so only those that
/// share a piece are compared. An image whose hash is that of a blank image, within d, is compared as it stands: the hash of a
/// page with a few words on it or of a dim photograph says of it no more than that it is even.
fn similar_images(records: &[Record], distance: u32, union: &mut Union) {
    let hasher = HasherConfig::new().hash_size(8, 8).hash_alg(HashAlg::Mean).preproc_dct().to_hasher();
    let bits = |image: &image::DynamicImage| {
        let hash = hasher.hash_image(image);
        hash.as_bytes().iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte))
    };
    let blank = |value| bits(&image::GrayImage::from_pixel(16, 16, image::Luma([value])).into());
    let blanks = [blank(0), blank(u8::MAX)];
    // Of those with one hash, or with one content where the hash says nothing, the first stands for all.
    let (mut hashes, mut plain) = (BTreeMap::<u64, usize>::new(), HashMap::new());
    for (index, record) in records.iter().enumerate() {
        let Payload::Image { width, height, channels, pixels } = &record.payload else { continue };
        let (width, height) = (*width, *height);
        let image = match channels {
            1 => image::GrayImage::from_raw(width, height, pixels.clone()).map(image::DynamicImage::from),
            3 => image::RgbImage::from_raw(width, height, pixels.clone()).map(image::DynamicImage::from),
            _ => None,
        };
        let hash = image.map(|image| bits(&image));
        let says = hash.filter(|hash| blanks.iter().all(|blank| (hash ^ blank).count_ones() > distance));
        let first = match says {
            Some(hash) => *hashes.entry(hash).or_insert(index),
            None => *plain.entry(content(record)).or_insert(index),
        };
        union.join(index, first);
    }
    let pieces = distance + 1;
    let mut buckets: HashMap<(u32, u64), Vec<u64>> = HashMap::new();
    for bits in hashes.keys() {
        for piece in 0..pieces {
            let (start, end) = (piece * 64 / pieces, (piece + 1) * 64 / pieces);
            let of_piece = (bits >> start) & (u64::MAX >> (64 - (end - start)));
            buckets.entry((piece, of_piece)).or_default().push(*bits);
        }
    }
    for bucket in buckets.values() {
        for (position, one) in bucket.iter().enumerate() {
            for other in &bucket[position + 1..] {
                if (one ^ other).count_ones() <= distance {
                    union.join(hashes[one], hashes[other]);
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
    use s3t_core::RecordId;

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
    fn texts_without_words_are_compared_as_they_stand() {
        let texts = ["👍", "!!!", ":)", "...", "?", "👍", "...", "", " ", "👎", "\u{200b}", "\u{301}", ""];
        let expected = [Some(0), None, None, Some(1), None, Some(0), Some(1), Some(2), None, None, None, None, Some(2)];
        let all = records(texts.map(text));
        assert_eq!(Duplicates { exact: true, ..Duplicates::default() }.groups(&all), expected);
        assert_eq!(Duplicates { text_similarity: Some(0.7), ..Duplicates::default() }.groups(&all), expected);
    }

    #[test]
    fn emoji_and_marks_are_content_and_punctuation_is_not() {
        let exact = |one: &str, other: &str| {
            Duplicates { exact: true, ..Duplicates::default() }.groups(&records([text(one), text(other)]))[0].is_some()
        };
        for (one, other) in
            [("Good film!", "good, film"), ("Jos\u{e9}", "jose\u{301}."), ("co\u{ad}op", "coop"), ("a 👍", "A👍!")]
        {
            assert!(exact(one, other), "{one} {other}");
        }
        for (one, other) in
            [("good 👍", "good 👎"), ("good 👍", "good"), ("Jose\u{301}", "Jose"), ("👍", "👍🏽"), ("a b", "ab")]
        {
            assert!(!exact(one, other), "{one} {other}");
        }
    }

    #[test]
    fn one_question_with_two_answers_is_two_contents() {
        let answered = |answers: [&str; 4]| {
            let mut all = records(answers.map(|_| text("Tell me about your holidays, please, in a few words")));
            for (record, answer) in all.iter_mut().zip(answers) {
                record.target = Target::Text(answer.to_owned());
            }
            all
        };
        let long = "we went to the sea and it rained on every single day of the two weeks that we were there";
        let longer = format!("{long} together");
        let all = answered([long, "none, as I was ill all summer", &longer, "none as I was ill ALL summer"]);
        let exact = Duplicates { exact: true, ..Duplicates::default() };
        assert_eq!(exact.groups(&all), [None, Some(0), None, Some(0)]);
        let similar = Duplicates { text_similarity: Some(0.8), ..Duplicates::default() };
        assert_eq!(similar.groups(&all), [Some(0), Some(1), Some(0), Some(1)]);
        assert_eq!(exact.groups(&answered(["👍", "!!!", "", "👍"])), [Some(0), None, None, Some(0)]);
    }

    #[test]
    fn images_that_the_hash_sees_nothing_in_are_compared_as_they_stand() {
        let image = |channels: u8, of: &dyn Fn(u32, u32) -> u8| Payload::Image {
            width: 32,
            height: 32,
            channels,
            pixels: (0..32)
                .flat_map(|y| (0..32 * u32::from(channels)).map(move |x| (x, y)))
                .map(|(x, y)| of(x, y))
                .collect(),
        };
        let page = |ink: u32| move |x: u32, y: u32| if x / 3 == ink && y / 2 == ink { 200 } else { 250 };
        let images = records([
            image(1, &|_, _| 0),
            image(1, &|_, _| 255),
            image(1, &|_, _| 128),
            image(3, &|_, _| 128),
            image(1, &|_, _| 255),
            image(1, &page(2)),
            image(1, &page(7)),
            image(1, &page(2)),
            image(1, &|x, y| if (x + y) % 2 == 0 { 120 } else { 136 }),
        ]);
        for distance in [0, 4, 15] {
            let similar = Duplicates { image_distance: Some(distance), ..Duplicates::default() };
            let (white, two) = (Some(0), Some(1));
            assert_eq!(similar.groups(&images), [None, white, None, None, white, two, None, two, None], "{distance}");
        }
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
