//! A pipeline with its store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use s3t_backends::{Backbone, BackendError, Device, Input, OwnHead};
use s3t_core::cost::ModelShape;
use s3t_core::digest::DigestBuilder;
use s3t_core::placement::place_records;
use s3t_core::sequence::{check_steps, plan_sequences};
use s3t_core::spelling::{Spellings, beside, comparison_form};
use s3t_core::{
    Cut, LayerGroups, NumericEnvironment, Plan, PlannedStage, Prior, Recipe, Record, RecordId, Sequence,
    SequenceRequest, Serving, ShardId, SliceAddress, StageKey, StoreSecret, SubjectId, Task, lineage,
};
use s3t_ledger::{Event, Named, Receipt, ShardServes};
use s3t_peft::{NamedTensors, PeftError};
use s3t_store::{
    Accepted, DeletionRequest, Erasure, NewStore, PendingDeletion, RemainingExport, Snapshot, Store, StoreError,
    StoreSettings, random_secret,
};
use s3t_train::{StageBuilder, StageJob, StageModel, StageTrainer};
use serde::Serialize;

use crate::ensemble::{self, Answer, Member, Prediction};
use crate::jobs::{self, Observer, Stages, in_batches};
use crate::settings::{DeadShard, PriorSource};
use crate::{EngineError, Pipeline};

/// An unlearning system: trained, serving, deleting.
///
/// # Proof note
///
/// *Before*: the catalogue names the stages that may serve. *After* a deletion is acknowledged: no answer that starts uses a stage
/// whose lineage held a deleted record, in this process or another, and no answer mixes the time before with the time after.
/// *Why*: the deletion removes these stages from the catalogue in one transaction before it is acknowledged; every answer
/// takes a [`Snapshot`] of the catalogue first and uses the stages of that one only, from the first record to the last.
pub struct System {
    pipeline: Pipeline,
    device: Device,
    backbone: Arc<dyn Backbone>,
    builder: Arc<dyn StageBuilder>,
    environment: NumericEnvironment,
    store: Store,
    members: Mutex<Option<Served>>,
    /// The newest deletion whose records this process remembers nothing of.
    forgotten: AtomicU64,
    /// Texts that were cut when the system was made.
    cut: usize,
}

/// The shards that answer, and the snapshot they were taken from.
#[derive(Clone)]
struct Served {
    snapshot: Arc<Snapshot>,
    members: Arc<Vec<Arc<Member>>>,
    stages: Arc<[ShardServes]>,
}

impl Served {
    fn new(snapshot: Arc<Snapshot>, members: Vec<Arc<Member>>) -> Self {
        let serves = |member: &Arc<Member>| {
            let depth = member.serving.map_or(0, |serving| serving.depth);
            ShardServes { shard: member.shard, stage: member.key, depth }
        };
        let stages = members.iter().map(serves).collect();
        Self { snapshot, members: Arc::new(members), stages }
    }

    /// Itself, unless no shard can answer.
    fn that_answers(self) -> Result<Self, EngineError> {
        if self.members.is_empty() { Err(EngineError::NothingServes) } else { Ok(self) }
    }
}

/// A way to open a system.
enum Opening<'a> {
    New(NewSystem<'a>),
    /// Answers only.
    ToRead,
    /// Finishes what a crash left unfinished.
    ToChange,
    /// Accepts a deletion before anything else.
    ToAccept,
}

/// What a new system is made from besides its pipeline.
struct NewSystem<'a> {
    records: &'a [Record],
    /// Checked, not stored.
    held_out: &'a [Record],
    secret: Option<StoreSecret>,
    /// Whether a store that another process has made in the meantime is opened.
    or_open: bool,
}

/// What a build did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildReport {
    /// Stages of the plan.
    pub planned: usize,
    /// Stages that were there already.
    pub reused: usize,
    /// Stages that were trained.
    pub trained: usize,
}

/// A name whose records were deleted, and other spellings of it whose records were not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpellingsLeft {
    /// `record` or `subject`.
    pub kind: &'static str,
    /// The name, as the request has it.
    pub named: String,
    /// The other spellings.
    pub left: Vec<String>,
}

/// What a deletion did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deletion {
    /// The request's id.
    pub request: String,
    /// Whether the same request was made before: then nothing was done now.
    pub repeated: bool,
    /// The records that are gone.
    pub records: Vec<RecordId>,
    /// What was cut in each slice that was hit, and what the shard serves with now.
    pub cuts: Vec<Cut>,
    /// Stages whose files were removed.
    pub erased_stages: Vec<StageKey>,
    /// Slices whose files were written anew.
    pub rewritten_slices: Vec<SliceAddress>,
    /// Names whose other spellings are still there, in a store from before such ids were refused.
    pub other_spellings: Vec<SpellingsLeft>,
    /// Exported adapters of dead stages whose files were removed.
    #[serde(serialize_with = "as_texts")]
    pub removed_exports: Vec<PathBuf>,
    /// Exported adapters of dead stages that could not be removed, or whose folders hold other files.
    pub remaining_exports: Vec<RemainingExport>,
    /// How many deletions this store has seen, this one included.
    pub epoch: u64,
    /// Seconds until the deletion could no longer be lost.
    pub durable_seconds: f64,
    /// Seconds until no answer used a dead stage.
    pub effective_seconds: f64,
    /// Seconds until the bytes were gone from disk; `None` if they are not yet.
    pub erased_seconds: Option<f64>,
    /// Why the erasure is not finished; the deletion stands, and whatever command changes the store next finishes it.
    pub pending: Option<PendingErasure>,
    /// The proof of all this.
    #[serde(skip)]
    pub receipt: Receipt,
}

/// A path as text for people; what is not UTF-8 in it is replaced.
fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn as_texts<S: serde::Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

