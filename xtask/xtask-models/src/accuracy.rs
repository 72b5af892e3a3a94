//! Makes the tables of docs/reproduction/accuracy.md: the accuracy of ensembles by who answers and how the answers are combined, before
//! and after deletions, beside ordinary fine-tuning.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t::core::aggregate::argmax;
use s3t::core::members::members_of_prefixes;
use s3t::core::registry::plugin_from_json;
use s3t::core::{Aggregator, Availability, MemberInfo, Members, PluginKind, Serving, SliceAddress, SliceId};
use s3t::prelude::*;
use serde_json::{Map, Value, json};
use xtask_figures::{Outcome, section, table, with_section};

use crate::answers::Answers;
use crate::training::spread;

/// Makes the sections of examples in docs/reproduction/accuracy.md; the rest of the page stays as it is.
#[derive(Args)]
pub struct ReproduceAccuracy {
    /// The folder of the page.
    #[arg(long, default_value = "docs/reproduction")]
    out: PathBuf,
    /// Runs of each example, with other partitions and other random numbers.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Systems trained side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// The folder in which the answers of trained systems are kept; a run whose answers are there is not trained again.
    #[arg(long, default_value = "target/accuracy")]
    answers: PathBuf,
    /// The examples: `quickstart`, `sentiment-minilm` (after `cargo xtask fetch minilm` and `fetch sentiment`), `instructions-llama`.
    #[arg(long, value_delimiter = ',', default_value = "quickstart,sentiment-minilm,instructions-llama")]
    examples: Vec<String>,
    /// Settings in place of those of the examples, as JSON of a pipeline: `{"training": {"batch_size": 16}}`.
    #[arg(long, value_parser = settings, default_value = "{}")]
    change: Change,
}

/// Settings in place of those of a pipeline file.
// Read by a function that is named where it is an argument: clap would make a value of JSON from the text as it is.
type Change = Map<String, Value>;

fn settings(text: &str) -> Result<Change, serde_json::Error> {
    serde_json::from_str(text)
}

/// Puts the settings of `change` into those of `pipeline`, section by section.
fn put(pipeline: &mut Map<String, Value>, change: &Change) {
    for (name, value) in change {
        match (pipeline.get_mut(name), value) {
            (Some(Value::Object(section)), Value::Object(change)) => put(section, change),
            _ => drop(pipeline.insert(name.clone(), value.clone())),
        }
    }
}

/// Numbers of deletions after which the accuracy is measured.
const DELETIONS: [usize; 3] = [0, 1, 5];

/// Numbers of deletions of the table by the number of sequences.
const MANY_DELETIONS: [usize; 7] = [0, 1, 2, 5, 10, 20, 30];

/// Random streams of deletions of each run.
const STREAMS: u64 = 200;

/// The members and the aggregator of a row of a table.
struct Choice {
    names: [String; 2],
    members: Box<dyn Members>,
    aggregator: Box<dyn Aggregator>,
}

/// The mean accuracy and number of members after each number of deletions.
type Measured = Vec<(f64, f64)>;

impl ReproduceAccuracy {
    pub fn run(&self) -> Outcome {
        fs::create_dir_all(&self.answers)?;
        let path = self.out.join("accuracy.md");
        let replaced = |example: &str, section: &str| -> Outcome<String> {
            let page = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let missing = || format!("{}: no section `## {example}`; write its heading first", path.display());
            Ok(with_section(&page, example, section).ok_or_else(missing)?)
        };
        // Training takes long: a page without a place for it is refused before.
        for example in &self.examples {
            replaced(example, "")?;
        }
        for example in &self.examples {
            // Written for each example, so that one that fails loses none of those before.
            let section = self.example(example)?;
            fs::write(&path, replaced(example, &section)?)?;
            println!("written: {example} in {}", path.display());
        }
        Ok(())
    }

