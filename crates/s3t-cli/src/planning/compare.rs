//! `s3t compare-sequences`.

use s3t::core::wording::with_commas;
use std::path::PathBuf;

use clap::Args;
use s3t::api::{CompareAnswer, CompareRequest};
use s3t::simulation::StrategyFigures;

use super::system::SystemArgs;
use super::{by_flags, show_plot};
use crate::exit::{Outcome, code_of};
use crate::output::{Output, decimal, duration, say, table};

#[derive(Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// The strategies to compare, with commas between them, each a name or a table as in '{ type = "bms", t = 20 }'; all
    /// that there are if it is left out.
    #[arg(long)]
    strategies: Option<String>,
    /// The exponent t of the published score.
    #[arg(long, default_value_t = 100)]
    t: u32,
    /// Requests to the system after which depths are compared; 0 for one for each slice.
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// Draw the best depth against requests (.svg or .png).
    #[arg(long)]
    plot: Option<PathBuf>,
}

pub(crate) fn compare(args: &CompareArgs, output: &mut Output) -> Outcome {
    let request = CompareRequest {
        system: args.system.request()?,
        strategies: args.strategies.as_deref().map(split_outside_braces),
        t: args.t,
        requests: args.requests,
        plot: args.plot.clone(),
    };
    let answer = s3t::api::compare_sequences(&request)
        .map_err(|failure| by_flags::<CompareArgs>(args.system.pipeline(), failure))?;
    output.answer(&answer, || {
        show_strategies(&answer, request.requests_for(answer.shape), args.t);
        answer.refused.iter().for_each(|refused| say!("left out: {}", refused.reason));
        answer.warnings.iter().for_each(|warning| say!("Warning: {warning}"));
        show_plot(answer.plot.as_deref());
    });
    Ok(code_of(&answer))
}

/// The parts between commas, but not those inside a table's braces.
fn split_outside_braces(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

fn show_strategies(answer: &CompareAnswer, requests: u64, t: u32) {
    let found = &answer.strategies;
    let index = answer.requests.iter().position(|at| *at == requests).unwrap_or(0);
    let row = |figures: &StrategyFigures| {
        let within = figures.depth_confidence.map_or_else(String::new, |width| format!(" +- {width:.2}"));
        vec![
            figures.strategy.clone(),
            format!("{:.4}{within}", figures.depth[index]),
            decimal(figures.mean_deletions),
            decimal(figures.lifetime.first_dead),
            figures.lifetime.adversary_first.to_string(),
            format!("{:.3}", figures.diversity),
            format!("{:.4}", figures.score),
            with_commas(figures.stages as u64),
            duration(figures.seconds),
        ]
    };
    let depth = format!("depth after {}", with_commas(requests));
    let score = format!("score, t={t}");
    let header = [
        "strategy",
        &depth,
        "deletions",
        "first shard",
        "adversary",
        "diversity",
        &score,
        "stages a shard",
        "chosen in",
    ];
    table(&header, found.iter().map(row).collect(), 1);
    for figures in found {
        if let Some(reason) = &figures.reason {
            say!("{}: {reason}", figures.strategy);
        }
    }
}
