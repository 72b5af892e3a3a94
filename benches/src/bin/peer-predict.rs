//! Our side of `benches/peer/predict.py`: the answers of an ensemble, a line of standard input at a time.
//!
//! `peer-predict MODEL THREADS SHARDS [DEVICE [FORM]]`: the first line is a JSON list of texts. A line `full one`, `full batch`, `cut one` or
//! `cut batch` answers the first text or all of them, as a serving system does, and prints the milliseconds.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use s3t::core::aggregate::{Aggregator, MeanLogits};
use s3t::engine::in_batches;
use s3t::models::{Device, LoadOptions};
use s3t::peft::tensors::stage_on_device;
use s3t::prelude::*;
use s3t::train::{StageModel, stacked_outputs};
use s3t_benches::{load_options, made_up_stage, text_records};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OUTPUTS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (model, threads, shards, device, form) = match arguments.as_slice() {
        [_, model, threads, shards] => (model, threads, shards, "flex", "f32"),
        [_, model, threads, shards, device] => (model, threads, shards, device.as_str(), "f32"),
        [_, model, threads, shards, device, form] => (model, threads, shards, device.as_str(), form.as_str()),
        _ => return Err("usage: peer-predict MODEL THREADS SHARDS [DEVICE [FORM]]".into()),
    };
    let (threads, shards): (usize, usize) = (threads.parse()?, shards.parse()?);
    let device = device.parse::<s3t::backends::DeviceSpec>()?.open()?;
    let options = LoadOptions { max_tokens: Some(64), ..load_options(form)? };
    let backbone = s3t::models::load(Path::new(model), options, &device)?;
    let states = [("full", vec![0]), ("cut", vec![0, 0, 2, 2, 4])];
    let models = states.map(|(state, starts)| {
        let of_shard = |shard| shard_model(&backbone, &device, shard, starts[shard % starts.len()]);
        Ok((state, (0..shards).map(of_shard).collect::<Result<Vec<_>, Box<dyn Error>>>()?))
    });
    let models: BTreeMap<_, _> = models.into_iter().collect::<Result<_, Box<dyn Error>>>()?;

    let mut lines = std::io::stdin().lock().lines();
    let records = text_records(&lines.next().ok_or("the texts are missing")??)?;
    for line in lines {
        let line = line?;
        let (state, size) = line.split_once(' ').ok_or("a line is a state and a size")?;
        let members: Vec<&StageModel> = models.get(state).ok_or("known states: full, cut")?.iter().collect();
        let asked = if size == "batch" { &records[..] } else { &records[..1] };
        let started = Instant::now();
        let inputs = asked.iter().map(|record| backbone.prepare(record)).collect::<Result<Vec<_>, _>>()?;
        let answers = in_batches(threads, &inputs, |batch| {
            let outputs = stacked_outputs(&backbone, &members, batch).unwrap_or_default();
            let answer = |index: usize| {
                let rows: Vec<&[f32]> = outputs.iter().map(|member| member[index].as_slice()).collect();
                MeanLogits {}.combine(&rows)
            };
            (0..batch.len()).map(answer).collect()
        })?;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        if answers.len() != asked.len() {
            return Err("an answer is missing".into());
        }
        writeln!(std::io::stdout(), "{elapsed:.3}")?;
    }
    Ok(())
}

/// A shard whose adapters begin at block `start`, with values that differ from shard to shard.
fn shard_model(
    backbone: &s3t::models::Backbone,
    device: &Device,
    shard: usize,
    start: usize,
) -> Result<StageModel, Box<dyn Error>> {
    let method = Lora { rank: 16, alpha: 32.0, ..Lora::default() };
    let blocks = (start..backbone.blocks()).collect();
    let tensors = stage_on_device(&made_up_stage(backbone, &method, &blocks, OUTPUTS, shard), device);
    Ok(StageModel::of_blocks(backbone, &method, &blocks, OUTPUTS, &tensors)?)
}
