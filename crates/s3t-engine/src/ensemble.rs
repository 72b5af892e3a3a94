//! Answering: each shard's deepest live prefix, with the head of its last stage.

use s3t_backends::Backbone;
use s3t_core::aggregate::argmax;
use s3t_core::{Aggregator, Record, Serving, ShardId, StageKey};
use s3t_peft::Adapters;
use s3t_peft::tensors::to_host;
use s3t_train::StageModel;
use serde::Serialize;

/// Records that are answered together.
pub(crate) const BATCH: usize = 64;

/// What one shard answers with.
#[derive(Debug, Serialize)]
pub struct Member {
    /// The shard.
    pub shard: ShardId,
    /// The sequence and depth; `None` for the base model.
    pub serving: Option<Serving>,
    /// The last stage; `None` for the base model.
    pub key: Option<StageKey>,
    #[serde(skip)]
    pub(crate) model: StageModel,
}

/// The answer for one record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The record's id.
    pub id: String,
    /// The index of the predicted class.
    pub label: usize,
    /// The combined scores, one for each class.
    pub scores: Vec<f32>,
    /// Each member's logits, in the order of the members.
    #[serde(skip)]
    pub members: Vec<Vec<f32>>,
}

/// Answers for a batch. The base blocks below the lowest live adapter run once for all members, and those between the
/// lowest adapters of two members once for the ones above.
pub(crate) fn predict(
    backbone: &dyn Backbone,
    members: &[Member],
    aggregator: &dyn Aggregator,
    records: &[&Record],
) -> Vec<Prediction> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|member| (members[*member].model.start(), *member));
    let (mut hidden, mut at) = (backbone.embed(records), 0);
    let mut rows: Vec<Vec<f32>> = vec![Vec::new(); members.len()];
    for member in order {
        let model = &members[member].model;
        hidden = backbone.run(hidden, at..model.start(), &Adapters::none());
        at = model.start();
        rows[member] = to_host(model.logits(backbone, hidden.clone()));
    }
    let answer = |(index, record): (usize, &&Record)| {
        let of_record = |logits: &Vec<f32>| {
            let classes = logits.len() / records.len();
            logits[index * classes..(index + 1) * classes].to_vec()
        };
        let members: Vec<Vec<f32>> = rows.iter().map(of_record).collect();
        let scores = aggregator.combine(&members.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Prediction { id: record.id.to_string(), label: argmax(&scores), scores, members }
    };
    records.iter().enumerate().map(answer).collect()
}
