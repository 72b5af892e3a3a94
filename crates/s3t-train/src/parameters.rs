//! The parameters of a stage in training, and the steps that they take.

use burn::optim::{AdamW, AdamWConfig, Optimizer};
use burn::tensor::{Device, Gradients, Tensor};
use s3t_core::CoreError;
use s3t_core::tensors::{BlockTensors, HostTensor, NamedTensors, StageTensors};
use s3t_peft::tensors::{on_device, to_device, to_host};

use crate::TrainingConfig;

/// A parameter that is trained, on the device.
struct Parameter {
    shape: Vec<usize>,
    value: Tensor<1>,
    state: Option<<AdamW as Optimizer>::State<1>>,
}

/// The parameters of a stage in training.
pub(crate) struct Parameters {
    optimizer: AdamW,
    trained: StageTensors<Parameter>,
    /// The frozen adapters of the stages before.
    ancestors: BlockTensors<Tensor<1>>,
}

impl Parameters {
    pub(crate) fn new(
        initial: &StageTensors,
        ancestors: &BlockTensors,
        config: &TrainingConfig,
        device: &Device,
    ) -> Self {
        let optimizer = AdamWConfig::new()
            .with_beta_1(config.beta1 as f32)
            .with_beta_2(config.beta2 as f32)
            .with_epsilon(config.epsilon as f32)
            .with_weight_decay(config.weight_decay as f32)
            .build();
        let parameter = |tensor: &HostTensor| Parameter {
            shape: tensor.shape.clone(),
            value: to_device(tensor, device),
            state: None,
        };
        let frozen = |(block, tensors): (&usize, &NamedTensors)| (*block, on_device(tensors, device));
        Self { optimizer, trained: initial.map(parameter), ancestors: ancestors.iter().map(frozen).collect() }
    }

    /// The trained parameters, tracked for gradients, and the frozen ones.
    pub(crate) fn tracked(&self) -> Result<StageTensors<Tensor<1>>, CoreError> {
        let frozen = StageTensors { blocks: self.ancestors.clone(), ..StageTensors::default() };
        let own = self.trained.map(|parameter| parameter.value.clone().autodiff().require_grad());
        StageTensors::of_chain([frozen, own])
    }

    /// The parameters, none of them tracked.
    pub(crate) fn plain(&self) -> Result<StageTensors<Tensor<1>>, CoreError> {
        let frozen = StageTensors { blocks: self.ancestors.clone(), ..StageTensors::default() };
        StageTensors::of_chain([frozen, self.trained.map(|parameter| parameter.value.clone())])
    }

    /// The gradients of a loss; a parameter that the loss does not depend on has none.
    pub(crate) fn gradients(&self, loss: &Tensor<1>, tracked: &StageTensors<Tensor<1>>) -> StageTensors<Tensor<1>> {
        let mut found = StageTensors::default();
        self.take(&mut loss.backward(), tracked, &mut found);
        found
    }

    /// Takes the gradients of the parameters out of those of a graph.
    pub(crate) fn take(
        &self,
        graph: &mut Gradients,
        tracked: &StageTensors<Tensor<1>>,
        found: &mut StageTensors<Tensor<1>>,
    ) {
        let mut of_names = |tracked: &NamedTensors<Tensor<1>>, found: &mut NamedTensors<Tensor<1>>| {
            let gradient = |(name, tensor): (&String, &Tensor<1>)| Some((name.clone(), tensor.grad_remove(graph)?));
            found.extend(tracked.iter().filter_map(gradient));
        };
        for block in self.trained.blocks.keys() {
            if let Some(tracked) = tracked.blocks.get(block) {
                of_names(tracked, found.blocks.entry(*block).or_default());
            }
        }
        if let Some(tracked) = &tracked.head {
            of_names(tracked, found.head.get_or_insert_default());
        }
    }

    /// Takes a step with each parameter that has a gradient.
    pub(crate) fn update(&mut self, mut gradients: StageTensors<Tensor<1>>, learning_rate: f64) {
        for (block, parameters) in &mut self.trained.blocks {
            update(&self.optimizer, parameters, gradients.blocks.get_mut(block), learning_rate);
        }
        if let Some(parameters) = &mut self.trained.head {
            update(&self.optimizer, parameters, gradients.head.as_mut(), learning_rate);
        }
    }

    pub(crate) fn to_host(&self) -> StageTensors {
        let host = |parameter: &Parameter| HostTensor {
            shape: parameter.shape.clone(),
            values: to_host(parameter.value.clone()),
        };
        self.trained.map(host)
    }
}

fn update(
    optimizer: &AdamW,
    parameters: &mut NamedTensors<Parameter>,
    mut gradients: Option<&mut NamedTensors<Tensor<1>>>,
    learning_rate: f64,
) {
    for (name, parameter) in parameters {
        let Some(gradient) = gradients.as_mut().and_then(|gradients| gradients.remove(name)) else { continue };
        let (value, state) = optimizer.step(learning_rate, parameter.value.clone(), gradient, parameter.state.take());
        parameter.value = value;
        parameter.state = state;
    }
}

/// Adds gradients to those of the batches before, element by element.
pub(crate) fn add(sum: &mut StageTensors<Tensor<1>>, gradients: StageTensors<Tensor<1>>) {
    let add_named = |sum: &mut NamedTensors<Tensor<1>>, gradients: NamedTensors<Tensor<1>>| {
        for (name, gradient) in gradients {
            let total = match sum.remove(&name) {
                Some(before) => before + gradient,
                None => gradient,
            };
            sum.insert(name, total);
        }
    };
    for (block, gradients) in gradients.blocks {
        add_named(sum.blocks.entry(block).or_default(), gradients);
    }
    if let Some(gradients) = gradients.head {
        add_named(sum.head.get_or_insert_default(), gradients);
    }
}
