//! What each command does.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use s3t::core::digest::DigestBuilder;
use s3t::core::limits::read_text_at_most;
use s3t::core::registry::plugins;
use s3t::core::spelling::{DIFFERENCES, Visible, beside};
use s3t::core::{PluginKind, Record, RecordId, Serving, StageKey, SubjectId};
use s3t::data::{parse_id_list, read_id_list};
use s3t::engine::{
    BuildReport, CheckedPipeline, Deletion, EngineError, Pipeline, RepairPolicy, SpellingsLeft, Status, System,
    VerifyReport, VerifyScope,
};
use s3t::eval::{Baseline, Evaluation, Metric, evaluate};
use s3t::ledger::Named;
use s3t::prelude::ShardId;
use s3t::store::{DeletionRequest, StoreError};

use crate::exit::{self, Failure};
use crate::output::{Output, count, duration, plural, say, table, time};
use crate::planning::{self, show_figures};
use crate::progress::Bars;
use crate::receipts::ReceiptFile;
use crate::system_args::Described;
use crate::{Command, FreshArgs, RepairArgs, answers, audits, init, receipts, stores};

pub(crate) type Outcome = Result<u8, Failure>;

pub(crate) fn dispatch(command: Command, output: &mut Output) -> Outcome {
    match command {
        Command::Run { pipeline, fresh } => run(&pipeline.pipeline, fresh, output),
        Command::Plan(args) => planning::plan(&args, output),
        Command::Advise(args) => planning::advise(&args, output),
        Command::Simulate(args) => planning::simulate(&args, output),
        Command::CompareSequences(args) => planning::compare(&args, output),
        Command::Train { pipeline, fresh } => train(&pipeline.pipeline, fresh, output),
        Command::Eval(pipeline) => eval(&pipeline.pipeline, output),
        Command::Predict(args) => answers::predict(&args, output),
        Command::Export { pipeline, to, base_model } => export(&pipeline.pipeline, &to, base_model, output),
        Command::Delete { pipeline, record, subject, records_from, subjects_from, request_id, receipt } => {
            let request = DeletionRequest {
                id: request_id,
                records: ids(record, records_from.as_deref(), RecordId::new)?,
                subjects: ids(subject, subjects_from.as_deref(), SubjectId::new)?,
            };
            delete(&pipeline.pipeline, &request, receipt.as_deref(), output)
        }
        Command::Receipt { command } => receipts::receipt(&command, output),
        Command::Store { command } => stores::store(&command, output),
        Command::Repair(args) => repair(&args, output),
        Command::Audit(args) => audits::audit(&args, output),
        Command::Verify { pipeline, scope } => verify(&pipeline.pipeline, scope.into(), output),
        Command::Status(pipeline) => status(&pipeline.pipeline, output),
        Command::Plugins => {
            list_plugins(output);
            Ok(0)
        }
        Command::Init { file } => write_template(&file, output),
    }
}

