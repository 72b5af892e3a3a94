//! Audits by attack on an over-fitted system: found before the deletion, equal to the oracle after it, and every planted leak caught.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_attack::interval::clopper_pearson;
use s3t_core::{Digest, NumericEnvironment, Record, RecordId, SubjectId, Target};
use s3t_engine::{CheckedPipeline, EngineError, Observer, Pipeline, Quiet, StageLabel, System};
use s3t_eval::EvalError;
use s3t_eval::attack::{AttackObserver, AttackSettings, MembershipAudit, Named, Phase, attack};
use s3t_eval::report::{LowFpr, ReferenceKind};
use s3t_executor::{ExecutorError, StageJob, StageProgress, Step, TrainedStage, Trainer};
use s3t_models::pictures::Preprocessing;
use s3t_testkit::{CLASSES, Planted, jsonl, tiny_config, toy_records};
use s3t_vit::{VitConfig, random_vit_tensors, write_vit};
use tempfile::TempDir;

const PIPELINE: &str = r#"
[model]
path = "model"

[data]
labels = ["class-0", "class-1", "class-2"]
train = { type = "jsonl", file = "train.jsonl", id = "id", subject = "subject", features = "x" }
test = { type = "jsonl", file = "test.jsonl", id = "id", features = "x" }

[partition]
type = "keyed-hash"
shards = 2
slices = 2

[sequences]
type = "cyclic"
budget = 2

[peft]
type = "lora"
rank = 8
targets = ["query", "value", "up", "down"]

[training]
epochs = EPOCHS
batch_size = 8
learning_rate = 0.003

[store]
path = "store"
secret = "from-seed"
"#;

/// Records whose labels are drawn: nothing can be learnt of them but by heart.
fn by_heart(count: u64, subjects: u64, seed: u64) -> Vec<Record> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut records = toy_records(count, subjects, seed);
    for record in &mut records {
        record.target = Target::Class(rng.random_range(0..CLASSES as u32));
    }
    records
}

