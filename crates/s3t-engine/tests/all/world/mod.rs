//! Worlds to compare: the same pipeline over different records, each with a store of its own and the same secret.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use s3t_baseline_sequences::Random;
use s3t_core::aggregate::{DepthWeighted, MajorityVote, MeanLogits, MeanProbabilities, StageRouted, TrimmedMean};
use s3t_core::digest::DigestBuilder;
use s3t_core::members::{AllLive, Covering, Deepest};
use s3t_core::partition::{Contiguous, KeyedHash};
use s3t_core::sequence::{Cyclic, Single};
use s3t_core::tensors::StageTensors;
use s3t_core::{PartitionShape, Payload, Record, RecordId, StageKey, StoreSecret, SubjectId};
use s3t_engine::{EngineError, Observer, Pipeline, PriorSource, StageLabel, System};
use s3t_executor::{Executor, ExecutorError, Local, Step};
use s3t_prior_sequences::Greedy;
use s3t_testkit::{tiny_pipeline, toy_records, write_tiny_model};
use tempfile::TempDir;

/// The case that a law is tried on.
#[derive(Debug, Clone)]
pub struct Case {
    pub shards: u32,
    pub slices: u32,
    pub budget: usize,
    pub extra_blocks: usize,
    pub order: Order,
    pub contiguous: bool,
    pub jobs: usize,
    pub seed: u64,
    pub encrypt: bool,
}

