//! Makes docs/reproduction/training.md: slice-wise training against ordinary fine-tuning, method by method, and accuracy
//! against the number of deletions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t::core::aggregate::{MeanLogits, argmax};
use s3t::core::tensors::StageTensors;
use s3t::core::{Aggregator, Availability, Sequence, Serving, SliceAddress, StageKey, StoreSecret, Target};
use s3t::engine::in_batches;
use s3t::eval::{Baseline, Metric};
use s3t::executor::Silent;
use s3t::plot::{Axis, Chart, Format, Series};
use s3t::prelude::*;
use s3t::train::StageModel;
use serde_json::json;
use xtask_figures::{Outcome, section, table};

/// Makes docs/reproduction/training.md and its pictures.
#[derive(Args)]
pub struct ReproduceTraining {
    /// The folder that the page is written to.
    #[arg(long, default_value = "docs/reproduction")]
    out: PathBuf,
    /// Runs of each setting, with other partitions and other random numbers.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Systems trained side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Leave out the part on texts, which needs `cargo xtask fetch minilm` and `fetch sentiment`.
    #[arg(long)]
    no_texts: bool,
}

/// Everything about one setting but the seed.
struct Setting {
    name: &'static str,
    method: serde_json::Value,
    training: TrainingConfig,
}

/// The result of one run of a setting.
struct Run {
    /// Accuracy at each prefix depth, the first first.
    depths: Vec<f64>,
    /// Accuracy of ordinary fine-tuning.
    ordinary: f64,
}

impl ReproduceTraining {
    pub fn run(&self) -> Outcome {
        fs::create_dir_all(self.out.join("figures"))?;
        let mut page = String::from(INTRODUCTION);
        if !self.no_texts {
            page.push_str(&self.texts()?);
        }
        page.push_str(&self.methods()?);
        page.push_str(&self.deletions()?);
        page.push_str(NOT_REPRODUCED);
        fs::write(self.out.join("training.md"), page)?;
        println!("written: {}", self.out.join("training.md").display());
        Ok(())
    }

    fn texts(&self) -> Outcome<String> {
        let data = Data::sentiment()?;
        let training = TrainingConfig {
            epochs: 3,
            batch_size: 8,
            learning_rate: 1e-3,
            weight_decay: 0.0,
            ..TrainingConfig::default()
        };
        let setting =
            Setting { name: "rslora", method: json!({"type": "rslora", "rank": 16, "alpha": 32.0}), training };
        let found = self.compare(&data, std::slice::from_ref(&setting))?;
        let majority = share_of_largest_class(&data.test);
        Ok(section(
            "MiniLM on sentiment: each prefix depth against ordinary LoRA",
            &format!(
                "2,000 training texts of at most 64 tokens, 3,000 held out, 3 classes, {:.1} % of the held-out texts in the \
                 largest. One shard, one sequence, three slices of two blocks, LoRA of rank 16 with the scale of rsLoRA on \
                 query and value, 3 epochs a stage, batches of 8, learning rate 1e-3; ordinary LoRA in all blocks for as \
                 many passes over each text. Mean and standard deviation over {} runs, with other partitions and other \
                 random numbers.",
                100.0 * majority,
                self.seeds
            ),
            &found,
        ))
    }

    fn methods(&self) -> Outcome<String> {
        let mut data = Data::fashion()?;
        // A third of the images: seven methods are trained three times, and as often in all blocks.
        data.train.retain(|record| record.ordinal.is_multiple_of(3));
        let setting = |name, method, learning_rate| Setting {
            name,
            method,
            training: TrainingConfig { epochs: 5, batch_size: 16, learning_rate, ..TrainingConfig::default() },
        };
        let sites = ["query", "value", "up", "down"];
        let low_rank = |name: &str| json!({"type": name, "rank": 8, "alpha": 16.0, "targets": sites});
        let settings = [
            setting("lora", low_rank("lora"), 6e-3),
            setting("rslora", low_rank("rslora"), 3e-3),
            setting("dora", low_rank("dora"), 6e-3),
            setting("ia3", json!({"type": "ia3", "targets": ["key", "value"], "feed_forward": ["down"]}), 3e-2),
            setting("bottleneck", json!({"type": "bottleneck", "size": 16}), 6e-3),
            setting("prefix", json!({"type": "prefix", "length": 8}), 3e-2),
            setting("prompt", json!({"type": "prompt", "length": 8}), 3e-2),
        ];
        Ok(section(
            "Each PEFT method on images",
            &format!(
                "{} of the quickstart's Fashion-MNIST images and its ViT of six blocks, pre-trained on digits; 1,000 images \
                 held out. One shard, one sequence, three slices of two blocks, 5 epochs a stage, batches of 16. Learning \
                 rates were set once and not searched. Mean and standard deviation over {} runs.",
                data.train.len(),
                self.seeds
            ),
            &self.compare(&data, &settings)?,
        ))
    }

