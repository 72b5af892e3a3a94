//! Planning and cutting sequences.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use s3t::core::digest::DigestBuilder;
use s3t::core::sequence::{Cyclic, SequenceRequest, plan_sequences};
use s3t::core::{
    Availability, LayerGroups, Plan, Prior, Recipe, Sequence, ShardId, SliceAddress, SliceDigests, Task, lineage,
};

const SHARDS: u32 = 100;
const SLICES: u32 = 16;

fn sequences() -> Vec<Vec<Sequence>> {
    let of_shard = |shard| {
        let request = SequenceRequest {
            shard: ShardId(shard),
            slices: SLICES,
            budget: SLICES as usize,
            prior: &Prior::Uniform,
            seed: 0,
        };
        plan_sequences(&Cyclic {}, &request).expect("the budget is L")
    };
    (0..SHARDS).map(of_shard).collect()
}

fn planning(criterion: &mut Criterion) {
    let sequences = sequences();
    let recipe = Recipe {
        format: lineage::FORMAT,
        base: DigestBuilder::new("base").finish(),
        peft: "lora".into(),
        training: "none".into(),
        task: Task::Classification { classes: 10 },
        environment: "flex".parse::<s3t::backends::DeviceSpec>().expect("a known device").environment(),
    };
    let groups = LayerGroups::from_top(32, SLICES, None).expect("two blocks a slice");
    let digest = |shard, slice| Some(DigestBuilder::new("slice").number(shard).number(slice).finish());
    let digests: SliceDigests = (0..u64::from(SHARDS))
        .map(|shard| (0..u64::from(SLICES)).map(|slice| digest(shard, slice)).collect())
        .collect();
    criterion.bench_function("plan 100 shards x 16 slices x 16 sequences", |bencher| {
        bencher.iter(|| Plan::new(recipe.clone(), groups.clone(), black_box(&sequences), digests.clone()));
    });
}

fn deletion(criterion: &mut Criterion) {
    let sequences = sequences();
    let availability = Availability::full(sequences.iter().map(Vec::as_slice));
    criterion.bench_function("cut 16 sequences", |bencher| {
        bencher.iter_batched_ref(
            || availability.clone(),
            |availability| availability.hit(black_box(SliceAddress::new(17, 5))),
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, planning, deletion);
criterion_main!(benches);