impl Case {
    /// Two shards of three slices in cyclic sequences.
    pub fn cyclic() -> Self {
        Self {
            shards: 2,
            slices: 3,
            budget: 3,
            extra_blocks: 0,
            order: Order::Cyclic,
            contiguous: false,
            jobs: 1,
            seed: 3,
            encrypt: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    Single,
    Cyclic,
    Random,
    /// The greedy strategy, with a prior from how likely each subject is to ask.
    Subjects,
}

/// Makes the executor of a world from all its records, to plant mistakes.
pub type Plant<'a> = dyn Fn(&[Record]) -> Box<dyn Executor> + 'a;

/// The executor without a mistake.
pub fn honest(_records: &[Record]) -> Box<dyn Executor> {
    Box::new(Local {})
}

pub struct World {
    folder: TempDir,
    case: Case,
    pub system: System,
}

impl World {
    pub fn new(case: &Case, records: &[Record], plant: &Plant<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tiny_model(&folder.path().join("model"), case.slices as usize + case.extra_blocks).unwrap();
        let mut pipeline = pipeline(case, folder.path());
        pipeline.executor = plant(records);
        let secret = StoreSecret::from_bytes([case.seed as u8; 32]);
        let system = System::create(pipeline, records, Some(secret)).unwrap();
        Self { folder, case: case.clone(), system }
    }

    pub fn trained(case: &Case, records: &[Record], plant: &Plant<'_>) -> Result<Self, EngineError> {
        let world = Self::new(case, records, plant);
        world.system.train(&s3t_engine::Quiet)?;
        Ok(world)
    }

    /// Drops the system and opens its store again, as after a crash.
    pub fn reopened(self) -> Self {
        self.reopened_with(Box::new(Local {}))
    }

    /// The same with another executor.
    pub fn reopened_with(self, executor: Box<dyn Executor>) -> Self {
        let case = self.case.clone();
        let folder = self.close();
        let mut pipeline = pipeline(&case, folder.path());
        pipeline.executor = executor;
        let system = System::open(pipeline).unwrap();
        Self { folder, case, system }
    }

    /// Drops the system and keeps its folder.
    pub fn close(self) -> TempDir {
        self.folder
    }

    pub fn open(folder: TempDir, case: &Case) -> Self {
        let system = System::open(pipeline(case, folder.path())).unwrap();
        Self { folder, case: case.clone(), system }
    }

    /// Trains to the end with an interruption and a reopening after every `stages` stages.
    pub fn trained_in_pieces(case: &Case, records: &[Record], stages: usize) -> Self {
        let mut world = Self::new(case, records, &honest);
        loop {
            match world.system.train(&StopAfter(AtomicUsize::new(stages))) {
                Ok(_) => return world,
                Err(EngineError::Executor(ExecutorError::Cancelled(_))) => world = world.reopened(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The same store, as another process that only answers has it.
    pub fn open_read_only(&self) -> System {
        self.try_open_read_only().unwrap()
    }

    /// The same, of a store that may have been tampered with.
    pub fn try_open_read_only(&self) -> Result<System, EngineError> {
        System::open_read_only(pipeline(&self.case, self.folder.path()))
    }

    /// Everything that belongs to this world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The catalogue's name of a record, as its documentation says it is made.
    pub fn catalogue_id(&self, record: &RecordId) -> Vec<u8> {
        let mut digest = DigestBuilder::keyed(self.system.store().secret(), "catalogue record");
        digest.bytes(record.as_str().as_bytes()).finish().as_bytes()[..16].to_vec()
    }

    /// The catalogue's name of a subject.
    pub fn catalogue_subject(&self, subject: &SubjectId) -> Vec<u8> {
        let mut digest = DigestBuilder::keyed(self.system.store().secret(), "catalogue subject");
        digest.bytes(subject.as_str().as_bytes()).finish().as_bytes()[..16].to_vec()
    }

    /// All stages on disk.
    pub fn stages(&self) -> BTreeMap<StageKey, StageTensors> {
        let store = self.system.store();
        store.snapshot().unwrap().stages().iter().map(|key| (*key, store.stage(key).unwrap().1)).collect()
    }

    /// The bits of every score for some held-out records; `None` if nothing can answer.
    pub fn answers(&self) -> Option<Vec<Vec<u32>>> {
        match self.system.predict(&toy_records(70, 0, 999)) {
            Ok(predictions) => {
                Some(predictions.iter().map(|p| p.scores.iter().map(|score| score.to_bits()).collect()).collect())
            }
            Err(EngineError::NothingServes) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Stops once a number of stages, at least one, is finished: every piece makes progress.
struct StopAfter(AtomicUsize);

impl Observer for StopAfter {
    fn step(&self, _stage: &StageLabel, step: Step) -> ControlFlow<()> {
        if step.done < step.steps && self.0.load(Ordering::Relaxed) == 0 {
            return ControlFlow::Break(());
        }
        if step.done == step.steps {
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        }
        ControlFlow::Continue(())
    }
}

fn pipeline(case: &Case, folder: &Path) -> Pipeline {
    let mut pipeline = tiny_pipeline(&folder.join("model"), &folder.join("store"));
    pipeline.shape = PartitionShape { shards: case.shards, slices: case.slices };
    pipeline.budget = case.budget;
    pipeline.seed = case.seed;
    pipeline.resources.jobs = case.jobs;
    pipeline.encrypt = case.encrypt;
    pipeline.serving.members = match case.seed % 3 {
        0 => Box::new(Deepest {}),
        1 => Box::new(AllLive::default()),
        _ => Box::new(Covering {}),
    };
    pipeline.serving.aggregator = match case.seed / 3 % 6 {
        0 => Box::new(MeanLogits {}),
        1 => Box::new(MeanProbabilities::default()),
        2 => Box::new(MajorityVote {}),
        3 => Box::new(TrimmedMean::default()),
        4 => Box::new(DepthWeighted::default()),
        _ => Box::new(StageRouted::default()),
    };
    pipeline.training.centroid = pipeline.serving.aggregator.is_routed();
    pipeline.strategy = match case.order {
        Order::Single => Box::new(Single {}),
        Order::Cyclic => Box::new(Cyclic {}),
        Order::Random => Box::new(Random {}),
        Order::Subjects => Box::new(Greedy::default()),
    };
    if case.order == Order::Subjects {
        // Whether their records are there or not.
        let subject =
            |index: u32| (SubjectId::new(format!("subject-{index}")).unwrap(), f64::from(index * index % 11) / 11.0);
        pipeline.prior = PriorSource::Subjects((1..20).map(subject).collect());
    }
    pipeline.partitioner =
        if case.contiguous { Box::new(Contiguous { capacity: Some(40) }) } else { Box::new(KeyedHash {}) };
    pipeline
}

/// The same record with other content.
pub fn garbage(record: &Record) -> Record {
    Record {
        payload: Payload::Features(vec![7.5; s3t_testkit::FEATURES]),
        target: s3t_core::Target::Class(0),
        ..record.clone()
    }
}

/// Every stage of `part` is in `whole` with the same bits.
pub fn check_subset(
    part: &BTreeMap<StageKey, StageTensors>,
    whole: &BTreeMap<StageKey, StageTensors>,
) -> Result<(), String> {
    for (key, tensors) in part {
        let other = whole.get(key).ok_or_else(|| format!("stage {key} survives, but is not in the world without"))?;
        if let Some(difference) = tensors.first_difference(other) {
            return Err(format!("stage {key}: {difference}"));
        }
    }
    Ok(())
}
