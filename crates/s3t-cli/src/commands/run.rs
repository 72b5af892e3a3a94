//! `s3t run`.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use s3t::api::{Asked, Baseline, Evaluation, NothingDeleted, RunObserver, RunPart, RunRequest, RunStep};
use s3t::engine::{Observer, OverSeeds, Spread, System};
use s3t::eval::Metric;
use s3t::executor::StageProgress;

use crate::arguments::FreshArgs;
use crate::commands::delete::show_deletion;
use crate::commands::eval::show_evaluation;
use crate::commands::train::{show_restart, show_training};
use crate::commands::verify::show_verification;
use crate::exit::{Outcome, code_of};
use crate::output::{Output, say, table};
use crate::planning::show_figures;
use crate::progress::Bars;

pub(crate) fn run(pipeline: PathBuf, fresh: FreshArgs, output: &mut Output) -> Outcome {
    let shows_progress = output.shows_progress();
    let printer = Printer {
        shows_progress,
        training: OnceLock::new(),
        verification: OnceLock::new(),
        state: Mutex::new(State {
            output,
            baseline: None,
            before: None,
            asked: Vec::new(),
            subjects: Vec::new(),
            over_seeds: None,
        }),
    };
    let answer = s3t::api::run(&RunRequest { pipeline, start: fresh.into() }, &printer)?;
    Ok(code_of(&answer))
}

/// Prints each part of a run when it is there.
struct Printer<'a> {
    shows_progress: bool,
    training: OnceLock<Bars>,
    verification: OnceLock<Bars>,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    output: &'a mut Output,
    /// The parts that are printed beside later ones.
    baseline: Option<Baseline>,
    before: Option<Evaluation>,
    asked: Vec<Asked>,
    /// The subjects that the pipeline names.
    subjects: Vec<String>,
    /// The scores over several seeds that the pipeline tells.
    over_seeds: Option<OverSeeds>,
}