    /// A table with a row a setting.
    fn compare(&self, data: &Data, settings: &[Setting]) -> Outcome<String> {
        let items: Vec<(usize, u64)> =
            (0..settings.len()).flat_map(|setting| (0..self.seeds).map(move |seed| (setting, seed))).collect();
        let runs = s3t::engine::parallel(self.jobs, &items, |(setting, seed)| {
            let setting = &settings[*setting];
            // An error of a run is a mistake here or in the data: it is told with the run's name.
            let run = data.run(setting, *seed).unwrap_or_else(|error| panic!("{} {seed}: {error}", setting.name));
            println!("{}, run {seed}: {:.3?}, ordinary {:.3}", setting.name, run.depths, run.ordinary);
            Ok(run)
        })?;
        let mut of_setting: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
        for ((setting, _), run) in items.into_iter().zip(runs) {
            of_setting.entry(setting).or_default().push(run);
        }
        let mut rows = Vec::new();
        for (setting, runs) in of_setting {
            let depths = runs[0].depths.len();
            let mut row = vec![format!("`{}`", settings[setting].name)];
            row.extend((0..depths).map(|depth| spread(runs.iter().map(|run| run.depths[depth]))));
            row.push(spread(runs.iter().map(|run| run.ordinary)));
            row.push(spread(runs.iter().map(|run| run.depths[depths - 1] - run.ordinary)));
            rows.push(row);
        }
        Ok(table(&["method", "depth 1", "depth 2", "depth 3", "ordinary", "depth 3 - ordinary"], &rows))
    }

    /// Accuracy against the number of deletions, for SISA and for budgets up to the number of slices.
    fn deletions(&self) -> Outcome<String> {
        const SHARDS: u32 = 4;
        const SLICES: u32 = 3;
        const STREAMS: u64 = 500;
        let data = Data::fashion()?;
        let folder = tempfile::tempdir()?;
        let setting = Setting {
            name: "lora",
            method: json!({"type": "lora", "rank": 8, "alpha": 16.0, "targets": ["query", "value", "up", "down"]}),
            training: TrainingConfig { epochs: 5, learning_rate: 6e-3, ..TrainingConfig::default() },
        };
        let mut pipeline = data.pipeline(&setting, &folder.path().join("store"), 0)?;
        pipeline.shape = PartitionShape { shards: SHARDS, slices: SLICES };
        pipeline.budget = SLICES as usize;
        pipeline.resources.jobs = self.jobs;
        let system = System::create(pipeline, &data.train, Some(StoreSecret::from_bytes([0; 32])))?;
        system.train(&Quiet)?;
        // What every shard answers at every depth of every sequence: any state of the system is one of these a shard.
        let snapshot = system.snapshot()?;
        let shards = snapshot.plan().shards();
        let mut answers: BTreeMap<(usize, usize, usize), Vec<Vec<f32>>> = BTreeMap::new();
        for (shard, planned) in shards.iter().enumerate() {
            for (sequence, of_sequence) in planned.sequences.iter().enumerate() {
                for depth in 1..=of_sequence.keys.len() {
                    let rows = outputs(&system, &of_sequence.keys[..depth], &data.test, self.jobs)?;
                    answers.insert((shard, sequence, depth), rows);
                }
            }
        }
        let sequences: Vec<Vec<Sequence>> = system.store().settings().sequences.clone();
        let most = 40;
        let mut series = Vec::new();
        let mut rows: Vec<Vec<String>> =
            [0, 5, 10, 15, 20, 25, 30].iter().map(|r: &usize| vec![r.to_string()]).collect();
        for budget in 1..=SLICES as usize {
            let cut: Vec<Vec<Sequence>> = sequences.iter().map(|all| all[..budget].to_vec()).collect();
            let mut sums = vec![0.0; most + 1];
            let mut remembered: BTreeMap<Vec<Option<(usize, usize)>>, f64> = BTreeMap::new();
            for stream in 0..STREAMS {
                let mut rng = ChaCha8Rng::seed_from_u64(stream);
                let mut state = Availability::full(cut.iter().map(Vec::as_slice));
                for sum in &mut sums {
                    let serving: Vec<Option<Serving>> =
                        (0..SHARDS).map(|shard| state.serving(ShardId(shard))).collect();
                    let key: Vec<_> = serving
                        .iter()
                        .map(|serving| serving.map(|serving| (serving.sequence, serving.depth)))
                        .collect();
                    *sum += *remembered.entry(key).or_insert_with(|| accuracy(&answers, &serving, &data.test));
                    state.hit(SliceAddress::new(rng.random_range(0..SHARDS), rng.random_range(0..SLICES)));
                }
            }
            let means: Vec<f64> = sums.iter().map(|sum| 100.0 * sum / STREAMS as f64).collect();
            rows.iter_mut().for_each(|row| {
                let requests: usize = row[0].parse().unwrap_or(0);
                row.push(format!("{:.1}", means[requests]));
            });
            let name = if budget == 1 { "SISA (B = 1)".to_owned() } else { format!("S3T, B = {budget}") };
            series.push(Series::line(name, means.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect()));
        }
        let chart = Chart {
            title: "Accuracy after deletions, m = 4, L = 3".into(),
            x: Axis::linear("deletion requests"),
            y: Axis::linear("accuracy, %"),
            series,
        };
        fs::write(self.out.join("figures/accuracy-deletions.svg"), chart.draw(Format::Svg)?)?;
        Ok(section(
            "Accuracy against the number of deletions",
            &format!(
                "The shape of the paper's Figures 5, 6 and 12: four shards of three slices, trained once with three cyclic \
                 sequences; B = 1 is SISA with the same slice-wise models. Requests hit slices uniformly, nothing is \
                 repaired, the live shards' logits are averaged, and a system whose shards are all dead answers by chance. \
                 Means of {STREAMS} streams; all 6,000 images, `lora` with the quickstart's recipe."
            ),
            &format!(
                "![Accuracy after deletions](figures/accuracy-deletions.svg)\n\n{}",
                table(&["requests", "SISA (B = 1), %", "B = 2, %", "B = 3, %"], &rows)
            ),
        ))
    }
}

