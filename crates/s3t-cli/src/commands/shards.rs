//! The table of shards.

use s3t::api::{Serving, ShardStatus};
use s3t::core::wording::with_commas;

use crate::output::{say, table};

/// Prints each shard with the sequence and depth that it serves with.
pub(crate) fn show(shards: &[ShardStatus]) {
    let row = |shard: &ShardStatus| {
        let depths: Vec<String> = shard.depths.iter().map(ToString::to_string).collect();
        vec![
            format!("shard {}", shard.shard),
            with_commas(shard.records as u64),
            serving(shard.serving),
            depths.join(" "),
            shard.adversarial_budget.to_string(),
        ]
    };
    let header = ["", "records", "serves with", "usable depths", "worst-case requests left"];
    table(&header, shards.iter().map(row).collect(), 1);
    let dead = shards.iter().filter(|shard| shard.serving.is_none()).count();
    if dead > 0 {
        say!("{dead} of {} shards are dead; `s3t repair` rebuilds them", shards.len());
    }
}

/// The sequence and depth of a shard.
pub(crate) fn serving(serving: Option<Serving>) -> String {
    match serving {
        Some(Serving { sequence, depth }) => format!("sequence {sequence} depth {depth}"),
        None => "no live sequence".to_owned(),
    }
}
