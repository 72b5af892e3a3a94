//! The records of one round: the same worlds for every law.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

use crate::{Content, LawsError, Record};

/// Features of a record made by the tester.
const FEATURES: usize = 8;

/// Classes of the records made by the tester.
const CLASSES: u64 = 3;

/// Questions asked besides the contents that are forgotten and those that take their place.
const OTHER_QUESTIONS: usize = 8;

/// The smallest number of records that a case is made of.
const MIN_RECORDS: usize = 6;

/// The records of a round, those that are forgotten, and the questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The records that systems are trained on.
    pub records: Vec<Record>,
    /// Positions in `records` of those that are forgotten, at least two.
    pub forgotten: Vec<usize>,
    /// For each record, the content that it has in the other world.
    pub other: Vec<Content>,
    /// The questions.
    pub questions: Vec<Content>,
}

impl Case {
    /// Records around one centre a class. The other content of a record has another class and lies elsewhere.
    ///
    /// # Errors
    ///
    /// [`LawsError::InvalidSetting`] for fewer than 6 records, or fewer than 2 or as many forgotten ones.
    pub fn made(records: usize, forgotten: usize, seed: u64) -> Result<Self, LawsError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mark = format!("{:08x}", rng.random::<u32>());
        let subjects = (records as u64 / 4).max(1);
        let record = |rng: &mut ChaCha8Rng, row: u64| Record {
            id: format!("record-{mark}-{row}"),
            subject: Some(format!("subject-{mark}-{}", row % subjects)),
            content: labelled(rng, row % CLASSES),
        };
        let made: Vec<Record> = (0..records as u64).map(|row| record(&mut rng, row)).collect();
        let other = (0..records as u64).map(|row| labelled(&mut rng, (row + 1) % CLASSES)).collect();
        let unseen: Vec<Content> = (0..OTHER_QUESTIONS as u64).map(|row| features(&mut rng, row % CLASSES)).collect();
        let question = |content: &Content| {
            content
                .iter()
                .filter(|(name, _)| *name == "features")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        Self::assembled(made, other, forgotten, &unseen, question, &mut rng)
    }

    /// Records of your own. The last third is held back: each record's other content is that of a held-back one.
    ///
    /// # Errors
    ///
    /// As [`Case::made`], and for records that all have one content.
    pub fn of_records(
        records: &[Record],
        questions: &[Content],
        forgotten: usize,
        seed: u64,
    ) -> Result<Self, LawsError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kept = records.len() - records.len() / 3;
        let (records, held_back) = records.split_at(kept);
        let mut other = Vec::new();
        for (row, record) in records.iter().enumerate() {
            let candidates = (0..held_back.len()).map(|step| &held_back[(row + step) % held_back.len()].content);
            let content = candidates.into_iter().find(|content| **content != record.content);
            let problem = || format!("must hold records that differ: no held-back one differs from `{}`", record.id);
            let missing = || LawsError::InvalidSetting { setting: "--data", problem: problem() };
            other.push(content.ok_or_else(missing)?.clone());
        }
        let mut case = Self::assembled(records.to_vec(), other, forgotten, &[], Content::clone, &mut rng)?;
        case.questions = questions.to_vec();
        Ok(case)
    }

    fn assembled(
        records: Vec<Record>,
        other: Vec<Content>,
        forgotten: usize,
        unseen: &[Content],
        question: impl Fn(&Content) -> Content,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, LawsError> {
        if records.len() < MIN_RECORDS {
            let problem = format!("must leave at least {MIN_RECORDS} records to train on, not {}", records.len());
            return Err(LawsError::InvalidSetting { setting: "--records", problem });
        }
        if !(2..records.len()).contains(&forgotten) {
            let problem = format!("must be from 2 to {}, not {forgotten}", records.len() - 1);
            return Err(LawsError::InvalidSetting { setting: "--forget", problem });
        }
        let mut left: Vec<usize> = (0..records.len()).collect();
        let forgotten: Vec<usize> = (0..forgotten).map(|_| left.swap_remove(rng.random_range(0..left.len()))).collect();
        let seen = forgotten.iter().flat_map(|&row| [&records[row].content, &other[row]]);
        let questions = seen.chain(unseen).map(question).collect();
        Ok(Self { records, forgotten, other, questions })
    }

    /// The ids of some records.
    pub fn ids(&self, rows: &[usize]) -> Vec<String> {
        rows.iter().map(|&row| self.records[row].id.clone()).collect()
    }

    /// The records, some of them with their other content.
    pub fn replaced(&self, rows: &[usize]) -> Vec<Record> {
        let replace = |(row, record): (usize, &Record)| {
            if rows.contains(&row) {
                Record { content: self.other[row].clone(), ..record.clone() }
            } else {
                record.clone()
            }
        };
        self.records.iter().enumerate().map(replace).collect()
    }

    /// The records without some of them.
    pub fn without(&self, rows: &[usize]) -> Vec<Record> {
        let left = self.records.iter().enumerate().filter(|(row, _)| !rows.contains(row));
        left.map(|(_, record)| record.clone()).collect()
    }
}

/// Features around the centre of a class, with six decimals, so that their text can be searched for.
fn features(rng: &mut ChaCha8Rng, class: u64) -> Content {
    let mut value = |index: usize| {
        let centre = if index as u64 % CLASSES == class { 1.0 } else { -0.3 };
        let value: f64 = centre + rng.random_range(-1.0..1.0);
        Value::from((value * 1e6).round() / 1e6)
    };
    Map::from_iter([("features".to_owned(), Value::from((0..FEATURES).map(&mut value).collect::<Vec<_>>()))])
}

fn labelled(rng: &mut ChaCha8Rng, class: u64) -> Content {
    let mut content = features(rng, class);
    content.insert("label".into(), Value::from(class));
    content
}
