//! A PEFT method. The guide docs/guide/writing-a-peft-method.md writes one step by step.

use s3t_peft::{BlockAdapter, BlockParameters, BlockShape, Init, ParameterSpec, PeftError, PeftMethod, s3t_core};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds a learnt vector to the output of each sublayer. Parameters of a block: the width of the model.
///
/// # Proof note
///
/// *Before*: the base weights are frozen. *After* the adapter is dropped: the block computes what it computed before, bit for bit.
/// *Why*: state here where the parameters are applied, and that they are never merged into a weight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPlugin {}

#[typetag::serde(name = "new-plugin")]
impl PeftMethod for NewPlugin {
    fn check(&self, _block: &BlockShape) -> Result<(), PeftError> {
        Ok(())
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        vec![ParameterSpec::new("sublayer.new-plugin", [block.hidden], Init::Zeros)]
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        parameters.get::<2>("sublayer.new-plugin", [1, block.hidden])?;
        Ok(Box::new(Hooks))
    }
}

s3t_core::plugin!(PeftMethod, "new-plugin", NewPlugin);

/// The hooks that a block calls. First step: keep the parameter here and add it in `BlockAdapter::sublayer`. Until then the
/// law says that the adapter has no effect.
struct Hooks;

impl BlockAdapter for Hooks {}
