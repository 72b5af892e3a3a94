//! Our side of `benches/peer/deletion.py`: deletions in a process that goes on answering.
//!
//! `peer-delete MODEL THREADS SHARDS FOLDER`: the first line of standard input is a JSON list of texts, of which each becomes a record of
//! a store in `FOLDER` with so many shards of three slices, three sequences, and made-up stages. A line with a number deletes so
//! many records, one after the other, while another thread asks for answers without pause, and prints for each deletion a JSON list of the
//! milliseconds to its acknowledgement, from there to its effect, from there until the stages that are used instead are loaded (`null` if
//! the shard had not used the slice, or has none any more), and from the start until the bytes are gone from disk.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use s3t::core::{RecordId, SliceAddress};
use s3t::engine::EngineError;
use s3t::prelude::*;
use s3t::store::DeletionRequest;
use s3t_benches::{text_records, with_made_up_stages};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, threads, shards, folder] = arguments.as_slice() else {
        return Err("usage: peer-delete MODEL THREADS SHARDS FOLDER".into());
    };
    let mut lines = std::io::stdin().lock().lines();
    let records = text_records(&lines.next().ok_or("the texts are missing")??)?;

    let method = || Lora { rank: 16, alpha: 32.0, ..Lora::default() };
    let labels = Labels::new(["negative", "neutral", "positive"].map(str::to_owned).to_vec())?;
    let mut pipeline = Pipeline::new(Path::new(model), Path::new(folder).join("store"), labels, method());
    pipeline.max_tokens = Some(64);
    pipeline.shape = PartitionShape { shards: shards.parse()?, slices: 3 };
    pipeline.resources.jobs = threads.parse()?;
    let system = System::create(pipeline, &records, None)?;
    let system = with_made_up_stages(system, &method())?;

    let mut rows = 0_u64..records.len() as u64;
    for line in lines {
        let rows: Vec<u64> = rows.by_ref().take(line?.trim().parse()?).collect();
        let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
        let times = std::thread::scope(|scope| {
            let asking = scope.spawn(|| -> Result<(), EngineError> {
                while !stop.load(Ordering::Relaxed) {
                    system.predict(&records[..1])?;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            let times = rows.iter().map(|row| delete(&system, *row)).collect::<Result<Vec<_>, _>>();
            stop.store(true, Ordering::Relaxed);
            asking.join().map_err(|_| "an answer panicked")??;
            times
        })?;
        if answers.load(Ordering::Relaxed) == 0 {
            return Err("nothing was answered meanwhile".into());
        }
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&times)?)?;
    }
    Ok(())
}

fn delete(system: &System, row: u64) -> Result<[Option<f64>; 4], Box<dyn Error>> {
    std::thread::sleep(Duration::from_millis(20));
    let (id, records) = (Some(format!("request-{row}")), vec![RecordId::new(format!("row-{row}"))?]);
    let request = DeletionRequest { id, records, subjects: vec![] };
    let before = system.snapshot()?;
    let started = Instant::now();
    let now = || started.elapsed().as_secs_f64() * 1e3;
    let accepted = system.store().accept(&request)?;
    let durable = now();
    if system.snapshot()?.epoch() < accepted.effect.epoch {
        return Err("an answer that starts now would use a dead stage".into());
    }
    let effective = now();
    system.members()?;
    let loaded = now();
    let (before, after) = (before.availability(), system.snapshot()?.availability());
    let is_moved = |address: &SliceAddress| {
        let serving = after.serving(address.shard);
        serving.is_some() && serving != before.serving(address.shard)
    };
    let is_loaded = accepted.effect.slices.iter().any(is_moved);
    // The same request again finishes what is left of it.
    system.fulfil(&request)?;
    Ok([Some(durable), Some(effective - durable), is_loaded.then_some(loaded - effective), Some(now())])
}
