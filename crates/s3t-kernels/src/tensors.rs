//! Tensors of Burn's `flex` backend as matrices.

use std::borrow::Cow;

use burn::backend::{DispatchTensorKind, Flex};
use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::FlexTensor;

use crate::matrix::Matrix;

/// True for a tensor of `flex` in single precision.
pub(crate) fn takes(x: &Tensor<2>) -> bool {
    let is_flex = |kind: &DispatchTensorKind| matches!(kind, DispatchTensorKind::Flex(_));
    let kind = x.clone().into_dispatch().kind;
    let of_flex = if let DispatchTensorKind::Autodiff(inner) = &kind { is_flex(inner) } else { is_flex(&kind) };
    of_flex && x.dtype() == DType::F32
}

/// The primitive of a tensor of `flex`, without its gradient.
///
/// # Panics
///
/// If it is on another device.
pub(crate) fn primitive<const D: usize>(tensor: &Tensor<D>) -> FlexTensor {
    let primitive = tensor.clone().without_autodiff().try_into_primitive::<Flex>();
    primitive.expect("operands of one operation are on one device")
}

/// A matrix in new memory.
pub(crate) fn tensor(values: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Rows and columns.
pub(crate) fn dims(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}

/// The values of a tensor in order; copied only if they lie in another.
pub(crate) fn contiguous(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.as_slice() {
        Some(values) => Cow::Borrowed(values),
        None => {
            let copy = tensor.to_contiguous();
            Cow::Owned(copy.as_slice().unwrap_or_default().to_vec())
        }
    }
}

/// A matrix as it lies in memory.
///
/// # Panics
///
/// If it was flipped: its strides are below 0.
pub(crate) fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    Matrix::strided(&tensor.storage()[tensor.layout().start_offset()..], dims(tensor), strides(tensor))
}

fn strides(tensor: &FlexTensor) -> [usize; 2] {
    let strides = tensor.layout().strides();
    [0, 1].map(|axis| usize::try_from(strides[axis]).expect("no kernel is given flipped rows"))
}