/// Why an erasure is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingErasure {
    /// The reason, and whoever is in the way.
    pub reason: String,
    /// Whether the disk failed; otherwise another process has the store in hand, or the store is damaged.
    pub disk_failed: bool,
}

impl From<StoreError> for PendingErasure {
    fn from(error: StoreError) -> Self {
        Self { reason: error.to_string(), disk_failed: matches!(error, StoreError::Io { .. }) }
    }
}

/// One shard as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardId,
    /// Its records.
    pub records: usize,
    /// What it serves with.
    pub serving: Option<Serving>,
    /// The usable depth of each sequence.
    pub depths: Vec<usize>,
    /// The number of requests with which somebody who picks slices could kill it.
    pub adversarial_budget: usize,
}

/// The system as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Where the store is.
    #[serde(serialize_with = "as_text")]
    pub store: PathBuf,
    /// Records that are there.
    pub records: u64,
    /// Subjects that are there.
    pub subjects: u64,
    /// Deletion requests seen.
    pub epoch: u64,
    /// Stages of the plan.
    pub planned_stages: usize,
    /// Stages of the plan that are on disk.
    pub built_stages: usize,
    /// Each shard.
    pub shards: Vec<ShardStatus>,
    /// Whether stages can be trained and compared here: the arithmetic is the store's.
    pub same_environment: bool,
    /// Deletions that are in effect and not erased yet.
    pub pending: Vec<PendingDeletion>,
    /// The process that has the store's files in hand, if any does.
    pub holder: Option<String>,
    /// Exported adapters of dead stages that are still there, or may be.
    pub remaining_exports: Vec<RemainingExport>,
}

impl System {
    /// Opens the pipeline's store, or makes it from the training data if it is not there.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model, the data or the store; nothing is written then.
    pub fn open(pipeline: Pipeline) -> Result<Self, EngineError> {
        if pipeline.store.exists() {
            return Self::assemble(pipeline, Opening::ToChange);
        }
        let records = pipeline.read_train_data()?;
        // What the system will be evaluated on is looked at too, before anything is written.
        let held_out = match &pipeline.test_data {
            Some(source) => pipeline.read_source(source)?,
            None => Vec::new(),
        };
        Self::make(pipeline, &records, &held_out, None, true)
    }

    /// Opens the pipeline's store to delete from it: unfinished erasures are left until a deletion was accepted.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`s3t_store::StoreError::NotAStore`] if there is none.
    pub fn open_to_delete(pipeline: Pipeline) -> Result<Self, EngineError> {
        Self::assemble(pipeline, Opening::ToAccept)
    }

    /// Deletes the pipeline's store, to make it anew from the source of its data: the number of deletions that it had accepted;
    /// `None` if there is no store. `consent` says that somebody knows that deleted records come back if they are still in the source.
    ///
    /// # Errors
    ///
    /// [`EngineError::Resurrection`] without consent, where a deletion was ever accepted or that cannot be told;
    /// [`EngineError::NotAStoreToDelete`]; whatever is wrong with the pipeline. Nothing is deleted then.
    pub fn start_afresh(pipeline: &Pipeline, consent: bool) -> Result<Option<u64>, EngineError> {
        if !pipeline.store.exists() && !pipeline.store.is_symlink() {
            return Ok(None);
        }
        let place = pipeline.place();
        if !place.is_store() && !pipeline.store.join("manifest.json").is_file() {
            return Err(EngineError::NotAStoreToDelete(pipeline.store.clone()));
        }
        let deletions = Store::open_read_only(&place).and_then(|store| Ok(store.snapshot()?.epoch()));
        let words = match &deletions {
            Ok(0) => None,
            Ok(1) => Some("1 deletion".to_owned()),
            Ok(number) => Some(format!("{number} deletions")),
            Err(error) => Some(format!("an unknown number of deletions ({error})")),
        };
        if let Some(deletions) = words.filter(|_| !consent) {
            return Err(EngineError::Resurrection { store: pipeline.store.clone(), deletions });
        }
        // Nothing is deleted for a pipeline that cannot be made.
        Preview::new(pipeline)?;
        Store::remove(&place)?;
        Ok(Some(deletions.unwrap_or_default()))
    }

    /// Opens the pipeline's store to answer only, beside processes that change it: what they delete is off at once here too.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`s3t_store::StoreError::NotAStore`] if there is none.
    pub fn open_read_only(pipeline: Pipeline) -> Result<Self, EngineError> {
        Self::assemble(pipeline, Opening::ToRead)
    }

    /// Makes the pipeline's store from these records. `secret` keys the partition; `None` takes the pipeline's choice.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model or the records, or if the store exists; nothing is written then.
    pub fn create(pipeline: Pipeline, records: &[Record], secret: Option<StoreSecret>) -> Result<Self, EngineError> {
        Self::make(pipeline, records, &[], secret, false)
    }

    fn make(
        pipeline: Pipeline,
        records: &[Record],
        held_out: &[Record],
        secret: Option<StoreSecret>,
        or_open: bool,
    ) -> Result<Self, EngineError> {
        if records.is_empty() {
            return Err(EngineError::NoRecords("the training data is empty".into()));
        }
        let secret = secret.or_else(|| pipeline.secret.secret(pipeline.seed));
        Self::assemble(pipeline, Opening::New(NewSystem { records, held_out, secret, or_open }))
    }

