//! A system without a store: it answers with the stages that a leader gives it, and has nothing else.
//!
//! # Proof note
//!
//! *Before*: [`Replica::apply`] was given a state of epoch `e` and returned. *After*: every answer that begins from then on uses stages
//! of that state or a later one only, and its epoch is at least `e`; of stages that the state does not name, none is kept, but by
//! answers that began before. *Why*: `apply` holds the lock of the stages while it drops those that the state does not name and puts
//! the members of the others in the place of the old ones, before it returns; a stage is added under the same lock, and only if the
//! newest state names it. An answer takes the members once, at its start.
//!
//! A replica that has every stage of a state answers as the leader does, bit for bit: the state names the slices of each live sequence, so
//! that the same members are chosen for each shard (by `serving.members`), and both answer by the code of `answering`.
//!
//! Stages are held in memory and nowhere else. So nothing is left on a disk to be erased or sealed, and whoever copies the disk of a
//! follower has no stage. A follower without its leader may not answer, so that a copy on disk would only save a transfer at its start.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use s3t_core::{Record, Serving, ShardId, StageKey};
use s3t_ledger::{Epoch, ShardServes};
use s3t_models::{Backbone, Device};

use crate::answering::{Answering, Chain, Stage, serves};
use crate::base_model::{load_to_answer, model_shape};
use crate::checked::CheckedPipeline;
use crate::ensemble::{Answer, Member};
use crate::error::EngineError;
use crate::generator::{ServedModels, ServesModels};
use crate::replica_stage::check_stage;
use crate::replica_state::{MaxSizes, ReplicaModel, ReplicaShard, ReplicaState, StagePlace};
use crate::store_settings::check_model;

/// The bytes of a stage's file beside its numbers, for each block of the model and once more: the names of tensors and the lineage.
const BYTES_BESIDE: u64 = 1 << 16;

/// A system that answers with the stages of a leader, see the module.
pub struct Replica {
    pipeline: CheckedPipeline,
    device: Device,
    backbone: Arc<Backbone>,
    model: ReplicaModel,
    max: MaxSizes,
    content: Mutex<Content>,
    served: Mutex<Arc<Served>>,
    /// Members that were taken away, and may be in an answer that is under way.
    leaving: Mutex<Vec<Weak<Member>>>,
}

/// The newest state, and the stages of it that have arrived.
#[derive(Default)]
struct Content {
    state: Option<ReplicaState>,
    places: BTreeMap<StageKey, StagePlace>,
    held: BTreeMap<StageKey, Arc<Stage>>,
    /// The newest epoch that was ever applied, and the ledger that it was of.
    newest: Option<(Epoch, String)>,
    /// `true` once every stage that the leader answers with has arrived.
    has_caught_up: bool,
}

/// The members that answer.
#[derive(Default)]
struct Served {
    epoch: Epoch,
    members: Arc<Vec<Arc<Member>>>,
    stages: Option<Arc<[ShardServes]>>,
    has_caught_up: bool,
    held: usize,
    wanted: usize,
}

/// The figures of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The deletions that its answers know of.
    pub epoch: Epoch,
    /// Each shard's depth, and the requests that it survives at worst.
    pub shards: Vec<(usize, usize)>,
    /// The stages that have arrived.
    pub held: usize,
    /// The live stages of the leader.
    pub wanted: usize,
    /// The stages of the leader's plan, live or not.
    pub planned: usize,
    /// `true` once every stage that the leader answers with has arrived.
    pub has_caught_up: bool,
}

impl ServesModels for Replica {
    fn serving(&self) -> Result<ServedModels, EngineError> {
        let served = self.served();
        let stages = served.stages.as_ref().filter(|_| served.has_caught_up);
        let behind = || EngineError::CatchingUp { held: served.held, wanted: served.wanted };
        let stages = Arc::clone(stages.ok_or_else(behind)?);
        if served.members.is_empty() {
            return Err(EngineError::NothingServes);
        }
        Ok(ServedModels { epoch: served.epoch, members: Arc::clone(&served.members), stages })
    }

