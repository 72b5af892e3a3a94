//! LoRA: low-rank updates of linear layers (Hu et al. 2022, arXiv 2106.09685), and rsLoRA, the same with a scale that
//! stays right at high ranks (Kalajdzievski 2023, arXiv 2312.03732).
//!
//! # Proof note
//!
//! *Before*: the base weights are frozen and shared. *After* [`Lora::adapter`] is dropped: the block computes what it
//! computed before, bit for bit. *Why*: the update `x A B` is computed beside `x W` and added to its result; `W` is never
//! merged into nor written to, so there is nothing to undo. At the start `B` is zero, so `x A B` is exactly zero.

use s3t_peft::burn::tensor::Tensor;
use s3t_peft::{
    BlockAdapter, BlockParameters, BlockShape, Init, Linear, LinearSite, ParameterSpec, PeftError, PeftMethod, s3t_core,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// LoRA: adds `(alpha / rank) x A B` to the targeted linear layers; A starts uniform, B starts at zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// The rank r of the update, at least 1.
    pub rank: usize,
    /// The numerator of the scale `alpha / rank`, above 0.
    pub alpha: f64,
    /// The linear layers that are adapted: query, key, value, output, gate, up, down.
    pub targets: Vec<String>,
}

impl Default for Lora {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: vec!["query".into(), "value".into()] }
    }
}

impl Lora {
    fn sites(&self) -> impl Iterator<Item = LinearSite> + '_ {
        self.targets.iter().filter_map(|name| LinearSite::from_name(name))
    }

    /// The adapter of one block with the update times `scale`.
    fn scaled(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
        scale: f64,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        let mut updates = Vec::new();
        for site in self.sites() {
            let (inputs, outputs) = block.linears.get(&site).copied().unwrap_or_default();
            let down = parameters.get(&format!("{site}.lora_A.weight"), [self.rank, inputs])?.transpose();
            let up = parameters.get(&format!("{site}.lora_B.weight"), [outputs, self.rank])?.transpose();
            updates.push((site, LowRank { down, up }));
        }
        Ok(Box::new(LoraAdapter { updates, scale }))
    }
}

#[typetag::serde(name = "lora")]
impl PeftMethod for Lora {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        if self.rank == 0 {
            return Err(PeftError::field("rank", "is 0; use at least 1"));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(PeftError::field("alpha", format!("is {}; use a finite number above 0", self.alpha)));
        }
        let known: Vec<&str> = block.linears.keys().map(|site| site.name()).collect();
        if self.targets.is_empty() {
            return Err(PeftError::field("targets", format!("is empty; this model has {}", known.join(", "))));
        }
        for (index, name) in self.targets.iter().enumerate() {
            if self.targets[..index].contains(name) {
                return Err(PeftError::field("targets", format!("names `{name}` twice")));
            }
            let Some((inputs, outputs)) = LinearSite::from_name(name).and_then(|site| block.linears.get(&site)) else {
                let problem = s3t_core::registry::unknown(&format!("target `{name}`"), name, &known);
                return Err(PeftError::field("targets", format!("holds an {problem}")));
            };
            if self.rank > *inputs.min(outputs) {
                let problem = format!("is {}, more than `{name}` ({inputs} x {outputs}) can have", self.rank);
                return Err(PeftError::field("rank", problem));
            }
        }
        Ok(())
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        let of_site = |site: LinearSite| {
            let (inputs, outputs) = block.linears.get(&site).copied().unwrap_or_default();
            // Kaiming uniform with a = sqrt(5), as in the reference implementations: the bound is 1 / sqrt(inputs).
            let bound = 1.0 / (inputs.max(1) as f64).sqrt();
            [
                ParameterSpec::new(format!("{site}.lora_A.weight"), [self.rank, inputs], Init::Uniform { bound }),
                ParameterSpec::new(format!("{site}.lora_B.weight"), [outputs, self.rank], Init::Zeros),
            ]
        };
        self.sites().flat_map(of_site).collect()
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        self.scaled(block, parameters, self.alpha / self.rank as f64)
    }
}

s3t_core::plugin!(PeftMethod, "lora", Lora);

/// rsLoRA: LoRA with the scale `alpha / sqrt(rank)`, under which high ranks learn as fast as low ones.
///
/// # Proof note
///
/// That of LoRA: only the constant that the update is multiplied with differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RsLora {
    /// The rank r of the update, at least 1.
    pub rank: usize,
    /// The numerator of the scale `alpha / sqrt(rank)`, above 0.
    pub alpha: f64,
    /// The linear layers that are adapted: query, key, value, output, gate, up, down.
    pub targets: Vec<String>,
}

impl Default for RsLora {
    fn default() -> Self {
        let Lora { rank, alpha, targets } = Lora::default();
        Self { rank, alpha, targets }
    }
}

impl RsLora {
    fn plain(&self) -> Lora {
        Lora { rank: self.rank, alpha: self.alpha, targets: self.targets.clone() }
    }
}

#[typetag::serde(name = "rslora")]
impl PeftMethod for RsLora {
    fn check(&self, block: &BlockShape) -> Result<(), PeftError> {
        self.plain().check(block)
    }

    fn parameters(&self, block: &BlockShape) -> Vec<ParameterSpec> {
        self.plain().parameters(block)
    }

    fn adapter(
        &self,
        block: &BlockShape,
        parameters: &BlockParameters<'_>,
    ) -> Result<Box<dyn BlockAdapter>, PeftError> {
        self.plain().scaled(block, parameters, self.alpha / (self.rank as f64).sqrt())
    }
}

s3t_core::plugin!(PeftMethod, "rslora", RsLora);

struct LoraAdapter {
    updates: Vec<(LinearSite, LowRank)>,
    scale: f64,
}

struct LowRank {
    /// `[inputs, rank]`.
    down: Tensor<2>,
    /// `[rank, outputs]`.
    up: Tensor<2>,
}

impl BlockAdapter for LoraAdapter {
    fn linear(&self, site: LinearSite, x: Tensor<2>, base: &Linear) -> Tensor<2> {
        let Some((_, update)) = self.updates.iter().find(|(other, _)| *other == site) else {
            return base.forward(x);
        };
        let change = x.clone().matmul(update.down.clone()).matmul(update.up.clone());
        base.forward(x) + change.mul_scalar(self.scale)
    }
}