    fn assemble(pipeline: Pipeline, opening: Opening<'_>) -> Result<Self, EngineError> {
        let read_only = matches!(opening, Opening::ToRead);
        let device = pipeline.device.open()?;
        let backbone = load(&pipeline, &device)?;
        let environment = pipeline.device.environment();
        let mut cut = 0;
        let store = match opening {
            Opening::New(NewSystem { records, held_out, secret, or_open }) => {
                let secret = secret.map_or_else(random_secret, Ok)?;
                let settings = settings(&pipeline, &*backbone, choose_sequences(&pipeline, &*backbone, &secret)?)?;
                cut = check_records(&pipeline, &*backbone, records.iter().chain(held_out))?;
                check_prior(&pipeline, records)?;
                let (partitioner, encrypt) = (&*pipeline.partitioner, pipeline.encrypt);
                let copies = pipeline.duplicates.groups(records);
                let new = NewStore { settings, partitioner, records, copies: &copies, secret, encrypt };
                match Store::create(&pipeline.place(), &new) {
                    Err(StoreError::Exists(_)) if or_open && pipeline.place().is_store() => {
                        opened(&pipeline, &*backbone, &Opening::ToChange)?
                    }
                    created => created?,
                }
            }
            opening => opened(&pipeline, &*backbone, &opening)?,
        };
        let crate::Resources { activation_memory_mb, activation_disk_mb, .. } = pipeline.resources;
        let trainer =
            StageTrainer::new(Arc::clone(&backbone), device.clone(), activation_memory_mb.saturating_mul(1 << 20));
        let on_disk = if read_only { 0 } else { (activation_disk_mb as u64).saturating_mul(1 << 20) };
        let builder = Arc::new(trainer.with_spill(store.path(), on_disk));
        let (members, forgotten) = (Mutex::default(), AtomicU64::new(store.snapshot()?.epoch()));
        Ok(Self { pipeline, device, backbone, builder, environment, store, members, forgotten, cut })
    }

    /// Replaces the trainer: for training elsewhere, and for tests that plant mistakes.
    #[must_use]
    pub fn with_builder(mut self, builder: Arc<dyn StageBuilder>) -> Self {
        self.builder = builder;
        self
    }

    /// The texts that `model.max_tokens` cut when the system was made, of training and held-out records; 0 for one that was
    /// opened.
    pub fn cut_when_made(&self) -> usize {
        self.cut
    }

