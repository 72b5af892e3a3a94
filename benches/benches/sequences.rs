//! Choosing sequences, simulating streams, planning a system.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use s3t::core::budget::cost::ModelShape;
use s3t::core::budget::lifetime::{FirstSlices, Lifetime, Requests};
use s3t::core::budget::search::{Advice, Fixed, Goal, SearchLimits, SearchRequest};
use s3t::core::sequence::{Cyclic, SequenceRequest, plan_sequences};
use s3t::core::{PartitionShape, PerShard, Prior, Sequence, SequenceStrategy, ShardId};
use s3t::plugins::prior_sequences::{Auto, Bms, Greedy};
use s3t::simulation::{Simulation, Stream};

/// Falls like a geometric series, with all slices different.
fn falling(slices: u32) -> Prior {
    let weights: Vec<f64> = (0..slices).map(|slice| 0.93f64.powi(slice as i32)).collect();
    let total: f64 = weights.iter().sum();
    Prior::PerSlice(weights.into_iter().map(|weight| weight / total).collect())
}

fn cyclic(shard: u32, slices: u32, budget: usize) -> Vec<Sequence> {
    let request = SequenceRequest { shard: ShardId(shard), slices, budget, prior: &Prior::Uniform, seed: 0 };
    plan_sequences(&Cyclic {}, &request).expect("a possible budget")
}

fn strategies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choose L sequences");
    group.sample_size(10);
    for slices in [8, 16, 32, 64] {
        let prior = falling(slices);
        let request = SequenceRequest { shard: ShardId(0), slices, budget: slices as usize, prior: &prior, seed: 0 };
        group.bench_with_input(BenchmarkId::new("bms", slices), &request, |bencher, request| {
            bencher.iter(|| Bms::default().sequences(black_box(request)));
        });
    }
    let prior = falling(12);
    let request = SequenceRequest { shard: ShardId(0), slices: 12, budget: 12, prior: &prior, seed: 0 };
    group.bench_function("greedy, exact, L = 12", |bencher| {
        bencher.iter(|| Greedy::default().sequences(black_box(&request)));
    });
    group.finish();
}

fn simulation(shards: u32, slices: u32, budget: usize, trials: usize) -> Simulation {
    Simulation {
        shape: PartitionShape { shards, slices },
        sequences: PerShard::alike(cyclic(0, slices, budget)),
        stream: Stream::Uniform,
        records: None,
        trials,
        seed: 0,
        max_requests: u64::MAX,
    }
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulate");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    let small = simulation(5, 6, 6, 100_000);
    group.bench_function("100,000 streams, m = 5, L = B = 6", |bencher| bencher.iter(|| small.lifetimes()));
    // Requests of a stream grow like m log m, so time over shards does too.
    for shards in [100, 1_000, 10_000] {
        group.throughput(Throughput::Elements(shards.into()));
        let large = simulation(shards, 64, 64, 2);
        group.bench_with_input(
            BenchmarkId::new("two streams, L = B = 64, shards", shards),
            &large,
            |bencher, large| {
                bencher.iter(|| large.lifetimes());
            },
        );
    }
    group.finish();
}

fn exact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exact lifetime, each shard with sequences and rates of its own");
    group.sample_size(10);
    for shards in [100u32, 1_000, 10_000] {
        group.throughput(Throughput::Elements(shards.into()));
        let rates: Vec<f64> = falling(64).probabilities(64).iter().map(|hit| hit / f64::from(shards)).collect();
        let system: Vec<FirstSlices> =
            (0..shards).map(|shard| FirstSlices::of(1, &cyclic(shard, 64, 1 + shard as usize % 64), &rates)).collect();
        group.bench_with_input(BenchmarkId::from_parameter(shards), &system, |bencher, system| {
            bencher.iter(|| Lifetime::of(black_box(system), Requests::Independent));
        });
    }
    group.finish();
}

fn planner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("planner, 1 million records, 32 blocks");
    group.sample_size(10);
    for (name, goal) in [("deletions", Goal::Deletions), ("depth", Goal::Depth { requests: 100 })] {
        let request = SearchRequest {
            records: 1_000_000,
            model: ModelShape::transformer(32, 4096, 11008, 256, 32, 2),
            epochs: 3,
            prior: &Prior::Uniform,
            goal,
            wanted_deletions: Some(300.0),
            limits: SearchLimits { shards: 100, ..SearchLimits::default() },
            fixed: Fixed::default(),
            seed: 0,
        };
        group.bench_function(name, |bencher| bencher.iter(|| Advice::search(black_box(&request), &[&Auto {}])));
    }
    group.finish();
}

criterion_group!(benches, strategies, streams, exact, planner);
criterion_main!(benches);
