//! The names and shapes of a method's parameters in PEFT's files.

use serde_json::{Map, Value};

/// A method in PEFT's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Interchange {
    /// The fields of the method in `adapter_config.json`: `peft_type`, `target_modules` and the method's own fields.
    pub config: Map<String, Value>,
    /// The tensors of the file that hold the parameters of a block.
    pub tensors: Vec<InterchangeTensor>,
}

/// One parameter of a block in both namings. The values are in the same order; only the shape may be written differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterchangeTensor {
    /// The parameter's name inside a block, as in [`ParameterSpec::name`](crate::ParameterSpec).
    pub parameter: String,
    /// Its name inside a block in PEFT's file: `attention.self.query.lora_A.weight`.
    pub file: String,
    /// The shape in PEFT's file.
    pub shape: Vec<usize>,
}