    /// The texts among some records that `model.max_tokens` cuts.
    ///
    /// # Errors
    ///
    /// [`EngineError::Backend`] for a record that the model cannot take.
    pub fn cut(&self, records: &[Record]) -> Result<usize, EngineError> {
        if self.pipeline.max_tokens.is_none() {
            return Ok(0);
        }
        Ok(self.prepare(records)?.iter().filter(|input| input.cut > 0).count())
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The base model.
    pub fn backbone(&self) -> &Arc<dyn Backbone> {
        &self.backbone
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The probability that a request hits each slice, `[shard][slice]`; one entry stands for all shards.
    ///
    /// # Errors
    ///
    /// [`EngineError::Pipeline`] for a prior that is none.
    pub fn rates(&self) -> Result<Vec<Vec<f64>>, EngineError> {
        rates(&self.pipeline, self.store.secret())
    }

    /// What of the model and the PEFT method decides about costs.
    pub fn model_shape(&self) -> ModelShape {
        model_shape(&self.pipeline, &*self.backbone)
    }

    /// What trains stages.
    pub fn builder(&self) -> &Arc<dyn StageBuilder> {
        &self.builder
    }

    /// What the store holds now.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if the catalogue cannot be read.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
        Ok(self.store.snapshot()?)
    }

    /// Builds every missing stage. This is training, resuming and repair: they differ in what is missing only. Answers and
    /// deletions go on beside it; a stage that a deletion hits is dropped, and what is left is planned anew.
    ///
    /// # Errors
    ///
    /// [`EngineError::Environment`] on another arithmetic than the store's; [`s3t_store::StoreError::Building`] while another
    /// process builds; otherwise the first failure, or [`s3t_train::TrainError::Interrupted`] if the observer breaks. Finished
    /// stages are kept in either case.
    pub fn train(&self, observer: &dyn Observer) -> Result<BuildReport, EngineError> {
        self.check_environment()?;
        let _lock = self.store.lock_building()?;
        let mut trained = 0;
        let mut reused = None;
        loop {
            let snapshot = self.store.snapshot()?;
            self.forget_deleted(&snapshot);
            let missing = snapshot.missing();
            let reused = *reused.get_or_insert(snapshot.plan().stages().len() - missing.len());
            if missing.is_empty() {
                if snapshot.is_erasing() {
                    // Another process accepted a deletion: what is left is known when it is erased.
                    match self.store.erase() {
                        // The slices are written anew; only SQLite's log has to wait for whoever reads it.
                        Ok(_) | Err(StoreError::Reading { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                    continue;
                }
                let planned = snapshot.plan().stages().len();
                if trained > 0 && snapshot.epoch() > 0 {
                    self.store.note(Event::Repaired { epoch: snapshot.epoch(), stages: trained as u64 })?;
                } else {
                    self.store.publish_unless_held()?;
                }
                return Ok(BuildReport { planned, reused, trained });
            }
            observer.started(missing.len(), self.steps(&snapshot, &missing));
            let jobs = self.pipeline.resources.job_count();
            let stages = InStore(&self.store);
            trained += jobs::build(&self.store, &snapshot, &*self.builder, &stages, &missing, jobs, observer)?;
        }
    }

    /// What each shard answers with now.
    ///
    /// # Errors
    ///
    /// [`EngineError::NothingServes`] if no shard can answer; a stage that cannot be read.
    pub fn members(&self) -> Result<Arc<Vec<Arc<Member>>>, EngineError> {
        Ok(self.served()?.members)
    }

    fn served(&self) -> Result<Served, EngineError> {
        loop {
            let snapshot = self.store.snapshot()?;
            let mut served = self.members.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = &*served
                && (Arc::ptr_eq(&known.snapshot, &snapshot) || known.snapshot.epoch() > snapshot.epoch())
            {
                return known.clone().that_answers();
            }
            let old = served.as_ref().map(|served| Arc::clone(&served.members)).unwrap_or_default();
            match self.make_members(&snapshot, &old) {
                // Erased by another process since the snapshot was taken.
                Err(EngineError::Store(StoreError::MissingStage(key))) if !self.store.snapshot()?.has_stage(&key) => {}
                Err(error) => return Err(error),
                Ok(members) => {
                    return served.insert(Served::new(snapshot, members)).clone().that_answers();
                }
            }
        }
    }

    /// The members of a snapshot; those that have not changed are taken over.
    fn make_members(&self, snapshot: &Snapshot, old: &[Arc<Member>]) -> Result<Vec<Arc<Member>>, EngineError> {
        let availability = snapshot.availability();
        let mut members = Vec::new();
        for shard in snapshot.plan().shards() {
            let chain = availability.serving(shard.shard).map(|serving| (serving, chain(shard, serving)));
            let key = chain.as_ref().and_then(|(_, keys)| keys.last().copied());
            let same = old.iter().find(|member| {
                member.shard == shard.shard
                    && member.key == key
                    && member.serving == chain.as_ref().map(|(serving, _)| *serving)
            });
            match same {
                Some(member) => members.push(Arc::clone(member)),
                None => members.extend(self.member(shard.shard, chain)?.map(Arc::new)),
            }
        }
        Ok(members)
    }

    /// Answers for records.
    ///
    /// # Errors
    ///
    /// [`EngineError::Backend`] for a record that the model cannot take, or as [`members`](Self::members).
    pub fn predict(&self, records: &[Record]) -> Result<Vec<Prediction>, EngineError> {
        Ok(self.answer(records)?.predictions)
    }

    /// Answers for records, with the deletions they know of and the stages they came from, all of one snapshot.
    ///
    /// # Errors
    ///
    /// As [`predict`](Self::predict).
    pub fn answer(&self, records: &[Record]) -> Result<Answer, EngineError> {
        let Served { snapshot, members, stages } = self.served()?;
        Ok(Answer { epoch: snapshot.epoch(), stages, predictions: self.predict_with(&members, records)? })
    }

    /// Checks that the model can answer for these records, without answering.
    ///
    /// # Errors
    ///
    /// [`EngineError::Backend`] for the first record that the model cannot take.
    pub fn check_questions(&self, records: &[Record]) -> Result<(), EngineError> {
        self.prepare(records).map(drop)
    }

    /// Answers for records with these members, whatever is deleted in the meantime.
    ///
    /// # Errors
    ///
    /// [`EngineError::Backend`] for a record that the model cannot take.
    pub fn predict_with(&self, members: &[Arc<Member>], records: &[Record]) -> Result<Vec<Prediction>, EngineError> {
        let inputs = self.prepare(records)?;
        let aggregator = &*self.pipeline.serving.aggregator;
        let task = self.pipeline.task;
        self.in_batches(&inputs, |batch| ensemble::predict(&*self.backbone, members, aggregator, task, batch))
    }

    /// Prepares records for the model.
    pub(crate) fn prepare<'a>(&self, records: &'a [Record]) -> Result<Vec<Input<'a>>, EngineError> {
        Ok(records.iter().map(|record| self.backbone.prepare(record)).collect::<Result<_, _>>()?)
    }

    /// Answers for inputs batch by batch, side by side, in the order of the inputs.
    pub(crate) fn in_batches<T: Send>(
        &self,
        inputs: &[Input<'_>],
        answer: impl Fn(&[&Input<'_>]) -> Vec<T> + Sync,
    ) -> Result<Vec<T>, EngineError> {
        in_batches(self.pipeline.resources.job_count(), inputs, answer)
    }

    /// Deletes records and subjects: accepted, off in every answer, then erased from disk.
    ///
    /// # Errors
    ///
    /// As [`fulfil`](Self::fulfil).
    pub fn delete(&self, records: &[RecordId], subjects: &[SubjectId]) -> Result<Deletion, EngineError> {
        self.fulfil(&DeletionRequest { id: None, records: records.to_vec(), subjects: subjects.to_vec() })
    }

    /// Does what a request asks for: accepted, off in every answer, then erased from disk. Asking again under the same id does
    /// nothing twice.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] for an unknown record or subject: nothing is deleted then. [`EngineError::Unfinished`] if the receipt
    /// cannot be made after the request was accepted. What keeps the erasure from being finished is not an error: the deletion
    /// stands, and [`Deletion::pending`] says why.
    pub fn fulfil(&self, request: &DeletionRequest) -> Result<Deletion, EngineError> {
        let start = std::time::Instant::now();
        let mut availability = self.store.snapshot()?.availability();
        let accepted = self.accept(request)?;
        let durable_seconds = start.elapsed().as_secs_f64();
        let epoch = accepted.effect.epoch;
        let stands = |source| EngineError::Unfinished { epoch, source };
        // The next answer looks at the catalogue anyway; so it need not load what is off.
        let snapshot = self.store.snapshot().map_err(stands)?;
        let effective_seconds = start.elapsed().as_secs_f64();
        let (erasure, failed) = self.erase_pending();
        let Erasure { slices, stages, records, exports, remaining_exports } = erasure;
        // Nobody else deleted anything in between, so nothing else is to be forgotten.
        let _ = self.forgotten.compare_exchange(epoch.saturating_sub(1), epoch, Ordering::Relaxed, Ordering::Relaxed);
        let published = self.store.publish_unless_held();
        let erased_seconds = start.elapsed().as_secs_f64();
        let now = self.store.snapshot().unwrap_or(snapshot);
        let pending = failed.filter(|_| now.unerased().contains(&epoch)).map(PendingErasure::from);
        let hits = accepted.effect.slices.iter().filter(|_| !accepted.repeated);
        // Where the deletion emptied a slice, a sequence that is passed over there may serve the same stages under a lower number.
        let now = now.availability();
        let cut = |address: &SliceAddress| Cut { after: now.serving(address.shard), ..availability.hit(*address) };
        let cuts = hits.map(cut).collect();
        let mut records: Vec<RecordId> = records.into_iter().map(|(_, record)| record).collect();
        records.sort_unstable();
        let receipt = self.store.receipt(&accepted.request, Some(accepted.opening)).map_err(stands)?;
        published.map_err(stands)?;
        Ok(Deletion {
            receipt,
            request: accepted.request,
            repeated: accepted.repeated,
            records,
            cuts,
            erased_stages: stages,
            rewritten_slices: slices,
            removed_exports: exports,
            remaining_exports,
            epoch,
            durable_seconds,
            effective_seconds,
            erased_seconds: pending.is_none().then_some(erased_seconds),
            pending,
            other_spellings: if accepted.repeated { Vec::new() } else { self.spellings_left(request) },
        })
    }

    /// Accepts a deletion: when this returns it survives any crash, and no answer that begins from then on uses a stage that saw one
    /// of its records, in whatever process. Its bytes are still on disk until [`erase_pending`](Self::erase_pending).
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] for an unknown record or subject, an invalid request id or one of another request: nothing is deleted
    /// then.
    pub fn accept(&self, request: &DeletionRequest) -> Result<Accepted, EngineError> {
        let accepted = self.store.accept(request).map_err(|error| match error {
            StoreError::UnknownRecord(record) => self.store.unknown(Named::Record(&record)),
            StoreError::UnknownSubject(subject) => self.store.unknown(Named::Subject(&subject)),
            error => error,
        })?;
        Ok(accepted)
    }

    /// Erases the accepted deletions from disk, and from what this process remembers of their records. Gives what was erased, and the
    /// failure that kept the rest: those deletions stay in effect, and the next erasure finishes them.
    pub fn erase_pending(&self) -> (Erasure, Option<StoreError>) {
        let (erasure, failed) = self.store.erase_pending();
        if failed.is_some() {
            // Which records were erased all the same is not known.
            self.builder.forget_all();
        }
        erasure.records.iter().for_each(|(digest, _)| self.builder.forget(digest));
        (erasure, failed)
    }

    /// The other spellings of a request's names that are still there. Only a store from before such ids were refused can have any, and
    /// is looked through until it has none.
    fn spellings_left(&self, request: &DeletionRequest) -> Vec<SpellingsLeft> {
        // What cannot be read is told by `check` and `audit`; the deletion was done all the same.
        if !matches!(self.store.ids_are_distinct(), Ok(false)) {
            return Vec::new();
        }
        let records = request.records.iter().map(Named::Record);
        let names: Vec<Named<'_>> = records.chain(request.subjects.iter().map(Named::Subject)).collect();
        let left = self.store.other_spellings(&names).unwrap_or_default();
        if self.store.confusable_ids().is_ok_and(|groups| groups.is_empty()) {
            let _ = self.store.note_distinct_ids();
        }
        let named = names.iter().zip(left).filter(|(_, left)| !left.is_empty());
        let named =
            named.map(|(name, left)| SpellingsLeft { kind: name.kind(), named: name.as_str().to_owned(), left });
        named.collect()
    }

    /// Says that the receipt of a deletion is in somebody's hands: the store forgets the key to the names in it. Asking for the
    /// same again gives the receipt again.
    ///
    /// # Errors
    ///
    /// [`EngineError::Unfinished`] if the catalogue cannot be changed; then the key stays until the next time.
    pub fn receipt_delivered(&self, deletion: &Deletion) -> Result<(), EngineError> {
        let failed = |source| EngineError::Unfinished { epoch: deletion.epoch, source };
        self.store.forget_opening(&deletion.request).map_err(failed)
    }

    /// Drops what this process remembers of records if another process has deleted any since it last looked: which they were is
    /// not known any more, so all of it goes.
    pub fn forget_deleted(&self, snapshot: &Snapshot) {
        if snapshot.epoch() > self.forgotten.fetch_max(snapshot.epoch(), Ordering::Relaxed) {
            self.builder.forget_all();
        }
    }

    /// The system as it is.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if the catalogue cannot be read.
    pub fn status(&self) -> Result<Status, EngineError> {
        let snapshot = self.store.snapshot()?;
        let availability = snapshot.availability();
        let shard = |(index, sizes): (usize, &Vec<u64>)| {
            let shard = ShardId(index as u32);
            ShardStatus {
                shard,
                records: sizes.iter().sum::<u64>() as usize,
                serving: availability.serving(shard),
                depths: availability.depths(shard).to_vec(),
                adversarial_budget: availability.adversarial_budget(shard),
            }
        };
        Ok(Status {
            store: self.store.path().into(),
            records: snapshot.records(),
            subjects: self.store.subjects()?,
            epoch: snapshot.epoch(),
            planned_stages: snapshot.plan().stages().len(),
            built_stages: snapshot.stages().len(),
            shards: snapshot.sizes().iter().enumerate().map(shard).collect(),
            same_environment: self.environment == self.store.settings().recipe.environment,
            pending: self.store.pending()?,
            holder: self.store.holder().map(|holder| holder.to_string()),
            remaining_exports: self.store.remaining_exports()?,
        })
    }

    pub(crate) fn check_environment(&self) -> Result<(), EngineError> {
        let stored = &self.store.settings().recipe.environment;
        if self.environment == *stored {
            return Ok(());
        }
        Err(EngineError::Environment { stored: Box::new(stored.clone()), here: Box::new(self.environment.clone()) })
    }

    /// The optimiser steps that building these stages takes.
    pub(crate) fn steps(&self, snapshot: &Snapshot, stages: &BTreeSet<StageKey>) -> usize {
        let sizes = snapshot.sizes();
        let records = |stage: &PlannedStage| -> u64 {
            stage.slices.iter().map(|slice| sizes[stage.shard.index()][slice.index()]).sum()
        };
        let planned = stages.iter().filter_map(|key| snapshot.plan().stage(key));
        planned.map(|stage| self.pipeline.training.steps(records(stage) as usize)).sum()
    }

    fn member(&self, shard: ShardId, chain: Option<(Serving, Vec<StageKey>)>) -> Result<Option<Member>, EngineError> {
        let Some((serving, keys)) = chain else {
            let base = match self.pipeline.serving.dead_shard {
                DeadShard::LeaveOut => None,
                DeadShard::Base => StageModel::base(&*self.backbone, &self.device, self.pipeline.task),
            };
            return Ok(base.map(|model| Member { shard, serving: None, key: None, model }));
        };
        let mut stages = Vec::with_capacity(keys.len());
        let mut lineage = None;
        for key in &keys {
            let (of_stage, tensors) = self.store.stage(key)?;
            lineage = Some(of_stage);
            stages.push(tensors);
        }
        let Some(lineage) = lineage else { return Ok(None) };
        let stages: Vec<&NamedTensors> = stages.iter().collect();
        let model = StageModel::new(&*self.backbone, &self.device, &lineage, &stages)?;
        Ok(Some(Member { shard, serving: Some(serving), key: keys.last().copied(), model }))
    }
}

/// The shards that answer with stages of the store, with these stages, first to last.
pub fn serving_chains(snapshot: &Snapshot) -> Vec<(ShardId, Serving, Vec<StageKey>)> {
    let availability = snapshot.availability();
    let of_shard = |shard: &s3t_core::ShardPlan| {
        let serving = availability.serving(shard.shard)?;
        Some((shard.shard, serving, chain(shard, serving)))
    };
    snapshot.plan().shards().iter().filter_map(of_shard).collect()
}

/// The stages, first to last, that a shard answers with.
fn chain(shard: &s3t_core::ShardPlan, serving: Serving) -> Vec<StageKey> {
    shard.sequences[serving.sequence].keys[..serving.depth].to_vec()
}

/// Opens a pipeline's store and compares its settings.
fn opened(pipeline: &Pipeline, backbone: &dyn Backbone, opening: &Opening<'_>) -> Result<Store, EngineError> {
    let place = pipeline.place();
    let store = match opening {
        Opening::ToRead => Store::open_read_only(&place)?,
        Opening::ToAccept => Store::open_to_accept(&place)?,
        Opening::ToChange | Opening::New(_) => Store::open(&place)?,
    };
    // What subjects were likely to do was asked once: their numbers may have changed or gone since then.
    let sequences = match &pipeline.prior {
        PriorSource::Subjects(_) => store.settings().sequences.clone(),
        PriorSource::Given(_) => choose_sequences(pipeline, backbone, store.secret())?,
    };
    check_settings(&store, settings(pipeline, backbone, sequences)?)?;
    Ok(store)
}

/// What a pipeline would train, found without a store and without training.
#[derive(Debug)]
pub struct Preview {
    /// The stages.
    pub plan: Plan,
    /// The number of records in each slice, `[shard][slice]`. A store that draws its secret
    /// has other sizes, by a few percent.
    pub slice_sizes: Vec<Vec<u64>>,
    /// The probability that a request hits each slice, `[shard][slice]`; one entry stands for all shards.
    pub rates: Vec<Vec<f64>>,
    /// What of the model and the PEFT method decides about costs.
    pub model: ModelShape,
    /// Groups of near-duplicates, and the records in them.
    pub copies: (usize, usize),
}

impl Preview {
    /// Plans a pipeline: reads its model and data, writes nothing.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model or the data.
    pub fn new(pipeline: &Pipeline) -> Result<Self, EngineError> {
        let backbone = load(pipeline, &pipeline.device.open()?)?;
        let secret = pipeline.secret.secret(pipeline.seed).unwrap_or_else(|| StoreSecret::from_bytes([0; 32]));
        let settings = settings(pipeline, &*backbone, choose_sequences(pipeline, &*backbone, &secret)?)?;
        let records = pipeline.read_train_data()?;
        check_records(pipeline, &*backbone, &records)?;
        if let Some(source) = &pipeline.test_data {
            check_records(pipeline, &*backbone, &pipeline.read_source(source)?)?;
        }
        check_named(pipeline, &records)?;
        check_prior(pipeline, &records)?;
        let mut slice_sizes = vec![vec![0; pipeline.shape.slices as usize]; pipeline.shape.shards as usize];
        for place in place_records(&records, &*pipeline.partitioner, pipeline.shape, &secret)? {
            slice_sizes[place.shard.index()][place.slice.index()] += 1;
        }
        let digest = |address: SliceAddress| {
            let size = slice_sizes[address.shard.index()][address.slice.index()];
            let mut name = DigestBuilder::new("preview");
            (size > 0).then(|| name.bytes(address.to_string().as_bytes()).finish())
        };
        let of_shard =
            |shard| (0..pipeline.shape.slices).map(|slice| digest(SliceAddress::new(shard, slice))).collect();
        let digests = (0..pipeline.shape.shards).map(of_shard).collect();
        let plan = Plan::new(settings.recipe, settings.groups, &settings.sequences, digests)?;
        let rates = rates(pipeline, &secret)?;
        let groups = pipeline.duplicates.groups(&records);
        let copies = groups.iter().flatten();
        let copies = (copies.clone().collect::<BTreeSet<_>>().len(), copies.count());
        Ok(Self { plan, slice_sizes, rates, model: model_shape(pipeline, &*backbone), copies })
    }
}

/// Stages that come from the store and go there.
struct InStore<'a>(&'a Store);

impl Stages for InStore<'_> {
    fn existing(&self, key: &StageKey) -> Result<NamedTensors, EngineError> {
        Ok(self.0.stage(key)?.1)
    }

    fn built(&self, job: &StageJob, tensors: &NamedTensors) -> Result<bool, EngineError> {
        Ok(self.0.add_stage(&job.lineage, tensors)?)
    }

    fn is_wanted(&self, key: &StageKey) -> bool {
        // What cannot be read now is told when the stage is added.
        self.0.snapshot().map_or(true, |snapshot| snapshot.is_live(key))
    }
}

/// The tokens of a text that costs are estimated with where no limit is given.
const ESTIMATED_TOKENS: usize = 512;

fn model_shape(pipeline: &Pipeline, backbone: &dyn Backbone) -> ModelShape {
    let block = backbone.block_shape();
    let head = backbone.head().parameters(pipeline.task.outputs(), backbone.hidden());
    let sum = |numbers: &mut dyn Iterator<Item = usize>| numbers.sum::<usize>() as u64;
    ModelShape {
        blocks: backbone.blocks(),
        // Of texts it is not known before they are read; this is what costs are estimated with.
        tokens: pipeline.max_tokens.unwrap_or(ESTIMATED_TOKENS).min(backbone.max_tokens()) as u64,
        block_weights: sum(&mut block.linears.values().map(|(inputs, outputs)| inputs * outputs)),
        attention_width: (block.heads * block.head_dim) as u64,
        peft_parameters: sum(&mut pipeline.peft.parameters(&block).iter().map(s3t_peft::ParameterSpec::len)),
        head_parameters: sum(&mut head.iter().map(s3t_peft::ParameterSpec::len)),
    }
}

/// Loads the pipeline's base model.
fn load(pipeline: &Pipeline, device: &Device) -> Result<Arc<dyn Backbone>, EngineError> {
    let options = pipeline.load_options();
    s3t_backends::load(&pipeline.model, options, device).map_err(|error| match error {
        BackendError::MaxTokens { .. } => pipeline.refuse("model.max_tokens", error.to_string()),
        other => other.into(),
    })
}

/// Checks that the model takes the records, and that the task takes their targets; how many texts a limit of the pipeline cuts.
fn check_records<'a>(
    pipeline: &Pipeline,
    backbone: &dyn Backbone,
    records: impl IntoIterator<Item = &'a Record>,
) -> Result<usize, EngineError> {
    let task = pipeline.task;
    let mut cut = 0;
    for record in records {
        if !task.takes(&record.target) {
            let (record, task, found) = (record.id.clone(), task.name(), record.target.describe());
            return Err(EngineError::WrongTarget { record, task, found });
        }
        cut += usize::from(backbone.prepare(record)?.cut > 0);
    }
    Ok(cut)
}

/// Checks that the subjects whose probabilities are given are spelt as those of the records are.
fn check_prior(pipeline: &Pipeline, records: &[Record]) -> Result<(), EngineError> {
    let PriorSource::Subjects(subjects) = &pipeline.prior else { return Ok(()) };
    let mut seen = Spellings::new("subject");
    let of_records = records.iter().filter_map(|record| record.subject.as_ref());
    for subject in of_records.chain(subjects.iter().map(|(subject, _)| subject)) {
        seen.add(subject.as_str(), ()).map_err(|clash| {
            let problem = format!("`sequences.prior`: {}", clash.problem(|()| " of the records".to_owned()));
            pipeline.refuse("sequences.prior", problem)
        })?;
    }
    Ok(())
}

/// Checks that what `s3t run` is to delete is among the training records.
fn check_named(pipeline: &Pipeline, records: &[Record]) -> Result<(), EngineError> {
    let ids: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let subjects: BTreeSet<&str> =
        records.iter().filter_map(|record| Some(record.subject.as_ref()?.as_str())).collect();
    let named = [
        ("delete_records", "record", &pipeline.run.delete_records, ids),
        ("delete_subjects", "subject", &pipeline.run.delete_subjects, subjects),
    ];
    for (key, what, names, known) in named {
        if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
            let form = comparison_form(name);
            let others = known.iter().filter(|other| comparison_form(other) == form).map(|other| (*other).to_owned());
            let others: Vec<String> = others.collect();
            let (name, list) = beside(name, &others);
            let hint = if others.is_empty() { String::new() } else { format!("; {list} is, which looks the same") };
            let problem = format!("`run.{key}` names the {what} `{name}`, which is not in the training data{hint}");
            return Err(pipeline.refuse(&format!("run.{key}"), problem));
        }
    }
    Ok(())
}