/// Records and the model for them.
struct Data {
    model: PathBuf,
    max_tokens: Option<usize>,
    labels: Labels,
    train: Vec<Record>,
    test: Vec<Record>,
}

impl Data {
    fn sentiment() -> Outcome<Self> {
        let labels = Labels::new(["negative", "neutral", "positive"].map(str::to_owned).to_vec())?;
        let read = |file: &str| -> Outcome<Vec<Record>> {
            let source = CsvSource {
                file: file.into(),
                label: "label".into(),
                id: Some("id".into()),
                subject: None,
                text: Some("text".into()),
                text_pair: None,
                template: None,
                features: None,
            };
            Ok(Source::Csv(source).read(Path::new("data/fetched/sentiment"), &Targets::classes(&labels))?)
        };
        let (train, test) = (read("train.csv")?, read("test.csv")?);
        Ok(Self { model: "data/fetched/minilm".into(), max_tokens: Some(64), labels, train, test })
    }

    fn fashion() -> Outcome<Self> {
        let labels = Labels::new((0..10).map(|class| format!("class {class}")).collect())?;
        let read = |part: &str| -> Outcome<Vec<Record>> {
            let source = IdxSource {
                images: format!("{part}-images-idx3-ubyte.gz").into(),
                labels: format!("{part}-labels-idx1-ubyte.gz").into(),
                subjects: None,
                id_prefix: format!("{part}-"),
            };
            Ok(Source::Idx(source).read(Path::new("data/fashion-mnist-small"), &Targets::classes(&labels))?)
        };
        let (train, test) = (read("train")?, read("test")?);
        Ok(Self { model: "data/vit-mnist".into(), max_tokens: None, labels, train, test })
    }

    /// One shard, one sequence, three slices.
    fn pipeline(&self, setting: &Setting, store: &Path, seed: u64) -> Outcome<Pipeline> {
        let mut pipeline = Pipeline::new(&self.model, store, self.labels.clone(), Lora::default());
        pipeline.peft = serde_json::from_value(setting.method.clone())?;
        pipeline.max_tokens = self.max_tokens;
        pipeline.shape = PartitionShape { shards: 1, slices: 3 };
        pipeline.budget = 1;
        pipeline.training = TrainingConfig { seed, ..setting.training.clone() };
        pipeline.resources.jobs = 1;
        pipeline.resources.activation_memory_mb = 2048;
        Ok(pipeline)
    }

    fn run(&self, setting: &Setting, seed: u64) -> Outcome<Run> {
        let folder = tempfile::tempdir()?;
        let pipeline = self.pipeline(setting, &folder.path().join("store"), seed)?;
        let secret = Some(StoreSecret::from_bytes([seed as u8; 32]));
        let system = System::create(pipeline, &self.train, secret)?;
        system.train(&Quiet)?;
        let keys = system.snapshot()?.plan().shards()[0].sequences[0].keys.clone();
        let score = |depth: usize| -> Outcome<f64> {
            let rows = outputs(&system, &keys[..depth], &self.test, 1)?;
            Ok(Metric::Accuracy
                .score(rows.iter().map(Vec::as_slice).zip(self.test.iter().map(|record| &record.target))))
        };
        let depths = (1..=keys.len()).map(score).collect::<Outcome<_>>()?;
        let ordinary = Baseline::new(&system)?.train(&Silent)?.score(&self.test)?;
        Ok(Run { depths, ordinary })
    }
}

