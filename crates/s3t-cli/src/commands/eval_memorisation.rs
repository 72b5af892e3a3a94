//! `s3t eval --memorisation`.

use std::path::PathBuf;

use s3t::api::{CanaryReport, ExtractionReport, Memorisation, MemorisationRequest};
use s3t::core::wording::with_commas;

use crate::exit::{Outcome, code_of};
use crate::output::{Output, percent, table};

pub(crate) fn eval_memorisation(pipeline: PathBuf, file: PathBuf, output: &mut Output) -> Outcome {
    let answer = s3t::api::memorisation(&MemorisationRequest { pipeline, file })?;
    output.answer(&answer, || show(&answer.memorisation));
    Ok(code_of(&answer))
}

fn show(measured: &Memorisation) {
    let row = |canary: &CanaryReport| {
        vec![
            canary.id.clone(),
            if canary.recited { "yes" } else { "no" }.to_owned(),
            format!("{:.2} bits", canary.exposure),
            canary.rank.map_or_else(|| "fitted".to_owned(), with_commas),
            if canary.space < 1e15 { with_commas(canary.space as u64) } else { format!("{:.1e}", canary.space) },
            format!("{:.2} bits", canary.base_exposure),
        ]
    };
    if !measured.canaries.is_empty() {
        let chance = format!("exposure (chance {:.2})", measured.chance);
        let header = ["canary", "recited", &chance, "rank", "of", "base model"];
        table(&header, measured.canaries.iter().map(row).collect(), 2);
    }
    if let Some(extraction) = &measured.extraction {
        table(&["records", "", ""], of_extraction(extraction), 1);
    }
}

fn of_extraction(extraction: &ExtractionReport) -> Vec<Vec<String>> {
    let number = |number: usize| with_commas(number as u64);
    let interval = match (extraction.low, extraction.high) {
        (Some(low), Some(high)) => {
            format!("{}, {} to {} at 95 %", percent(extraction.share), percent(low), percent(high))
        }
        _ => String::new(),
    };
    vec![
        vec!["tried".into(), number(extraction.records), String::new()],
        vec!["too short".into(), number(extraction.too_short), String::new()],
        vec!["come back".into(), number(extraction.extracted.len()), interval],
        vec!["come back from the base model".into(), number(extraction.base), String::new()],
    ]
}