    fn is_live(&self, stage: &StageKey) -> Result<bool, EngineError> {
        Ok(self.content().places.contains_key(stage))
    }

    fn pipeline(&self) -> &CheckedPipeline {
        &self.pipeline
    }

    fn backbone(&self) -> &Arc<Backbone> {
        &self.backbone
    }
}

impl Replica {
    /// Loads a pipeline's base model for the stages of a leader. The pipeline's store and data are not looked at.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// use std::collections::BTreeMap;
    ///
    /// use s3t_engine::{Quiet, Replica, System};
    ///
    /// let pipeline = || s3t_testkit::tiny_pipeline(&model, &store);
    /// let leader = System::create(pipeline(), &s3t_testkit::toy_records(24, 6, 1), None)?;
    /// leader.train(&Quiet)?;
    /// let replica = Replica::open(pipeline())?;
    /// replica.apply(leader.replica_state(&mut BTreeMap::new())?)?;
    /// while let Some((key, _)) = replica.missing().first() {
    ///     replica.add(key, &leader.store().stage_content(key)?)?;
    /// }
    /// let questions = s3t_testkit::toy_records(2, 0, 9);
    /// assert_eq!(replica.answer(&questions)?, leader.answer(&questions)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline or its model.
    pub fn open<P>(pipeline: P) -> Result<Self, EngineError>
    where
        P: TryInto<CheckedPipeline>,
        EngineError: From<P::Error>,
    {
        let pipeline = pipeline.try_into()?;
        let device = pipeline.device.open()?;
        let backbone = load_to_answer(&pipeline, &device)?;
        check_model(&pipeline, &backbone)?;
        let model = ReplicaModel::of(&pipeline, backbone.digest())?;
        let shape = model_shape(&pipeline, &backbone);
        let (blocks, numbers) =
            (shape.blocks as u64, shape.blocks as u64 * shape.peft_parameters + shape.head_parameters);
        let centroid = if pipeline.training.centroid { backbone.hidden() as u64 } else { 0 };
        let stages = model.shape.shards as usize * model.shape.slices as usize * pipeline.budget;
        let max = MaxSizes { stages, bytes: 4 * (numbers + centroid) + (blocks + 1) * BYTES_BESIDE };
        let (content, served) = (Mutex::default(), Mutex::default());
        Ok(Self { pipeline, device, backbone, model, max, content, served, leaving: Mutex::default() })
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &CheckedPipeline {
        &self.pipeline
    }

    /// The base model.
    pub fn backbone(&self) -> &Arc<Backbone> {
        &self.backbone
    }

    fn answering(&self) -> Answering<'_> {
        Answering { pipeline: &self.pipeline, device: &self.device, backbone: &self.backbone }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Every change ends with a state whose stages are held or missing.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over a state of the leader: stages that it does not name answer no more and are dropped.
    ///
    /// # Errors
    ///
    /// [`EngineError::LeaderState`] for a state that is malformed, of another model or store, or older than the one before. Nothing has
    /// changed then.
    pub fn apply(&self, state: ReplicaState) -> Result<(), EngineError> {
        let refuse = |problem: String| Err(EngineError::LeaderState { problem });
        let places = state.places(&self.model, self.max)?;
        let mut content = self.content();
        if let Some((epoch, ledger)) = &content.newest {
            if *ledger != state.ledger {
                return refuse("it is of another store: its ledger has another key; start the follower again".into());
            }
            if *epoch > state.epoch {
                let problem =
                    format!("its epoch is {}, and it was {epoch} before: the store was set back", state.epoch);
                return refuse(problem);
            }
        }
        content.newest = Some((state.epoch, state.ledger.clone()));
        content.held.retain(|key, _| places.contains_key(key));
        (content.state, content.places) = (Some(state), places);
        self.serve(&mut content)
    }

    /// Forgets the state and every stage. Answers are refused until they are there again.
    pub fn clear(&self) {
        let mut content = self.content();
        *content = Content { newest: content.newest.take(), ..Content::default() };
        let epoch = content.newest.as_ref().map(|(epoch, _)| *epoch).unwrap_or_default();
        self.replace(Served { epoch, ..Served::default() });
    }

    /// Puts members in the place of the ones before, and keeps an eye on those that go.
    fn replace(&self, served: Served) {
        let mut now = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = |member: &&Arc<Member>| served.members.iter().any(|of| Arc::ptr_eq(of, member));
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|member| member.strong_count() > 0);
        leaving.extend(now.members.iter().filter(|member| !stays(member)).map(Arc::downgrade));
        *now = Arc::new(served);
    }