    fn example(&self, name: &str) -> Outcome<String> {
        let seeds: Vec<u64> = (0..self.seeds).collect();
        let runs = s3t::engine::parallel(self.jobs, &seeds, |seed| {
            // An error of a run is a mistake here or in the data: it is told with the run's name.
            let answers = self.answers(name, *seed).unwrap_or_else(|error| panic!("{name} {seed}: {error}"));
            println!("{name}, seed {seed}: ordinary {:.3}", answers.ordinary);
            Ok(answers)
        })?;
        let mut rows = vec![];
        let mut first: Option<Vec<f64>> = None;
        for choice in choices()? {
            let measure = |run: &Answers| measure(run, &choice, usize::MAX, &DELETIONS);
            let measured = runs.iter().map(measure).collect::<Outcome<Vec<Measured>>>()?;
            let mean =
                |of: &dyn Fn(&Measured) -> f64| measured.iter().map(of).sum::<f64>() / measured.len().max(1) as f64;
            let means: Vec<f64> = (0..DELETIONS.len()).map(|at| 100.0 * mean(&|run| run[at].0)).collect();
            let paper = first.get_or_insert_with(|| means.clone());
            let mut row = choice.names.to_vec();
            row.extend((0..DELETIONS.len()).map(|at| {
                let difference = means[at] - paper[at];
                format!("{} ({difference:+.1})", spread(measured.iter().map(|run| run[at].0)))
            }));
            row.extend((0..DELETIONS.len()).map(|at| format!("{:.1}", mean(&|run| run[at].1))));
            rows.push(row);
        }
        let ordinary = spread(runs.iter().map(|run| run.ordinary));
        let depths: Vec<String> = (0..runs[0].orders[0][0].len())
            .map(|depth| spread(runs.iter().map(|answers| answers.of_depth(depth))))
            .collect();
        let merged: Option<Vec<f64>> = runs.iter().map(Answers::of_merged).collect();
        let merged = merged.map_or(String::new(), |of_runs| {
            format!(" The sequences of each shard merged into one model: {} %.", spread(of_runs.into_iter()))
        });
        let text = format!(
            "Ordinary fine-tuning: {ordinary} %. A single prefix of depth 1, 2, ...: {} %.{merged} Over {} seeds, {} questions. In \
             brackets the difference to the first row, which is the paper's choice.",
            depths.join(", "),
            self.seeds,
            runs[0].right.len()
        );
        let header = ["members", "aggregator", "0 deletions", "1", "5", "members at 0", "at 1", "at 5"];
        let body = format!("{}\n{}\n{}", table(&header, &rows), by_budget(&runs)?, self.costs(name)?);
        Ok(section(name, &text, &body))
    }

