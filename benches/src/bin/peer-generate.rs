//! Our side of `benches/peer/generate.py`: texts continued by an ensemble, a line of standard input at a time.
//!
//! `peer-generate MODEL THREADS MEMBERS [FORM]`: a line `PROMPTS TOKENS NEW SEED` continues so many prompts of so many random tokens by so many, and
//! prints the milliseconds until the first token of all of them was there, and until the last. `memory` prints the megabytes that the
//! process has had at most.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use s3t::core::MemberInfo;
use s3t::core::aggregate::MeanLogits;
use s3t::generate::{Batch, BatchLimits, EventKind, Lanes, Prompt, Sampling};
use s3t::models::Device;
use s3t::peft::tensors::stage_on_device;
use s3t::prelude::*;
use s3t::train::{StageModel, on_threads};
use s3t_benches::{load_options, made_up_stage, peak_megabytes};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (model, threads, members, form) = match arguments.as_slice() {
        [_, model, threads, members] => (model, threads, members, "f32"),
        [_, model, threads, members, form] => (model, threads, members, form.as_str()),
        _ => return Err("usage: peer-generate MODEL THREADS MEMBERS [FORM]".into()),
    };
    let options = load_options(form)?;
    let (threads, members): (usize, usize) = (threads.parse()?, members.parse()?);
    let device = Device::flex();
    let backbone = s3t::models::load(Path::new(model), options, &device)?;
    let method = Lora { rank: 16, alpha: 32.0, ..Lora::default() };
    let blocks = (0..backbone.blocks()).collect();
    let member = |member: usize| -> Result<(MemberInfo, Arc<StageModel>), Box<dyn Error>> {
        let tensors = stage_on_device(&made_up_stage(&backbone, &method, &blocks, 0, member), &device);
        let model = StageModel::of_blocks(&backbone, &method, &blocks, 0, &tensors)?;
        Ok((MemberInfo::new(ShardId(member as u32), 1), Arc::new(model)))
    };
    let models = (0..members).map(member).collect::<Result<Vec<_>, _>>()?;
    // As in a server, texts come and go and the models stay.
    let lanes = Lanes::new(Arc::clone(&backbone), models)?;
    let mut batch = Batch::new(lanes, BatchLimits { texts: 64, cache_bytes: 350_000_000 });
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "memory" {
            writeln!(std::io::stdout(), "{:.1}", peak_megabytes()?)?;
            continue;
        }
        let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let [prompts, tokens, new, seed] = numbers[..] else { return Err("a line is four numbers".into()) };
        let mut state = seed as u32;
        let mut id = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            3 + (state >> 8) % (backbone.vocabulary() as u32 - 3)
        };
        let sampling = Sampling { max_tokens: new, ignore_eos: true, ..Sampling::default() };
        let started = Instant::now();
        for _ in 0..prompts {
            let ids = (0..tokens).map(|_| id()).collect();
            batch.add(Prompt { ids, sampling: sampling.clone() })?.map_err(|_| "no room")?;
        }
        let (mut first, mut seen) = (None, 0);
        while !batch.texts().is_empty() {
            for event in on_threads(threads, || batch.step(&MeanLogits {}))?? {
                seen += usize::from(matches!(event.kind, EventKind::Token(_)));
                if seen == prompts && first.is_none() {
                    first = Some(started.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
        writeln!(std::io::stdout(), "{:.3} {:.3}", first.unwrap_or_default(), started.elapsed().as_secs_f64() * 1e3)?;
    }
    Ok(())
}
