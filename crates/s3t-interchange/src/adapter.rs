//! An adapter of a base model, whoever made it.

use std::collections::BTreeSet;

use s3t_core::Task;
use s3t_core::tensors::{HostTensor, StageTensors};
use s3t_models::{Backbone, Device, head_outputs};
use s3t_peft::tensors::{on_device, stage_on_device, to_device};
use s3t_peft::{Adapters, AdaptersBySite, Linear, LinearSite, PeftMethod, Weight, bind};
use s3t_train::StageModel;

use crate::InterchangeError;

/// The file of an adapter's configuration.
pub(crate) const CONFIG: &str = "adapter_config.json";

/// The file of an adapter's tensors.
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// A method on some layers of some blocks.
#[derive(Debug)]
pub struct AdapterPart {
    /// The method.
    pub method: Box<dyn PeftMethod>,
    /// The blocks that have an adapter of it.
    pub blocks: BTreeSet<usize>,
    /// The linear layers that it changes, for parts that share a block; empty for a method that changes anything else.
    pub sites: BTreeSet<LinearSite>,
}

/// An adapter of a base model.
#[derive(Debug)]
pub struct Adapter {
    /// The parts: a single part, unless ranks, scales or targets differ between layers.
    pub parts: Vec<AdapterPart>,
    /// The parameters of the blocks and, if the adapter has a head, of the head.
    pub tensors: StageTensors,
    /// The weight and bias that take the place of the layer between the last block and the head.
    pub pooler: Option<(HostTensor, HostTensor)>,
}

impl Adapter {
    /// An adapter of one method on the blocks that have parameters.
    pub fn new(method: Box<dyn PeftMethod>, tensors: StageTensors) -> Self {
        let blocks = tensors.blocks.keys().copied().collect();
        Self { parts: vec![AdapterPart { method, blocks, sites: BTreeSet::new() }], tensors, pooler: None }
    }

    /// The blocks that have an adapter.
    pub fn blocks(&self) -> BTreeSet<usize> {
        self.parts.iter().flat_map(|part| part.blocks.iter().copied()).collect()
    }

    /// The outputs of the adapter's own head; 0 for an adapter without a head.
    pub fn outputs(&self) -> usize {
        self.tensors.head.as_ref().map_or(0, head_outputs)
    }

    /// The model of this adapter on its base, with the adapter's head, or the base model's if the adapter has no head.
    ///
    /// # Errors
    ///
    /// [`InterchangeError::Train`] if a head is needed and neither the adapter nor the base model has a head.
    pub fn model(&self, backbone: &Backbone, device: &Device, task: Task) -> Result<StageModel, InterchangeError> {
        let mut tensors = stage_on_device(&self.tensors, device);
        if let Some(own) = backbone.classifier().filter(|_| task != Task::CausalLm && self.outputs() == 0) {
            tensors.head = Some(on_device(own, device));
        }
        let (shape, mut adapters) = (backbone.block_shape(), Adapters::none());
        let blocks = self.blocks();
        for block in &blocks {
            let of_block: Vec<&AdapterPart> = self.parts.iter().filter(|part| part.blocks.contains(block)).collect();
            if let [part] = of_block[..] {
                adapters.extend(bind(&*part.method, &shape, *block..block + 1, &tensors.blocks, None)?);
                continue;
            }
            let mut by_site = Vec::new();
            for part in of_block {
                let mut bound = bind(&*part.method, &shape, *block..block + 1, &tensors.blocks, None)?;
                by_site.extend(bound.remove(*block).map(|adapter| (part.sites.clone(), adapter)));
            }
            adapters.insert(*block, Box::new(AdaptersBySite(by_site)));
        }
        let pooler = self.pooler.as_ref().map(|(weight, bias)| Linear {
            weight: Weight::packed(&to_device(weight, device).reshape([weight.shape[0], weight.shape[1]]).transpose()),
            bias: Some(to_device(bias, device)),
        });
        let start = blocks.first().copied().unwrap_or(backbone.blocks());
        Ok(StageModel::of_adapters(backbone, adapters, start, task.outputs(), tensors.head.as_ref(), pooler)?)
    }
}
