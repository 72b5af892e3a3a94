//! The sizes that can be planned in memory.

use s3t_core::sequence::MAX_POSITIONS;
use s3t_core::{PartitionShape, PerShard};

use crate::{ApiError, ErrorKind};

/// Refuses sizes whose plans do not fit into memory.
pub(super) fn check_sizes(shape: PartitionShape, budget: usize) -> Result<(), ApiError> {
    let (shards, slices, budget) = (u64::from(shape.shards), u64::from(shape.slices), budget as u64);
    for (name, value, max) in [
        ("shards", shards, 1_000_000),
        ("slices", slices, 4096),
        ("budget", budget, 1_000_000),
        ("shards x slices", shards.saturating_mul(slices), MAX_POSITIONS),
        ("budget x slices", budget.saturating_mul(slices), MAX_POSITIONS),
        ("shards x budget", budget.saturating_mul(shards), MAX_POSITIONS),
    ] {
        if !(1..=max).contains(&value) {
            return Err(ApiError::new(ErrorKind::Refused, format!("`{name}` is {value}; it takes 1 to {max}")));
        }
    }
    Ok(())
}

/// The same number of records in each slice, the remainder over the first.
pub(super) fn spread(records: u64, shape: PartitionShape) -> Result<PerShard<Vec<u64>>, ApiError> {
    let (shards, slices) = (shape.shards as usize, shape.slices as usize);
    let count = shape.count();
    let (even, rest) = (records / count, records % count);
    if rest == 0 {
        return Ok(PerShard::alike(vec![even; slices]));
    }
    let size = |number: usize| even + u64::from((number as u64) < rest);
    // Slices of all shards take turns, so that shards differ by one record at most.
    let of_shard = |shard: usize| (0..slices).map(|slice| size(slice * shards + shard)).collect();
    Ok(PerShard::each((0..shards).map(of_shard).collect())?)
}

/// Requests worth a look, from a tenth of a lifetime to one and a half.
pub(super) fn milestones(lifetime: f64) -> Vec<u64> {
    let lifetime = if lifetime.is_finite() { lifetime } else { 100.0 };
    let mut found: Vec<u64> = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5]
        .iter()
        .map(|share| (lifetime * share).round().clamp(1.0, 1e15) as u64)
        .collect();
    found.dedup();
    found
}

/// About a hundred numbers of requests up to the last.
pub(super) fn steps(last: f64) -> Vec<u64> {
    let last = if last.is_finite() { last.ceil().clamp(1.0, 1e15) as u64 } else { 1000 };
    let step = last.div_ceil(100).max(1);
    (0..=last.div_ceil(step)).map(|index| index * step).collect()
}

/// `12345678` as `12,345,678`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