/// The whole story.
fn run(path: &Path, fresh: FreshArgs, output: &mut Output) -> Outcome {
    let pipeline = Pipeline::read(path)?;
    if pipeline.test_data.is_none() {
        return Err(no_test_data());
    }
    let system = open(pipeline, fresh, output)?;
    let test = test_records(&system)?;
    let settings = system.pipeline().run.clone();
    // What cannot be evaluated or deleted is said now, not after the training.
    for record in &test {
        system.backbone().prepare(record).map_err(EngineError::from)?;
    }
    let request = request_of_run(&system, &settings)?;
    output.heading("Plan");
    let described = Described::of_system(&system)?;
    output.under("plan", |output| show_figures(&described, &described.system.lifetime(), output));

    output.heading("Training");
    let started = Instant::now();
    let baseline = if settings.baseline { Some(Baseline::new(&system)?) } else { None };
    let bars = Bars::new(output.shows_progress());
    let (report, baseline) = {
        // The comparison is trained beside the stages, as one more job.
        let bar = baseline.as_ref().map(|baseline| bars.extra("ordinary fine-tuning", baseline.steps()));
        let slot = Mutex::new(baseline.map(|baseline| (baseline, bar)));
        // By whoever comes first.
        let train = || {
            let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.map(|(baseline, bar)| match bar {
                Some(bar) => baseline.train(&bar),
                None => baseline.train(&s3t::train::Silent),
            })
        };
        let (report, baseline) = std::thread::scope(|scope| {
            let beside = std::thread::Builder::new().spawn_scoped(scope, train);
            let report = system.train(&bars);
            let baseline = match beside {
                Ok(beside) => beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // The machine starts no thread: it is trained now.
                Err(_) => train(),
            };
            (report, baseline)
        });
        (report, baseline.transpose())
    };
    drop(bars);
    show_build(&report?, started.elapsed().as_secs_f64(), output);
    let baseline = baseline?;

    output.heading("Evaluation");
    let before = evaluate(&system, &test)?;
    let of_baseline = match &baseline {
        Some(model) => Some((model.score(&test)?, model.epochs)),
        None => None,
    };
    show_comparison(&before, of_baseline, output);

    if settings.delete_records.is_empty() && settings.delete_subjects.is_empty() {
        output.say("\nThe pipeline names nothing to delete (`run.delete_subjects`, `run.delete_records`).");
    } else if system.store().knows_request(request.id.as_deref().unwrap_or_default()).map_err(EngineError::from)? {
        output.say("\nWhat the pipeline names was deleted in an earlier run; `--fresh` starts again.");
    } else {
        output.heading("Deletion");
        let deletion = system.fulfil(&request)?;
        show_deletion(&deletion, &request.subjects, output);
        output.heading("Evaluation after the deletion");
        let after = evaluate(&system, &test)?;
        show_evaluation("after", &after, Some(&before), output);
    }

    output.heading("Verification");
    check(&system, settings.verify, output)
}

fn train(path: &Path, fresh: FreshArgs, output: &mut Output) -> Outcome {
    let system = open(Pipeline::read(path)?, fresh, output)?;
    build(&system, output)
}

fn repair(args: &RepairArgs, output: &mut Output) -> Outcome {
    let refuse = |problem: String| Err(Failure::new(exit::REFUSED, problem));
    if let Some(depth) = args.below_depth.filter(|depth| !(0.0..=1.0).contains(depth)) {
        return refuse(format!("--below-depth is {depth}; it takes a share from 0 to 1"));
    }
    if let Some(minutes) = args.minutes.filter(|minutes| !minutes.is_finite() || *minutes <= 0.0 || *minutes > 1e6) {
        return refuse(format!("--minutes is {minutes}; it takes a number above 0, at most a million"));
    }
    let mut pipeline = pipeline_with_store(&args.pipeline)?;
    if let Some(jobs) = args.jobs {
        pipeline = pipeline.change(|pipeline| pipeline.resources.jobs = jobs)?;
    }
    let system = System::open(pipeline)?;
    let policy = RepairPolicy {
        below_depth: args.below_depth,
        below_budget: args.below_budget,
        time: args.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes)),
    };
    let bars = Bars::new(output.shows_progress());
    loop {
        let started = Instant::now();
        let report = system.repair(&policy, &bars)?;
        if report.build.is_some() || !args.watch {
            let json = serde_json::json!({ "report": report, "seconds": started.elapsed().as_secs_f64() });
            output.result("repair", &json, || {
                let built = report.build.as_ref().map(|build| {
                    let stopped = if report.out_of_time { "; out of time" } else { "" };
                    format!(
                        "{} built in {}{stopped}",
                        plural(build.trained, "stage"),
                        duration(started.elapsed().as_secs_f64())
                    )
                });
                say!("{}: {}", report.reason, built.unwrap_or_else(|| "nothing to do".into()));
            });
            show_serving(&system.status()?, output);
        }
        if !args.watch {
            return Ok(0);
        }
        // Watching costs a look at the catalogue's version.
        loop {
            if Bars::interrupted() {
                return Ok(0);
            }
            let now = system.snapshot()?;
            system.forget_deleted(&now);
            if report.out_of_time || now.is_erasing() || policy.is_due(&now).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // What another process has accepted and is erasing is planned when it is erased.
        match system.store().erase() {
            Err(error @ (StoreError::Erasing { .. } | StoreError::Reading { .. } | StoreError::Busy { .. })) => {
                output.say(format!("waiting: {error}"));
            }
            erased => drop(erased.map_err(EngineError::from)?),
        }
    }
}

