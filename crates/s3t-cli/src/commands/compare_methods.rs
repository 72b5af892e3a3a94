//! `s3t compare-methods`.

use s3t::api::CompareMethodsRequest;
use s3t::core::wording::with_commas;
use s3t::eval::compare::{Comparison, MethodFigures, Spread};

use crate::arguments::CompareMethodsArgs;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, duration, say, table};
use crate::progress::Bars;

pub(crate) fn compare_methods(args: CompareMethodsArgs, output: &mut Output) -> Outcome {
    let CompareMethodsArgs { pipeline, method, seeds, forget, records, held_out, plot } = args;
    let request = CompareMethodsRequest { pipeline, methods: method, seeds, forget, records, held_out, plot };
    let bars = Bars::new(output.shows_progress());
    let answer = s3t::api::compare_methods(&request, &bars.units());
    drop(bars);
    let answer = answer?;
    output.answer(&answer, || {
        show(&answer.comparison);
        if let Some(plot) = &answer.plot {
            say!("picture: {plot}");
        }
    });
    Ok(code_of(&answer))
}

fn show(comparison: &Comparison) {
    say!(
        "{} of {} records are forgotten, and told from {} held-out records by an attack; {} seeds, mean and standard deviation.\n",
        with_commas(comparison.forgotten),
        with_commas(comparison.records),
        with_commas(comparison.held_out),
        comparison.seeds
    );
    let header = [
        "method",
        "guarantee",
        "training",
        "to forget",
        "held out: before",
        "after",
        "left",
        "forgotten",
        "AUC before",
        "after",
        "TPR at 1 % FPR",
    ];
    table(&header, comparison.methods.iter().map(row).collect(), 2);
    say!(
        "\nFull retraining has never seen the records: its AUC and its accuracy on forgotten records are what others should come to."
    );
}

fn row(of: &MethodFigures) -> Vec<String> {
    let share = |spread: Spread| format!("{:.1} \u{b1} {:.1} %", 100.0 * spread.mean, 100.0 * spread.deviation);
    let area = |spread: Spread| format!("{:.3} \u{b1} {:.3}", spread.mean, spread.deviation);
    let time = |spread: Spread| format!("{} \u{b1} {}", duration(spread.mean), duration(spread.deviation));
    let forget = match of.off_seconds {
        Some(off) => format!("{}, off in {}", time(of.forget_seconds), time(off)),
        None => time(of.forget_seconds),
    };
    vec![
        of.method.clone(),
        of.guarantee.words().to_owned(),
        time(of.train_seconds),
        forget,
        share(of.accuracy_before),
        share(of.accuracy),
        share(of.accuracy_left),
        share(of.accuracy_forgotten),
        area(of.auc_before),
        area(of.auc),
        of.tpr.map_or_else(|| "needs 100 held out".to_owned(), share),
    ]
}
