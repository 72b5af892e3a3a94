//! Answering: live prefixes of each shard, each with the head of its last stage.

use std::borrow::Cow;
use std::sync::Arc;

use s3t_core::aggregate::argmax;
use s3t_core::{Aggregator, MemberInfo, Serving, ShardId, StageKey, Task};
use s3t_ledger::{Epoch, ShardServes};
use s3t_models::{Backbone, Hidden, Input};
use s3t_peft::Adapters;
use s3t_peft::tensors::to_host;
use s3t_train::{StageModel, embeddings, rows, stacked_outputs};

/// Records that are answered together.
pub(crate) const BATCH: usize = 64;

/// A live prefix of a shard, or the base model in its place, ready to answer.
#[derive(Debug)]
pub struct Member {
    /// The shard.
    pub shard: ShardId,
    /// The sequence and depth; `None` for the base model.
    pub serving: Option<Serving>,
    /// The last stage; `None` for the base model.
    pub key: Option<StageKey>,
    pub(crate) model: Arc<StageModel>,
}

impl Member {
    /// Its place in the ensemble.
    pub(crate) fn place(&self) -> MemberInfo {
        MemberInfo::new(self.shard, self.serving.map_or(0, |serving| serving.depth))
    }
}

/// The place of each member in the ensemble, without distances.
pub(crate) fn places(members: &[Arc<Member>]) -> Vec<MemberInfo> {
    members.iter().map(|member| member.place()).collect()
}

/// The places of members for each of a batch of questions.
#[derive(Debug)]
pub struct Places {
    members: Vec<MemberInfo>,
    /// The distances of each question from the members' records; empty if the aggregator does not ask for them.
    distances: Vec<Vec<Option<f32>>>,
}

impl Places {
    /// The places of models that are asked a batch of one padded length, with their distances if the aggregator is routed.
    pub fn new<'m>(
        backbone: &Backbone,
        aggregator: &dyn Aggregator,
        models: impl IntoIterator<Item = (MemberInfo, &'m StageModel)>,
        inputs: &[&Input<'_>],
    ) -> Self {
        let (members, models): (Vec<MemberInfo>, Vec<&StageModel>) = models.into_iter().unzip();
        let distances = |embedding: Vec<f32>| models.iter().map(|model| model.distance(&embedding)).collect();
        let embeddings = if aggregator.is_routed() { embeddings(backbone, inputs) } else { Vec::new() };
        Self { members, distances: embeddings.into_iter().map(distances).collect() }
    }

    /// The places for one of the questions.
    pub fn of(&self, question: usize) -> Cow<'_, [MemberInfo]> {
        let Some(distances) = self.distances.get(question) else { return Cow::Borrowed(&self.members) };
        self.members
            .iter()
            .zip(distances)
            .map(|(place, distance)| MemberInfo { distance: *distance, ..*place })
            .collect()
    }
}

/// Answers for some records, all from one moment of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The number of deletions that the answers know of.
    pub epoch: Epoch,
    /// Each member that answered: its shard, with the last of its stages. A stage's lineage covers the stages before it.
    pub stages: Arc<[ShardServes]>,
    /// The answers, in the order of the records.
    pub predictions: Vec<Prediction>,
}

/// The answer for one record.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The record's id.
    pub id: String,
    /// The predicted class, with the largest score; `None` for tasks that do not predict one of several classes.
    pub label: Option<usize>,
    /// The combined outputs: one for each class, or the one number.
    pub scores: Vec<f32>,
    /// Each member's outputs, in the order of the members.
    pub members: Vec<Vec<f32>>,
}

/// Answers for a batch of one padded length. The base blocks below the lowest live adapter run once for all members, and
/// those between the lowest adapters of two members once for the members above; where the adapters allow it, all members go through
/// each layer together.
pub(crate) fn predict(
    backbone: &Backbone,
    members: &[Arc<Member>],
    aggregator: &dyn Aggregator,
    task: Task,
    inputs: &[&Input<'_>],
) -> Vec<Prediction> {
    let one_class = matches!(task, Task::Classification { .. });
    let models: Vec<&StageModel> = members.iter().map(|member| &*member.model).collect();
    let of_members = stacked_outputs(backbone, &models, inputs).unwrap_or_else(|| {
        each_member(backbone, members, inputs, |model, hidden| {
            rows(&to_host(model.logits(backbone, hidden)), inputs.len())
        })
    });
    let asked = members.iter().map(|member| (member.place(), &*member.model));
    let places = Places::new(backbone, aggregator, asked, inputs);
    let answer = |(index, input): (usize, &&Input<'_>)| {
        let members: Vec<Vec<f32>> = of_members.iter().map(|rows| rows[index].clone()).collect();
        let scores =
            aggregator.combine_placed(&members.iter().map(Vec::as_slice).collect::<Vec<_>>(), &places.of(index));
        Prediction { id: input.id().to_string(), label: one_class.then(|| argmax(&scores)), scores, members }
    };
    inputs.iter().enumerate().map(answer).collect()
}

/// Calls `answer` for each member's model with the input of its first block, and gives the results by member.
pub(crate) fn each_member<T>(
    backbone: &Backbone,
    members: &[Arc<Member>],
    inputs: &[&Input<'_>],
    answer: impl Fn(&StageModel, Hidden) -> T,
) -> Vec<T> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|member| (members[*member].model.start(), *member));
    let tokens = inputs.iter().map(|input| input.padded).max().unwrap_or(0);
    let (mut hidden, mut at) = (backbone.embed(inputs, tokens), 0);
    let mut answers: Vec<(usize, T)> = Vec::with_capacity(members.len());
    for member in order {
        let model = &members[member].model;
        hidden = backbone.run(hidden, at..model.start(), &Adapters::none());
        at = model.start();
        answers.push((member, answer(model, hidden.clone())));
    }
    answers.sort_by_key(|(member, _)| *member);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
