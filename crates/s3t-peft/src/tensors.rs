//! Parameters between host memory and a device.

use burn::tensor::{Device, Tensor, TensorData};
use s3t_core::tensors::{HostTensor, NamedTensors, StageTensors};

/// The values as a flat tensor on a device.
pub fn to_device(tensor: &HostTensor, device: &Device) -> Tensor<1> {
    let length = tensor.values.len();
    Tensor::from_data(TensorData::new(tensor.values.clone(), [length]), device)
}

/// The values of a tensor in host memory, row-major.
///
/// # Panics
///
/// Never: every float tensor converts to `f32`.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec::<f32>().expect("the data was converted to f32")
}

/// The tensors, flat, on a device.
pub fn on_device(tensors: &NamedTensors, device: &Device) -> NamedTensors<Tensor<1>> {
    tensors.iter().map(|(name, tensor)| (name.clone(), to_device(tensor, device))).collect()
}

/// The parameters of a stage, flat, on a device.
pub fn stage_on_device(tensors: &StageTensors, device: &Device) -> StageTensors<Tensor<1>> {
    tensors.map(|tensor| to_device(tensor, device))
}