fn eval(path: &Path, output: &mut Output) -> Outcome {
    let system = open_to_read(path)?;
    let test = test_records(&system)?;
    show_evaluation("evaluation", &evaluate(&system, &test)?, None, output);
    Ok(0)
}

fn export(path: &Path, to: &Path, base_model: Option<String>, output: &mut Output) -> Outcome {
    let mut pipeline = pipeline_with_store(path)?;
    if let Some(name) = base_model {
        pipeline = pipeline.change(|pipeline| pipeline.model_name = Some(name))?;
    }
    let system = System::open(pipeline)?;
    let export = s3t::interchange::export(&system, to)?;
    output.result("export", &export, || {
        let row = |shard: &s3t::interchange::ExportedShard| {
            vec![
                to.join(&shard.folder).display().to_string(),
                serving(Some(shard.serving)),
                format!("blocks {}", shard.blocks),
                shard.stages.last().map_or_else(String::new, StageKey::short),
            ]
        };
        table(&["adapter", "serves with", "adapted", "stage"], export.shards.iter().map(row).collect(), 4);
    });
    let around = std::path::absolute(to).ok().and_then(|to| to.parent().map(Path::to_path_buf));
    let superseded =
        around.map(|folder| s3t::interchange::superseded(&system, &folder)).transpose()?.unwrap_or_default();
    output.result("superseded", &superseded, || {
        for path in &superseded.unreadable {
            say!("unreadable: `{}`; whether its export holds dead stages is unknown", path.display());
        }
        for (folder, gone) in &superseded.exports {
            let stages = plural(*gone, "stage");
            say!("superseded: `{}` holds {stages} that are gone from the store; withdraw its copies", folder.display());
        }
    });
    Ok(0)
}

fn delete(path: &Path, request: &DeletionRequest, receipt: Option<&Path>, output: &mut Output) -> Outcome {
    if request.records.is_empty() && request.subjects.is_empty() {
        return Err(Failure::new(
            exit::REFUSED,
            "nothing to delete; give --record, --subject, --records-from or --subjects-from",
        ));
    }
    let file = receipt.map(|path| ReceiptFile::reserve(path, request.id.as_deref())).transpose()?;
    let done = System::open_to_delete(pipeline_with_store(path)?).and_then(|system| {
        let deletion = system.fulfil(request)?;
        Ok((system, deletion))
    });
    let (system, deletion) = match done {
        Ok(done) => done,
        Err(error) => {
            // After the acceptance the empty file stays: the same command fills it.
            if let Some(file) = file.filter(|_| !matches!(error, EngineError::Unfinished { .. })) {
                file.give_up();
            }
            return Err(error.into());
        }
    };
    let written = file.map(|file| file.write(&deletion.receipt)).transpose();
    show_deletion(&deletion, &request.subjects, output);
    if written?.is_some()
        && let Some(path) = receipt
    {
        output.say(format!(
            "receipt: {}; `s3t receipt verify` checks it with the store's public key alone",
            path.display()
        ));
    }
    system.receipt_delivered(&deletion)?;
    let Some(pending) = &deletion.pending else { return Ok(0) };
    let code = if pending.disk_failed { exit::FAILED } else { exit::STORE };
    let message = format!("deletion {} stands, but its erasure is not finished: {}", deletion.epoch, pending.reason);
    Err(Failure::new(code, message))
}

