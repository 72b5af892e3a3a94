//! A pipeline's plan before there is a store.

use std::collections::BTreeSet;

use s3t_core::budget::cost::ModelShape;
use s3t_core::digest::DigestBuilder;
use s3t_core::placement::place_records;
use s3t_core::{PerShard, Plan, SliceAddress, StoreSecret};

use crate::base_model::{load, model_shape};
use crate::checked::CheckedPipeline;
use crate::error::EngineError;
use crate::record_checks::{check_named, check_prior, check_records};
use crate::store_settings::{choose_sequences, rates, settings};

/// The plan of a pipeline, found without a store and without training.
#[derive(Debug)]
pub struct Preview {
    /// The stages.
    pub plan: Plan,
    /// The number of records in each slice, `[shard][slice]`. A store that draws its secret
    /// has other sizes, by a few percent.
    pub slice_sizes: Vec<Vec<u64>>,
    /// The probability that a request hits each slice of each shard.
    pub rates: PerShard<Vec<f64>>,
    /// The sizes of the model and the PEFT method that decide about costs.
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
    pub fn new(pipeline: &CheckedPipeline) -> Result<Self, EngineError> {
        let backbone = load(pipeline, &pipeline.device.open()?)?;
        let secret = pipeline.secret.secret(pipeline.seed).unwrap_or_else(|| StoreSecret::from_bytes([0; 32]));
        let settings = settings(pipeline, &backbone, choose_sequences(pipeline, &backbone, &secret)?)?;
        let records = pipeline.read_train_data()?;
        check_records(pipeline, &backbone, &records)?;
        if let Some(source) = &pipeline.test_data {
            check_records(pipeline, &backbone, &pipeline.read_source(source)?)?;
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
        Ok(Self { plan, slice_sizes, rates, model: model_shape(pipeline, &backbone), copies })
    }
}
