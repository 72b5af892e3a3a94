//! Products of two trained matrices as an operation of Burn's `flex` backend.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::record;
use crate::matrix::Matrix;
use crate::products::product;
use crate::tensors::{contiguous, dims, matrix, tensor};

pub(crate) fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::full_product(a.into_dispatch(), b.into_dispatch()))
}

#[backend_extension(Flex, Autodiff)]
trait ProductKernels: Backend {
    fn full_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ProductKernels for Flex {
    fn full_product(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        tensor(product(1.0, matrix(&a), matrix(&b)), [dims(&a)[0], dims(&b)[1]])
    }
}

impl<C: CheckpointStrategy> ProductKernels for Autodiff<Flex, C> {
    fn full_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ProductBackward;

        impl Backward<Flex, 2> for ProductBackward {
            type State = [FlexTensor; 2];

            fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let [of_a, of_b] = ops.parents;
                let gradient = gradients.consume::<Flex>(&ops.node);
                let [a, b] = &ops.state;
                let gradient = contiguous(&gradient);
                let gradient = Matrix::new(&gradient, dims(a)[0], dims(b)[1]);
                if let Some(node) = of_a {
                    let of_a = product(1.0, gradient, matrix(b).transposed());
                    gradients.register::<Flex>(node.id, tensor(of_a, dims(a)));
                }
                if let Some(node) = of_b {
                    let of_b = product(1.0, matrix(a).transposed(), gradient);
                    gradients.register::<Flex>(node.id, tensor(of_b, dims(b)));
                }
            }
        }

        let nodes = [a.node(), b.node()];
        let state = [a.into_primitive(), b.into_primitive()];
        let y = Flex::full_product(state[0].clone(), state[1].clone());
        record::<C, _, _>(ProductBackward, nodes, state, y)
    }
}