fn rates(pipeline: &Pipeline, secret: &StoreSecret) -> Result<Vec<Vec<f64>>, EngineError> {
    let rates = pipeline.prior.rates(&*pipeline.partitioner, pipeline.shape, secret);
    rates.map_err(|error| pipeline.refuse_core("sequences", &error))
}

fn groups(pipeline: &Pipeline, backbone: &dyn Backbone) -> Result<LayerGroups, EngineError> {
    LayerGroups::from_top(backbone.blocks(), pipeline.shape.slices, pipeline.blocks_per_slice)
        .map_err(|error| pipeline.refuse_core(groups_section(&error), &error))
}

/// The sequences of each shard.
fn choose_sequences(
    pipeline: &Pipeline,
    backbone: &dyn Backbone,
    secret: &StoreSecret,
) -> Result<Vec<Vec<Sequence>>, EngineError> {
    // More slices than blocks are refused before a strategy works on them.
    groups(pipeline, backbone)?;
    pipeline.check_extent()?;
    // For all shards together.
    let (slices, budget, seed) = (pipeline.shape.slices, pipeline.budget, pipeline.seed);
    let prior = match &pipeline.prior {
        PriorSource::Given(prior) => prior,
        PriorSource::Subjects(_) => &Prior::Uniform,
    };
    let all = SequenceRequest { shard: ShardId(0), slices, budget, prior, seed };
    check_steps(&*pipeline.strategy, &all, pipeline.shape.shards)
        .map_err(|error| pipeline.refuse_core("sequences", &error))?;
    let of_shard = |shard: u32, prior: &Prior| {
        let request = SequenceRequest {
            shard: ShardId(shard),
            slices: pipeline.shape.slices,
            budget: pipeline.budget,
            prior,
            seed: pipeline.seed,
        };
        plan_sequences(&*pipeline.strategy, &request).map_err(|error| pipeline.refuse_core("sequences", &error))
    };
    match &pipeline.prior {
        PriorSource::Given(prior) => (0..pipeline.shape.shards).map(|shard| of_shard(shard, prior)).collect(),
        PriorSource::Subjects(_) => {
            let rates = rates(pipeline, secret)?;
            (0..).zip(&rates).map(|(shard, rates)| of_shard(shard, &Prior::of_rates(rates))).collect()
        }
    }
}

