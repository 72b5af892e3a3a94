//! `s3t simulate`.

use s3t::core::wording::with_commas;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use s3t::api::{SimulateAnswer, SimulateRequest};
use s3t::simulation::{CurvePoint, Summary};

use super::system::SystemArgs;
use super::{by_flags, show_plot};
use crate::exit::{Outcome, code_of};
use crate::output::{Output, decimal, duration, percent, say, table};

#[derive(Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// The stream of requests.
    #[arg(long, value_enum, default_value_t = StreamName::Prior)]
    stream: StreamName,
    /// With --stream trace: a CSV file with the columns `shard` and `slice`, or a column `subject` or `record`.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// With --stream bursty: the mean number of requests of a burst.
    #[arg(long, default_value_t = 8.0)]
    burst: f64,
    /// With --stream subjects: the mean number of records of a subject.
    #[arg(long, default_value_t = 4.0)]
    subject_records: f64,
    /// With --stream subjects: as if the partition were by record, so that a subject's records lie anywhere.
    #[arg(long)]
    scattered: bool,
    /// Delete each of the records once, in random order, instead of drawing slices.
    #[arg(long)]
    finite: bool,
    /// Give a trial up after so many requests; without it, long after every shard should be dead.
    #[arg(long)]
    max_requests: Option<u64>,
    /// Draw the best depth against requests (.svg or .png).
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum StreamName {
    /// Every slice is as likely as any other.
    Uniform,
    /// Slices are hit as the prior says.
    Prior,
    /// Somebody who knows the sequences picks slices.
    Adversarial,
    /// Bursts that stay in one slice.
    Bursty,
    /// Subjects with several records.
    Subjects,
    /// A recorded stream.
    Trace,
}

impl From<StreamName> for s3t::api::StreamName {
    fn from(stream: StreamName) -> Self {
        match stream {
            StreamName::Uniform => Self::Uniform,
            StreamName::Prior => Self::Prior,
            StreamName::Adversarial => Self::Adversarial,
            StreamName::Bursty => Self::Bursty,
            StreamName::Subjects => Self::Subjects,
            StreamName::Trace => Self::Trace,
        }
    }
}

pub(crate) fn simulate(args: &SimulateArgs, output: &mut Output) -> Outcome {
    let answer = s3t::api::simulate(&SimulateRequest {
        system: args.system.request()?,
        stream: args.stream.into(),
        trace: args.trace.clone(),
        burst: args.burst,
        subject_records: args.subject_records,
        scattered: args.scattered,
        finite: args.finite,
        max_requests: args.max_requests,
        plot: args.plot.clone(),
    })
    .map_err(|failure| by_flags::<SimulateArgs>(args.system.pipeline(), failure))?;
    output.answer(&answer, || show(&answer));
    Ok(code_of(&answer))
}

fn show(answer: &SimulateAnswer) {
    let SimulateAnswer { shape, lifetimes, exact, curve, seconds, plot, .. } = answer;
    let row = |name: &str, summary: &Summary| {
        let mut row = vec![name.to_owned(), decimal(summary.mean), decimal(summary.standard_error)];
        row.extend(summary.quantiles.iter().map(|quantile| decimal(*quantile)));
        row
    };
    let rows = vec![
        row("until every shard is dead", &lifetimes.all_dead),
        row("until the first shard is", &lifetimes.first_dead),
    ];
    table(&["requests", "mean", "standard error", "5 %", "25 %", "median", "75 %", "95 %"], rows, 1);
    if let Some(exact) = exact {
        say!("exact expectation: {}", decimal(*exact));
    }
    if lifetimes.survived > 0 {
        say!(
            "{} of {} trials ended before every shard was dead, so the mean is too small",
            with_commas(lifetimes.survived as u64),
            with_commas(lifetimes.trials as u64)
        );
    }
    let step = curve.len().div_ceil(8).max(1);
    let row = |point: &CurvePoint| {
        vec![
            with_commas(point.requests),
            format!("{:.2} of {}", point.depth, shape.slices),
            format!("{:.2}", point.standard_error),
            format!("{:.2} to {:.2}", point.band[0], point.band[1]),
            percent(point.alive),
        ]
    };
    say!();
    let header = ["requests", "best depth", "standard error", "5 % to 95 %", "shards alive"];
    table(&header, curve.iter().step_by(step).map(row).collect(), 0);
    let streams = if lifetimes.trials == 1 { "stream" } else { "streams" };
    say!("{} {streams} in {}", with_commas(lifetimes.trials as u64), duration(*seconds));
    show_plot(plot.as_deref());
}
