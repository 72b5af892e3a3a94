//! The loss of each task.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use s3t_core::{Target, Task};
use s3t_models::{Backbone, Hidden, Input};

use crate::model::{StageModel, learnt_tokens};

/// The mean loss of a batch whose input of the model's first block is given.
pub(crate) fn loss(
    task: Task,
    model: &StageModel,
    backbone: &Backbone,
    hidden: Hidden,
    inputs: &[&Input<'_>],
    device: &Device,
) -> Tensor<1> {
    let targets = inputs.iter().map(|input| &input.record.target);
    match task {
        Task::Classification { .. } => {
            let classes = targets.map(|target| target.class().unwrap_or(0)).collect();
            cross_entropy(model.logits(backbone, hidden), classes, device)
        }
        Task::MultiLabel { classes } => {
            let row = |target: &Target| {
                let has = |class: u32| matches!(target, Target::Classes(of_record) if of_record.contains(&class));
                (0..classes as u32).map(move |class| if has(class) { 1.0 } else { 0.0 }).collect::<Vec<f32>>()
            };
            let wanted: Vec<f32> = targets.flat_map(row).collect();
            let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [inputs.len(), classes]), device);
            // max(x, 0) - x y + log(1 + exp(-|x|)): the stable form of binary cross entropy.
            let x = model.logits(backbone, hidden);
            let tail = x.clone().abs().neg().exp().add_scalar(1.0).log();
            (activation::relu(x.clone()) - x * wanted + tail).mean()
        }
        Task::Regression => {
            let value = |target: &Target| if let Target::Value(value) = target { *value } else { 0.0 };
            let wanted: Vec<f32> = targets.map(value).collect();
            let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [inputs.len(), 1]), device);
            (model.logits(backbone, hidden) - wanted).powi_scalar(2).mean()
        }
        Task::CausalLm => {
            let (rows, ids): (Vec<usize>, Vec<u32>) =
                learnt_tokens(inputs, hidden.states.dims()[1]).into_iter().unzip();
            cross_entropy(model.next_token_logits(backbone, hidden, &rows), ids, device)
        }
    }
}

/// The number of terms that the loss of these records is the mean of: of learnt tokens, records, or pairs of a record and a class.
pub(crate) fn terms<'a>(task: Task, inputs: impl ExactSizeIterator<Item = &'a Input<'a>>) -> usize {
    match task {
        Task::Classification { .. } | Task::Regression => inputs.len(),
        Task::MultiLabel { classes } => inputs.len() * classes,
        Task::CausalLm => inputs.map(Input::learnt).sum(),
    }
}

/// The mean negative log likelihood of the right classes.
fn cross_entropy(logits: Tensor<2>, classes: Vec<u32>, device: &Device) -> Tensor<1> {
    let rows = classes.len();
    let classes: Vec<i64> = classes.into_iter().map(i64::from).collect();
    let classes = Tensor::<2, Int>::from_data(TensorData::new(classes, [rows, 1]), device);
    activation::log_softmax(logits, 1).gather(1, classes).mean().neg()
}