fn verify(path: &Path, scope: VerifyScope, output: &mut Output) -> Outcome {
    let system = open_existing(path)?;
    check(&system, scope, output)
}

fn status(path: &Path, output: &mut Output) -> Outcome {
    let system = open_to_read(path)?;
    let status = system.status()?;
    output.result("status", &status, || {
        say!(
            "{}: {} records, {} subjects; {} seen; {} of {} stages built",
            status.store.display(),
            count(status.records),
            count(status.subjects),
            plural(status.epoch as usize, "deletion request"),
            status.built_stages,
            status.planned_stages
        );
        if !status.same_environment {
            say!(
                "The store was trained on another arithmetic: this machine can serve and delete, not train or verify."
            );
        }
        for pending in &status.pending {
            say!(
                "deletion {} ({}) is in effect since {}, and not erased yet; the next command that changes the store finishes it",
                pending.epoch,
                plural(pending.records as usize, "record"),
                time(pending.accepted.0)
            );
        }
        if let Some(holder) = &status.holder {
            say!("the store's files are in the hands of {holder}");
        }
        for export in &status.remaining_exports {
            say!("export `{}`: {}", export.folder.display(), export.reason);
        }
    });
    show_serving(&status, output);
    Ok(0)
}

fn list_plugins(output: &mut Output) {
    let described: Vec<serde_json::Value> = plugins()
        .iter()
        .map(|plugin| {
            serde_json::json!({
                "kind": plugin.kind(),
                "type": plugin.name(),
                "documentation": plugin.documentation(),
                "fields": plugin.fields(),
            })
        })
        .collect();
    output.result("plugins", &described, || {
        for kind in PluginKind::ALL {
            let title = match kind {
                PluginKind::SequenceStrategy => "sequence strategies".into(),
                PluginKind::ModelFamily => "model families".into(),
                kind => format!("{kind}s"),
            };
            say!("\n{}", console::style(title.to_uppercase()).bold());
            for plugin in plugins().into_iter().filter(|plugin| plugin.kind() == kind) {
                say!("\n  {}  {}", console::style(plugin.name()).bold(), plugin.documentation());
                for field in plugin.fields() {
                    say!("      {} = {}   {}", field.name, field.default, field.documentation);
                }
            }
        }
    });
}

fn write_template(file: &Path, output: &Output) -> Outcome {
    use std::io::Write;
    let refuse =
        |error: std::io::Error| Failure::new(exit::FAILED, format!("cannot write `{}`: {error}", file.display()));
    let mut opened = match std::fs::OpenOptions::new().write(true).create_new(true).open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("`{}` exists already; give another name", file.display());
            return Err(Failure::new(exit::REFUSED, message));
        }
        opened => opened.map_err(refuse)?,
    };
    opened.write_all(init::TEMPLATE.as_bytes()).map_err(refuse)?;
    output.say(format!("wrote {}; fill in the paths, then: s3t plan {0}", file.display()));
    Ok(0)
}

fn open(pipeline: CheckedPipeline, fresh: FreshArgs, output: &Output) -> Result<System, Failure> {
    if fresh.fresh
        && let Some(deletions @ 1..) = System::start_afresh(&pipeline, fresh.yes)?
    {
        output.say(format!(
            "The store had accepted {}; it is made anew from what the source of the data holds now.",
            plural(deletions as usize, "deletion")
        ));
    }
    Ok(System::open(pipeline)?)
}

/// The pipeline's store, to change it.
pub(crate) fn open_existing(path: &Path) -> Result<System, Failure> {
    Ok(System::open(pipeline_with_store(path)?)?)
}