impl Printer<'_> {
    fn bars(&self, step: RunStep) -> &Bars {
        let bars = if step == RunStep::Verification { &self.verification } else { &self.training };
        bars.get_or_init(|| Bars::new(self.shows_progress))
    }

    /// Does something with the output, which threads do not share at any moment.
    fn with<T>(&self, print: impl FnOnce(&mut State<'_>) -> T) -> T {
        print(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RunObserver for Printer<'_> {
    fn progress(&self, step: RunStep) -> &dyn Observer {
        self.bars(step)
    }

    fn begins(&self, step: RunStep, system: &System) {
        let heading = match step {
            RunStep::Plan => "Plan",
            RunStep::Training => "Training",
            RunStep::Evaluation => "Evaluation",
            RunStep::Deletion => "Deletion",
            RunStep::EvaluationAfter => "Evaluation after the deletion",
            RunStep::Verification => "Verification",
        };
        self.with(|state| {
            state.subjects.clone_from(&system.pipeline().run.delete_subjects);
            state.over_seeds = system.pipeline().run.over_seeds;
            state.output.heading(heading);
        });
    }

    fn finished(&self, part: &RunPart<'_>) {
        match part {
            RunPart::Training(_) => self.bars(RunStep::Training).clear(),
            RunPart::Verification(_) => self.bars(RunStep::Verification).clear(),
            _ => {}
        }
        self.with(|state| {
            let State { output, baseline, before, asked, subjects, over_seeds } = state;
            output.answer(part, || match part {
                RunPart::RestartedAfter(deletions) => show_restart(Some(*deletions)),
                RunPart::Plan(figures) => show_figures(figures),
                RunPart::Training(training) => show_training(training),
                // Printed beside the evaluation, which follows.
                RunPart::Baseline(_) => {}
                RunPart::Before(evaluation) => {
                    if let Some(baseline) = baseline {
                        show_comparison(baseline, evaluation, *over_seeds);
                    }
                    show_evaluation(evaluation, None);
                }
                RunPart::AskedBefore(answers) => show_asked(answers, &[]),
                RunPart::AskedAfter(answers) => show_asked(answers, asked),
                RunPart::Deletion(deletion) => show_deletion(deletion, subjects),
                RunPart::After(evaluation) => {
                    show_evaluation(evaluation, before.as_ref());
                    if let Some(over_seeds) = over_seeds {
                        let [was, is] = [over_seeds.before, over_seeds.after].map(|of| spread(evaluation, of));
                        say!("over {} seeds: {was} before one deletion, {is} after it", over_seeds.seeds);
                    }
                }
                RunPart::Verification(verification) => show_verification(verification),
            });
            match part {
                RunPart::Baseline(scored) => *baseline = Some((*scored).clone()),
                RunPart::Before(evaluation) => *before = Some((*evaluation).clone()),
                RunPart::AskedBefore(answers) => *asked = answers.to_vec(),
                _ => {}
            }
        });
    }

    fn deletes_nothing(&self, reason: NothingDeleted) {
        let text = match reason {
            NothingDeleted::NothingNamed => {
                "\nThe pipeline names nothing to delete (`run.delete_subjects`, `run.delete_records`)."
            }
            NothingDeleted::DoneBefore => {
                "\nWhat the pipeline names was deleted in an earlier run; `--fresh` starts again."
            }
        };
        self.with(|state| state.output.say(text));
    }

    fn baseline(&self, steps: usize) -> Box<dyn StageProgress + Send + '_> {
        Box::new(self.bars(RunStep::Training).extra("ordinary fine-tuning", steps))
    }
}

/// The answers to prompts, beside those from before the deletion.
fn show_asked(answers: &[Asked], before: &[Asked]) {
    let row = |(index, asked): (usize, &Asked)| {
        let earlier = before.get(index).map(|asked| asked.answer.clone());
        [Some(asked.prompt.clone()), earlier, Some(asked.answer.clone())].into_iter().flatten().collect()
    };
    let rows = answers.iter().enumerate().map(row).collect();
    let header: &[&str] = if before.is_empty() { &["asked", "answer"] } else { &["asked", "before", "answer now"] };
    table(header, rows, header.len());
}

/// A mean with its standard deviation, in the measure of an evaluation.
fn spread(evaluation: &Evaluation, of: Spread) -> String {
    match Metric::from(evaluation.metric) {
        Metric::Correlation => format!("{:.3} ± {:.3}", of.mean, of.deviation),
        _ => format!("{:.1} ± {:.1} %", 100.0 * of.mean, 100.0 * of.deviation),
    }
}

fn show_comparison(baseline: &Baseline, evaluation: &Evaluation, over_seeds: Option<OverSeeds>) {
    let metric = Metric::from(evaluation.metric);
    let name = format!("ordinary fine-tuning, all blocks on all data, {} epochs", baseline.epochs);
    let by = evaluation.score - baseline.score;
    let difference = match metric {
        Metric::Correlation => format!("{by:+.3}"),
        _ => format!("{:+.1} points", 100.0 * by),
    };
    let mut header = vec![String::new(), metric.name().to_owned()];
    let mut rows = vec![
        vec![name, metric.show(baseline.score)],
        vec!["this ensemble".into(), metric.show(evaluation.score)],
        vec!["difference".into(), difference],
    ];
    if let Some(over_seeds) = over_seeds {
        header.push(format!("over {} seeds", over_seeds.seeds));
        rows[0].push(spread(evaluation, over_seeds.baseline));
        rows[1].push(spread(evaluation, over_seeds.before));
        rows[2].push(match metric {
            Metric::Correlation => format!("{:+.3}", over_seeds.before.mean - over_seeds.baseline.mean),
            _ => format!("{:+.1} points", 100.0 * (over_seeds.before.mean - over_seeds.baseline.mean)),
        });
    }
    table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows, 1);
}
