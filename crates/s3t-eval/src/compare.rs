//! Methods of unlearning side by side: the time to forget, accuracy, the success of an attack, over several seeds.

use std::time::Instant;

use s3t_attack::area::auc;
use s3t_attack::lira::{Deviation, offline};
use s3t_attack::roc::{Roc, Scores};
use s3t_core::aggregate::argmax;
use s3t_core::registry::{plugin_from_json, plugins};
use s3t_core::{PluginKind, Record};
use s3t_engine::{EngineError, Observer, Pipeline, Quiet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::EvalError;
use crate::attack::{PipelineSource, draw, of_class};
use crate::methods::{Bench, Guarantee, UnlearningMethod, with_bench};

/// The name of the method that stands for never having seen the records.
const ORACLE: &str = "full-retraining";

/// Records of what is left whose accuracy is measured.
const MAX_LEFT: usize = 1000;

/// The settings of a comparison: the section `[compare]` of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompareSettings {
    /// The number of seeds, from 0 on; at least 3, as the models of the other seeds are the attack's references.
    pub seeds: u64,
    /// Records to forget, drawn by subjects.
    pub forget: usize,
    /// The largest number of records to train on; all if it is left out.
    pub records: Option<usize>,
    /// The largest number of held-out records.
    pub held_out: usize,
    /// The methods, each as a table with its `type`; all that are linked, with their defaults, if it is empty.
    pub methods: Vec<Value>,
}

impl Default for CompareSettings {
    fn default() -> Self {
        Self { seeds: 3, forget: 60, records: None, held_out: 1000, methods: Vec::new() }
    }
}

impl CompareSettings {
    /// The settings of a pipeline.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for the first key that cannot be used.
    pub fn of(pipeline: &Pipeline) -> Result<Self, EngineError> {
        let settings: Self = pipeline.settings_of("compare")?;
        match settings.problem() {
            Some((key, problem)) => Err(pipeline.refuse_setting("compare", key, &problem)),
            None => Ok(settings),
        }
    }

    /// The first field that cannot be used, with the problem in words that go on after its name.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if !(3..=100).contains(&self.seeds) {
            let problem = format!("is {}; use 3 to 100, as the models of other seeds are the references", self.seeds);
            return Some(("seeds", problem));
        }
        let sizes = [("forget", self.forget), ("held_out", self.held_out), ("records", self.records.unwrap_or(2))];
        if let Some((key, value)) = sizes.into_iter().find(|(_, value)| *value < 2) {
            return Some((key, format!("is {value}; use at least 2")));
        }
        self.chosen().err().map(|error| ("methods", format!("has a method that cannot be used: {error}")))
    }

    /// The methods by name, full retraining among them.
    fn chosen(&self) -> Result<Vec<Named>, EvalError> {
        let of_kind = || plugins().into_iter().filter(|plugin| plugin.kind() == PluginKind::UnlearningMethod);
        let mut tables: Vec<Value> = self.methods.clone();
        if tables.is_empty() {
            tables = of_kind().map(|plugin| json!({ "type": plugin.name() })).collect();
        }
        let name = |table: &Value| table.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !tables.iter().any(|table| name(table) == ORACLE) {
            tables.insert(0, json!({ "type": ORACLE }));
        }
        let method = |table: &Value| {
            let method = plugin_from_json(PluginKind::UnlearningMethod, table);
            Ok((name(table), method.map_err(|error| EvalError::Plugin(error.to_string()))?))
        };
        tables.iter().map(method).collect()
    }
}

/// A method with its name.
type Named = (String, Box<dyn UnlearningMethod>);

/// A mean over seeds, and its spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, by the degrees of freedom.
    pub deviation: f64,
}

impl Spread {
    /// The spread of values; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Some(Self { mean, deviation })
    }
}

/// The figures of one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MethodFigures {
    /// The method's name.
    pub method: String,
    /// The guarantee about a single record.
    pub guarantee: Guarantee,
    /// Seconds of the first training.
    pub train_seconds: Spread,
    /// Seconds from the request until the method is done.
    pub forget_seconds: Spread,
    /// Seconds until no answer uses the records any more, where that is earlier.
    pub off_seconds: Option<Spread>,
    /// The accuracy on held-out records before.
    pub accuracy_before: Spread,
    /// The accuracy on held-out records after.
    pub accuracy: Spread,
    /// The accuracy on records that are left.
    pub accuracy_left: Spread,
    /// The accuracy on forgotten records.
    pub accuracy_forgotten: Spread,
    /// The area under the ROC of the attack before.
    pub auc_before: Spread,
    /// The area after. Full retraining has that of never having seen the records.
    pub auc: Spread,
    /// The true positive rate at a false positive rate of 1 % after; `null` with fewer than 100 held-out records.
    pub tpr: Option<Spread>,
}