/// The pipeline's store, to read it only: others may change it in the meantime.
pub(crate) fn open_to_read(path: &Path) -> Result<System, Failure> {
    Ok(System::open_read_only(pipeline_with_store(path)?)?)
}

pub(crate) fn pipeline_with_store(path: &Path) -> Result<CheckedPipeline, Failure> {
    let pipeline = Pipeline::read(path)?;
    if !pipeline.store.exists() {
        let message =
            format!("there is no store at `{}`; `s3t train {}` makes it", pipeline.store.display(), path.display());
        return Err(Failure::new(exit::STORE, message));
    }
    Ok(pipeline)
}

fn build(system: &System, output: &mut Output) -> Outcome {
    let started = Instant::now();
    let bars = Bars::new(output.shows_progress());
    let report = system.train(&bars);
    drop(bars);
    let report = report?;
    show_cut(system.cut_when_made(), system.backbone().max_tokens(), output);
    show_build(&report, started.elapsed().as_secs_f64(), output);
    Ok(0)
}

fn check(system: &System, scope: VerifyScope, output: &mut Output) -> Outcome {
    let started = Instant::now();
    let bars = Bars::new(output.shows_progress());
    let report = system.verify_and_record(scope, &bars);
    drop(bars);
    let report = report?;
    show_verification(&report, started.elapsed().as_secs_f64(), output);
    Ok(if report.passed() { 0 } else { exit::DIFFERENT })
}

pub(crate) fn test_records(system: &System) -> Result<Vec<Record>, Failure> {
    let pipeline = system.pipeline();
    match &pipeline.test_data {
        Some(source) => Ok(pipeline.read_source(source)?),
        None => Err(no_test_data()),
    }
}

fn no_test_data() -> Failure {
    Failure::new(exit::REFUSED, "the pipeline has no `data.test` to evaluate on")
}

/// What `s3t run` deletes. Its id is made from the names, so that a second run knows that it was done.
fn request_of_run(system: &System, settings: &s3t::engine::RunSettings) -> Result<DeletionRequest, Failure> {
    let records = settings.delete_records.iter().map(|record| RecordId::new(record.as_str()));
    let subjects = settings.delete_subjects.iter().map(|subject| SubjectId::new(subject.as_str()));
    let records: Vec<RecordId> = records.collect::<Result<_, _>>()?;
    let subjects: Vec<SubjectId> = subjects.collect::<Result<_, _>>()?;
    let store = system.store();
    let mut names = DigestBuilder::keyed(store.secret(), "s3t run");
    names.number(records.len() as u64);
    for name in records.iter().map(RecordId::as_str).chain(subjects.iter().map(SubjectId::as_str)) {
        names.bytes(name.as_bytes());
    }
    let id = format!("s3t run {}", names.finish().short());
    if !store.knows_request(&id).map_err(EngineError::from)? {
        for record in &records {
            if store.address(record).map_err(EngineError::from)?.is_none() {
                return Err(EngineError::from(store.unknown(Named::Record(record))).into());
            }
        }
        for subject in &subjects {
            if store.records_of(subject).map_err(EngineError::from)? == 0 {
                return Err(EngineError::from(store.unknown(Named::Subject(subject))).into());
            }
        }
    }
    Ok(DeletionRequest { id: Some(id), records, subjects })
}

/// The most bytes of a list of ids: a million of the greatest length.
const MOST_LIST_BYTES: u64 = 256 << 20;

/// The ids on the command line and in a file with one a line.
fn ids<T>(
    given: Vec<String>,
    file: Option<&Path>,
    check: impl Fn(String) -> Result<T, s3t::core::CoreError>,
) -> Result<Vec<T>, Failure> {
    let mut ids: Vec<T> = given.into_iter().map(&check).collect::<Result<_, _>>().map_err(EngineError::from)?;
    let listed = match file {
        Some(file) if file == Path::new("-") => {
            let refuse = |error| Failure::new(exit::REFUSED, format!("cannot read standard input: {error}"));
            let text = read_text_at_most(std::io::stdin(), MOST_LIST_BYTES).map_err(refuse)?;
            parse_id_list(&text, Path::new("standard input"), check)?
        }
        Some(file) => read_id_list(file, check)?,
        None => Vec::new(),
    };
    ids.extend(listed);
    Ok(ids)
}

