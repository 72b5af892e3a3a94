//! The answers of every prefix of a trained system on held-out records: whatever is deleted, the system answers with some of these.

use std::fs;
use std::path::Path;

use s3t::core::aggregate::argmax;
use s3t::core::plan::PlannedSequence;
use s3t::core::tensors::StageTensors;
use s3t::core::{Availability, Lineage, Sequence, SliceId, StageKey, Target};
use s3t::engine::in_batches;
use s3t::eval::Baseline;
use s3t::executor::Silent;
use s3t::models::Input;
use s3t::prelude::*;
use s3t::train::{StageModel, learnt_tokens, rows};
use serde::{Deserialize, Serialize};
use xtask_figures::Outcome;

use crate::merged::merged;

/// One run of an example: a partition and random numbers.
#[derive(Serialize, Deserialize)]
pub struct Answers {
    /// The orders of the slices, `[shard][sequence]`.
    pub orders: Vec<Vec<Vec<u32>>>,
    /// The right output of each question: a record's class, or a token of a response.
    pub right: Vec<usize>,
    /// The outputs of each prefix, `[shard][sequence][depth - 1][question][output]`.
    pub outputs: Vec<Vec<Vec<Vec<Vec<f32>>>>>,
    /// The accuracy of ordinary fine-tuning of all blocks on all records, for as many passes over each.
    pub ordinary: f64,
    /// The outputs of one model for each shard, the mean of its sequences as [`merged`] makes it, `[shard][question][output]`; empty where
    /// there is none.
    #[serde(default)]
    pub merged: Vec<Vec<Vec<f32>>>,
}

impl Answers {
    /// Trains a system, or reads what an earlier run has written to `kept`.
    pub fn of(pipeline: Pipeline, kept: &Path) -> Outcome<Self> {
        if kept.exists() {
            return Ok(serde_json::from_slice(&fs::read(kept)?)?);
        }
        let pipeline = pipeline.check()?;
        let (train, test) = (pipeline.read_train_data()?, pipeline.read_test_data()?);
        let secret = pipeline.secret.secret(pipeline.seed);
        let system = System::create(pipeline, &train, secret)?;
        system.train(&Quiet)?;
        let inputs = test.iter().map(|record| system.backbone().prepare(record)).collect::<Result<Vec<_>, _>>()?;
        let snapshot = system.snapshot()?;
        let (mut outputs, mut merged_outputs) = (Vec::new(), Vec::new());
        for shard in snapshot.plan().shards() {
            let of_sequence = |keys: &Vec<StageKey>| -> Outcome<Vec<Vec<Vec<f32>>>> {
                (1..=keys.len()).map(|depth| outputs_of(&system, &keys[..depth], &inputs)).collect()
            };
            merged_outputs.extend(outputs_of_merged(&system, &shard.sequences, &inputs)?);
            let sequences = shard.sequences.iter().map(|sequence| of_sequence(&sequence.keys));
            outputs.push(sequences.collect::<Outcome<Vec<_>>>()?);
        }
        let order = |sequence: &Sequence| sequence.slices().iter().map(|slice| slice.0).collect();
        let sequences = &system.store().settings().sequences;
        let answers = Self {
            orders: sequences.iter().map(|shard| shard.iter().map(order).collect()).collect(),
            right: right_outputs(&test, &inputs),
            outputs,
            merged: merged_outputs,
            ordinary: Baseline::new(&system)?.train(&Silent)?.score(&test)?,
        };
        let partial = kept.with_extension("partial");
        fs::write(&partial, serde_json::to_vec(&answers)?)?;
        fs::rename(partial, kept)?;
        Ok(answers)
    }

    /// The mean accuracy of single prefixes of a depth, counted from 0.
    pub fn of_depth(&self, depth: usize) -> f64 {
        let prefixes: Vec<&Vec<Vec<f32>>> = self.outputs.iter().flatten().map(|sequence| &sequence[depth]).collect();
        let is_right = |(row, right): &(&Vec<f32>, &usize)| argmax(row) == **right;
        let right = |rows: &&Vec<Vec<f32>>| rows.iter().zip(&self.right).filter(is_right).count();
        let all: usize = prefixes.iter().map(right).sum();
        all as f64 / (prefixes.len() * self.right.len()) as f64
    }