/// Methods side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Records that were trained on.
    pub records: u64,
    /// Records that were forgotten.
    pub forgotten: u64,
    /// Held-out records.
    pub held_out: u64,
    /// Seeds of training.
    pub seeds: u64,
    /// The methods, in the order of the settings.
    pub methods: Vec<MethodFigures>,
}

/// Watches a comparison.
pub trait CompareObserver: Observer {
    /// A method begins with a seed; `at` of `of` are done.
    fn begins(&self, _method: &str, _seed: u64, _at: usize, _of: usize) {}
}

impl CompareObserver for Quiet {}

/// The records of a comparison.
struct Data<'a> {
    records: &'a [Record],
    forgotten: &'a [Record],
    held_out: &'a [Record],
    left: &'a [Record],
}

/// The figures of a method with a seed.
struct Run {
    train_seconds: f64,
    forget_seconds: f64,
    off_seconds: Option<f64>,
    accuracy_before: f64,
    accuracy: f64,
    accuracy_left: f64,
    accuracy_forgotten: f64,
    /// Scaled logits of forgotten and held-out records.
    before: Vec<f64>,
    after: Vec<f64>,
}

/// Compares methods on the data of a pipeline. The pipeline's store has no part in it.
///
/// The attack is LiRA (offline) on the forgotten records and the held-out ones, whose references are the models that full retraining gives
/// with the other seeds: they never saw either.
///
/// # Errors
///
/// [`EvalError::OnlyClasses`] for other tasks than classification; [`EvalError::Engine`] with whatever is wrong with pipeline or data;
/// [`EvalError::Stopped`].
pub fn compare(
    pipeline: &PipelineSource<'_>,
    settings: &CompareSettings,
    observer: &dyn CompareObserver,
) -> Result<Comparison, EvalError> {
    let methods = settings.chosen()?;
    let read = pipeline()?;
    let mut records = read.read_train_data()?;
    if let Some(limit) = settings.records {
        records = draw::records("records", 0, records, limit);
    }
    let held_out = draw::records("held-out", 0, read.read_test_data()?, settings.held_out);
    let forgotten = draw::records("forget", 0, records.clone(), settings.forget);
    let left: Vec<Record> =
        records.iter().filter(|of| forgotten.iter().all(|gone| gone.id != of.id)).cloned().collect();
    if left.is_empty() && !records.is_empty() {
        return Err(EvalError::AllForgotten { records: records.len() });
    }
    if forgotten.len() < 2 || held_out.len() < 2 || left.is_empty() {
        return Err(EvalError::TooFewTargets { members: forgotten.len(), held_out: held_out.len() });
    }
    let data = Data { records: &records, forgotten: &forgotten, held_out: &held_out, left: &left };
    with_bench(pipeline, &records, observer, |bench| data.compare(bench, &methods, settings.seeds, observer))?
}

