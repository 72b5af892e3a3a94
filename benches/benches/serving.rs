//! The gain of joining the records of several callers: answers a second, and how long a caller waits.
//!
//! `cargo bench --bench serving` asks a system of five shards for one record a call, from one to sixteen callers at once, each by itself
//! and joined, in turn: images on the bundled model, and texts of three lengths on MiniLM if it was fetched. Without `--bench` (as tests run
//! benches) it asks a few times only.
#![allow(clippy::print_stdout, missing_docs, reason = "a program that prints a table")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use s3t::engine::{EngineError, JoinedSystem};
use s3t::prelude::*;
use s3t_benches::{percentiles, text_record, with_made_up_stages};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time that a call waits for others.
const WAIT: Duration = Duration::from_millis(2);

fn main() {
    let calls = if std::env::args().any(|argument| argument == "--bench") { 400 } else { 8 };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let images: Vec<Record> = (0..64).map(|row| image(row, 28)).collect();
    measure("images, ViT d 96", &data.join("vit-mnist"), &images, calls);
    let minilm = data.join("fetched/minilm");
    if minilm.exists() {
        let text = "the flight was late again and nobody could tell us why, but the crew was as kind as could be";
        // A joined pass holds texts of one padded length: with more lengths there is less to join.
        let cut = |row: u64| &text[..[40, 64, text.len()][row as usize % 3]];
        let texts: Vec<Record> = (0..64).map(|row| text_record(row, cut(row))).collect();
        measure("texts, MiniLM", &minilm, &texts, calls / 4);
    }
}

fn measure(what: &str, model: &Path, records: &[Record], calls: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let labels = Labels::new((0..10).map(|class| format!("class-{class}")).collect()).expect("well-formed labels");
    let method = || Lora { rank: 16, alpha: 32.0, ..Lora::default() };
    let mut pipeline = Pipeline::new(model, folder.path().join("store"), labels, method());
    pipeline.shape = PartitionShape { shards: 5, slices: 1 };
    pipeline.budget = 1;
    let system = System::create(pipeline, records, None).expect("a system");
    let system = Arc::new(with_made_up_stages(system, &method()).expect("stages"));
    let joined = JoinedSystem::new(Arc::clone(&system), WAIT, 64);
    for callers in [1, 2, 4, 16] {
        let (mut alone, mut together) = (Asked::default(), Asked::default());
        for _ in 0..4 {
            let calls = calls / 4;
            ask(callers, calls, records, &|record| system.predict(record).map(drop), &mut alone);
            ask(callers, calls, records, &|record| joined.predict(record).map(drop), &mut together);
        }
        println!("{what:18} {callers:3} callers   alone {}   joined {}", show(alone), show(together));
    }
}

/// The seconds of all calls, and the time of each.
type Asked = (f64, Vec<Duration>);

/// So many calls of one record, shared among the callers: adds the seconds in all, and of each call.
fn ask(
    callers: usize,
    calls: usize,
    records: &[Record],
    predict: &(dyn Fn(&[Record]) -> Result<(), EngineError> + Sync),
    (seconds, all): &mut Asked,
) {
    let each = (calls / callers).max(2);
    let one = |record: usize| {
        let started = Instant::now();
        predict(&records[record..=record]).expect("an answer");
        started.elapsed()
    };
    let started = Instant::now();
    let times = std::thread::scope(|scope| {
        let caller = |caller: usize| move || (0..each).map(|call| one((caller * 7 + call) % 64)).collect::<Vec<_>>();
        let started: Vec<_> = (0..callers).map(|index| scope.spawn(caller(index))).collect();
        started.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    *seconds += started.elapsed().as_secs_f64();
    all.extend(times);
}

fn show((seconds, times): Asked) -> String {
    let rate = times.len() as f64 / seconds;
    let (median, high) = percentiles(times);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("{rate:7.1}/s, {:6.2} ms p50, {:6.2} ms p99", ms(median), ms(high))
}

/// An image of stripes.
fn image(row: u64, side: u32) -> Record {
    let pixels = (0..side * side).map(|pixel| ((pixel / 3 + row as u32 * 5) % 7 * 40) as u8).collect();
    let payload = s3t::core::Payload::Image { width: side, height: side, channels: 1, pixels };
    Record { payload, ..text_record(row, "") }
}
