//! LoRA and rsLoRA.
//!
//! # Proof note
//!
//! *Before*: the base weights are frozen and shared. *After* an adapter is dropped: the block computes what it
//! computed before, bit for bit. *Why*: the update `x A B` is computed beside `x W` and added to its result; `W` is never
//! merged into nor written to, so there is nothing to undo. At the start `B` is zero, so `x A B` is exactly zero.

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::serde_json::{Map, Value};
use s3t_peft::{
    BlockAdapter, BlockParameters, BlockShape, Interchange, Linear, LinearSite, LowRankAdapter, LowRankFactors,
    ParameterSpec, PeftError, PeftMethod, ReadMethod, peft_reader, s3t_core,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::low_rank::{Fields, LowRank};

/// LoRA: adds `(alpha / rank) x A B` to the targeted linear layers; A starts uniform, B starts at zero. Parameters of a block:
/// `rank (inputs + outputs)` for each layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// The rank r of the update, at least 1.
    pub rank: usize,
    /// The numerator of the scale `alpha / rank`, above 0.
    pub alpha: f64,
    /// The share of the update's input that is dropped in training, 0 to below 1.
    pub dropout: f64,
    /// The adapted linear layers: query, key, value, output, gate, up, down, or Hugging Face module names.
    pub targets: Vec<String>,
}

/// rsLoRA: LoRA with the scale `alpha / sqrt(rank)`, under which high ranks learn as fast as low ones.
///
/// # Proof note
///
/// The note of LoRA holds: only the constant that the update is multiplied with differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RsLora {
    /// The rank r of the update, at least 1.
    pub rank: usize,
    /// The numerator of the scale `alpha / sqrt(rank)`, above 0.
    pub alpha: f64,
    /// The share of the update's input that is dropped in training, 0 to below 1.
    pub dropout: f64,
    /// The adapted linear layers: query, key, value, output, gate, up, down, or Hugging Face module names.
    pub targets: Vec<String>,
}

impl Default for Lora {
    fn default() -> Self {
        Fields::default().into()
    }
}

impl Default for RsLora {
    fn default() -> Self {
        Fields::default().into()
    }
}

impl From<Fields> for Lora {
    fn from(Fields { rank, alpha, dropout, targets }: Fields) -> Self {
        Self { rank, alpha, dropout, targets }
    }
}

impl From<Fields> for RsLora {
    fn from(Fields { rank, alpha, dropout, targets }: Fields) -> Self {
        Self { rank, alpha, dropout, targets }
    }
}

impl Lora {
    fn fields(&self) -> Fields {
        Fields { rank: self.rank, alpha: self.alpha, dropout: self.dropout, targets: self.targets.clone() }
    }
}

impl RsLora {
    fn fields(&self) -> Fields {
        Fields { rank: self.rank, alpha: self.alpha, dropout: self.dropout, targets: self.targets.clone() }
    }
}

#[typetag::serde(name = "lora")]
impl PeftMethod for Lora {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        self.fields().check(block)
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        parameters(&self.fields(), block)
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        adapter(&self.fields(), block, parameters, self.alpha / self.rank as f64)
    }

    fn interchange(&self, block: &BlockShape) -> Result<Interchange, PeftError> {
        Ok(self.fields().interchange(block, &[("use_rslora", false), ("use_dora", false)]))
    }
}

#[typetag::serde(name = "rslora")]
impl PeftMethod for RsLora {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        self.fields().check(block)
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        parameters(&self.fields(), block)
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        adapter(&self.fields(), block, parameters, self.alpha / (self.rank as f64).sqrt())
    }

    fn interchange(&self, block: &BlockShape) -> Result<Interchange, PeftError> {
        Ok(self.fields().interchange(block, &[("use_rslora", true), ("use_dora", false)]))
    }
}

s3t_core::plugin!(PeftMethod, "lora", Lora);
s3t_core::plugin!(PeftMethod, "rslora", RsLora);
peft_reader!("LORA", read_lora);
peft_reader!("LORA", read_rslora);

fn read_lora(config: &Map<String, Value>, block: &BlockShape) -> ReadMethod {
    match Fields::read(config, block) {
        Ok((fields, false, false)) => Some(Ok(Box::new(Lora::from(fields)))),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }
}

fn read_rslora(config: &Map<String, Value>, block: &BlockShape) -> ReadMethod {
    match Fields::read(config, block) {
        Ok((fields, true, false)) => Some(Ok(Box::new(RsLora::from(fields)))),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }
}

fn parameters(fields: &Fields, block: &BlockShape) -> Vec<ParameterSpec> {
    fields.sites(block).flat_map(|(site, sizes)| fields.parameters(site, sizes)).collect()
}

fn adapter(
    fields: &Fields,
    block: &BlockShape,
    parameters: &BlockParameters<'_>,
    scale: f64,
) -> Result<Box<dyn BlockAdapter>, PeftError> {
    let update = |(site, sizes)| Ok((site, fields.low_rank(site, sizes, parameters)?));
    let updates = fields.sites(block).map(update).collect::<Result<_, PeftError>>()?;
    Ok(Box::new(LoraAdapter { updates, scale }))
}

struct LoraAdapter {
    updates: Vec<(LinearSite, LowRank)>,
    scale: f64,
}

impl BlockAdapter for LoraAdapter {
    fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        let Some((_, update)) = self.updates.iter().find(|(other, _)| *other == site) else {
            return base.forward(x);
        };
        update.beside(base, x, self.scale)
    }

    fn low_rank(&self) -> Option<&dyn LowRankAdapter> {
        Some(self)
    }
}

impl LowRankAdapter for LoraAdapter {
    fn factors(&self, site: LinearSite) -> Option<LowRankFactors> {
        let (_, update) = self.updates.iter().find(|(other, _)| *other == site)?;
        Some(LowRankFactors { down: update.down.clone(), up: update.up.clone(), scale: self.scale })
    }
}
