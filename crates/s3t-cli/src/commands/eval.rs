//! `s3t eval`.

use s3t::api::{EvalRequest, Evaluation, MemberScore};
use s3t::core::wording::with_commas;
use s3t::eval::Metric;

use crate::arguments::EvalArgs;
use crate::commands::eval_memorisation::eval_memorisation;
use crate::commands::eval_tasks::eval_tasks;
use crate::commands::shards::serving;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, table};

pub(crate) fn eval(args: EvalArgs, output: &mut Output) -> Outcome {
    if let Some(file) = args.memorisation {
        return eval_memorisation(args.pipeline.pipeline, file, output);
    }
    if !args.task.is_empty() {
        return eval_tasks(args, output);
    }
    let answer = s3t::api::evaluate(&EvalRequest { pipeline: args.pipeline.pipeline })?;
    output.answer(&answer, || show_evaluation(&answer.evaluation, None));
    Ok(code_of(&answer))
}

/// Prints the scores, beside those of before where there are some.
pub(crate) fn show_evaluation(evaluation: &Evaluation, before: Option<&Evaluation>) {
    let metric = Metric::from(evaluation.metric);
    let was = |score: Option<f64>| score.map_or_else(String::new, |score| metric.show(score));
    // The same sequence before, or the shard's only member.
    let of_member = |now: &MemberScore| {
        let of_shard = before.into_iter().flat_map(|before| &before.members).filter(|member| member.shard == now.shard);
        let of_shard: Vec<&MemberScore> = of_shard.collect();
        let sequence = |member: &MemberScore| member.serving.map(|serving| serving.sequence);
        let same = of_shard.iter().find(|member| sequence(member) == sequence(now));
        was(same.or(of_shard.first().filter(|_| of_shard.len() == 1)).map(|member| member.score))
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for member in &evaluation.members {
        let name = format!("shard {}, {}", member.shard, serving(member.serving));
        rows.push(vec![name, of_member(member), metric.show(member.score)]);
    }
    let name = format!("ensemble, {} records", with_commas(evaluation.records as u64));
    rows.push(vec![name, was(before.map(|before| before.score)), metric.show(evaluation.score)]);
    if before.is_none() {
        rows.iter_mut().for_each(|row| drop(row.remove(1)));
        let mut header = vec!["", metric.name()];
        if evaluation.perplexity.is_some() {
            header.push("perplexity");
            let members = evaluation.members.iter().map(|member| member.perplexity);
            for (row, perplexity) in rows.iter_mut().zip(members.chain([evaluation.perplexity])) {
                row.push(perplexity.map_or_else(String::new, |perplexity| format!("{perplexity:.3}")));
            }
        }
        table(&header, rows, 1);
    } else {
        table(&["", "before", "after"], rows, 1);
    }
}
