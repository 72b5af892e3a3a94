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

mod content;
mod images;
mod texts;
mod union;

use std::collections::HashMap;

use s3t_core::Record;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::content::content;
use self::images::similar_images;
use self::texts::similar_texts;
use self::union::Union;
use crate::DataError;

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
    ///
    /// ```
    /// use s3t_core::{Payload, Record, RecordId, Target};
    /// use s3t_data::Duplicates;
    ///
    /// let record = |id: &str, text: &str| Record {
    ///     id: RecordId::new(id).unwrap(),
    ///     subject: None,
    ///     target: Target::Class(0),
    ///     ordinal: 0,
    ///     payload: Payload::Text(text.into()),
    /// };
    /// let records = [record("a", "Good morning!"), record("b", "Good night"), record("c", "good morning")];
    /// let exact = Duplicates { exact: true, ..Duplicates::default() };
    /// assert_eq!(exact.groups(&records), [Some(0), None, Some(0)]);
    /// ```
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

#[cfg(test)]
mod tests {
    use s3t_core::{Payload, RecordId, Target};

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