impl Data<'_> {
    fn compare(
        &self,
        bench: &Bench<'_>,
        methods: &[Named],
        seeds: u64,
        observer: &dyn CompareObserver,
    ) -> Result<Comparison, EvalError> {
        let (mut runs, mut done): (Vec<Vec<Run>>, usize) = (Vec::new(), 0);
        for (name, method) in methods {
            let mut of_method = Vec::new();
            for seed in 0..seeds {
                bench.check_stopped()?;
                observer.begins(name, seed, done, methods.len() * seeds as usize);
                of_method.push(self.run(bench, &**method, seed)?);
                done += 1;
            }
            runs.push(of_method);
        }
        let oracle = methods.iter().position(|(name, _)| name == ORACLE).unwrap_or_default();
        let figures = |at: usize| self.figures((&methods[at].0, methods[at].1.guarantee()), &runs[at], &runs[oracle]);
        Ok(Comparison {
            records: self.records.len() as u64,
            forgotten: self.forgotten.len() as u64,
            held_out: self.held_out.len() as u64,
            seeds,
            methods: (0..methods.len()).map(figures).collect::<Result<_, _>>()?,
        })
    }

    fn run(&self, bench: &Bench<'_>, method: &dyn UnlearningMethod, seed: u64) -> Result<Run, EvalError> {
        let start = Instant::now();
        let mut model = method.train(bench, self.records, seed)?;
        let train_seconds = model.train_seconds().unwrap_or_else(|| start.elapsed().as_secs_f64());
        let (gone_before, held_before) = (model.answer(self.forgotten)?, model.answer(self.held_out)?);
        let start = Instant::now();
        let off_seconds = model.forget(self.forgotten)?.map(|off| off.as_secs_f64());
        let forget_seconds = start.elapsed().as_secs_f64();
        let (gone, held) = (model.answer(self.forgotten)?, model.answer(self.held_out)?);
        let some_left = &self.left[..self.left.len().min(MAX_LEFT)];
        Ok(Run {
            train_seconds,
            forget_seconds,
            off_seconds,
            accuracy_before: accuracy(&held_before, self.held_out),
            accuracy: accuracy(&held, self.held_out),
            accuracy_left: accuracy(&model.answer(some_left)?, some_left),
            accuracy_forgotten: accuracy(&gone, self.forgotten),
            before: [scaled(&gone_before, self.forgotten)?, scaled(&held_before, self.held_out)?].concat(),
            after: [scaled(&gone, self.forgotten)?, scaled(&held, self.held_out)?].concat(),
        })
    }

    /// The scores of the attack on a run, with the retrained models of the other seeds as references.
    fn scores(&self, target: &[f64], seed: usize, oracle: &[Run]) -> Result<Scores, EvalError> {
        let others = || oracle.iter().enumerate().filter(|(other, _)| *other != seed);
        let outside: Vec<Vec<f64>> =
            (0..target.len()).map(|at| others().map(|(_, run)| run.after[at]).collect()).collect();
        let scores: Vec<f64> =
            offline(target, &outside, Deviation::Pooled)?.into_iter().map(|score| score.deviations).collect();
        let (members, non_members) = scores.split_at(self.forgotten.len());
        Ok(Scores { members: members.to_vec(), non_members: non_members.to_vec() })
    }

    fn figures(
        &self,
        (method, guarantee): (&str, Guarantee),
        runs: &[Run],
        oracle: &[Run],
    ) -> Result<MethodFigures, EvalError> {
        let (mut before, mut after, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for (seed, run) in runs.iter().enumerate() {
            before.push(auc(&self.scores(&run.before, seed, oracle)?, 0.95)?.value);
            let scores = self.scores(&run.after, seed, oracle)?;
            after.push(auc(&scores, 0.95)?.value);
            let roc = Roc::new(&scores.members, &scores.non_members)?;
            rates.extend(roc.tpr_at_fpr(0.01, 0.95).ok().map(|rate| rate.tpr));
        }
        let none = Spread { mean: f64::NAN, deviation: 0.0 };
        let spread = |values: &[f64]| Spread::of(values).unwrap_or(none);
        let of = |value: &dyn Fn(&Run) -> f64| spread(&runs.iter().map(value).collect::<Vec<f64>>());
        let off: Vec<f64> = runs.iter().filter_map(|run| run.off_seconds).collect();
        Ok(MethodFigures {
            method: method.to_owned(),
            guarantee,
            train_seconds: of(&|run| run.train_seconds),
            forget_seconds: of(&|run| run.forget_seconds),
            off_seconds: Spread::of(&off),
            accuracy_before: of(&|run| run.accuracy_before),
            accuracy: of(&|run| run.accuracy),
            accuracy_left: of(&|run| run.accuracy_left),
            accuracy_forgotten: of(&|run| run.accuracy_forgotten),
            auc_before: spread(&before),
            auc: spread(&after),
            tpr: Spread::of(&rates),
        })
    }
}

fn scaled(scores: &[Vec<f32>], records: &[Record]) -> Result<Vec<f64>, EvalError> {
    let of = |(scores, record): (&Vec<f32>, &Record)| {
        let class = record.target.class().ok_or_else(|| EvalError::NoClass(record.id.to_string()))?;
        Ok(of_class(scores, class as usize, true)?.0)
    };
    scores.iter().zip(records).map(of).collect()
}

fn accuracy(scores: &[Vec<f32>], records: &[Record]) -> f64 {
    let right = scores
        .iter()
        .zip(records)
        .filter(|(scores, record)| record.target.class().is_some_and(|class| argmax(scores) == class as usize));
    right.count() as f64 / records.len().max(1) as f64
}
