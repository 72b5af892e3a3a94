//! The forms that numbers are kept in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The form of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision: the values as they are computed or stored.
    #[default]
    F32,
    /// Rounded to the nearest bfloat16, by at most 0.4 %: half of the memory.
    Bf16,
}

impl Precision {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The name in pipeline files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// True for single precision, which is left out of lineages: so that the keys of older stores stay.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

/// The form in which the weights of frozen linear layers are kept, all but the language head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightFormat {
    /// In the precision of training.
    #[default]
    Full,
    /// Each output's rounded to integers from -127 to 127 times a number, and the inputs of a product likewise, row by row; for the device
    /// `flex`. A quarter of the memory of single precision. Gradients are products in bfloat16.
    Int8,
    /// Each 64 inputs of an output rounded to sixteen levels times a number (NF4, as `bitsandbytes` has it for `QLoRA`), for the device
    /// `flex`. An eighth of the memory of single precision. Products round these weights and their inputs to bfloat16.
    Nf4,
}

impl WeightFormat {
    /// The name in pipeline files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Int8 => "int8",
            Self::Nf4 => "nf4",
        }
    }

    /// True for full weights, which are left out of what is written down.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub fn is_full(&self) -> bool {
        *self == Self::Full
    }
}
