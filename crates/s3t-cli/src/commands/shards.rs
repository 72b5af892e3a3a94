//! The table of shards.

use s3t::api::{Serving, ShardStatus};
use s3t::core::wording::with_commas;

use crate::output::{say, table};

/// Prints each shard with the sequences and depths that it serves with.
pub(crate) fn show(shards: &[ShardStatus]) {
    let row = |shard: &ShardStatus| {
        let depths: Vec<String> = shard.depths.iter().map(ToString::to_string).collect();
        vec![
            format!("shard {}", shard.shard),
            with_commas(shard.records as u64),
            all_serving(&shard.members),
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

/// The sequences and depths of a shard's members, one a line.
pub(crate) fn all_serving(members: &[Serving]) -> String {
    let lines: Vec<String> = members.iter().map(|member| serving(Some(*member))).collect();
    if lines.is_empty() { serving(None) } else { lines.join("\n") }
}

/// The sequence and depth of a member.
pub(crate) fn serving(serving: Option<Serving>) -> String {
    match serving {
        Some(Serving { sequence, depth }) => format!("sequence {sequence} depth {depth}"),
        None => "no live sequence".to_owned(),
    }
}