/// Says how many texts a limit of the user cut, if it cut any.
pub(crate) fn show_cut(cut: usize, limit: usize, output: &mut Output) {
    if cut > 0 {
        output.result("cut", &cut, || {
            say!("{} cut to {limit} tokens", if cut == 1 { "1 text was".into() } else { format!("{cut} texts were") });
        });
    }
}

fn show_build(report: &BuildReport, seconds: f64, output: &mut Output) {
    let json = serde_json::json!({ "report": report, "seconds": seconds });
    output.result("training", &json, || {
        say!(
            "{} stages trained, {} reused, {} in the plan; {}",
            report.trained,
            report.reused,
            report.planned,
            duration(seconds)
        );
    });
}

fn show_comparison(before: &Evaluation, baseline: Option<(f64, usize)>, output: &mut Output) {
    let json = baseline.map(|(score, epochs)| serde_json::json!({ "score": score, "epochs": epochs }));
    let metric = before.metric;
    if let Some((score, epochs)) = baseline {
        output.result("baseline", &json, || {
            let name = format!("ordinary fine-tuning, all blocks on all data, {epochs} epochs");
            let by = before.score - score;
            let difference = match metric {
                Metric::Correlation => format!("{by:+.3}"),
                _ => format!("{:+.1} points", 100.0 * by),
            };
            table(
                &["", metric.name()],
                vec![
                    vec![name, metric.show(score)],
                    vec!["this ensemble".into(), metric.show(before.score)],
                    vec!["difference".into(), difference],
                ],
                1,
            );
        });
    }
    show_evaluation("before", before, None, output);
}

