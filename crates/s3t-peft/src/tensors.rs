//! Parameters as named host tensors: what is saved, hashed, and compared bit for bit.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use s3t_core::Digest;
use s3t_core::digest::DigestBuilder;

/// A tensor in host memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, as many as the product of the shape.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// The values as a flat tensor on a device.
    pub fn to_device(&self, device: &Device) -> Tensor<1> {
        let length = self.values.len();
        Tensor::from_data(TensorData::new(self.values.clone(), [length]), device)
    }

    /// The values as little-endian bytes: what is written and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// The values of a tensor in host memory, row-major.
///
/// # Panics
///
/// Never: every float tensor converts to `f32`.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec::<f32>().expect("the data was converted to f32")
}

/// Tensors by name.
pub type NamedTensors = BTreeMap<String, HostTensor>;

/// The tensors, flat, on a device.
pub fn on_device(tensors: &NamedTensors, device: &Device) -> BTreeMap<String, Tensor<1>> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_device(device))).collect()
}

/// The digest of names, shapes and bits.
pub fn digest(tensors: &NamedTensors) -> Digest {
    let mut builder = DigestBuilder::new("tensors");
    for (name, tensor) in tensors {
        builder.bytes(name.as_bytes()).number(tensor.shape.len() as u64);
        for size in &tensor.shape {
            builder.number(*size as u64);
        }
        builder.bytes(&tensor.to_bytes());
    }
    builder.finish()
}

/// Where two sets of tensors first differ.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TensorDifference {
    /// The name of the tensor.
    pub tensor: String,
    /// The flat position of the first value that differs; `None` if the tensor is missing or has another shape.
    pub position: Option<usize>,
    /// What differs, in words.
    pub detail: String,
}

impl std::fmt::Display for TensorDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.position {
            Some(position) => write!(f, "tensor `{}` position {position}: {}", self.tensor, self.detail),
            None => write!(f, "tensor `{}`: {}", self.tensor, self.detail),
        }
    }
}

/// The first difference in bits between two sets of tensors, in name order; `None` if they are equal.
///
/// Compares bits, not values: `0.0` and `-0.0` differ, and a NaN equals itself.
pub fn first_difference(one: &NamedTensors, other: &NamedTensors) -> Option<TensorDifference> {
    let difference =
        |tensor: &str, position, detail: String| TensorDifference { tensor: tensor.into(), position, detail };
    for (name, left) in one {
        let Some(right) = other.get(name) else {
            return Some(difference(name, None, "only the first has it".into()));
        };
        if left.shape != right.shape {
            return Some(difference(name, None, format!("shapes {:?} and {:?}", left.shape, right.shape)));
        }
        let bits = |tensor: &HostTensor, position: usize| tensor.values[position].to_bits();
        if let Some(position) = (0..left.values.len()).find(|position| bits(left, *position) != bits(right, *position))
        {
            let (a, b) = (left.values[position], right.values[position]);
            let detail = format!("{a:e} ({:08x}) and {b:e} ({:08x})", a.to_bits(), b.to_bits());
            return Some(difference(name, Some(position), detail));
        }
    }
    let extra = other.keys().find(|name| !one.contains_key(*name))?;
    Some(difference(extra, None, "only the second has it".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(values: &[(&str, &[f32])]) -> NamedTensors {
        let tensor = |values: &[f32]| HostTensor { shape: vec![values.len()], values: values.to_vec() };
        values.iter().map(|(name, values)| ((*name).to_owned(), tensor(values))).collect()
    }

    #[test]
    fn differences_are_found_in_bits() {
        let base = tensors(&[("a", &[1.0, 2.0]), ("b", &[0.0])]);
        assert_eq!(first_difference(&base, &base.clone()), None);
        for (other, tensor, position) in [
            (tensors(&[("a", &[1.0, 2.5]), ("b", &[0.0])]), "a", Some(1)),
            (tensors(&[("a", &[1.0, 2.0]), ("b", &[-0.0])]), "b", Some(0)),
            (tensors(&[("a", &[1.0, 2.0])]), "b", None),
            (tensors(&[("a", &[1.0, 2.0]), ("b", &[0.0]), ("c", &[0.0])]), "c", None),
            (tensors(&[("a", &[1.0]), ("b", &[0.0])]), "a", None),
        ] {
            let found = first_difference(&base, &other).unwrap();
            assert_eq!((found.tensor.as_str(), found.position), (tensor, position));
            assert_ne!(digest(&base), digest(&other));
        }
    }
}