    fn answers(&self, name: &str, seed: u64) -> Outcome<Answers> {
        let folder = tempfile::tempdir()?;
        let mut pipeline = self.pipeline(name, folder.path())?;
        (pipeline.seed, pipeline.training.seed) = (seed, seed);
        pipeline.resources.jobs = 1;
        let mut changed = serde_json::to_string(&self.change)?;
        changed.retain(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        Answers::of(pipeline, &self.answers.join(format!("{name}-{changed}-{seed}.json")))
    }

    /// The pipeline of an example, with its store in a folder.
    fn pipeline(&self, name: &str, folder: &Path) -> Outcome<Pipeline> {
        let path = PathBuf::from(format!("examples/{name}.toml"));
        let mut settings: Change = toml::from_str(&fs::read_to_string(&path)?)?;
        put(&mut settings, &self.change);
        let pipeline =
            Pipeline::parse(&toml::to_string(&settings)?, &path.display().to_string(), Path::new("examples"))?;
        let mut pipeline = pipeline.into_unchecked();
        pipeline.store = folder.join("store");
        Ok(pipeline)
    }

    /// The time of an answer by who answers, of systems that are trained for nothing but their number of members.
    fn costs(&self, name: &str) -> Outcome<String> {
        let folder = tempfile::tempdir()?;
        let mut pipeline = self.pipeline(name, folder.path())?;
        pipeline.training.epochs = 1;
        let pipeline = pipeline.check()?;
        let records: Vec<Record> = pipeline.read_train_data()?.into_iter().take(200).collect();
        let questions: Vec<Record> = pipeline.read_test_data()?.into_iter().take(QUESTIONS).collect();
        let secret = pipeline.secret.secret(pipeline.seed);
        System::create(pipeline, &records, secret)?.train(&Quiet)?;
        let mut rows = Vec::new();
        for table in member_tables() {
            let mut pipeline = self.pipeline(name, folder.path())?;
            pipeline.training.epochs = 1;
            pipeline.serving.members = plugin_from_json(PluginKind::Members, &table)?;
            let system = System::open(pipeline)?;
            let members = system.members()?.len();
            let ms = |count: usize| -> Outcome<String> {
                let mut least = f64::INFINITY;
                for _ in 0..REPEATS {
                    let start = Instant::now();
                    if system.pipeline().task == Task::CausalLm {
                        system.responses(&questions[..count])?;
                    } else {
                        system.predict(&questions[..count])?;
                    }
                    least = least.min(1e3 * start.elapsed().as_secs_f64());
                }
                Ok(format!("{least:.1}"))
            };
            rows.push(vec![plugin_name(&table), members.to_string(), ms(1)?, ms(QUESTIONS)?]);
        }
        Ok(table(&["members", "number", "1 record, ms", &format!("{QUESTIONS} records, ms")], &rows))
    }
}

/// Records that are answered together where time is measured.
const QUESTIONS: usize = 64;

/// Measurements of a time, of which the least counts.
const REPEATS: usize = 15;

fn member_tables() -> [Value; 5] {
    [
        json!({"type": "deepest"}),
        json!({"type": "covering"}),
        json!({"type": "all-live", "slack": 0}),
        json!({"type": "all-live", "slack": 1}),
        json!({"type": "all-live"}),
    ]
}

/// The name of a plugin with its fields.
fn plugin_name(table: &Value) -> String {
    let fields = table.as_object().into_iter().flatten().filter(|(key, _)| *key != "type");
    let fields: Vec<String> = fields.map(|(key, value)| format!(", {key} {value}")).collect();
    format!("{}{}", table["type"].as_str().unwrap_or_default(), fields.concat().replace('"', ""))
}

/// Every choice of members with every aggregator.
fn choices() -> Outcome<Vec<Choice>> {
    let aggregators = [
        json!({"type": "mean-logits"}),
        json!({"type": "mean-probabilities"}),
        json!({"type": "depth-weighted"}),
        json!({"type": "depth-weighted", "of": "probabilities"}),
        json!({"type": "trimmed-mean"}),
        json!({"type": "majority-vote"}),
    ];
    let mut choices = Vec::new();
    for members in &member_tables() {
        for aggregator in &aggregators {
            choices.push(Choice {
                names: [plugin_name(members), plugin_name(aggregator)],
                members: plugin_from_json(PluginKind::Members, members)?,
                aggregator: plugin_from_json(PluginKind::Aggregator, aggregator)?,
            });
        }
    }
    Ok(choices)
}

/// The accuracy after many deletions by the number of sequences that a shard has: one is SISA with the same stages.
fn by_budget(runs: &[Answers]) -> Outcome<String> {
    let choices =
        [(json!({"type": "deepest"}), "mean-logits"), (json!({"type": "all-live", "slack": 0}), "depth-weighted")];
    let mut rows = Vec::new();
    for budget in 1..=runs[0].orders[0].len() {
        for (members, aggregator) in &choices {
            let choice = Choice {
                names: [plugin_name(members), (*aggregator).to_owned()],
                members: plugin_from_json(PluginKind::Members, members)?,
                aggregator: plugin_from_json(PluginKind::Aggregator, &json!({"type": aggregator}))?,
            };
            let measure = |run: &Answers| measure(run, &choice, budget, &MANY_DELETIONS);
            let measured = runs.iter().map(measure).collect::<Outcome<Vec<Measured>>>()?;
            let sequences = if budget == 1 { "1, as SISA".to_owned() } else { budget.to_string() };
            let mut row = vec![sequences, choice.names.join(", ")];
            row.extend((0..MANY_DELETIONS.len()).map(|at| spread(measured.iter().map(|run| run[at].0))));
            rows.push(row);
        }
    }
    let deletions: Vec<String> = MANY_DELETIONS.map(|deletions| deletions.to_string()).to_vec();
    let names = ["sequences", "who answers, after deletions:"];
    let header: Vec<&str> = names.into_iter().chain(deletions.iter().map(String::as_str)).collect();
    Ok(table(&header, &rows))
}

/// The accuracy and number of members after each number of deletions, the mean over streams of requests that hit slices uniformly. Of
/// each shard's sequences the first `budget` are there.
fn measure(answers: &Answers, choice: &Choice, budget: usize, deletions: &[usize]) -> Outcome<Measured> {
    let (shards, slices) = (answers.orders.len() as u32, answers.orders[0][0].len() as u32);
    let mut sums = vec![(0.0, 0.0); deletions.len()];
    let mut remembered: BTreeMap<Vec<(usize, usize, usize)>, f64> = BTreeMap::new();
    for stream in 0..STREAMS {
        let mut rng = ChaCha8Rng::seed_from_u64(stream);
        let mut state = answers.whole()?;
        let mut requests = 0;
        for (sum, deletions) in sums.iter_mut().zip(deletions) {
            while requests < *deletions {
                state.hit(SliceAddress::new(rng.random_range(0..shards), rng.random_range(0..slices)));
                requests += 1;
            }
            let members = members(answers, &state, &*choice.members, budget);
            let key = members.iter().map(|(shard, of)| (*shard, of.sequence, of.depth)).collect();
            let found = remembered.entry(key).or_insert_with(|| accuracy(answers, &members, &*choice.aggregator));
            *sum = (sum.0 + *found / STREAMS as f64, sum.1 + members.len() as f64 / STREAMS as f64);
        }
    }
    Ok(sums)
}

/// The members of all shards, by the first `budget` sequences of each.
fn members(answers: &Answers, state: &Availability, members: &dyn Members, budget: usize) -> Vec<(usize, Serving)> {
    let of_shard = |(shard, orders): (usize, &Vec<Vec<u32>>)| {
        let depths = state.depths(ShardId(shard as u32));
        let live: Vec<Vec<SliceId>> = orders
            .iter()
            .zip(depths)
            .take(budget)
            .map(|(order, depth)| order[..*depth].iter().copied().map(SliceId).collect())
            .collect();
        let chosen = members_of_prefixes(members, live.iter().map(Vec::as_slice));
        chosen.into_iter().map(|serving| (shard, serving)).collect::<Vec<_>>()
    };
    answers.orders.iter().enumerate().flat_map(of_shard).collect()
}

/// The accuracy of these members; chance, by the number of outputs, if there are none.
fn accuracy(answers: &Answers, members: &[(usize, Serving)], aggregator: &dyn Aggregator) -> f64 {
    if members.is_empty() {
        return 1.0 / answers.outputs[0][0][0][0].len() as f64;
    }
    let of = |(shard, serving): &(usize, Serving)| &answers.outputs[*shard][serving.sequence][serving.depth - 1];
    let outputs: Vec<&Vec<Vec<f32>>> = members.iter().map(of).collect();
    let place = |(shard, serving): &(usize, Serving)| MemberInfo::new(ShardId(*shard as u32), serving.depth);
    let places: Vec<MemberInfo> = members.iter().map(place).collect();
    let right = answers.right.iter().enumerate().filter(|(row, right)| {
        let rows: Vec<&[f32]> = outputs.iter().map(|rows| rows[*row].as_slice()).collect();
        argmax(&aggregator.combine_placed(&rows, &places)) == **right
    });
    right.count() as f64 / answers.right.len() as f64
}