/// The settings of the store that a pipeline asks for, checked against the model.
fn settings(
    pipeline: &Pipeline,
    backbone: &dyn Backbone,
    sequences: Vec<Vec<Sequence>>,
) -> Result<StoreSettings, EngineError> {
    let groups = groups(pipeline, backbone)?;
    pipeline.peft.check(&backbone.block_shape()).map_err(|error| match error {
        PeftError::InvalidField { field, problem } => {
            pipeline.refuse(&format!("peft.{field}"), format!("`peft.{field}` {problem}"))
        }
        other => pipeline.refuse("peft", other.to_string()),
    })?;
    let json = |value: Result<serde_json::Value, serde_json::Error>, section: &str| {
        value.map_err(|error| pipeline.refuse(section, error.to_string()))
    };
    if pipeline.task == Task::CausalLm && !backbone.has_language_head() {
        let problem =
            "`data.task` is `causal-lm`, but the model has no language head; use a model for causal language modelling";
        return Err(pipeline.refuse("data.task", problem));
    }
    if !matches!(pipeline.task, Task::Classification { .. }) && !pipeline.serving.aggregator.keeps_scale() {
        let problem =
            format!("`serving.aggregator` is for classes; for task `{}` use `mean-logits`", pipeline.task.name());
        return Err(pipeline.refuse("serving.aggregator", problem));
    }
    if let Some(obstacle) = backbone.head_obstacle().filter(|_| pipeline.task != Task::CausalLm) {
        let problem = format!(
            "the base model has no place for a head: {obstacle}, so that an adapter with its head would be of no use there; use a \
             model that was saved with all its layers"
        );
        return Err(pipeline.refuse("model.path", problem));
    }
    if matches!(pipeline.serving.dead_shard, DeadShard::Base) {
        let task = pipeline.task;
        check_own_head(pipeline, backbone)?;
        if StageModel::base(backbone, &pipeline.device.open()?, task).is_none() {
            let problem = format!(
                "`serving.dead_shard` is `base`, but the model has no head of its own with {} outputs; use `leave-out`",
                task.outputs()
            );
            return Err(pipeline.refuse("serving.dead_shard", problem));
        }
    }
    Ok(StoreSettings {
        recipe: Recipe {
            format: lineage::FORMAT,
            base: backbone.digest(),
            peft: json(serde_json::to_value(&*pipeline.peft), "peft")?,
            training: json(serde_json::to_value(&pipeline.training), "training")?,
            task: pipeline.task,
            environment: pipeline.device.environment(),
        },
        groups,
        shape: pipeline.shape,
        partitioner: json(serde_json::to_value(&*pipeline.partitioner), "partition")?,
        sequences,
        labels: pipeline.labels.names().to_vec(),
    })
}