fn show_evaluation(field: &str, evaluation: &Evaluation, before: Option<&Evaluation>, output: &mut Output) {
    output.result(field, evaluation, || {
        let show = |score| evaluation.metric.show(score);
        let was = |score: Option<f64>| score.map_or_else(String::new, show);
        let of_shard = |shard: ShardId| {
            let members = before.map(|before| before.members.iter());
            was(members.and_then(|mut members| members.find(|member| member.shard == shard)).map(|member| member.score))
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        for member in &evaluation.members {
            let name = format!("shard {}, {}", member.shard, serving(member.serving));
            rows.push(vec![name, of_shard(member.shard), show(member.score)]);
        }
        let name = format!("ensemble, {} records", count(evaluation.records as u64));
        rows.push(vec![name, was(before.map(|before| before.score)), show(evaluation.score)]);
        if before.is_none() {
            rows.iter_mut().for_each(|row| drop(row.remove(1)));
            table(&["", evaluation.metric.name()], rows, 1);
        } else {
            table(&["", "before", "after"], rows, 1);
        }
    });
}

fn show_deletion(deletion: &Deletion, subjects: &[SubjectId], output: &mut Output) {
    output.result("deletion", deletion, || {
        if deletion.repeated {
            say!("request {}: done before, as deletion {}; nothing was done now", deletion.request, deletion.epoch);
            show_unfinished(deletion);
            return;
        }
        let who: Vec<String> =
            subjects.iter().map(|subject| format!("subject {}", Visible(subject.as_str()))).collect();
        let ids: Vec<String> =
            deletion.records.iter().take(8).map(|record| Visible(record.as_str()).to_string()).collect();
        let more = if deletion.records.len() > ids.len() { ", ..." } else { "" };
        let of = if who.is_empty() { String::new() } else { format!(" of {}", who.join(", ")) };
        say!("{}{of}: {}{more}", plural(deletion.records.len(), "record"), ids.join(", "));
        let mut rows = Vec::new();
        for cut in &deletion.cuts {
            let shortened: Vec<String> = cut
                .shortened
                .iter()
                .map(|(sequence, from, to)| format!("sequence {sequence}: {from} to {to}"))
                .collect();
            let shortened = if shortened.is_empty() { "nothing more".to_owned() } else { shortened.join("\n") };
            rows.push(vec![cut.address.to_string(), shortened, serving(cut.before), serving(cut.after)]);
        }
        table(&["hit", "cut to depth", "served with", "serves with now"], rows, 4);
        let erased = match deletion.erased_seconds {
            Some(seconds) => format!("gone from disk after {}", duration(seconds)),
            None => "NOT gone from disk yet".to_owned(),
        };
        say!(
            "cannot be lost after {}; no answer uses it after {}; {erased}: {} removed, {} rewritten",
            duration(deletion.durable_seconds),
            duration(deletion.effective_seconds),
            plural(deletion.erased_stages.len(), "stage"),
            plural(deletion.rewritten_slices.len(), "slice")
        );
        for SpellingsLeft { kind, named, left } in &deletion.other_spellings {
            let (named, left) = beside(named, left);
            say!(
                "still there: {kind} {left}, which differs from `{named}` only in {DIFFERENCES}; delete it too if it is the same"
            );
        }
        show_unfinished(deletion);
    });
}

/// What of a deletion is still to be done.
fn show_unfinished(deletion: &Deletion) {
    for export in &deletion.remaining_exports {
        say!("export `{}`: {}", export.folder.display(), export.reason);
    }
}

fn show_verification(report: &VerifyReport, seconds: f64, output: &mut Output) {
    let json = serde_json::json!({ "passed": report.passed(), "report": report, "seconds": seconds });
    output.result("verification", &json, || {
        let row = |stage: &s3t::engine::VerifiedStage| {
            let result = stage.difference.as_ref().map_or_else(|| "every bit equal".to_owned(), ToString::to_string);
            vec![stage.stage.key.short(), stage.stage.to_string(), result]
        };
        if !report.stages.is_empty() {
            table(&["stage", "trained again from", "result"], report.stages.iter().map(row).collect(), 3);
        }
        report.problems.iter().for_each(|problem| say!("problem: {problem}"));
        report.notes.iter().for_each(|note| say!("note: {note}"));
        if report.overtaken > 0 {
            say!("{} were cut by deletions in the meantime", plural(report.overtaken, "stage"));
        }
        say!(
            "{} stage lineages, {} records, the catalogue and the ledger checked, after {}; {}: {}",
            report.lineages,
            count(report.records as u64),
            plural(report.deletions as usize, "deletion"),
            duration(seconds),
            if report.passed() { "verified" } else { "NOT verified" }
        );
    });
}

fn show_serving(status: &Status, output: &mut Output) {
    output.result("shards", &status.shards, || {
        let row = |shard: &s3t::engine::ShardStatus| {
            let depths: Vec<String> = shard.depths.iter().map(ToString::to_string).collect();
            vec![
                format!("shard {}", shard.shard),
                count(shard.records as u64),
                serving(shard.serving),
                depths.join(" "),
                shard.adversarial_budget.to_string(),
            ]
        };
        let header = ["", "records", "serves with", "usable depths", "worst-case requests left"];
        table(&header, status.shards.iter().map(row).collect(), 1);
        let dead = status.shards.iter().filter(|shard| shard.serving.is_none()).count();
        if dead > 0 {
            say!("{dead} of {} shards are dead; `s3t repair` rebuilds them", status.shards.len());
        }
    });
}

fn serving(serving: Option<Serving>) -> String {
    match serving {
        Some(Serving { sequence, depth }) => format!("sequence {sequence} depth {depth}"),
        None => "no live sequence".to_owned(),
    }
}