    /// Returns `true` once nothing in this process, not even an answer that is under way, has a member of a stage that is gone.
    pub fn has_forgotten(&self) -> bool {
        let content = self.content();
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|member| member.strong_count() > 0);
        // One that a deeper stage has replaced is alive, and may die later.
        let is_alive = |member: Arc<Member>| member.key.is_none_or(|key| content.places.contains_key(&key));
        leaving.iter().filter_map(Weak::upgrade).all(is_alive)
    }

    /// Puts the members of the stages that are held in the place of the ones before.
    fn serve(&self, content: &mut Content) -> Result<(), EngineError> {
        let Some(state) = &content.state else { return Ok(()) };
        let rule = &*self.pipeline.serving.members;
        let mut chains: Vec<Chain> = Vec::new();
        let mut has_all = true;
        for (index, shard) in (0..).zip(&state.shards) {
            let own = shard.members(rule, |key| content.held.contains_key(key));
            has_all &= own == shard.members(rule, |_| true);
            let chain = |serving: &Serving| (*serving, shard.sequences[serving.sequence][..serving.depth].to_vec());
            chains.extend(own.iter().map(|serving| (ShardId(index), Some(chain(serving)))));
            chains.extend(own.is_empty().then_some((ShardId(index), None)));
        }
        content.has_caught_up |= has_all;
        let read = |key: &StageKey| {
            let missing = || EngineError::LeaderStage { key: *key, problem: "it has not arrived".into() };
            content.held.get(key).cloned().ok_or_else(missing)
        };
        let alive = |member: &&Arc<Member>| member.key.is_none_or(|key| content.places.contains_key(&key));
        let survivors: Vec<Arc<Member>> = self.served().members.iter().filter(alive).cloned().collect();
        let put = |members: Vec<Arc<Member>>| {
            let served = Served {
                epoch: state.epoch,
                stages: Some(serves(&members)),
                members: Arc::new(members),
                has_caught_up: content.has_caught_up,
                held: content.held.len(),
                wanted: content.places.len(),
            };
            self.replace(served);
        };
        let made = self.answering().members(chains, &survivors, &read);
        // Where new members cannot be made, the dead ones go all the same.
        let (members, made) = made.map_or_else(|error| (survivors, Err(error)), |members| (members, Ok(())));
        put(members);
        made
    }

    /// The stages of the newest state that have not arrived and may be added now, with their sizes in bytes: those that the leader
    /// answers with first.
    pub fn missing(&self) -> Vec<(StageKey, u64)> {
        let content = self.content();
        let Some(state) = &content.state else { return Vec::new() };
        let mut sequences: Vec<(bool, &Vec<StageKey>)> = Vec::new();
        for shard in &state.shards {
            let members = shard.members(&*self.pipeline.serving.members, |_| true);
            let is_reserve = |index: usize| !members.iter().any(|member| member.sequence == index);
            sequences.extend(shard.sequences.iter().enumerate().map(|(index, keys)| (is_reserve(index), keys)));
        }
        sequences.sort_by_key(|(is_reserve, _)| *is_reserve);
        let mut missing: Vec<(StageKey, u64)> = Vec::new();
        for (_, keys) in sequences {
            if let Some(key) = keys.iter().find(|key| !content.held.contains_key(key))
                && !missing.iter().any(|(known, _)| known == key)
                && let Some(place) = content.places.get(key)
            {
                missing.push((*key, place.content.bytes));
            }
        }
        missing
    }

    /// `true` if the newest state names the stage and it has not arrived.
    pub fn wants(&self, key: &StageKey) -> bool {
        let content = self.content();
        content.places.contains_key(key) && !content.held.contains_key(key)
    }

    /// `true` if there is a state.
    pub fn has_state(&self) -> bool {
        self.content().state.is_some()
    }

    /// Adds a stage, checked: `false` if the newest state does not want it any more.
    ///
    /// # Errors
    ///
    /// [`EngineError::LeaderStage`] if it is not what the state names, or does not fit the model. It is not kept then.
    pub fn add(&self, key: &StageKey, bytes: &[u8]) -> Result<bool, EngineError> {
        let Some(place) = self.content().places.get(key).copied() else { return Ok(false) };
        let stage = Arc::new(check_stage(key, &place, bytes, &self.model, &self.pipeline, &self.backbone)?);
        let mut content = self.content();
        // A deletion may have come while the stage was checked.
        if content.places.get(key) != Some(&place) || content.held.contains_key(key) {
            return Ok(false);
        }
        let mut chain = vec![Arc::clone(&stage)];
        let mut parent = place.parent;
        while let Some(key) = parent {
            let Some(stage) = content.held.get(&key) else { return Ok(false) };
            chain.push(Arc::clone(stage));
            parent = content.places.get(&key).and_then(|place| place.parent);
        }
        chain.reverse();
        // A stage that no member can be made of is refused here, and not by the answers.
        let refuse = |problem: String| EngineError::LeaderStage { key: *key, problem };
        let made = catch_unwind(AssertUnwindSafe(|| self.answering().model(&chain).map(drop)));
        made.map_err(|_| refuse("its tensors do not fit the model".into()))?
            .map_err(|error| refuse(error.to_string()))?;
        content.held.insert(*key, stage);
        self.serve(&mut content)?;
        Ok(true)
    }

    /// Answers for records, with the deletions they know of and the stages they came from, all of one moment.
    ///
    /// # Errors
    ///
    /// [`EngineError::CatchingUp`] until every stage that the leader answers with has arrived once, [`EngineError::NothingServes`] if no
    /// shard can answer, [`EngineError::Model`] for a record that the model cannot take.
    pub fn answer(&self, records: &[Record]) -> Result<Answer, EngineError> {
        let ServedModels { epoch, members, stages } = self.serving()?;
        let predictions = self.answering().predict_with(&members, records)?;
        Ok(Answer { epoch, stages, predictions })
    }

    /// Checks that the model can answer for these records, without answering.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for the first record that the model cannot take.
    pub fn check_questions(&self, records: &[Record]) -> Result<(), EngineError> {
        self.answering().prepare(records).map(drop)
    }

    /// The texts among some records that `model.max_tokens` cuts.
    ///
    /// # Errors
    ///
    /// [`EngineError::Model`] for a record that the model cannot take.
    pub fn cut(&self, records: &[Record]) -> Result<usize, EngineError> {
        self.answering().cut(records)
    }

    /// The deletions that every answer from now on knows of.
    pub fn epoch(&self) -> Epoch {
        self.served().epoch
    }

    /// The figures of this moment.
    pub fn status(&self) -> ReplicaStatus {
        let content = self.content();
        let held = |key: &StageKey| content.held.contains_key(key);
        let of_shard = |shard: &ReplicaShard| {
            let depth = shard.depths(held).max().unwrap_or(0);
            // A hit in a first slice kills every sequence that begins with it.
            let first: std::collections::BTreeSet<_> =
                shard.sequences.iter().filter_map(|keys| keys.first()).filter(|key| held(key)).collect();
            (depth, first.len())
        };
        let state = content.state.as_ref();
        ReplicaStatus {
            epoch: content.newest.as_ref().map(|(epoch, _)| *epoch).unwrap_or_default(),
            shards: state.map(|state| state.shards.iter().map(of_shard).collect()).unwrap_or_default(),
            held: content.held.len(),
            wanted: content.places.len(),
            planned: state.map_or(0, |state| state.planned),
            has_caught_up: content.has_caught_up,
        }
    }
}