/// Checks that the base model's own head means by its outputs what the pipeline means by them.
fn check_own_head(pipeline: &Pipeline, backbone: &dyn Backbone) -> Result<(), EngineError> {
    let OwnHead { labels, problem, .. } = backbone.own_head();
    let refuse = |problem: String| {
        let problem = format!("`serving.dead_shard` is `base`, but {problem}");
        Err(pipeline.refuse("serving.dead_shard", problem))
    };
    if pipeline.task == Task::CausalLm {
        return Ok(());
    }
    let asked = pipeline.labels.names();
    if !labels.is_empty() && !asked.is_empty() && labels != asked {
        let (own, order) = (labels.join(", "), asked.join(", "));
        return refuse(format!(
            "`id2label` of the base model names its outputs {own}, and `data.labels` is {order}; give `data.labels` the model's \
             names in its order, or use `leave-out`"
        ));
    }
    let fits = match problem.as_deref() {
        Some("regression") => pipeline.task == Task::Regression,
        Some("single_label_classification") => matches!(pipeline.task, Task::Classification { .. }),
        Some("multi_label_classification") => matches!(pipeline.task, Task::MultiLabel { .. }),
        _ => true,
    };
    match problem {
        Some(problem) if !fits => refuse(format!(
            "`problem_type` of the base model is `{problem}`, and `data.task` is `{}`; use `leave-out`",
            pipeline.task.name()
        )),
        _ => Ok(()),
    }
}

fn groups_section(error: &s3t_core::CoreError) -> &'static str {
    match error {
        s3t_core::CoreError::InvalidField { field, .. } if field == "blocks_per_slice" => "sequences",
        _ => "partition",
    }
}

/// Compares a store's settings with those that the pipeline asks for. The numeric environment may differ: serving and
/// deleting need no arithmetic of their own.
fn check_settings(store: &Store, mut asked: StoreSettings) -> Result<(), EngineError> {
    let stored = store.settings();
    asked.recipe.environment.clone_from(&stored.recipe.environment);
    match stored.difference(&asked) {
        Some((key, stored, asked)) => {
            let key = key.strip_prefix("recipe.").unwrap_or(&key).to_owned();
            let key = match &*key {
                "base" => "the base model (weights, tokenizer, `model.max_tokens`)".to_owned(),
                other => format!("`{other}`"),
            };
            Err(EngineError::StoreMismatch { store: store.path().into(), key, stored, asked })
        }
        None => Ok(()),
    }
}
