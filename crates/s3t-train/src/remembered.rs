//! Values as they are remembered.

use std::sync::Arc;

use half::bf16;
use half::slice::HalfFloatSliceExt;
use zeroize::Zeroizing;

use crate::Precision;

/// Values in one of the precisions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Remembered {
    F32(Arc<[f32]>),
    Bf16(Arc<[bf16]>),
}

impl Remembered {
    /// The values, rounded to a precision.
    pub(crate) fn new(values: &[f32], precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(values.into()),
            Precision::Bf16 => {
                let mut rounded = vec![bf16::ZERO; values.len()];
                rounded.convert_from_f32_slice(values);
                Self::Bf16(rounded.into())
            }
        }
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(&**values),
            Self::Bf16(values) => size_of_val(&**values),
        }
    }

    pub(crate) fn precision(&self) -> Precision {
        match self {
            Self::F32(_) => Precision::F32,
            Self::Bf16(_) => Precision::Bf16,
        }
    }

    /// Puts the values behind those of `all`.
    pub(crate) fn append_to(&self, all: &mut Vec<f32>) {
        match self {
            Self::F32(values) => all.extend_from_slice(values),
            Self::Bf16(values) => {
                let start = all.len();
                all.resize(start + values.len(), 0.0);
                values.convert_to_f32_slice(&mut all[start..]);
            }
        }
    }

    pub(crate) fn to_le_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        })
    }

    pub(crate) fn from_le_bytes(bytes: &[u8], precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            Precision::Bf16 => {
                Self::Bf16(bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_rounded_to_their_precision() {
        let values = [0.0, -1.5, 1.0 + f32::EPSILON, 3.0e38, 1.0 / 3.0];
        for (precision, worst) in [(Precision::F32, 0.0), (Precision::Bf16, 1.0 / 256.0)] {
            let kept = Remembered::new(&values, precision);
            assert_eq!((kept.precision(), kept.bytes()), (precision, values.len() * precision.bytes()));
            assert_eq!(Remembered::from_le_bytes(&kept.to_le_bytes(), precision), kept);
            let mut found = vec![7.0];
            kept.append_to(&mut found);
            assert_eq!(found[0], 7.0);
            assert!(found[1..].iter().zip(values).all(|(found, value)| (found - value).abs() <= worst * value.abs()));
        }
    }
}
