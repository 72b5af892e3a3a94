//! Planted mistakes: each law catches a plugin that breaks it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use s3t_core::partition::Group;
use s3t_core::{
    Aggregator, CoreError, LivePrefix, MemberInfo, Members, PartitionShape, Partitioner, Sequence, SequenceRequest,
    SequenceStrategy, SliceAddress, SliceId, StoreSecret, plugin,
};
use s3t_testkit::{check_aggregator, check_members, check_partitioner, check_sequence_strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

static CALLS: AtomicU32 = AtomicU32::new(0);

macro_rules! planted {
    ($kind:ident, $name:literal, $plugin:ident { $($body:tt)* }) => {
        /// A plugin with a planted mistake.
        #[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
        struct $plugin {}

        #[typetag::serde(name = $name)]
        impl $kind for $plugin { $($body)* }

        plugin!($kind, $name, $plugin);
    };
}

fn mean(members: &[&[f32]]) -> Vec<f32> {
    (0..members[0].len()).map(|class| members.iter().map(|row| row[class] / members.len() as f32).sum()).collect()
}

planted!(Aggregator, "one-too-few", OneTooFew {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members)[1..].to_vec()
    }
});

planted!(Aggregator, "remembers", Remembers {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        mean(members).into_iter().map(|score| score + calls as f32).collect()
    }
});

planted!(Aggregator, "favours-the-first-class", FavoursFirst {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        let mut scores = mean(members);
        scores[0] += scores[0].abs() + 1.0;
        scores
    }
});

planted!(Aggregator, "sums-and-says-it-keeps-the-scale", Sums {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members).into_iter().map(|score| score * members.len() as f32).collect()
    }

    fn keeps_scale(&self) -> bool {
        true
    }
});

planted!(Aggregator, "routes-in-silence", RoutesInSilence {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members)
    }

    fn combine_placed(&self, members: &[&[f32]], places: &[MemberInfo]) -> Vec<f32> {
        let distance = |member: &usize| places[*member].distance.unwrap_or_default();
        let nearest = (0..members.len()).min_by(|one, other| distance(one).total_cmp(&distance(other))).unwrap();
        if places[nearest].distance.is_some() { members[nearest].to_vec() } else { mean(members) }
    }
});

planted!(Aggregator, "turns-the-sign", TurnsSign {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members).into_iter().map(|score| -score).collect()
    }
});

static DEEPEST_SO_FAR: AtomicUsize = AtomicUsize::new(0);

// After a cut the choice still tells that a deeper prefix was there.
planted!(Members, "remembers-the-past", RemembersPast {
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize> {
        let depth = live.iter().map(|prefix| prefix.serving.depth).max().unwrap_or(0);
        let was_deeper = DEEPEST_SO_FAR.fetch_max(depth, Ordering::Relaxed) > depth;
        if was_deeper { vec![0] } else { (0..live.len()).collect() }
    }
});

planted!(Members, "one-that-is-dead", Dead {
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize> {
        vec![0, live.len()]
    }
});

planted!(Members, "one-twice", Twice {
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize> {
        vec![live.len() - 1; 2]
    }
});

planted!(Members, "whole-sequences-only", WholeOnly {
    fn choose(&self, live: &[LivePrefix<'_>]) -> Vec<usize> {
        (0..live.len()).filter(|index| live[*index].serving.depth >= 3).collect()
    }
});

fn address(shape: PartitionShape, number: u64) -> SliceAddress {
    let number = number % shape.count();
    SliceAddress::new((number / u64::from(shape.slices)) as u32, (number % u64::from(shape.slices)) as u32)
}

fn hash(group: Group<'_>) -> u64 {
    let name = match group {
        Group::Subject(subject) => subject.as_str(),
        Group::Record(record) => record.as_str(),
    };
    name.bytes().fold(7u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) >> 20
}

planted!(Partitioner, "round-robin", RoundRobin {
    fn place(&self, _: Group<'_>, _: u64, shape: PartitionShape, _: &StoreSecret) -> SliceAddress {
        address(shape, u64::from(CALLS.fetch_add(1, Ordering::Relaxed)))
    }
});

planted!(Partitioner, "by-row-and-does-not-say-so", ByRow {
    fn place(&self, _: Group<'_>, row: u64, shape: PartitionShape, _: &StoreSecret) -> SliceAddress {
        address(shape, row)
    }
});

planted!(Partitioner, "without-the-secret", WithoutSecret {
    fn place(&self, group: Group<'_>, _: u64, shape: PartitionShape, _: &StoreSecret) -> SliceAddress {
        address(shape, hash(group))
    }
});

planted!(Partitioner, "one-slice-too-far", TooFar {
    fn place(&self, _: Group<'_>, _: u64, shape: PartitionShape, _: &StoreSecret) -> SliceAddress {
        SliceAddress::new(0, shape.slices)
    }
});

planted!(Partitioner, "all-in-one-slice", AllInOne {
    fn uses_order(&self) -> bool {
        true
    }

    fn place(&self, _: Group<'_>, _: u64, _: PartitionShape, _: &StoreSecret) -> SliceAddress {
        SliceAddress::new(0, 0)
    }
});

planted!(SequenceStrategy, "by-shard-and-does-not-say-so", ByShard {
    fn depends_on_shard(&self, _: &SequenceRequest<'_>) -> bool {
        false
    }

    fn sequences(&self, request: &SequenceRequest<'_>) -> Result<Vec<Sequence>, CoreError> {
        if request.budget > 1 {
            return Err(s3t_core::sequence::out_of_range("by-shard", request, "it makes exactly 1"));
        }
        let start = request.shard.0 % request.slices;
        let order = (0..request.slices).map(|slice| SliceId((start + slice) % request.slices)).collect();
        Ok(vec![Sequence::new(order, request.slices)?])
    }
});

#[track_caller]
fn caught(check: impl FnOnce() + std::panic::UnwindSafe, law: &str) {
    let panic = std::panic::catch_unwind(check).expect_err("the mistake is not caught");
    let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(message.contains(law), "caught by another law than `{law}`: {message}");
}

#[test]
fn mistakes_of_aggregators_are_caught() {
    for (name, law) in [
        ("one-too-few", "another length"),
        ("remembers", "other bits"),
        ("favours-the-first-class", "classes in another order"),
        ("sums-and-says-it-keeps-the-scale", "is not between"),
        ("routes-in-silence", "distances count, but"),
        ("turns-the-sign", "members that agree"),
    ] {
        caught(|| check_aggregator(&json!({ "type": name })), law);
    }
}

#[test]
fn mistakes_of_choices_of_members_are_caught() {
    for (name, law) in [
        ("remembers-the-past", "give another choice"),
        ("one-that-is-dead", "not all live prefixes"),
        ("one-twice", "not in order, each once"),
        ("whole-sequences-only", "no member is chosen"),
    ] {
        caught(|| check_members(&json!({ "type": name })), law);
    }
}

#[test]
fn mistakes_of_partitioners_are_caught() {
    for (name, law) in [
        ("round-robin", "depends on others"),
        ("by-row-and-does-not-say-so", "the row changes"),
        ("without-the-secret", "another secret"),
        ("one-slice-too-far", "outside the shape"),
        ("all-in-one-slice", "of 6000 groups"),
    ] {
        caught(|| assert!(check_partitioner(&json!({ "type": name })) > 0), law);
    }
}

#[test]
fn mistakes_of_strategies_are_caught() {
    let table = json!({ "type": "by-shard-and-does-not-say-so" });
    caught(|| assert!(check_sequence_strategy(&table, false, false) > 0), "left == right");
}
