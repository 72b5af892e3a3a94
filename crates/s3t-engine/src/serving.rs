//! Answering from live prefixes of each shard, by one snapshot an answer.

use std::sync::{Arc, PoisonError};

use s3t_core::members::members_of_shard;
use s3t_core::{Members, Record, Serving, ShardId, ShardPlan, StageKey};
use s3t_models::Backbone;
use s3t_store::{Snapshot, StoreError};

use crate::answering::Chain;
use crate::checked::CheckedPipeline;
use crate::ensemble::{Answer, Member, Prediction};
use crate::error::EngineError;
use crate::generator::{ServedModels, ServesModels};
use crate::system::{Served, System};

impl System {
    /// The members that answer now, each with the stages of its shard.
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
            let span = tracing::info_span!("reload", epoch = snapshot.epoch().0);
            match span.in_scope(|| self.make_members(&snapshot, &old)) {
                // Erased by another process since the snapshot was taken.
                Err(EngineError::Store(StoreError::MissingStage(key))) if !self.store.snapshot()?.has_stage(&key) => {}
                Err(error) => return Err(error),
                Ok(members) => {
                    return served.insert(Served::new(snapshot, members)).clone().that_answers();
                }
            }
        }
    }

    /// Forgets the models of stages that are live no more, as the next answer would.
    pub(crate) fn forget_dead_members(&self) {
        let lock = || self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let has_members = lock().is_some();
        if has_members && !matches!(self.served(), Ok(_) | Err(EngineError::NothingServes)) {
            *lock() = None;
        }
    }

    /// The members of a snapshot; those that have not changed are taken over.
    fn make_members(&self, snapshot: &Snapshot, old: &[Arc<Member>]) -> Result<Vec<Arc<Member>>, EngineError> {
        let read = |key: &StageKey| Ok(Arc::new(self.store.stage(key)?));
        self.answering().members(chains(snapshot, &*self.pipeline.serving.members), old, &read)
    }

    /// Answers for records.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// # let (pipeline, records) = (s3t_testkit::tiny_pipeline(&model, &store), s3t_testkit::toy_records(24, 6, 1));
    /// # let system = s3t_engine::System::create(pipeline, &records, None)?;
    /// # system.train(&s3t_engine::Quiet)?;
    /// let questions = s3t_testkit::toy_records(2, 0, 9);
    /// for answer in system.predict(&questions)? {
    ///     let class = answer.label.expect("a classification");
    ///     println!("{}: class {class}, score {}", answer.id, answer.scores[class]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
        self.answering().predict_with(members, records)
    }
}

impl ServesModels for System {
    fn serving(&self) -> Result<ServedModels, EngineError> {
        let Served { snapshot, members, stages } = self.served()?;
        Ok(ServedModels { epoch: snapshot.epoch(), members, stages })
    }

    fn is_live(&self, stage: &StageKey) -> Result<bool, EngineError> {
        Ok(self.store.snapshot()?.has_stage(stage))
    }

    fn pipeline(&self) -> &CheckedPipeline {
        &self.pipeline
    }

    fn backbone(&self) -> &Arc<Backbone> {
        &self.backbone
    }
}

/// The members that answer with stages of the store, shard by shard, each with its stages, first to last.
pub fn serving_chains(snapshot: &Snapshot, members: &dyn Members) -> Vec<(ShardId, Serving, Vec<StageKey>)> {
    let live = |(shard, chain): Chain| chain.map(|(serving, keys)| (shard, serving, keys));
    chains(snapshot, members).into_iter().filter_map(live).collect()
}

/// The stages, first to last, of each member; a shard without a live sequence has an entry without stages.
fn chains(snapshot: &Snapshot, members: &dyn Members) -> Vec<Chain> {
    let availability = snapshot.availability();
    let of_shard = |shard: &ShardPlan| -> Vec<Chain> {
        let servings = members_of_shard(members, shard, &availability);
        if servings.is_empty() {
            return vec![(shard.shard, None)];
        }
        let keys = |serving: Serving| shard.sequences[serving.sequence].keys[..serving.depth].to_vec();
        servings.into_iter().map(|serving| (shard.shard, Some((serving, keys(serving))))).collect()
    };
    snapshot.plan().shards().iter().flat_map(of_shard).collect()
}