/// The outputs of a chain of stages.
fn outputs(system: &System, chain: &[StageKey], records: &[Record], jobs: usize) -> Outcome<Vec<Vec<f32>>> {
    let stages = chain.iter().map(|key| system.store().stage(key)).collect::<Result<Vec<_>, _>>()?;
    let tensors: Vec<&StageTensors> = stages.iter().map(|(_, tensors)| tensors).collect();
    let (lineage, _) = stages.last().ok_or("an empty chain")?;
    let backbone = &**system.backbone();
    let model = StageModel::new(backbone, system.device(), lineage, &tensors)?;
    let inputs = records.iter().map(|record| backbone.prepare(record)).collect::<Result<Vec<_>, _>>()?;
    Ok(in_batches(jobs, &inputs, |batch| model.outputs(backbone, batch))?)
}

/// The accuracy of the live shards' averaged logits; chance, by the number of outputs, if none is live.
fn accuracy(
    answers: &BTreeMap<(usize, usize, usize), Vec<Vec<f32>>>,
    serving: &[Option<Serving>],
    records: &[Record],
) -> f64 {
    let live: Vec<&Vec<Vec<f32>>> = serving
        .iter()
        .enumerate()
        .filter_map(|(shard, serving)| serving.map(|serving| &answers[&(shard, serving.sequence, serving.depth)]))
        .collect();
    if live.is_empty() {
        return answers.values().next().map_or(0.0, |rows| 1.0 / rows[0].len() as f64);
    }
    let right = records.iter().enumerate().filter(|(row, record)| {
        let members: Vec<&[f32]> = live.iter().map(|rows| rows[*row].as_slice()).collect();
        Some(argmax(&MeanLogits {}.combine(&members)) as u32) == record.target.class()
    });
    right.count() as f64 / records.len() as f64
}

fn share_of_largest_class(records: &[Record]) -> f64 {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for record in records {
        if let Target::Class(class) = record.target {
            *counts.entry(class).or_default() += 1;
        }
    }
    counts.into_values().max().unwrap_or(0) as f64 / records.len().max(1) as f64
}

/// Mean and standard deviation, in percent.
pub fn spread(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.map(|value| 100.0 * value).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let mut text = String::new();
    let _ = write!(text, "{mean:.1}");
    if values.len() > 1 {
        let _ = write!(text, " ± {:.1}", (squares / (values.len() - 1) as f64).sqrt());
    }
    text
}

const INTRODUCTION: &str = "# Training: slice-wise against ordinary fine-tuning

Made by `cargo xtask reproduce-training` on a machine with 2 processor cores (AMD EPYC, AVX2 and AVX-512), in single precision
on the processor. The accuracies are of held-out records and in percent. *Depth k* is a shard cut back to its first k stages, with
the head of stage k: what it serves with when the slice at position k + 1 of its sequence is hit. *Ordinary* is one adapter in
all blocks, trained on all records at once for as many passes over each record as a whole sequence takes.
";

const NOT_REPRODUCED: &str = "
## What cannot be reproduced here

The paper's own accuracies (its Figures 4, 5, 10 to 14 and its tables on vision, GLUE and instructions) are on CIFAR-10/100,
TinyImageNet, GLUE and Alpaca with ViT-Base and -Large, RoBERTa-Large and Llama 2 and 3. None of these data sets and weights
comes with the registries that this project builds from, so their figures are not here. The models load (they are compared
with `transformers` on small ones of the same types), and a pipeline file for each recipe differs from the examples in
these lines:

| data | `model.path` | `partition.slices` | `sequences.blocks_per_slice` | `[peft]` | `training.learning_rate` | `training.epochs` |
|---|---|---|---|---|---|---|
| CIFAR-10/100 | ViT-Base | 6 | 2 | `lora`, rank 16, alpha 32 | 2e-3 | 15 |
| TinyImageNet | ViT-Large | 6 | 4 | `lora`, rank 16, alpha 32 | 2e-3 | 15 |
| GLUE | RoBERTa-Large | 7 | 3 | `rslora`, rank 8 to 16, alpha 16 to 32 | 1e-5 to 4e-4 | 10 to 30 |
| Alpaca | Llama 2 7B | 4 | 8 | `lora`, rank 32, alpha 64, all linear layers | 2e-5 | 3 |
";
