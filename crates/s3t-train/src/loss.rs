//! The loss of each task.

use std::sync::Arc;

use burn::tensor::Tensor;
use s3t_core::{Target, Task};
use s3t_kernels::Targets;
use s3t_models::{Backbone, Hidden, Input};

use crate::model::{StageModel, learnt_tokens};

/// The mean loss of a batch whose input of the model's first block is given.
pub(crate) fn loss(
    task: Task,
    model: &StageModel,
    backbone: &Backbone,
    hidden: Hidden,
    inputs: &[&Input<'_>],
) -> Tensor<1> {
    let targets = inputs.iter().map(|input| &input.record.target);
    let (outputs, targets) = match task {
        Task::Classification { .. } => {
            let classes = targets.map(|target| target.class().unwrap_or(0)).collect();
            (model.logits(backbone, hidden), Targets::Classes(classes))
        }
        Task::MultiLabel { classes } => {
            let row = |target: &Target| {
                let has = |class: u32| matches!(target, Target::Classes(of_record) if of_record.contains(&class));
                (0..classes as u32).map(move |class| if has(class) { 1.0 } else { 0.0 }).collect::<Vec<f32>>()
            };
            let labels = targets.flat_map(row).collect();
            (model.logits(backbone, hidden), Targets::Labels(labels))
        }
        Task::Regression => {
            let value = |target: &Target| if let Target::Value(value) = target { *value } else { 0.0 };
            let values = targets.map(value).collect();
            (model.logits(backbone, hidden), Targets::Values(values))
        }
        Task::CausalLm => {
            let (rows, ids): (Vec<usize>, Vec<u32>) =
                learnt_tokens(inputs, hidden.states.dims()[1]).into_iter().unzip();
            (model.next_token_logits(backbone, hidden, &rows), Targets::Classes(ids))
        }
    };
    s3t_kernels::loss(outputs, &Arc::new(targets))
}

/// The number of terms that the loss of these records is the mean of: of learnt tokens, records, or pairs of a record and a class.
pub(crate) fn terms<'a>(task: Task, inputs: impl ExactSizeIterator<Item = &'a Input<'a>>) -> usize {
    match task {
        Task::Classification { .. } | Task::Regression => inputs.len(),
        Task::MultiLabel { classes } => inputs.len() * classes,
        Task::CausalLm => inputs.map(Input::learnt).sum(),
    }
}