    /// The accuracy before a deletion where each shard answers with one model, the mean of its sequences, and the logits of the shards are
    /// averaged; `None` where there are no such models.
    pub fn of_merged(&self) -> Option<f64> {
        let is_right = |(row, right): &(usize, &usize)| {
            let logits: Vec<f32> = (0..self.merged[0][*row].len())
                .map(|output| self.merged.iter().map(|shard| shard[*row][output]).sum())
                .collect();
            argmax(&logits) == **right
        };
        let asked = !self.merged.is_empty();
        asked.then(|| self.right.iter().enumerate().filter(is_right).count() as f64 / self.right.len() as f64)
    }

    /// The state without any deletion.
    pub fn whole(&self) -> Outcome<Availability> {
        let sequence = |order: &Vec<u32>| {
            Sequence::new(order.iter().copied().map(SliceId).collect(), order.len() as u32).map_err(Into::into)
        };
        let of_shard = |shard: &Vec<Vec<u32>>| shard.iter().map(sequence).collect::<Outcome<Vec<_>>>();
        let sequences = self.orders.iter().map(of_shard).collect::<Outcome<Vec<_>>>()?;
        Ok(Availability::full(sequences.iter().map(Vec::as_slice)))
    }
}

/// The right output of each question of [`Answers`].
fn right_outputs(records: &[Record], inputs: &[Input<'_>]) -> Vec<usize> {
    let of_record = |(record, input): (&Record, &Input<'_>)| match record.target {
        Target::Class(class) => vec![class as usize],
        _ => learnt_tokens(&[input], input.padded).into_iter().map(|(_, token)| token as usize).collect(),
    };
    records.iter().zip(inputs).flat_map(of_record).collect()
}

/// The outputs of a chain of stages for each question.
fn outputs_of(system: &System, chain: &[StageKey], inputs: &[Input<'_>]) -> Outcome<Vec<Vec<f32>>> {
    let stages = chain.iter().map(|key| system.store().stage(key)).collect::<Result<Vec<_>, _>>()?;
    let tensors: Vec<&StageTensors> = stages.iter().map(|(_, tensors)| tensors).collect();
    let (lineage, _) = stages.last().ok_or("an empty chain")?;
    outputs_of_model(system, lineage, &tensors, inputs)
}

/// The outputs of the mean of a shard's sequences; `None` where [`merged`] gives none.
fn outputs_of_merged(
    system: &System,
    sequences: &[PlannedSequence],
    inputs: &[Input<'_>],
) -> Outcome<Option<Vec<Vec<f32>>>> {
    let (mut members, mut lineage) = (Vec::new(), None);
    for sequence in sequences {
        let mut chain = Vec::new();
        for key in &sequence.keys {
            let (of_stage, tensors) = system.store().stage(key)?;
            chain.push(tensors);
            lineage = Some(of_stage);
        }
        members.push(StageTensors::of_chain(chain)?);
    }
    let Some((lineage, tensors)) = lineage.and_then(|lineage| merged(&lineage, &members)) else { return Ok(None) };
    Ok(Some(outputs_of_model(system, &lineage, &[&tensors], inputs)?))
}

fn outputs_of_model(
    system: &System,
    lineage: &Lineage,
    tensors: &[&StageTensors],
    inputs: &[Input<'_>],
) -> Outcome<Vec<Vec<f32>>> {
    let backbone = &**system.backbone();
    let model = StageModel::new(backbone, system.device(), lineage, tensors)?;
    let jobs = system.pipeline().resources.job_count();
    if system.pipeline().task != Task::CausalLm {
        return Ok(in_batches(jobs, inputs, |batch| model.outputs(backbone, batch))?);
    }
    let of_batch = |batch: &[&Input<'_>]| -> Vec<Vec<Vec<f32>>> {
        let hidden = model.first_input(backbone, batch);
        let padded = hidden.states.dims()[1];
        let at: Vec<usize> = learnt_tokens(batch, padded).iter().map(|(row, _)| *row).collect();
        let logits = s3t::peft::tensors::to_host(model.next_token_logits(backbone, hidden, &at));
        let mut rows = rows(&logits, at.len()).into_iter();
        batch.iter().map(|input| rows.by_ref().take(input.learnt()).collect()).collect()
    };
    Ok(in_batches(jobs, inputs, of_batch)?.into_iter().flatten().collect())
}
