//! Subjects as groups, and features for a baseline that sees no model.

use std::collections::BTreeMap;

use s3t_attack::roc::Scores;
use s3t_core::digest::DigestBuilder;
use s3t_core::{Payload, Record, Target};

use super::targets::Targets;

/// The places of the members of each subject, and groups of non-members of the same sizes.
pub(crate) struct Groups {
    members: Vec<Vec<usize>>,
    non_members: Vec<Vec<usize>>,
}

impl Groups {
    /// The groups of an attack; `None` if no subject has two records, or if there are fewer than two groups on a side.
    pub(crate) fn of(targets: &Targets) -> Option<Self> {
        let mut subjects: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, (_, record)) in targets.members.iter().enumerate() {
            if let Some(subject) = &record.subject {
                subjects.entry(subject.as_str()).or_default().push(at);
            }
        }
        let members: Vec<Vec<usize>> = subjects.into_values().collect();
        if members.iter().all(|group| group.len() < 2) {
            return None;
        }
        let (mut non_members, mut next) = (Vec::new(), 0);
        for size in members.iter().map(Vec::len).cycle() {
            if next + size > targets.non_members.len() {
                break;
            }
            non_members.push((next..next + size).collect());
            next += size;
        }
        (members.len() > 1 && non_members.len() > 1).then_some(Self { members, non_members })
    }

    /// The largest score of each group.
    pub(crate) fn largest(&self, scores: &Scores) -> Scores {
        let of = |groups: &[Vec<usize>], scores: &[f64]| {
            let largest = |group: &Vec<usize>| group.iter().map(|at| scores[*at]).fold(f64::NEG_INFINITY, f64::max);
            groups.iter().map(largest).collect()
        };
        Scores { members: of(&self.members, &scores.members), non_members: of(&self.non_members, &scores.non_members) }
    }
}

/// Words are counted in so many classes.
const BUCKETS: usize = 64;

/// The largest number of values of a picture or of features.
const VALUES: usize = 256;

/// Numbers that describe a record without any model: its label and its content, of texts their lengths and words by hash.
pub(crate) fn features(record: &Record) -> Vec<f64> {
    let mut features = match &record.payload {
        Payload::Image { pixels, .. } => thinned(pixels.iter().map(|pixel| f64::from(*pixel)).collect()),
        Payload::Features(values) => thinned(values.iter().map(|value| f64::from(*value)).collect()),
        Payload::Text(text) => words(text),
        Payload::TextPair(first, second) => words(&format!("{first} {second}")),
        Payload::Messages(messages) => {
            let texts: Vec<&str> = messages.iter().map(|message| &*message.content).collect();
            words(&texts.join(" "))
        }
    };
    match &record.target {
        Target::Class(class) => features.push(f64::from(*class)),
        Target::Text(text) => features.extend(words(text)),
        _ => {}
    }
    features
}

/// At most [`VALUES`] values, evenly spread.
fn thinned(values: Vec<f64>) -> Vec<f64> {
    let step = values.len().div_ceil(VALUES).max(1);
    values.into_iter().step_by(step).collect()
}

fn words(text: &str) -> Vec<f64> {
    let mut features = vec![0.0; BUCKETS + 2];
    for word in text.split_whitespace() {
        let digest = DigestBuilder::new("word").bytes(word.as_bytes()).finish();
        features[usize::from(digest.as_bytes()[0]) % BUCKETS] += 1.0;
        features[BUCKETS] += 1.0;
    }
    features[BUCKETS + 1] = text.len() as f64;
    features
}
