//! Opening a store, and making one.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use s3t_core::{Record, StoreSecret};
use s3t_models::Backbone;
use s3t_store::{NewStore, Store, StoreError, random_secret};

use crate::base_model::{load, load_to_answer};
use crate::checked::CheckedPipeline;
use crate::error::EngineError;
use crate::executing::Executing;
use crate::record_checks::{check_prior, check_records};
use crate::settings::PriorSource;
use crate::store_settings::{check_settings, check_taken_in, choose_sequences, settings, taken_in_with};
use crate::system::System;

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

/// The parts that a new system is made from besides its pipeline.
struct NewSystem<'a> {
    records: &'a [Record],
    /// Records that are checked and not stored.
    held_out: &'a [Record],
    secret: Option<StoreSecret>,
    /// `true` opens a store that another process has made in the meantime.
    or_open: bool,
}

impl System {
    /// Opens the pipeline's store, or makes it from the training data if it is not there.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model, the data or the store; nothing is written then.
    pub fn open<P>(pipeline: P) -> Result<Self, EngineError>
    where
        P: TryInto<CheckedPipeline>,
        EngineError: From<P::Error>,
    {
        let pipeline = pipeline.try_into()?;
        if pipeline.store.exists() {
            return Self::assemble(pipeline, Opening::ToChange);
        }
        let records = pipeline.read_train_data()?;
        // The held-out records are looked at too, before anything is written.
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
    pub fn open_to_delete<P>(pipeline: P) -> Result<Self, EngineError>
    where
        P: TryInto<CheckedPipeline>,
        EngineError: From<P::Error>,
    {
        let pipeline = pipeline.try_into()?;
        Self::assemble(pipeline, Opening::ToAccept)
    }

    /// Opens the pipeline's store to answer only, beside processes that change it: records that they delete are off at once here too.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`s3t_store::StoreError::NotAStore`] if there is none.
    pub fn open_read_only<P>(pipeline: P) -> Result<Self, EngineError>
    where
        P: TryInto<CheckedPipeline>,
        EngineError: From<P::Error>,
    {
        let pipeline = pipeline.try_into()?;
        Self::assemble(pipeline, Opening::ToRead)
    }

    /// Makes the pipeline's store from these records. `secret` keys the partition; `None` takes the pipeline's choice.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (model, store) = (folder.path().join("model"), folder.path().join("store"));
    /// # s3t_testkit::write_tiny_model(&model, 4)?;
    /// use s3t_engine::System;
    ///
    /// let pipeline = s3t_testkit::tiny_pipeline(&model, &store);
    /// let records = s3t_testkit::toy_records(24, 6, 1);
    /// let system = System::create(pipeline, &records, None)?;
    /// assert_eq!(system.status()?.records, 24);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the pipeline, the model or the records, or if the store exists; nothing is written then.
    pub fn create<P>(pipeline: P, records: &[Record], secret: Option<StoreSecret>) -> Result<Self, EngineError>
    where
        P: TryInto<CheckedPipeline>,
        EngineError: From<P::Error>,
    {
        Self::make(pipeline.try_into()?, records, &[], secret, false)
    }

    fn make(
        pipeline: CheckedPipeline,
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

    fn assemble(pipeline: CheckedPipeline, opening: Opening<'_>) -> Result<Self, EngineError> {
        let read_only = matches!(opening, Opening::ToRead);
        let span = tracing::info_span!("open", read_only, epoch = tracing::field::Empty).entered();
        let device = pipeline.device.open()?;
        let training_backbone = load(&pipeline, &device)?;
        let backbone = if pipeline.serving_precision() == training_backbone.precision() {
            Arc::clone(&training_backbone)
        } else {
            load_to_answer(&pipeline, &device)?
        };
        let executing = Executing::new(&pipeline, &training_backbone, read_only)?;
        let mut cut = 0;
        let store = match opening {
            Opening::New(NewSystem { records, held_out, secret, or_open }) => {
                let secret = secret.map_or_else(random_secret, Ok)?;
                let mut settings = settings(&pipeline, &backbone, choose_sequences(&pipeline, &backbone, &secret)?)?;
                cut = check_records(&pipeline, &backbone, records.iter().chain(held_out))?;
                check_prior(&pipeline, records)?;
                // Stages are trained with the arithmetic of the executor, wherever this process runs.
                settings.recipe.environment = executing.session(&*pipeline.executor)?.environment();
                let (partitioner, encrypt) = (&*pipeline.partitioner, pipeline.encrypt);
                let copies = pipeline.duplicates.groups(records);
                let taken_in_with = taken_in_with(&pipeline);
                let new = NewStore { settings, partitioner, records, copies: &copies, secret, encrypt, taken_in_with };
                match Store::create(&pipeline.place(), &new) {
                    Err(StoreError::Exists(_)) if or_open && pipeline.place().is_store() => {
                        opened(&pipeline, &backbone, &Opening::ToChange)?
                    }
                    created => created?,
                }
            }
            opening => opened(&pipeline, &backbone, &opening)?,
        };
        let epoch = store.snapshot()?.epoch().0;
        span.record("epoch", epoch);
        let (members, forgotten) = (Mutex::default(), AtomicU64::new(epoch));
        Ok(Self { pipeline, device, backbone, training_backbone, executing, store, members, forgotten, cut })
    }
}

/// Opens a pipeline's store and compares its settings.
fn opened(pipeline: &CheckedPipeline, backbone: &Backbone, opening: &Opening<'_>) -> Result<Store, EngineError> {
    let place = pipeline.place();
    let store = match opening {
        Opening::ToRead => Store::open_read_only(&place)?,
        Opening::ToAccept => Store::open_to_accept(&place)?,
        Opening::ToChange | Opening::New(_) => Store::open(&place)?,
    };
    // The probabilities of subjects were asked for once: they may have changed or gone since then.
    let sequences = match &pipeline.prior {
        PriorSource::Subjects(_) => store.settings().sequences.clone(),
        PriorSource::Given(_) => choose_sequences(pipeline, backbone, store.secret())?,
    };
    check_settings(&store, settings(pipeline, backbone, sequences)?)?;
    check_taken_in(&store, pipeline)?;
    Ok(store)
}
