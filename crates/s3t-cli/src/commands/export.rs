//! `s3t export`.

use std::path::{Path, PathBuf};

use s3t::api::{ExportAnswer, ExportRequest, ExportedShard};
use s3t::core::wording::counted;

use crate::commands::shards::serving;
use crate::exit::Outcome;
use crate::output::{Output, say, short, table};

pub(crate) fn export(pipeline: PathBuf, to: PathBuf, base_model: Option<String>, output: &mut Output) -> Outcome {
    let request = ExportRequest { pipeline, to, base_model };
    let answer = s3t::api::export(&request)?;
    output.answer(&answer, || show(&answer, &request.to));
    answer.unfinished.map_or(Ok(0), Err)
}

fn show(answer: &ExportAnswer, to: &Path) {
    let row = |shard: &ExportedShard| {
        vec![
            to.join(&shard.folder).display().to_string(),
            serving(Some(shard.serving)),
            format!("blocks {}", shard.blocks),
            shard.stages.last().map_or_else(String::new, |key| short(key)),
        ]
    };
    table(&["adapter", "serves with", "adapted", "stage"], answer.export.shards.iter().map(row).collect(), 4);
    for path in &answer.superseded.unreadable {
        say!("unreadable: `{path}`; whether its export holds dead stages is unknown");
    }
    for (folder, gone) in &answer.superseded.exports {
        let stages = counted(*gone, "stage");
        say!("superseded: `{folder}` holds {stages} that are gone from the store; withdraw its copies");
    }
}