fn folder(hidden: usize, epochs: usize, records: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = VitConfig { hidden_size: hidden, intermediate_size: 2 * hidden, ..tiny_config(4) };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let tensors = random_vit_tensors(&config, || 0.2 * rng.sample::<f32, _>(StandardNormal));
    let preprocessing = Preprocessing { image_mean: vec![0.5], image_std: vec![0.5], ..Preprocessing::default() };
    write_vit(&folder.path().join("model"), &config, &preprocessing, &tensors).unwrap();
    write(folder.path(), "pipeline.toml", &PIPELINE.replace("EPOCHS", &epochs.to_string()));
    write(folder.path(), "train.jsonl", &jsonl(&by_heart(records, records / 4, 3)));
    write(folder.path(), "test.jsonl", &jsonl(&by_heart(600, 0, 4)));
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn read(folder: &TempDir) -> Result<CheckedPipeline, EngineError> {
    Pipeline::read(&folder.path().join("pipeline.toml"))
}

fn audit(folder: &TempDir, settings: &AttackSettings) -> MembershipAudit {
    attack(&|| read(folder), None, &Named::default(), settings, &Quiet).unwrap()
}

#[test]
fn an_over_fitted_system_is_found_before_a_deletion_and_equals_its_oracle_after_it() {
    let folder = folder(64, 30, 100);
    let audit = audit(&folder, &AttackSettings::default());
    let strongest = &audit.attacks[0];
    let LowFpr::Measured(before) = &strongest.before.low_fpr[0] else { panic!("{:?}", strongest.before) };
    assert!(before.interval.low >= 5.0 * before.fpr, "{strongest}");
    assert!(strongest.power.found && audit.has_power());
    assert!(audit.first_line.ends_with("after it every score equals the oracle's."), "{}", audit.first_line);
    assert!(audit.passed() && audit.oracle.equal() && audit.oracle.stages > 0, "{:?}", audit.oracle);
    for report in &audit.attacks {
        let comparison = report.comparison.unwrap();
        assert!(comparison.equal);
        assert_eq!((comparison.priv_leak, comparison.forget_quality.p_value), (Some(0.0), 1.0));
        assert_eq!(Some(&report.after), report.oracle.as_ref());
    }
    // Stages that are kept are found by the attack in almost all samples. A later head says hardly anything about members without the
    // adapters that it was trained on; the oracle finds it.
    let [kept, head] = &strongest.planted[..] else { panic!("{strongest}") };
    assert!(kept.power.found && kept.detection > 0.95, "{} {strongest}", kept.detection);
    assert!(!kept.equals_oracle && !head.equals_oracle);
    // Labels are drawn: whoever sees no model can tell nothing.
    let blind = strongest.blind.as_ref().unwrap();
    assert!(blind.auc.interval.contains(0.5), "{:?}", blind.auc);
    assert!(strongest.references.iter().all(|of| of.kind != ReferenceKind::Trained && of.number > 0));
    let by_subject = audit.by_subject.as_ref().unwrap();
    assert!(by_subject.power.found && by_subject.comparison.unwrap().equal, "{by_subject}");
    // No store was made, and no copy is left.
    let left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("store") || name.starts_with(".attack"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_store_is_audited_without_a_change_and_references_may_be_trained() {
    let folder = folder(8, 2, 120);
    let live = System::open(read(&folder).unwrap()).unwrap();
    live.train(&Quiet).unwrap();
    live.delete(&[], &[SubjectId::new("subject-1").unwrap()]).unwrap();
    live.train(&Quiet).unwrap();
    let (snapshot, size) = (live.snapshot().unwrap(), live.store().entries().unwrap().len());
    let settings = AttackSettings { members: 20, references: 4, repair: true, seed: 3, ..AttackSettings::default() };
    let watched = Watched::default();
    let audit = attack(&|| read(&folder), Some(&live), &Named::default(), &settings, &watched).unwrap();
    assert_eq!(audit.copy_equal, Some(true));
    assert!(audit.passed(), "{:?}", audit.oracle);
    // All stages of both systems, repaired and trained anew.
    assert_eq!(audit.oracle.stages, live.snapshot().unwrap().plan().stages().len() as u64);
    let titles: Vec<String> = audit.attacks.iter().map(|report| report.attack.title()).collect();
    for title in ["LiRA online", "LiRA offline", "RMIA offline"] {
        assert!(titles.iter().any(|found| found.starts_with(title)), "{titles:?}");
    }
    assert!(audit.attacks[0].epsilon.is_some());
    let trained = audit.attacks[0].references.iter().find(|of| of.kind == ReferenceKind::Trained);
    assert_eq!(trained.map(|of| of.number), Some(4));
    // A report of an attack without power says so at once.
    assert_eq!(audit.first_line.starts_with("NO POWER"), !audit.has_power(), "{}", audit.first_line);
    assert_eq!(live.snapshot().unwrap().stages(), snapshot.stages());
    assert_eq!(live.store().entries().unwrap().len(), size);
    let phases = watched.0.into_inner().unwrap();
    assert_eq!((phases.first(), phases.last()), (Some(&Phase::Copy), Some(&Phase::Scores)));
    assert!(phases.contains(&Phase::Reference { number: 4, of: 4 }));
}

#[derive(Default)]
struct Watched(Mutex<Vec<Phase>>);

impl Observer for Watched {
    fn step(&self, _stage: &StageLabel, _step: Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl AttackObserver for Watched {
    fn phase(&self, phase: Phase) {
        self.0.lock().unwrap().push(phase);
    }
}

#[test]
fn the_same_seed_draws_the_same_records_and_named_subjects_are_attacked() {
    let folder = folder(8, 1, 80);
    let settings = AttackSettings { members: 20, ..AttackSettings::default() };
    assert_eq!(audit(&folder, &settings), audit(&folder, &settings));
    let subjects = ["subject-1", "subject-2"].map(|subject| SubjectId::new(subject).unwrap());
    let named = Named { subjects: subjects.to_vec(), ..Named::default() };
    let audit = attack(&|| read(&folder), None, &named, &settings, &Quiet).unwrap();
    assert_eq!((audit.subjects, audit.slices), (2, audit.slices));
    let reported: Vec<&str> = audit.attacks[0].subjects.iter().map(|of| of.subject.as_str()).collect();
    assert!(reported.contains(&"subject-1") && reported.contains(&"subject-2"), "{reported:?}");
    let nobody = Named { subjects: vec![SubjectId::new("nobody").unwrap()], ..Named::default() };
    let error = attack(&|| read(&folder), None, &nobody, &settings, &Quiet).unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");
    // A record that is named goes alone, whoever else is its subject's.
    let records = ["record-1", "record-2"].map(|record| RecordId::new(record).unwrap());
    let named = Named { records: records.to_vec(), ..Named::default() };
    let audit = attack(&|| read(&folder), None, &named, &settings, &Quiet).unwrap();
    assert_eq!(audit.members, 2);
}

/// A trainer whose seed is one number more in every system: as if it came from a count of records.
struct Counting {
    honest: Arc<dyn Trainer>,
    seed: u64,
}

impl Trainer for Counting {
    fn environment(&self) -> NumericEnvironment {
        self.honest.environment()
    }

    fn train(&self, job: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        let mut other = job.clone();
        other.lineage.recipe.training["seed"] = self.seed.into();
        Ok(TrainedStage { key: job.key(), ..self.honest.train(&other, progress)? })
    }

    fn forget(&self, records: &[Digest]) {
        self.honest.forget(records);
    }

    fn forget_all(&self) {
        self.honest.forget_all();
    }
}

/// An audit of a system whose seeds come from a count.
fn counting(folder: &TempDir, settings: &AttackSettings) -> MembershipAudit {
    let systems = Cell::new(0);
    let leaky = || {
        let seed = systems.replace(systems.get() + 1);
        read(folder)?.change(|pipeline| {
            pipeline.executor = Planted::trainer(move |honest| Arc::new(Counting { honest, seed }) as Arc<dyn Trainer>);
        })
    };
    attack(&leaky, None, &Named::default(), settings, &Quiet).unwrap()
}

#[test]
fn planted_leaks_are_found_with_a_power_over_95_percent() {
    let folder = folder(8, 1, 24);
    let mut found = [0; 3];
    for seed in 0..45 {
        let settings = AttackSettings { members: 6, non_members: 20, population: 5, seed, ..AttackSettings::default() };
        let honest = audit(&folder, &settings);
        assert!(honest.passed(), "an alarm without a leak, seed {seed}: {:?}", honest.oracle);
        for (found, leak) in found.iter_mut().zip(&honest.attacks[0].planted) {
            *found += u64::from(leak.power.found || !leak.equals_oracle);
        }
        found[2] += u64::from(!counting(&folder, &settings).passed());
    }
    for (found, leak) in found.into_iter().zip(["stages kept", "a later head", "a seed from a count"]) {
        let power = clopper_pearson(found, 45, 0.80).unwrap();
        assert!(power.low > 0.95, "{leak}: {found} of 45");
    }
}

#[test]
fn a_seed_from_a_count_is_caught_by_the_oracle() {
    let folder = folder(8, 1, 80);
    let settings = AttackSettings { members: 20, ..AttackSettings::default() };
    let audit = counting(&folder, &settings);
    assert!(!audit.passed() && !audit.oracle.stages_equal && !audit.oracle.answers_equal);
    assert!(audit.first_line.starts_with("ANSWERS DIFFER"), "{}", audit.first_line);
    assert!(audit.oracle.difference.unwrap().contains("tensor"));
}

#[test]
fn what_cannot_be_attacked_is_refused() {
    let folder = folder(8, 1, 40);
    let settings = AttackSettings { members: 1, ..AttackSettings::default() };
    assert!(settings.problem().unwrap().1.starts_with("is 1"));
    let odd = AttackSettings { references: 3, ..AttackSettings::default() };
    assert_eq!(odd.problem().unwrap().0, "references");
    // One shard, one sequence of one slice: nothing is left to answer.
    let alone = || {
        read(&folder)?.change(|pipeline| {
            pipeline.shape = s3t_core::PartitionShape { shards: 1, slices: 1 };
            pipeline.budget = 1;
        })
    };
    let error = attack(&alone, None, &Named::default(), &AttackSettings::default(), &Quiet).unwrap_err();
    assert!(matches!(error, EvalError::NothingLeft), "{error}");
}
