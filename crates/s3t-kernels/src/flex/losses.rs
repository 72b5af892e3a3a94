//! Losses as operations of Burn's `flex` backend.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;

use super::record;
use crate::tensors::{contiguous, dims, tensor};
use crate::{Targets, losses};

pub(crate) fn loss(x: Tensor<2>, targets: &Arc<Targets>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::mean_loss(x.into_dispatch(), Arc::clone(targets)))
}

#[backend_extension(Flex, Autodiff)]
trait LossKernels: Backend {
    fn mean_loss(x: FloatTensor<Self>, targets: Arc<Targets>) -> FloatTensor<Self>;
}

impl LossKernels for Flex {
    fn mean_loss(x: FlexTensor, targets: Arc<Targets>) -> FlexTensor {
        let mean = losses::mean(&contiguous(&x), dims(&x)[1], &targets);
        FlexTensor::from_data(TensorData::new(vec![mean], [1]))
    }
}

impl<C: CheckpointStrategy> LossKernels for Autodiff<Flex, C> {
    fn mean_loss(x: FloatTensor<Self>, targets: Arc<Targets>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LossBackward;

        impl Backward<Flex, 1> for LossBackward {
            type State = (FlexTensor, Arc<Targets>);

            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let [node] = ops.parents;
                let of_mean = gradients.consume::<Flex>(&ops.node);
                if let Some(node) = node {
                    let (x, targets) = &ops.state;
                    let of_x = losses::gradient(&contiguous(x), dims(x)[1], targets, contiguous(&of_mean)[0]);
                    gradients.register::<Flex>(node.id, tensor(of_x, dims(x)));
                }
            }
        }

        let node = x.node();
        let x = x.into_primitive();
        let mean = Flex::mean_loss(x.clone(), Arc::clone(&targets));
        record::<C, _, _>(LossBackward, [node], (x, targets), mean)
    }
}
