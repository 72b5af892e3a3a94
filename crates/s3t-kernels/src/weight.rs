//! The weight of a linear layer, in the form that products read.

#[cfg(feature = "flex")]
use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::tensor::TensorData;
use burn::tensor::{DType, Device, Tensor};

#[cfg(feature = "flex")]
use crate::bytes::Bytes;
#[cfg(feature = "flex")]
use crate::halves::Halves;
#[cfg(feature = "flex")]
use crate::tensors;

/// The weight of a linear layer, `[inputs, outputs]`. Cloning it copies nothing.
///
/// ```
/// # use burn::tensor::Tensor;
/// use s3t_kernels::Weight;
///
/// let weight = Tensor::<2>::from_floats([[1.0, 2.0, 3.001]], &Default::default());
/// assert_eq!(Weight::from(weight.clone()).dims(), [1, 3]);
/// assert_eq!(Weight::halved(&weight).full().into_data().to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
/// ```
#[derive(Debug, Clone)]
pub struct Weight(pub(crate) Form);

#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// In single precision; in bfloat16 on devices other than the processor.
    Tensor(Tensor<2>),
    /// In bfloat16, in the order in which the processor's kernels read it.
    #[cfg(feature = "flex")]
    Halves(Arc<Halves>, Device),
    /// In 8-bit integers, in that order.
    #[cfg(feature = "flex")]
    Bytes(Arc<Bytes>, Device),
}

impl Weight {
    /// Frozen weights rounded to bfloat16 (nearest, ties to even; 0 below the normal range), for half of the memory. A layer with such
    /// weights rounds its inputs too, and adds up in single precision.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[inputs, outputs]`
    pub fn halved(weight: &Tensor<2>) -> Self {
        #[cfg(feature = "flex")]
        if tensors::takes(weight) {
            let halves = Halves::of(tensors::matrix(&tensors::primitive(weight)));
            return Self(Form::Halves(Arc::new(halves), weight.device()));
        }
        Self(Form::Tensor(weight.clone().cast(DType::BF16)))
    }

    /// The largest number of inputs of a layer whose weights are kept in 8-bit integers: sums of more might overflow.
    #[cfg(feature = "flex")]
    pub const MAX_BYTE_INPUTS: usize = crate::bytes::MAX_INPUTS;
    /// The largest number of inputs of a layer whose weights are kept in 8-bit integers: no sums are made without `flex`.
    #[cfg(not(feature = "flex"))]
    pub const MAX_BYTE_INPUTS: usize = usize::MAX;

    /// Frozen weights rounded to integers from -127 to 127 times one number for each output, for a quarter of the memory. A layer with such
    /// weights rounds each row of its inputs likewise, and adds up integers (vector-wise quantisation by absolute maxima: Dettmers et al.
    /// 2022, arXiv 2208.07339, without its treatment of outliers). The error of a weight is at most 1/254 of the largest of its output. On
    /// devices other than `flex` inputs are not rounded, and weights take the memory of single precision.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[inputs, outputs]`
    ///
    /// # Panics
    ///
    /// On `flex`, for more than [`MAX_BYTE_INPUTS`](Self::MAX_BYTE_INPUTS) inputs.
    pub fn in_bytes(weight: &Tensor<2>) -> Self {
        #[cfg(feature = "flex")]
        if tensors::takes(weight) {
            let bytes = Bytes::of(tensors::matrix(&tensors::primitive(weight)));
            return Self(Form::Bytes(Arc::new(bytes), weight.device()));
        }
        let divisors = weight.clone().abs().max_dim(0).clamp_min(1e-30).div_scalar(127.0);
        Self(Form::Tensor((weight.clone() / divisors.clone()).round() * divisors))
    }

    /// Inputs and outputs.
    pub fn dims(&self) -> [usize; 2] {
        match &self.0 {
            Form::Tensor(weight) => weight.dims(),
            #[cfg(feature = "flex")]
            Form::Halves(weight, _) => weight.view().dims(),
            #[cfg(feature = "flex")]
            Form::Bytes(weight, _) => weight.view().dims(),
        }
    }

    /// The device that it is on.
    pub fn device(&self) -> Device {
        match &self.0 {
            Form::Tensor(weight) => weight.device(),
            #[cfg(feature = "flex")]
            Form::Halves(_, device) | Form::Bytes(_, device) => device.clone(),
        }
    }

    /// The weight in single precision, `[inputs, outputs]`.
    pub fn full(&self) -> Tensor<2> {
        match &self.0 {
            Form::Tensor(weight) if weight.dtype() == DType::F32 => weight.clone(),
            Form::Tensor(weight) => weight.clone().cast(DType::F32),
            #[cfg(feature = "flex")]
            Form::Halves(weight, device) => Tensor::from_data(TensorData::new(weight.values(), self.dims()), device),
            #[cfg(feature = "flex")]
            Form::Bytes(weight, device) => Tensor::from_data(TensorData::new(weight.values(), self.dims()), device),
        }
    }

    /// The weight in bfloat16, `[inputs, outputs]`, if it was rounded to that.
    pub(crate) fn rounded(&self) -> Option<Tensor<2>> {
        match &self.0 {
            Form::Tensor(weight) => (weight.dtype() == DType::BF16).then(|| weight.clone()),
            #[cfg(feature = "flex")]
            Form::Halves(..) => Some(self.full().cast(DType::BF16)),
            #[cfg(feature = "flex")]
            Form::Bytes(..) => None,
        }
    }

    /// True for a weight that is trained after all.
    #[cfg(feature = "flex")]
    pub(crate) fn is_tracked(&self) -> bool {
        matches!(&self.0, Form::Tensor(weight) if weight.is_tracked())
    }
}

impl From<Tensor<2>> for Weight {
    /// A weight as it is: a tensor in single precision, `[inputs, outputs]`, or one in bfloat16.
    fn from(weight: Tensor<2>) -> Self {
        if weight.dtype() == DType::BF16 { Self::halved(&weight.cast(DType::F32)) } else { Self(Form::Tensor(weight)) }
    }
}
