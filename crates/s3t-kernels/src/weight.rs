//! The weight of a linear layer, in the form that products read.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};

#[cfg(feature = "flex")]
use crate::bytes::Bytes;
#[cfg(feature = "flex")]
use crate::halves::Halves;
use crate::levels::{BLOCK, LEVELS, numbers};
#[cfg(feature = "flex")]
use crate::nibbles::Nibbles;
#[cfg(feature = "flex")]
use crate::packed::Packed;
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
    /// In single precision, in the order in which the processor's kernels read it.
    #[cfg(feature = "flex")]
    Packed(Arc<Packed>, Device),
    /// In bfloat16, in that order.
    #[cfg(feature = "flex")]
    Halves(Arc<Halves>, Device),
    /// In 8-bit integers, in that order.
    #[cfg(feature = "flex")]
    Bytes(Arc<Bytes>, Device),
    /// In 4-bit numbers, in the order in which products read them.
    #[cfg(feature = "flex")]
    Nibbles(Arc<Nibbles>, Device),
}

impl Weight {
    /// Frozen weights in single precision, laid out once in the order in which products read them, with the bits of a tensor whose rows
    /// follow each other. A weight that is trained, or is on an autodiff device, stays the tensor that it is.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[inputs, outputs]`
    pub fn packed(weight: &Tensor<2>) -> Self {
        if weight.is_autodiff() {
            return Self(Form::Tensor(weight.clone()));
        }
        #[cfg(feature = "flex")]
        if tensors::takes(weight) {
            let packed = Packed::of(tensors::matrix(&tensors::primitive(weight)));
            return Self(Form::Packed(Arc::new(packed), weight.device()));
        }
        Self(Form::Tensor(Tensor::from_data(weight.to_data(), &weight.device())))
    }

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

    /// Frozen weights rounded to 16 levels times one number for each 64 inputs of an output, for an eighth of the memory (NF4: Dettmers et
    /// al. 2023, arXiv 2305.14314, without double quantisation). A layer with such weights computes as one with their values in bfloat16:
    /// it rounds its inputs to that, and adds up in single precision.
    ///
    /// The values are those of `bitsandbytes` for layers whose inputs are a multiple of 64: it goes on with a block in the next output. On
    /// devices other than `flex` they take the memory of bfloat16.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[inputs, outputs]`
    ///
    /// ```
    /// # use burn::tensor::Tensor;
    /// use s3t_kernels::Weight;
    ///
    /// let weight = Tensor::<2>::from_floats([[-2.0], [0.01], [0.9]], &Default::default());
    /// // 0.9 is between 0.88 and 1.13, which are levels times 2.
    /// assert_eq!(Weight::in_nibbles(&weight).full().into_data().to_vec::<f32>().unwrap(), [-2.0, 0.0, 0.8828125]);
    /// ```
    pub fn in_nibbles(weight: &Tensor<2>) -> Self {
        #[cfg(feature = "flex")]
        if tensors::takes(weight) {
            let nibbles = Nibbles::of(tensors::matrix(&tensors::primitive(weight)));
            return Self(Form::Nibbles(Arc::new(nibbles), weight.device()));
        }
        let [inputs, outputs] = weight.dims();
        let mut values: Vec<f32> = weight.clone().transpose().into_data().iter::<f32>().collect();
        for block in values.chunks_mut(inputs.max(1)).flat_map(|column| column.chunks_mut(BLOCK)) {
            let (scale, numbers) = numbers(block);
            let rounded: Vec<f32> = numbers.map(|number| LEVELS[number as usize] * scale).collect();
            block.copy_from_slice(&rounded);
        }
        let turned = Tensor::<2>::from_data(TensorData::new(values, [outputs, inputs]), &weight.device());
        Self(Form::Tensor(turned.transpose().cast(DType::BF16)))
    }

    /// Inputs and outputs.
    pub fn dims(&self) -> [usize; 2] {
        match &self.0 {
            Form::Tensor(weight) => weight.dims(),
            #[cfg(feature = "flex")]
            Form::Packed(weight, _) => weight.view().dims(),
            #[cfg(feature = "flex")]
            Form::Halves(weight, _) => weight.view().dims(),
            #[cfg(feature = "flex")]
            Form::Bytes(weight, _) => weight.view().dims(),
            #[cfg(feature = "flex")]
            Form::Nibbles(weight, _) => weight.view().dims(),
        }
    }

    /// The device that it is on.
    pub fn device(&self) -> Device {
        match &self.0 {
            Form::Tensor(weight) => weight.device(),
            #[cfg(feature = "flex")]
            Form::Packed(_, device) | Form::Halves(_, device) | Form::Bytes(_, device) | Form::Nibbles(_, device) => {
                device.clone()
            }
        }
    }

    /// The weight in single precision, `[inputs, outputs]`: new memory for all forms but that of a tensor. Products with it are
    /// [`matmul_frozen`](crate::matmul_frozen), which needs none for weights in single precision.
    pub fn full(&self) -> Tensor<2> {
        match &self.0 {
            Form::Tensor(weight) if weight.dtype() == DType::F32 => weight.clone(),
            Form::Tensor(weight) => weight.clone().cast(DType::F32),
            #[cfg(feature = "flex")]
            Form::Packed(weight, device) => Tensor::from_data(TensorData::new(weight.values(), self.dims()), device),
            #[cfg(feature = "flex")]
            Form::Halves(weight, device) => Tensor::from_data(TensorData::new(weight.values(), self.dims()), device),
            #[cfg(feature = "flex")]
            Form::Bytes(weight, device) => Tensor::from_data(TensorData::new(weight.values(), self.dims()), device),
            #[cfg(feature = "flex")]
            Form::Nibbles(weight, device) => Tensor::from_data(TensorData::new(weight.values(), self.dims()), device),
        }
    }

    /// The sum of the squares of each output's weights, `[1, outputs]`.
    pub fn squared_lengths(&self) -> Tensor<2> {
        self.full().powi_scalar(2).sum_dim(0)
    }

    /// True for weights in single precision that are laid out for products.
    #[cfg(feature = "flex")]
    pub(crate) fn is_packed(&self) -> bool {
        matches!(&self.0, Form::Packed(..))
    }

    /// The weight in bfloat16, `[inputs, outputs]`, if it was rounded to that.
    pub(crate) fn rounded(&self) -> Option<Tensor<2>> {
        match &self.0 {
            Form::Tensor(weight) => (weight.dtype() == DType::BF16).then(|| weight.clone()),
            #[cfg(feature = "flex")]
            Form::Halves(..) | Form::Nibbles(..) => Some(self.full().cast(DType::BF16)),
            #[cfg(feature = "flex")]
            Form::Packed(..) | Form::Bytes(..) => None,
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
